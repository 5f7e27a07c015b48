"""Which nodes go into one task: a directed graph with costs is cut into groups worth a task each.

    ●─●─●─┬─●─●─●─┬─●      ▶      [●─●─●]─┬─[●─●─●]─┬─[●]        branches that are worth it stay apart
          └─●─●─●─┘                       └─[●─●─●]─┘

    chains      what can only run one after the other is one group, edges that a longer path implies left out
    followers   a group not worth a task joins the one before it that ends last, if that one need not wait for it to begin
    leaders     or the only one after it
    siblings    or others that read the same, or are read by the same

A task begins when all that it reads is there, so a join must not make a long group wait for what only its follower needs. Each join that
may keep others waiting counts: a node makes the next wait for less than three times the worth of a task. No join closes a circle; the
methods say why.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Sequence

__all__ = ["cut", "topological_groups"]

_SWEEPS = 60
_REDUCED = 4000
"""With more groups than this, edges that a longer path implies are not looked for."""


def cut(costs: Sequence[float], reads: Sequence[Iterable[int]], worth: float) -> list[list[int]]:
    """Cut a graph into groups.

    Parameters
    ----------
    costs
        Seconds of each node.
    reads
        For each node, those before it whose results it reads.
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
    """The members of each group, groups in topological order, near to the order of their nodes."""
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
    left = {group: len(found) for group, found in waits.items()}
    ready = [(found[0], group) for group, found in members.items() if not left[group]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, group = heapq.heappop(ready)
        order.append(members[group])
        for other in leads[group]:
            left[other] -= 1
            if not left[other]:
                heapq.heappush(ready, (members[other][0], other))
    assert len(order) == len(members), "groups in a circle"
    return order


class _Groups:
    """Groups of nodes and the edges between them; a group goes by the number of one of its nodes."""

    def __init__(self, costs: Sequence[float], reads: Sequence[Iterable[int]], worth: float) -> None:
        self.cost, self.worth = list(costs), worth
        self.before: list[set[int]] = [set(found) for found in reads]
        self.after: list[set[int]] = [set() for _ in costs]
        for node, found in enumerate(self.before):
            for source in found:
                self.after[source].add(node)
        self.parent = list(range(len(costs)))
        self.spent = [0.0] * len(costs)  # how long others were made to wait by joins

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
        """The groups there are."""
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
        """Join cheap groups with the group before them that ends last; say whether there were any.

        In one sweep a group is either joined to, or joins. Then an edge between two joined groups always leads from one whose first member
        ends earlier to one whose first member ends later, and there is no circle.
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
        """Join cheap groups with the only group after them: no other path leads there."""
        found = False
        for g in self.alive():
            if self.parent[g] == g and self.cost[g] < self.worth and len(self.after[g]) == 1:
                (other,) = self.after[g]
                if self.spent[other] < self.worth:
                    self.spent[other] += self.cost[g]
                    self.join(g, other)
                    found = True
        return found

    def join_siblings(self) -> bool:
        """Join cheap groups that read the same and are read by the same, else those of which one is true; say whether there were any.

        What leads to one of those that read the same leads to all of them, so a circle of joined groups would have been one before.
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
        """Join what is a chain once edges that a longer path implies are left out; say whether there was any.

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
            reached, kept = 0, []
            # The latest first: whatever lies before it is implied.
            for source in sorted(self.before[g], key=rank.__getitem__, reverse=True):
                if not reached >> rank[source] & 1:
                    kept.append(source)
                    leads[source].append(g)
                reached |= above[source] | 1 << rank[source]
            above[g], direct[g] = reached, kept
        links = [(g, leads[g][0]) for g in order if len(leads[g]) == 1 and len(direct[leads[g][0]]) == 1]
        for g, other in links:
            self.join(self.find(g), self.find(other))
        return bool(links)

    def ordered(self) -> list[int]:
        """The groups in topological order."""
        left = {g: len(self.before[g]) for g in self.alive()}
        ready = [g for g, n in left.items() if not n]
        order = []
        while ready:
            g = ready.pop()
            order.append(g)
            for other in self.after[g]:
                left[other] -= 1
                if not left[other]:
                    ready.append(other)
        return order
