"""Which nodes go into one task: a directed graph with costs is cut into groups worth a task each.

    ●─●─●─┬─●─●─●─┬─●      ▶      [●─●─●]─┬─[●─●─●]─┬─[●]        branches that are worth it stay apart
          └─●─●─●─┘                       └─[●─●─●]─┘

    chains      nodes that can only run one after the other form one group; edges that a longer path implies are ignored
    followers   a group not worth a task joins its source that ends last, if that source then begins no later
    leaders     or its only reader
    siblings    or other groups with the same sources, or with the same readers

A task begins when all its inputs are ready, so a join must not make a long group wait for inputs that only its follower needs. The delays
that joins cause are added up: a node delays the next by less than three times the worth of a task. No join closes a cycle; the methods give
the reasons.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Sequence

__all__ = ["cut", "topological_groups"]

_SWEEPS = 60
_REDUCED = 4000
"""With more groups than this, edges that a longer path implies are not searched."""


def cut(costs: Sequence[float], reads: Sequence[Iterable[int]], worth: float) -> list[list[int]]:
    """Cut a graph into groups.

    Parameters
    ----------
    costs
        Seconds of each node.
    reads
        For each node, the earlier nodes whose results it reads.
    worth
        Seconds that are worth a task.

    Returns
    -------
    list of list of int
        The nodes of each group in order; a group stands after those that it reads from.

    Examples
    --------
    >>> cut([1.0, 1.0, 1.0, 1.0], [[], [0], [0], [1, 2]], 1.0)
    [[0], [1], [2], [3]]
    >>> cut([1.0, 1.0, 0.1, 1.0], [[], [0], [0], [1, 2]], 1.0)
    [[0, 1, 2, 3]]
    """
    if sum(costs) < 2 * worth:
        return [list(range(len(costs)))] if costs else []
    groups = _Groups(costs, reads, worth)
    groups.join_chains()
    for _ in range(_SWEEPS):
        if not (groups.join_followers() or groups.join_leaders() or groups.join_siblings()):
            break
        groups.join_chains()
    while groups.join_reduced_chains():
        pass
    return topological_groups([groups.find(i) for i in range(len(costs))], reads)


def topological_groups(group_of: Sequence[int], reads: Sequence[Iterable[int]]) -> list[list[int]]:
    """The members of each group, groups in topological order, close to the order of their nodes."""
    members: dict[int, list[int]] = {}
    for node, group in enumerate(group_of):
        members.setdefault(group, []).append(node)
    waits: dict[int, set[int]] = {group: set() for group in members}
    leads: dict[int, list[int]] = {group: [] for group in members}
    for node, group in enumerate(group_of):
        for source in reads[node]:
            other = group_of[source]
            if other != group and other not in waits[group]:
                waits[group].add(other)
                leads[other].append(group)
    waiting = {group: len(sources) for group, sources in waits.items()}
    ready = [(nodes[0], group) for group, nodes in members.items() if not waiting[group]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, group = heapq.heappop(ready)
        order.append(members[group])
        for other in leads[group]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, (members[other][0], other))
    assert len(order) == len(members), "groups in a cycle"
    return order


class _Groups:
    """Groups of nodes and the edges between them; a group's number is that of one of its nodes."""

    def __init__(self, costs: Sequence[float], reads: Sequence[Iterable[int]], worth: float) -> None:
        self.cost, self.worth = list(costs), worth
        self.before: list[set[int]] = [set(sources) for sources in reads]
        self.after: list[set[int]] = [set() for _ in costs]
        for node, sources in enumerate(self.before):
            for source in sources:
                self.after[source].add(node)
        self.parent = list(range(len(costs)))
        self.spent = [0.0] * len(costs)  # delay that joins cause to other groups

    def find(self, node: int) -> int:
        """The group of a node."""
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def join(self, a: int, b: int) -> int:
        """Make one group of two."""
        if len(self.before[a]) + len(self.after[a]) < len(self.before[b]) + len(self.after[b]):
            a, b = b, a
        for other in self.before[b]:
            self.after[other].discard(b)
            self.after[other].add(a)
        for other in self.after[b]:
            self.before[other].discard(b)
            self.before[other].add(a)
        self.before[a] |= self.before[b]
        self.after[a] |= self.after[b]
        self.before[a] -= {a, b}
        self.after[a] -= {a, b}
        self.before[b], self.after[b] = set(), set()
        self.cost[a] += self.cost[b]
        self.spent[a] += self.spent[b]
        self.parent[b] = a
        return a

    def alive(self) -> list[int]:
        """The numbers of the groups."""
        return [g for g, parent in enumerate(self.parent) if parent == g]

    def join_chains(self) -> None:
        """Join each group with the next while neither has another neighbour on that side."""
        for group in self.alive():
            group = self.find(group)
            while len(self.after[group]) == 1:
                (other,) = self.after[group]
                if len(self.before[other]) != 1:
                    break
                group = self.join(group, other)

    def join_followers(self) -> bool:
        """Join cheap groups with their source that ends last; return whether there were any.

        In one sweep a group is joined to or joins, never both. Then an edge between two joined groups always leads from one whose first
        member ends earlier to one whose first member ends later, and there is no cycle.
        """
        order = self.ordered()
        rank = {g: i for i, g in enumerate(order)}
        end: dict[int, float] = {}
        joined_to, joining = set(), set()
        pairs = []
        for g in order:
            sources = sorted(self.before[g], key=lambda s: (end[s], rank[s]))
            end[g] = self.cost[g] + (end[sources[-1]] if sources else 0.0)
            if self.cost[g] >= self.worth or not sources or g in joined_to or sources[-1] in joining:
                continue
            last = sources[-1]
            begins = end[last] - self.cost[last]
            if len(sources) > 1 and end[sources[-2]] > begins + self.worth / 100:
                continue
            if len(self.after[last]) > 1:
                if self.spent[last] >= self.worth:
                    continue
                self.spent[last] += self.cost[g]
            pairs.append((last, g))
            joined_to.add(last)
            joining.add(g)
        for last, g in pairs:
            self.join(self.find(last), g)
        return bool(pairs)

    def join_leaders(self) -> bool:
        """Join cheap groups with their only reader: no other path leads there. Return whether there were any."""
        joined = False
        for g in self.alive():
            if self.parent[g] == g and self.cost[g] < self.worth and len(self.after[g]) == 1:
                (other,) = self.after[g]
                if self.spent[other] < self.worth:
                    self.spent[other] += self.cost[g]
                    self.join(g, other)
                    joined = True
        return joined

    def join_siblings(self) -> bool:
        """Join cheap groups with equal sources and readers, else with equal sources or readers; return whether there were any.

        A path to one of the groups with equal sources leads to all of them, so a cycle of joined groups would have been one before.
        """
        kinds: tuple[Callable[[int], Hashable], ...] = (
            lambda g: (frozenset(self.before[g]), frozenset(self.after[g])),
            lambda g: frozenset(self.before[g]),
            lambda g: frozenset(self.after[g]),
        )
        for kind in kinds:
            open_groups: dict[Hashable, int] = {}
            pairs = []
            size: dict[int, float] = {}
            for g in self.alive():
                if self.cost[g] >= self.worth:
                    continue
                key = kind(g)
                first = open_groups.get(key)
                if first is None:
                    open_groups[key] = g
                    size[g] = self.cost[g]
                    continue
                pairs.append((first, g))
                size[first] += self.cost[g]
                if size[first] >= self.worth:
                    del open_groups[key]
            for first, g in pairs:
                self.join(self.find(first), g)
            if pairs:
                return True
        return False

    def join_reduced_chains(self) -> bool:
        """Join chains, ignoring edges that a longer path implies; return whether there were any.

        Every path from the first to the second of two such groups is the edge between them.
        """
        order = self.ordered()
        if not 1 < len(order) <= _REDUCED:
            return False
        rank = {g: i for i, g in enumerate(order)}
        above: dict[int, int] = {}  # the groups before each, as bits
        direct: dict[int, list[int]] = {}
        leads: dict[int, list[int]] = {g: [] for g in order}
        for g in order:
            reached, nearest = 0, []
            # The latest first: edges from its own sources are implied.
            for source in sorted(self.before[g], key=rank.__getitem__, reverse=True):
                if not reached >> rank[source] & 1:
                    nearest.append(source)
                    leads[source].append(g)
                reached |= above[source] | 1 << rank[source]
            above[g], direct[g] = reached, nearest
        pairs = [(g, leads[g][0]) for g in order if len(leads[g]) == 1 and len(direct[leads[g][0]]) == 1]
        for g, other in pairs:
            self.join(self.find(g), self.find(other))
        return bool(pairs)

    def ordered(self) -> list[int]:
        """The groups in topological order."""
        waiting = {g: len(self.before[g]) for g in self.alive()}
        ready = [g for g, n in waiting.items() if not n]
        order = []
        while ready:
            g = ready.pop()
            order.append(g)
            for other in self.after[g]:
                waiting[other] -= 1
                if not waiting[other]:
                    ready.append(other)
        return order
