"""Which sample is in which shard of which step: a pure function of the seed, the epoch and the sizes.

    epoch order   7 2 9 | 0 5 8 | 1 4 3 | 6          batch_size=3, 4 steps
    step 1 of it          0 5 | 8                    shards=2 → (array([0, 5]), array([8]))

Neither workers nor partitions appear here, so the plan is the same on any cluster. Every sample is in exactly one shard of one step
of an epoch; the last batch may be smaller than the others, and some of its shards may be empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from dagtrain.errors import ArgumentError, DataError

__all__ = ["BatchPlan", "auto_shards", "epoch_order"]

Indices = np.ndarray[Any, np.dtype[np.intp]]

_SPLIT_MOST, _SPLIT_LEAST = 8, 32
_WIDE_MOST, _WIDE_LEAST = 64, 256


def whole(name: str, value: object, least: int) -> int:
    """Check that an argument is a whole number, and not below the least allowed."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{name} is a whole number from {least} up, got {value!r}.")
    return int(value)


def auto_shards(batch_size: int) -> int:
    """Number of shards for a batch of this size: a power of two that depends on nothing else.

    A shard holds at least 32 samples, so that its kernels are worth a call, until there are 8 shards; further shards must hold at least
    256 samples each, and there are never more than 64.

    Parameters
    ----------
    batch_size
        Samples in a batch.

    Examples
    --------
    >>> [auto_shards(n) for n in (1, 32, 64, 128, 256, 2048, 4096, 100_000)]
    [1, 1, 2, 4, 8, 8, 16, 64]
    """
    size = whole("batch_size", batch_size, 1)
    most = max(1, min(_SPLIT_MOST, size // _SPLIT_LEAST), min(_WIDE_MOST, size // _WIDE_LEAST))
    return 1 << (most.bit_length() - 1)


def epoch_order(samples: int, seed: int, epoch: int) -> Indices:
    """The order of the samples in an epoch: a permutation drawn by Philox from (seed, epoch).

    The epoch is the high word of the counter, so the streams of two epochs never overlap.

    Examples
    --------
    >>> sorted(epoch_order(5, seed=0, epoch=1).tolist())
    [0, 1, 2, 3, 4]
    """
    stream = np.random.Philox(key=np.array([seed, 0x6F72646572], np.uint64), counter=np.array([0, 0, 0, epoch], np.uint64))
    return np.random.Generator(stream).permutation(samples)


@dataclass(frozen=True)
class BatchPlan:
    """The samples of every shard of every step.

    Parameters
    ----------
    samples
        Samples in the data.
    batch_size
        Samples in a step; the last step of an epoch takes what is left.
    shards
        Parts into which each batch is cut, or "auto" for `auto_shards` of the batch size (of the number of samples, where that is less).
    seed
        Seed of the order of the samples.
    shuffle
        False keeps the samples in their order.

    Raises
    ------
    ArgumentError
        There are more shards than samples in a batch, or an argument is not a whole number.
    DataError
        There are no samples, or fewer than shards.

    Examples
    --------
    >>> plan = BatchPlan(samples=10, batch_size=4, shards=2, seed=0, shuffle=False)
    >>> plan.steps_per_epoch
    3
    >>> [shard.tolist() for shard in plan.step(epoch=0, i=1)]
    [[4, 5], [6, 7]]
    """

    samples: int
    batch_size: int
    shards: int | Literal["auto"]
    seed: int
    shuffle: bool = True
    _orders: dict[int, Indices] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        samples = whole("the number of samples", self.samples, 0)
        batch_size = whole("batch_size", self.batch_size, 1)
        seed = whole("seed", self.seed, 0)
        if seed >= 2**64:
            raise ArgumentError(f"a seed is a whole number from 0 to 2**64 - 1, got {seed}.")
        if samples == 0:
            raise DataError("the data is empty: there are no samples to make batches of.")
        if isinstance(self.shards, str):
            if self.shards != "auto":
                raise ArgumentError(f'shards is a whole number or "auto", got {self.shards!r}.')
            shards = auto_shards(min(batch_size, samples))
        else:
            shards = whole("shards", self.shards, 1)
        if shards > batch_size:
            raise ArgumentError(
                f"{shards} shards are more than batch_size={batch_size}: every shard of a full batch holds at least one sample. "
                f'Set shards to {batch_size} or less, or shards="auto".'
            )
        if shards > samples:
            raise DataError(
                f'{shards} shards are more than the {samples} samples of the data. Set shards to {samples} or less, or shards="auto".'
            )
        for name, value in (("samples", samples), ("batch_size", batch_size), ("seed", seed), ("shards", shards)):
            object.__setattr__(self, name, value)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, a smaller last one included."""
        return -(-self.samples // self.batch_size)

    def order(self, epoch: int) -> Indices:
        """The samples in the order in which this epoch takes them (read-only)."""
        found = self._orders.get(epoch)
        if found is None:
            whole("epoch", epoch, 0)
            found = epoch_order(self.samples, self.seed, epoch) if self.shuffle else np.arange(self.samples)
            found.flags.writeable = False
            self._orders.clear()
            self._orders[epoch] = found
        return found

    def step(self, epoch: int, i: int) -> tuple[Indices, ...]:
        """Indices of the samples in each shard of one step.

        Parameters
        ----------
        epoch
            The epoch, counted from 0.
        i
            The step in the epoch, counted from 0.

        Returns
        -------
        tuple of arrays
            One array of sample numbers for each shard: views of the epoch's order. The first shards are the longer ones, by one sample.
        """
        if not 0 <= i < self.steps_per_epoch:
            raise ArgumentError(f"step {i} is not in the epoch: it has steps 0 to {self.steps_per_epoch - 1}.")
        batch = self.order(epoch)[i * self.batch_size : (i + 1) * self.batch_size]
        assert not isinstance(self.shards, str)
        length, longer = divmod(len(batch), self.shards)
        starts = [s * length + min(s, longer) for s in range(self.shards + 1)]
        return tuple(batch[a:b] for a, b in pairwise(starts))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the order: whoever needs it draws it again."""
        return (BatchPlan, (self.samples, self.batch_size, self.shards, self.seed, self.shuffle))
