"""The fixed sum tree, cut into the parts that ranks and their threads add.

    shards     0   1   2   3   4   5   6   7
               ╰─┬─╯   ╰─┬─╯   ╰─┬─╯   ╰─┬─╯        additions (0,1) (2,3) (4,5) (6,7)
                 ╰───┬───╯       ╰───┬───╯                    (0,2) (4,6)
                     ╰───────┬───────╯                        (0,4)

A subtree is named by its root, the least of its shards. Where a shard is empty, what would be added to it takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dagtrain.step.program import tree_levels

__all__ = ["Add", "Buffer", "Chain", "ShardOrder", "additions", "roots_of", "shard_order", "under"]


class Add(NamedTuple):
    """One addition: what stands at `right` into what stands at `left`."""

    left: int
    right: int


def roots_of(shards: Sequence[int], count: int) -> tuple[int, ...]:
    """Roots of the largest subtrees of the sum tree over `count` shards that lie wholly within the given ones.

    Examples
    --------
    >>> roots_of([0, 1, 2, 3], 8), roots_of([3, 4, 5], 8), roots_of([4, 5, 6], 7)
    ((0,), (3, 4), (4,))
    """
    growing, found, width = set(shards), [], 1
    while width < count:
        lefts = set()
        for root in growing:
            left, right = root & ~width, root | width
            if right >= count or (left in growing and right in growing):
                lefts.add(left)
            else:  # the neighbour is elsewhere: this subtree grows no more
                found.append(root)
        growing, width = lefts, 2 * width
    return tuple(sorted([*found, *growing]))


def under(roots: Sequence[int], shards: Sequence[int], count: int) -> dict[int, tuple[int, ...]]:
    """The shards under each root.

    Examples
    --------
    >>> under([3, 4], [3, 4, 5], 8)
    {3: (3,), 4: (4, 5)}
    """
    root_of = {s: s for s in shards}
    for level in tree_levels(count):
        for left, right in level:
            if right not in roots:
                root_of = {s: left if r == right else r for s, r in root_of.items()}
    return {root: tuple(s for s in shards if root_of[s] == root) for root in roots}


def additions(present: Iterable[int], count: int) -> list[Add]:
    """The tree's additions over what is present, each subtree's before the next one's; they end in the first of what is present.

    Whoever adds in this order has no more sums at hand at a time than the tree is deep.

    Examples
    --------
    >>> additions([0, 3, 4], 8)
    [Add(left=0, right=3), Add(left=0, right=4)]
    >>> [tuple(add) for add in additions(range(4), 4)], [tuple(add) for add in additions(range(8), 8)][2:5]
    ([(0, 1), (2, 3), (0, 2)], [(0, 2), (4, 5), (6, 7)])
    """
    at = {root: root for root in present}
    found = []
    for depth, level in enumerate(tree_levels(count)):
        for left, right in level:
            if right in at:
                if left in at:
                    found.append((right + (1 << depth), depth, Add(at[left], at.pop(right))))
                else:
                    at[left] = at.pop(right)
    # By where a subtree ends, and of two that end together the smaller one first: each after its own parts.
    return [add for _, _, add in sorted(found)]


Buffer = tuple[str, int, int]
"""Memory for a sum: ``("partial", root, 0)`` is what others read, ``("own", thread, k)`` a thread's own."""


class Chain(NamedTuple):
    """A shard, where it is computed, and what is added after it."""

    shard: int
    buffer: Buffer
    adds: tuple[tuple[Buffer, Buffer], ...]


class ShardOrder(NamedTuple):
    """What each thread of a rank does in order, and what is added once all are done."""

    threads: tuple[tuple[Chain, ...], ...]
    joins: tuple[tuple[Buffer, Buffer], ...]


def shard_order(subtrees: Mapping[int, Sequence[int]], count: int, threads: int = 1) -> ShardOrder:
    """The order of a rank's work, with as few buffers as the tree is deep; each subtree's sum ends in the memory that others read.

    Parameters
    ----------
    subtrees
        Root → its shards that have samples.
    count
        Shards in all.
    threads
        Threads of the rank.

    Examples
    --------
    >>> [(c.shard, c.buffer[0], len(c.adds)) for c in shard_order({0: [0, 1, 2, 3]}, 4).threads[0]]
    [(0, 'partial', 0), (1, 'own', 1), (2, 'own', 0), (3, 'own', 2)]
    """
    shards = sorted(s for some in subtrees.values() for s in some)
    thread_of = {s: i * threads // len(shards) for i, s in enumerate(shards)}
    first_of = {min(some): root for root, some in subtrees.items() if some}
    pending = [add for some in subtrees.values() for add in additions(some, count)]
    alone, joins = _divide(pending, thread_of)
    where: dict[int, Buffer] = {}
    found = []
    for thread in range(threads):
        free: list[int] = []
        used = 0
        chain = []
        left_over = list(alone.get(thread, ()))  # there may be fewer shards with samples than threads
        for shard in (s for s in shards if thread_of[s] == thread):
            if shard in first_of:
                where[shard] = ("partial", first_of[shard], 0)
            else:
                if not free:
                    free.append(used)
                    used += 1
                where[shard] = ("own", thread, free.pop())
            adds = []
            while left_over and (ready := _first_ready(left_over, where)) is not None:
                left_over.remove(ready)
                gone = where[ready.right]
                adds.append((where[ready.left], gone))
                if gone[0] == "own":
                    free.append(gone[2])
            chain.append(Chain(shard, where[shard], tuple(adds)))
        found.append(tuple(chain))
    return ShardOrder(tuple(found), tuple((where[a.left], where[a.right]) for a in joins))


def _divide(adds: Sequence[Add], thread_of: Mapping[int, int]) -> tuple[dict[int, list[Add]], list[Add]]:
    """The additions that a thread can do alone, and those of sums from several threads."""
    alone: dict[int, list[Add]] = {thread: [] for thread in thread_of.values()}
    joins, mixed = [], set[int]()
    for add in adds:
        if thread_of[add.left] == thread_of[add.right] and not mixed.intersection(add):
            alone[thread_of[add.left]].append(add)
        else:
            joins.append(add)
            mixed.add(add.left)
    return alone, joins


def _first_ready(adds: Sequence[Add], there: Mapping[int, Buffer]) -> Add | None:
    """The first addition whose operands are there and take part in no earlier one."""
    touched: set[int] = set()
    for add in adds:
        if add.left in there and add.right in there and not touched.intersection(add):
            return add
        touched.update(add)
    return None
