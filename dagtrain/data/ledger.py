"""The ledger: how often each sample was used in each epoch, as the engines told it; the proof that every sample counts exactly once.

    engine ── watch.used(step, shard, rows) ──▶ counts[epoch][rows] += 1 ──▶ verify()

It is not the batch plan over again: rows are told by whoever put a shard together, and only when the step counts. An epoch under way takes
a byte a sample; of an epoch in which every sample was used once, no more than that is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError, LedgerError
from dagtrain.graph import Array

__all__ = ["Entry", "Ledger"]

Pairs = tuple[tuple[int, int], ...]
"""Samples and their counts."""
KEPT = 8
_MOST = 255
"""Where a count stops: a byte more would begin again at 0."""
_NAMED = 5
_SAVED = 1000


class Entry(NamedTuple):
    """An epoch in a checkpoint: its samples, whether it has ended, and which counts are not as the batch plan has them by then."""

    epoch: int
    samples: int
    ended: bool
    other: Pairs


@dataclass
class _Page:
    samples: int
    counts: Array | None  # None: every sample once, but for the other counts
    ended: bool = False
    other: Pairs = ()


class Ledger:
    """How often each sample was used in each of the last epochs; `Trainer.ledger` gives it.

    Epochs and samples are counted from 0, epochs from the beginning of training.

    Parameters
    ----------
    keep
        How many epochs that have ended are kept.
    at_once
        Samples after which what was used is counted, at the latest.

    Examples
    --------
    >>> ledger = Ledger()
    >>> ledger.open(0, samples=4)
    >>> ledger.use(0, np.array([2, 0]))
    >>> ledger.use(0, np.array([2, 3]))
    >>> ledger.counts(0), ledger.missing(0), ledger.repeated(0)
    (array([1, 0, 2, 1], dtype=uint8), array([1]), array([2]))
    >>> ledger
    <Ledger: epoch 0 under way, 3 of 4 samples used, 1 of them more than once>
    """

    def __init__(self, keep: int = KEPT, at_once: int = 1 << 20) -> None:
        self.keep, self.at_once = keep, at_once
        self._pages: dict[int, _Page] = {}
        self._waiting: list[tuple[int, Array]] = []
        self._rows = 0
        self._others: dict[int, Pairs] = {}

    # ---- what it tells

    @property
    def epochs(self) -> list[int]:
        """The epochs that are kept, in order."""
        return sorted(self._pages)

    def counts(self, epoch: int) -> Array:
        """How often each sample was used in an epoch (read-only where it was once each: that takes no memory)."""
        page = self._page(epoch)
        if page.counts is not None:
            return page.counts.copy()
        if not page.other:
            return np.broadcast_to(np.uint8(1), page.samples)
        counts = np.ones(page.samples, np.uint8)
        for sample, count in page.other:
            counts[sample] = count
        return counts

    def complete(self, epoch: int) -> bool:
        """Whether every sample was used exactly once."""
        page = self._page(epoch)
        return not page.other if page.counts is None else bool((page.counts == 1).all())

    def missing(self, epoch: int) -> Array:
        """The samples that were not used (yet)."""
        page = self._page(epoch)
        found = [i for i, count in page.other if count == 0] if page.counts is None else np.nonzero(page.counts == 0)[0]
        return np.asarray(found, np.intp)

    def repeated(self, epoch: int) -> Array:
        """The samples that were used more than once."""
        page = self._page(epoch)
        found = [i for i, count in page.other if count > 1] if page.counts is None else np.nonzero(page.counts > 1)[0]
        return np.asarray(found, np.intp)

    def verify(self) -> None:
        """Check the epochs that are kept: each that has ended used every sample exactly once, the one under way none twice.

        Raises
        ------
        LedgerError
            Names the epoch and the first samples that were left out or used more than once.
        """
        for epoch in self.epochs:
            repeated, missing = self.repeated(epoch), self.missing(epoch) if self._pages[epoch].ended else np.empty(0, np.intp)
            told = [f"{len(rows)} {what}: {_first(rows)}" for rows, what in ((missing, "left out"), (repeated, "used twice")) if len(rows)]
            if told:
                raise LedgerError(
                    f"in epoch {epoch}, of {self._pages[epoch].samples} samples, {' and '.join(told)}. This is a fault of the engine, and "
                    "the weights are not those of the data: train again, and report it."
                )

    def __repr__(self) -> str:
        if not self._pages:
            return "<Ledger: no epochs>"
        return f"<Ledger: {'; '.join(self._told(epoch) for epoch in self.epochs)}>"

    def _told(self, epoch: int) -> str:
        page = self._pages[epoch]
        if page.ended and self.complete(epoch):
            return f"epoch {epoch} complete, each of {page.samples} samples used once"
        used, repeated = page.samples - len(self.missing(epoch)), len(self.repeated(epoch))
        twice = f", {repeated} of them more than once" if repeated else ""
        return f"epoch {epoch} {'ended' if page.ended else 'under way'}, {used} of {page.samples} samples used{twice}"

    # ---- what the trainer writes

    def open(self, epoch: int, samples: int, done: Iterable[Array] = (), again: bool = False) -> None:
        """Begin an epoch, of which these samples are done already; one under way goes on as it is, unless it is begun `again`."""
        self._count()
        page = self._pages.get(epoch)
        if page is not None and page.samples == samples and not page.ended and not again:
            return
        counts = np.zeros(samples, np.uint8)
        for rows in done:
            _add(counts, rows)
        for sample, count in () if again else self._others.pop(epoch, ()):
            counts[sample] = count
        self._pages[epoch] = _Page(samples, counts)

    def use(self, epoch: int, rows: Array) -> None:
        """Note that these samples were used."""
        self._waiting.append((epoch, rows))
        self._rows += len(rows)
        if self._rows > self.at_once:
            self._count()

    def _count(self) -> None:
        """Count what waits: many rows at once are soon done, a few at a time would slow small steps down."""
        if self._waiting:
            counts = self._pages[self._waiting[0][0]].counts
            assert counts is not None, "an epoch is opened before its samples are used, and counted before the next is"
            _add(counts, np.concatenate([rows for _, rows in self._waiting]))
            self._waiting, self._rows = [], 0

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is used within is forgotten where it ends by an error: those steps do not count."""
        self._count()
        before = {epoch: page.counts.copy() for epoch, page in self._pages.items() if page.counts is not None and not page.ended}
        try:
            yield
            self._count()
        except BaseException:
            self._waiting, self._rows = [], 0
            for epoch in [epoch for epoch, page in self._pages.items() if not page.ended and epoch not in before]:
                del self._pages[epoch]
            for epoch, counts in before.items():
                self._pages[epoch].counts = counts
            raise

    def close(self, epoch: int) -> None:
        """Note that an epoch has ended."""
        page = self._page(epoch)
        page.ended = True
        assert page.counts is not None, "an epoch is closed once"
        other = np.nonzero(page.counts != 1)[0]
        if len(other) <= _SAVED:
            page.other, page.counts = _pairs(page.counts, other), None
        ended = [epoch for epoch in self.epochs if self._pages[epoch].ended]
        for old in ended[: max(len(ended) - self.keep, 0)]:
            del self._pages[old]

    # ---- in a checkpoint

    def entries(self, done: Iterable[Array]) -> tuple[Entry, ...]:
        """All epochs in few bytes: what differs from one use a sample, of the epoch under way from one use of those in `done`."""
        found = []
        for epoch in self.epochs:
            page = self._page(epoch)
            other = page.other
            if page.counts is not None:
                wanted = np.full(page.samples, page.ended, np.uint8)
                for rows in () if page.ended else done:
                    _add(wanted, rows)
                other = _pairs(page.counts, np.nonzero(page.counts != wanted)[0][:_SAVED])
            found.append(Entry(epoch, page.samples, page.ended, other))
        return tuple(found)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Go on from the epochs of a checkpoint; the one under way is put together when it is opened."""
        self._pages, self._others = {}, {}
        for entry in entries:
            if entry.ended:
                self._pages[entry.epoch] = _Page(entry.samples, None, True, entry.other)
            else:
                self._others[entry.epoch] = entry.other

    def _page(self, epoch: int) -> _Page:
        self._count()
        if epoch not in self._pages:
            known = ", ".join(map(str, self.epochs)) or "none"
            raise ArgumentError(f"the ledger holds no epoch {epoch}; it holds {known} (the last {self.keep} that ran).")
        return self._pages[epoch]


def _add(counts: Array, rows: Array) -> None:
    """One use more for each of these samples, however often it is among them."""
    samples, times = np.unique(rows, return_counts=True)
    counts[samples] = np.minimum(counts[samples] + times, _MOST)


def _pairs(counts: Array, samples: Array) -> Pairs:
    return tuple((int(i), int(counts[i])) for i in samples)


def _first(rows: Array) -> str:
    return ", ".join(map(str, rows[:_NAMED].tolist())) + (", …" if len(rows) > _NAMED else "")
