"""The fixed sum tree, cut into the parts that ranks and their threads add.

    shards     0   1   2   3   4   5   6   7
               ╰─┬─╯   ╰─┬─╯   ╰─┬─╯   ╰─┬─╯        additions (0,1) (2,3) (4,5) (6,7)
                 ╰───┬───╯       ╰───┬───╯                    (0,2) (4,6)
                     ╰───────┬───────╯                        (0,4)

A subtree is named by its root, its lowest shard. If a shard is empty, the sum that would be added to it replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dagtrain.step.sum_tree import tree_levels

__all__ = ["Add", "Buffer", "Chain", "ShardOrder", "additions", "roots_of", "shard_order", "under"]


class Add(NamedTuple):
    """One addition: the sum at `right` into the sum at `left`."""

    left: int
    right: int


def roots_of(shards: Sequence[int], count: int) -> tuple[int, ...]:
    """Roots of the largest subtrees of the sum tree over `count` shards that consist of these shards alone.

    Examples
    --------
    >>> roots_of([0, 1, 2, 3], 8), roots_of([3, 4, 5], 8), roots_of([4, 5, 6], 7)
    ((0,), (3, 4), (4,))
    """
    growing, complete, width = set(shards), [], 1
    while width < count:
        lefts = set()
        for root in growing:
            left, right = root & ~width, root | width
            if right >= count or (left in growing and right in growing):
                lefts.add(left)
            else:  # another rank has the sibling
                complete.append(root)
        growing, width = lefts, 2 * width
    return tuple(sorted([*complete, *growing]))


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
    """The tree's additions over the sums that are present, subtree after subtree; the total ends in the first of them.

    In this order the number of sums in memory at a time is at most the depth of the tree.

    Examples
    --------
    >>> additions([0, 3, 4], 8)
    [Add(left=0, right=3), Add(left=0, right=4)]
    >>> [tuple(add) for add in additions(range(4), 4)], [tuple(add) for add in additions(range(8), 8)][2:5]
    ([(0, 1), (2, 3), (0, 2)], [(0, 2), (4, 5), (6, 7)])
    """
    at = {root: root for root in present}
    adds = []
    for depth, level in enumerate(tree_levels(count)):
        for left, right in level:
            if right in at:
                if left in at:
                    adds.append((right + (1 << depth), depth, Add(at[left], at.pop(right))))
                else:
                    at[left] = at.pop(right)
    # Sorted by the last shard of the subtree, then by depth: each addition comes after those of its operands.
    return [add for _, _, add in sorted(adds)]


Buffer = tuple[str, int, int]
"""Memory for a sum: ``("partial", root, 0)`` is a region that peers read, ``("own", thread, k)`` is private to a thread."""


class Chain(NamedTuple):
    """A shard, the buffer of its contribution, and the additions after it."""

    shard: int
    buffer: Buffer
    adds: tuple[tuple[Buffer, Buffer], ...]


class ShardOrder(NamedTuple):
    """The work of each thread of a rank in order, and the additions after all threads have finished."""

    threads: tuple[tuple[Chain, ...], ...]
    joins: tuple[tuple[Buffer, Buffer], ...]


def shard_order(subtrees: Mapping[int, Sequence[int]], count: int, threads: int = 1) -> ShardOrder:
    """The order of a rank's work, with at most as many buffers as the tree is deep; each subtree's sum ends in its ``"partial"`` buffer.

    Parameters
    ----------
    subtrees
        Root → its shards that have samples.
    count
        Number of all shards.
    threads
        Threads of the rank.

    Examples
    --------
    >>> [(c.shard, c.buffer[0], len(c.adds)) for c in shard_order({0: [0, 1, 2, 3]}, 4).threads[0]]
    [(0, 'partial', 0), (1, 'own', 1), (2, 'own', 0), (3, 'own', 2)]
    """
    shards = sorted(s for members in subtrees.values() for s in members)
    thread_of = {s: i * threads // len(shards) for i, s in enumerate(shards)}
    first_of = {min(members): root for root, members in subtrees.items() if members}
    all_adds = [add for members in subtrees.values() for add in additions(members, count)]
    of_one_thread, joins = _divide(all_adds, thread_of)
    buffer_of: dict[int, Buffer] = {}
    chains = []
    for thread in range(threads):
        free: list[int] = []
        used = 0
        chain = []
        pending = list(of_one_thread.get(thread, ()))  # there may be fewer shards with samples than threads
        for shard in (s for s in shards if thread_of[s] == thread):
            if shard in first_of:
                buffer_of[shard] = ("partial", first_of[shard], 0)
            else:
                if not free:
                    free.append(used)
                    used += 1
                buffer_of[shard] = ("own", thread, free.pop())
            adds = []
            while pending and (ready := _first_ready(pending, buffer_of)) is not None:
                pending.remove(ready)
                operand = buffer_of[ready.right]
                adds.append((buffer_of[ready.left], operand))
                if operand[0] == "own":
                    free.append(operand[2])
            chain.append(Chain(shard, buffer_of[shard], tuple(adds)))
        chains.append(tuple(chain))
    return ShardOrder(tuple(chains), tuple((buffer_of[a.left], buffer_of[a.right]) for a in joins))


def _divide(adds: Sequence[Add], thread_of: Mapping[int, int]) -> tuple[dict[int, list[Add]], list[Add]]:
    """The additions within each thread, and those of sums from several threads."""
    of_one_thread: dict[int, list[Add]] = {thread: [] for thread in thread_of.values()}
    joins, mixed = [], set[int]()
    for add in adds:
        if thread_of[add.left] == thread_of[add.right] and not mixed.intersection(add):
            of_one_thread[thread_of[add.left]].append(add)
        else:
            joins.append(add)
            mixed.add(add.left)
    return of_one_thread, joins


def _first_ready(adds: Sequence[Add], computed: Mapping[int, Buffer]) -> Add | None:
    """The first addition whose operands are computed and are not those of an earlier one."""
    operands: set[int] = set()
    for add in adds:
        if add.left in computed and add.right in computed and not operands.intersection(add):
            return add
        operands.update(add)
    return None
