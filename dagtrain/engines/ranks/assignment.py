"""How shards and blocks are shared out among ranks: by threads, by where the data lies, and evenly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from dagtrain.engines.ranks.subtrees import roots_of

__all__ = ["by_place", "crossing", "deal", "in_a_row", "middle", "runs", "share_out"]


def deal(buckets: Sequence[Sequence[int]], ranks: int) -> list[tuple[int, ...]]:
    """Each rank's blocks: as many as the others' in every bucket, and over all; in a row within a bucket, as far as the bucket is."""
    found: list[list[int]] = [[] for _ in range(ranks)]
    for bucket in buckets:
        share, longer = divmod(len(bucket), ranks)
        favoured = set(sorted(range(ranks), key=lambda i: (len(found[i]), i))[:longer])
        left = iter(bucket)
        for i, own in enumerate(found):
            own += islice(left, share + (i in favoured))
    return [tuple(sorted(own)) for own in found]


def runs(blocks: Iterable[int]) -> list[range]:
    """Blocks that follow each other, together.

    Examples
    --------
    >>> runs([0, 1, 4])
    [range(0, 2), range(4, 5)]
    """
    found: list[range] = []
    for block in sorted(blocks):
        if found and found[-1].stop == block:
            found[-1] = range(found[-1].start, block + 1)
        else:
            found.append(range(block, block + 1))
    return found


def middle(near: Mapping[int, int]) -> float:
    """Where among the shards a worker's data lies, so that its shards can be neighbours; those without any come last."""
    total = sum(near.values())
    return sum(shard * size for shard, size in near.items()) / total if total else float("inf")


def share_out(total: int, weights: Sequence[int], least: int = 1, favoured: Sequence[int] = ()) -> list[int]:
    """Split a number by weights, in whole numbers; those that are favoured, and else the first ones, get what does not divide."""
    whole = sum(weights)
    found = [max(least, total * weight // whole) for weight in weights]
    favour = favoured or [0] * len(weights)
    order = sorted(range(len(weights)), key=lambda i: (found[i] / weights[i], -favour[i], i))
    while sum(found) < total:
        for i in order[: total - sum(found)]:
            found[i] += 1
    while sum(found) > total:  # the least shares took more than there was
        most = max(range(len(found)), key=lambda i: (found[i], i))
        found[most] -= 1
    return found


def in_a_row(shares: Sequence[int]) -> list[tuple[int, ...]]:
    """Neighbours together."""
    found, first = [], 0
    for share in shares:
        found.append(tuple(range(first, first + share)))
        first += share
    return found


def by_place(shares: Sequence[int], nears: Sequence[Mapping[int, int]]) -> list[tuple[int, ...]]:
    """Each shard where most of its data lies, as far as there is room."""
    taken: list[list[int]] = [[] for _ in nears]
    pairs = sorted((-size, shard, i) for i, near in enumerate(nears) for shard, size in near.items())
    left = set(range(sum(shares)))
    for _, shard, i in pairs:
        if shard in left and len(taken[i]) < shares[i]:
            taken[i].append(shard)
            left.discard(shard)
    for shard in sorted(left):
        taken[next(i for i in range(len(nears)) if len(taken[i]) < shares[i])].append(shard)
    return [tuple(sorted(shards)) for shards in taken]


def crossing(taken: Sequence[tuple[int, ...]], shards: int, vector: int, nears: Sequence[Mapping[int, int]], row_bytes: float) -> float:
    """Bytes of a step that cross between workers: rows that lie elsewhere, and partial sums of a vector of so many bytes."""
    whole: dict[int, int] = {}
    for near in nears:
        for shard, size in near.items():
            whole[shard] = whole.get(shard, 0) + size
    rows = sum(row_bytes * (1 - near.get(s, 0) / whole[s]) for near, own in zip(nears, taken, strict=True) for s in own if whole.get(s))
    partials = sum(len(roots_of(own, shards)) for own in taken)
    return rows + partials * vector * (1 - 1 / len(nears))
