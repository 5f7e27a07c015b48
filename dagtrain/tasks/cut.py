"""Which nodes go into one task: a directed graph with costs is cut into groups worth a task each.

    ●─●─●─┬─●─●─●─┬─●      ▶      [●─●─●]─┬─[●─●─●]─┬─[●]        branches that are worth it stay apart
          └─●─●─●─┘                       └─[●─●─●]─┘

    1  a chain is one group: nothing can run beside it
    2  a group that is not worth a task joins a sibling or a neighbour, the cheapest first
    3  edges that a longer path implies are left out, and what is a chain then is one group

No step closes a circle: groups are joined only where no path leads from one to the other through a third.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import islice

__all__ = ["cut", "topological_groups"]

_LOOKED_AT = 32
"""How many siblings or neighbours are considered for a group."""
_VISITED = 64
"""How many groups are visited to learn whether a path exists; beyond it, one is taken to exist."""
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
    groups = _Groups(costs, reads)
    groups.join_chains(range(len(costs)))
    groups.join_cheap(worth)
    for _ in range(4):
        if not groups.join_reduced_chains():
            break
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

    def __init__(self, costs: Sequence[float], reads: Sequence[Iterable[int]]) -> None:
        self.cost = list(costs)
        self.before: list[set[int]] = [set(found) for found in reads]
        self.after: list[set[int]] = [set() for _ in costs]
        for node, found in enumerate(self.before):
            for source in found:
                self.after[source].add(node)
        self.parent = list(range(len(costs)))

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
        self.parent[b] = a
        return a

    def join_chains(self, nodes: Iterable[int]) -> None:
        """Join each group with the next while neither has another neighbour on that side."""
        for node in nodes:
            group = self.find(node)
            while len(self.after[group]) == 1:
                (other,) = self.after[group]
                if len(self.before[other]) != 1:
                    break
                group = self.join(group, other)

    def join_cheap(self, worth: float) -> None:
        """Join groups that are not worth a task with others, the cheapest first, while that can be done."""
        waiting = [(cost, group) for group, cost in enumerate(self.cost) if self.parent[group] == group and cost < worth]
        heapq.heapify(waiting)
        stuck: list[int] = []
        changed = False
        while waiting or (stuck and changed):
            if not waiting:
                # What was joined since may have made room for those that found no partner.
                waiting = [(self.cost[g], g) for g in stuck if self.parent[g] == g and self.cost[g] < worth]
                heapq.heapify(waiting)
                stuck, changed = [], False
                continue
            cost, group = heapq.heappop(waiting)
            if self.parent[group] != group or self.cost[group] != cost:
                continue
            partner = self.partner(group, worth)
            if partner is None:
                stuck.append(group)
                continue
            changed = True
            group = self.join(group, partner)
            self.join_chains([*islice(self.before[group], _LOOKED_AT), group])
            group = self.find(group)
            if self.cost[group] < worth:
                heapq.heappush(waiting, (self.cost[group], group))
        self.join_loose([g for g in stuck if self.parent[g] == g and not self.before[g] and not self.after[g]], worth)

    def join_loose(self, loose: list[int], worth: float) -> None:
        """Join cheap groups without any neighbours into ones worth a task."""
        while len(loose) > 1:
            group = self.join(loose.pop(), loose.pop())
            if self.cost[group] < worth:
                loose.append(group)

    def partner(self, group: int, worth: float) -> int | None:
        """Whom a cheap group joins: a cheap sibling, its only neighbour on one side, or any neighbour where that closes no circle."""
        before, after = self.before[group], self.after[group]
        siblings = [s for s in self.siblings(group) if self.cost[s] < worth]
        twins = [s for s in siblings if self.before[s] == before and self.after[s] == after]
        only = [*(before if len(before) == 1 else ()), *(after if len(after) == 1 else ())]
        for choice in (twins, only, siblings):
            if choice:
                return min(choice, key=lambda g: (self.cost[g], g))
        near = sorted([*before, *after], key=lambda g: (self.cost[g], g))[:4]
        for other in near:
            if self.closes_no_circle(*((other, group) if other in before else (group, other))):
                return other
        return None

    def siblings(self, group: int) -> list[int]:
        """Some groups that read from the same groups, or are read by the same: no path leads from one to another."""
        found = []
        before, after = self.before[group], self.after[group]
        if before:
            near = min(before, key=lambda g: (len(self.after[g]), g))
            found += [g for g in _some(self.after[near]) if self.before[g] == before]
        if after:
            near = min(after, key=lambda g: (len(self.before[g]), g))
            found += [g for g in _some(self.before[near]) if self.after[g] == after]
        return [g for g in found if g != group]

    def closes_no_circle(self, first: int, second: int) -> bool:
        """Whether the edge is the only path from one group to the other, as far as a short search tells."""
        stack = [g for g in self.after[first] if g != second]
        seen = set(stack)
        while stack:
            if len(seen) > _VISITED:
                return False
            for other in self.after[stack.pop()]:
                if other == second:
                    return False
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return True

    def join_reduced_chains(self) -> bool:
        """Join what is a chain once edges that a longer path implies are left out; say whether there was any."""
        alive = [g for g, parent in enumerate(self.parent) if parent == g]
        if not 1 < len(alive) <= _REDUCED:
            return False
        order = self.ordered(alive)
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

    def ordered(self, alive: Iterable[int]) -> list[int]:
        """The groups in topological order."""
        left = {g: len(self.before[g]) for g in alive}
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


def _some(groups: Iterable[int]) -> list[int]:
    """A few of them; which ones must not depend on the order of a set, so the smallest numbers of a bounded look."""
    return heapq.nsmallest(_LOOKED_AT, groups)
