"""Assigns shards and blocks to ranks: by threads, by the location of the data, and evenly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from dagtrain.engines.ranks.subtrees import roots_of

__all__ = ["by_place", "crossing", "deal", "in_a_row", "middle", "runs", "share_out"]


def deal(buckets: Sequence[Sequence[int]], ranks: int) -> list[tuple[int, ...]]:
    """Each rank's blocks: numbers differ by at most one, in each bucket and in total; a rank's blocks of a bucket are consecutive there."""
    blocks_of: list[list[int]] = [[] for _ in range(ranks)]
    for bucket in buckets:
        count, remainder = divmod(len(bucket), ranks)
        favoured = set(sorted(range(ranks), key=lambda i: (len(blocks_of[i]), i))[:remainder])
        rest = iter(bucket)
        for i, blocks in enumerate(blocks_of):
            blocks += islice(rest, count + (i in favoured))
    return [tuple(sorted(blocks)) for blocks in blocks_of]


def runs(blocks: Iterable[int]) -> list[range]:
    """Ranges of consecutive blocks.

    Examples
    --------
    >>> runs([0, 1, 4])
    [range(0, 2), range(4, 5)]
    """
    ranges: list[range] = []
    for block in sorted(blocks):
        if ranges and ranges[-1].stop == block:
            ranges[-1] = range(ranges[-1].start, block + 1)
        else:
            ranges.append(range(block, block + 1))
    return ranges


def middle(near: Mapping[int, int]) -> float:
    """The mean shard of a worker's data, weighted by bytes, to sort workers by; infinity without data."""
    total = sum(near.values())
    return sum(shard * size for shard, size in near.items()) / total if total else float("inf")


def share_out(total: int, weights: Sequence[int], least: int = 1, favoured: Sequence[int] = ()) -> list[int]:
    """Split a total into integers by weights; the remainder goes where counts are lowest for their weight, ties to the favoured."""
    whole = sum(weights)
    counts = [max(least, total * weight // whole) for weight in weights]
    favour = favoured or [0] * len(weights)
    order = sorted(range(len(weights)), key=lambda i: (counts[i] / weights[i], -favour[i], i))
    while sum(counts) < total:
        for i in order[: total - sum(counts)]:
            counts[i] += 1
    while sum(counts) > total:  # `least` took more than the total
        most = max(range(len(counts)), key=lambda i: (counts[i], i))
        counts[most] -= 1
    return counts


def in_a_row(counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Consecutive shards for each rank."""
    shards_of, first = [], 0
    for count in counts:
        shards_of.append(tuple(range(first, first + count)))
        first += count
    return shards_of


def by_place(counts: Sequence[int], nears: Sequence[Mapping[int, int]]) -> list[tuple[int, ...]]:
    """Each shard on the worker with most of its data, until that worker has its number of shards."""
    shards_of: list[list[int]] = [[] for _ in nears]
    pairs = sorted((-size, shard, i) for i, near in enumerate(nears) for shard, size in near.items())
    unassigned = set(range(sum(counts)))
    for _, shard, i in pairs:
        if shard in unassigned and len(shards_of[i]) < counts[i]:
            shards_of[i].append(shard)
            unassigned.discard(shard)
    for shard in sorted(unassigned):
        shards_of[next(i for i in range(len(nears)) if len(shards_of[i]) < counts[i])].append(shard)
    return [tuple(sorted(shards)) for shards in shards_of]


def crossing(shards_of: Sequence[tuple[int, ...]], count: int, vector: int, nears: Sequence[Mapping[int, int]], row_bytes: float) -> float:
    """Bytes of a step that cross between workers: rows in the memory of other workers, and partial sums of `vector` bytes each."""
    whole: dict[int, int] = {}
    for near in nears:
        for shard, size in near.items():
            whole[shard] = whole.get(shard, 0) + size
    rows = sum(
        row_bytes * (1 - near.get(s, 0) / whole[s]) for near, shards in zip(nears, shards_of, strict=True) for s in shards if whole.get(s)
    )
    partials = sum(len(roots_of(shards, count)) for shards in shards_of)
    return rows + partials * vector * (1 - 1 / len(nears))
