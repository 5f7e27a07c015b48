"""The samples of each shard of each step: a pure function of the seed, the epoch and the sizes.

    epoch order   7 2 9 | 0 5 8 | 1 4 3 | 6          batch_size=3, 4 steps
    step 1 of it          0 5 | 8                    shards=2 → (array([0, 5]), array([8]))

This is the order "global", in which any sample may be in any shard. In the order "local" each shard draws from partitions of its own: see
`dagtrain.data.local`. The plan does not depend on workers, so it is the same on any cluster. Every sample is in exactly one shard of one
step of an epoch; the last batch may be smaller than the others, and shards of it may be empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from dagtrain import arguments
from dagtrain.arguments import one_of, whole
from dagtrain.data.buckets import BucketOrder, Buckets
from dagtrain.data.local import LocalOrder
from dagtrain.data.pick import Indices
from dagtrain.data.schedule import Schedule
from dagtrain.errors import ArgumentError, DataError

__all__ = ["SHUFFLES", "BatchPlan", "auto_shards", "check_shuffle", "epoch_order", "shard_slice"]


SHUFFLES = ("global", "local", "none")
"""Orders of the samples: drawn over all samples, drawn within the samples that each shard owns, or unchanged."""

_EPOCHS_KEPT = 2
"""Steps are prepared ahead: one epoch ends while the next begins."""
_SPLIT_MOST, _SPLIT_LEAST = 2, 64
_WIDE_MOST, _WIDE_LEAST = 64, 256


def check_shuffle(shuffle: object) -> str:
    """The name of an order; True is "global" and False is "none"."""
    if isinstance(shuffle, Buckets | BucketOrder):
        return "buckets"
    if isinstance(shuffle, bool):
        return "global" if shuffle else "none"
    return one_of("shuffle (besides True and False)", shuffle, SHUFFLES)


def auto_shards(batch_size: int) -> int:
    """Number of shards for a batch of this size: a power of two that depends on nothing else.

    Up to 2 shards, each holds at least 64 samples, so that its kernels are worth a call; beyond 2, at least 256 samples each, so that
    matrix products are fast. There are at most 64 shards.

    Parameters
    ----------
    batch_size
        Samples in a batch.

    Examples
    --------
    >>> [auto_shards(n) for n in (1, 64, 128, 512, 1024, 2048, 4096, 100_000)]
    [1, 1, 2, 2, 4, 8, 16, 64]
    """
    size = whole("batch_size", batch_size)
    most = max(1, min(_SPLIT_MOST, size // _SPLIT_LEAST), min(_WIDE_MOST, size // _WIDE_LEAST))
    return 1 << (most.bit_length() - 1)


def shard_slice(start: int, rows: int, shards: int, shard: int) -> slice:
    """One shard of a batch of this many rows from `start` on: sizes differ by one at most, the longer ones first.

    Examples
    --------
    >>> [shard_slice(10, 5, shards=2, shard=s) for s in range(2)]
    [slice(10, 13, None), slice(13, 15, None)]
    """
    length, longer = divmod(rows, shards)
    first = start + shard * length + min(shard, longer)
    return slice(first, first + length + (shard < longer))


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
        Samples in a step; the last step of an epoch takes the rest.
    shards
        Parts of each batch, or "auto" for `auto_shards` of the batch size (of the number of samples, if that is less).
    seed
        Seed of the order of the samples.
    shuffle
        "global" (or True): each epoch draws an order of all samples. "local": shard s owns the samples from ``s * samples // shards`` to
        below ``(s + 1) * samples // shards``, and draws an order of its partitions and of the rows in each, so a step reads from one
        or two of them. "none" (or False): the samples keep their order. Or the order of `Buckets` of the rows, a `BucketOrder`.
    sizes
        Rows of each partition, for the order "local"; the other orders do not depend on them and set None.

    Raises
    ------
    ArgumentError
        If there are more shards than samples in a batch, an argument is not a whole number, or `sizes` do not sum to `samples`.
    DataError
        If there are no samples, or fewer than shards.
    UnknownNameError
        If there is no such shuffle.

    Examples
    --------
    >>> plan = BatchPlan(samples=10, batch_size=4, shards=2, seed=0, shuffle=False)
    >>> plan.steps_per_epoch
    3
    >>> [shard.tolist() for shard in plan.step(epoch=0, i=1)]
    [[4, 5], [6, 7]]
    >>> plan = BatchPlan(samples=10, batch_size=4, shards=2, seed=0, shuffle="local", sizes=(3, 3, 4))
    >>> sorted(int(n) for i in range(3) for n in plan.step(epoch=0, i=i)[1])
    [5, 6, 7, 8, 9]
    """

    samples: int
    batch_size: int
    shards: int | Literal["auto"]
    seed: int
    shuffle: bool | str | BucketOrder = "global"
    sizes: tuple[int, ...] | None = field(default=None, repr=False)
    _orders: dict[int, dict[int, Indices]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _local: LocalOrder | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        samples = whole("the number of samples", self.samples, 0)
        batch_size = whole("batch_size", self.batch_size)
        seed = arguments.seed(self.seed)
        if samples == 0:
            raise DataError("the data is empty: there are no samples for a batch.")
        if isinstance(self.shards, str):
            if self.shards != "auto":
                raise ArgumentError(f'shards is a whole number or "auto", got {self.shards!r}.')
            shards = auto_shards(min(batch_size, samples))
        else:
            shards = whole("shards", self.shards)
        if shards > batch_size:
            raise ArgumentError(
                f"{shards} shards are more than batch_size={batch_size}: every shard of a full batch holds at least one sample. "
                f'Set shards to {batch_size} or less, or shards="auto".'
            )
        if shards > samples:
            raise DataError(
                f'{shards} shards are more than the {samples} samples of the data. Set shards to {samples} or less, or shards="auto".'
            )
        shuffle = self.shuffle if isinstance(self.shuffle, BucketOrder) else check_shuffle(self.shuffle)
        sizes = _check_sizes(self.sizes, samples) if shuffle == "local" else None
        local = None if sizes is None else LocalOrder(sizes, batch_size, shards, seed)
        fields = {"samples": samples, "batch_size": batch_size, "seed": seed, "shards": shards, "shuffle": shuffle, "sizes": sizes}
        for name, value in {**fields, "_local": local}.items():
            object.__setattr__(self, name, value)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, a smaller last one included."""
        return -(-self.samples // self.batch_size)

    @property
    def order_name(self) -> str:
        """Name of the order: "global", "none", "local" with a digest of the partition sizes, or that of buckets."""
        if self.sizes is None:
            return self.shuffle.name if isinstance(self.shuffle, BucketOrder) else str(self.shuffle)
        digest = hashlib.sha256(np.asarray(self.sizes, "<i8").tobytes()).hexdigest()
        return f"local over {len(self.sizes)} partitions ({digest[:8]})"

    @property
    def settings(self) -> dict[str, int | str]:
        """The settings that batches depend on."""
        order = {"global": True, "none": False}.get(self.order_name, self.order_name)
        return {"samples": self.samples, "batch_size": self.batch_size, "shards": int(self.shards), "shuffle": order}

    def continues(self, epoch: int, done: int, settings: dict[str, int | str]) -> bool:
        """Whether an epoch that was begun with these settings goes on with this plan."""
        return settings == self.settings

    def order(self, epoch: int) -> Indices:
        """The samples in the order of this epoch (read-only); a local order shard after shard."""
        if self._local is None:
            return self._drawn(epoch, 0)
        assert not isinstance(self.shards, str)
        samples = np.concatenate([self._drawn(epoch, s) for s in range(self.shards)])
        samples.flags.writeable = False
        return samples

    def _drawn(self, epoch: int, shard: int) -> Indices:
        """The order of one shard if orders are local, else of all samples (as shard 0); each is drawn once."""
        order = self._orders.get(epoch, {}).get(shard)
        if order is None:
            whole("epoch", epoch, 0)
            if self._local is not None:
                order = self._local.shard(epoch, shard)
            elif isinstance(self.shuffle, BucketOrder):
                order = self.shuffle.draw(self.batch_size, self.seed, epoch)
            else:
                order = epoch_order(self.samples, self.seed, epoch) if self.shuffle == "global" else np.arange(self.samples)
            order.flags.writeable = False
            while epoch not in self._orders and len(self._orders) >= _EPOCHS_KEPT:
                del self._orders[next(iter(self._orders))]
            self._orders.setdefault(epoch, {})[shard] = order
        return order

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
            One array of sample numbers for each shard: read-only views. Lengths differ by one at most; unless the order is local, the
            longer ones come first.
        """
        assert not isinstance(self.shards, str)
        return tuple(self.rows(epoch, i, s) for s in range(self.shards))

    @cached_property
    def lengths(self) -> frozenset[int]:
        """The rows that shards of its steps have; the same in each epoch."""
        whole_steps, last = self.steps_per_epoch - 1, self.step(0, self.steps_per_epoch - 1)
        full = self.step(0, 0) if self._local is None or not whole_steps else ()
        lengths = {len(shard) for shard in (*full, *last)}
        if self._local is not None and whole_steps:
            each, rest = divmod(self.batch_size, int(self.shards))
            lengths |= {each, each + bool(rest)}
        return frozenset(lengths - {0})

    def schedule(self, first: int, end: int, every: int = 0) -> Schedule:
        """The steps from position `first` to below `end`, counted over all epochs; with marks `every` so many positions.

        Examples
        --------
        >>> plan = BatchPlan(samples=10, batch_size=4, shards=1, seed=0, shuffle=False)
        >>> schedule = plan.schedule(2, 6, every=plan.steps_per_epoch)
        >>> [schedule.at(i)[0].tolist() for i in range(2)], schedule.until(0), schedule.until(1)
        ([[8, 9], [0, 1, 2, 3]], 1, 4)
        """
        steps = self.steps_per_epoch
        return Schedule(
            lambda i: self.step(*divmod(first + i, steps)),
            end - first,
            self.lengths,
            min(self.batch_size, self.samples),
            every,
            first % every if every else 0,
            steps,
        )

    def rows(self, epoch: int, i: int, shard: int) -> Indices:
        """Indices of the samples in one shard of one step; a local order draws nothing for other shards.

        Examples
        --------
        >>> BatchPlan(samples=10, batch_size=4, shards=2, seed=0, shuffle=False).rows(epoch=0, i=1, shard=1).tolist()
        [6, 7]
        """
        if not 0 <= i < self.steps_per_epoch:
            raise ArgumentError(f"step {i} is not in the epoch, which has steps 0 to {self.steps_per_epoch - 1}.")
        assert not isinstance(self.shards, str)
        if not 0 <= shard < self.shards:
            raise ArgumentError(f"shard {shard} is not in the batch, which has shards 0 to {self.shards - 1}.")
        if self._local is not None:
            return self._drawn(epoch, shard)[self._local.taken(shard, i) : self._local.taken(shard, i + 1)]
        first = i * self.batch_size
        return self._drawn(epoch, 0)[shard_slice(first, min(self.batch_size, self.samples - first), self.shards, shard)]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the drawn orders; the copy draws them again."""
        return (BatchPlan, (self.samples, self.batch_size, self.shards, self.seed, self.shuffle, self.sizes))


def _check_sizes(sizes: Sequence[int] | None, samples: int) -> tuple[int, ...]:
    if sizes is None:
        raise ArgumentError('shuffle="local" depends on the partitions of the data: give the rows of each as sizes.')
    rows = tuple(whole(f"the size of partition {i}", n, 0) for i, n in enumerate(sizes))
    if sum(rows) != samples:
        raise ArgumentError(f"the {len(rows)} partitions hold {sum(rows)} samples, not {samples}: sizes must be those of this data.")
    return rows
