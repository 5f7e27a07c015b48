"""The ledger: how often each sample was used in each epoch, as the engines report it; the proof that every sample counts exactly once.

    engine ── commit.used[step]: (shard, rows) ──▶ counts[epoch][rows] += 1 ──▶ verify()

Counts come from the engine that assembled the shard, not from the batch plan, and only for steps that count; so they are evidence. An epoch
under way takes a byte a sample; an epoch that used every sample once takes no counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError, LedgerError
from dagtrain.graph import Array

__all__ = ["Entry", "Ledger", "Pages"]

Pairs = tuple[tuple[int, int], ...]
"""Samples and their counts."""
KEPT = 8
_MOST = 255
"""Largest count: one more would overflow its byte."""
_NAMED = 5
_SAVED = 1000


class Entry(NamedTuple):
    """An epoch in a checkpoint: its samples, whether it has ended, and the counts that differ from those of the batch plan."""

    epoch: int
    samples: int
    ended: bool
    other: Pairs


@dataclass
class _Page:
    samples: int
    counts: Array | None  # None: every sample once, except the other counts
    ended: bool = False
    other: Pairs = ()


Pages = dict[int, _Page]
"""Epoch → its samples and counts."""


class Ledger:
    """How often each sample was used in each of the last epochs; see `Trainer.ledger`.

    Epochs and samples are counted from 0, epochs from the beginning of training.

    Parameters
    ----------
    keep
        Number of ended epochs to keep.
    at_once
        Most samples that wait to be counted.

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

    # ---- reading

    @property
    def epochs(self) -> list[int]:
        """The epochs in the ledger, in order."""
        return sorted(self._pages)

    def counts(self, epoch: int) -> Array:
        """How often each sample was used in an epoch (read-only if once each: that takes no memory)."""
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
        samples = [i for i, count in page.other if count == 0] if page.counts is None else np.nonzero(page.counts == 0)[0]
        return np.asarray(samples, np.intp)

    def repeated(self, epoch: int) -> Array:
        """The samples that were used more than once."""
        page = self._page(epoch)
        samples = [i for i, count in page.other if count > 1] if page.counts is None else np.nonzero(page.counts > 1)[0]
        return np.asarray(samples, np.intp)

    def verify(self) -> None:
        """Check that each ended epoch used every sample exactly once, and the one under way none twice.

        Raises
        ------
        LedgerError
            If not; it names the epoch and the first samples that were left out or used more than once.
        """
        for epoch in self.epochs:
            repeated, missing = self.repeated(epoch), self.missing(epoch) if self._pages[epoch].ended else np.empty(0, np.intp)
            kinds = ((missing, "left out"), (repeated, "used twice"))
            faults = [f"{len(rows)} {what}: {_first(rows)}" for rows, what in kinds if len(rows)]
            if faults:
                raise LedgerError(
                    f"in epoch {epoch}, of {self._pages[epoch].samples} samples, {' and '.join(faults)}. This is a fault of the engine, "
                    "and the weights are not those of the data: train again, and report it."
                )

    def __repr__(self) -> str:
        if not self._pages:
            return "<Ledger: no epochs>"
        return f"<Ledger: {'; '.join(self._line(epoch) for epoch in self.epochs)}>"

    def _line(self, epoch: int) -> str:
        page = self._pages[epoch]
        if page.ended and self.complete(epoch):
            return f"epoch {epoch} complete, each of {page.samples} samples used once"
        used, repeated = page.samples - len(self.missing(epoch)), len(self.repeated(epoch))
        twice = f", {repeated} of them more than once" if repeated else ""
        return f"epoch {epoch} {'ended' if page.ended else 'under way'}, {used} of {page.samples} samples used{twice}"

    # ---- writing, by the trainer

    def open(self, epoch: int, samples: int, done: Iterable[Array] = (), again: bool = False) -> None:
        """Begin an epoch whose steps have used the samples `done`; an epoch under way continues, unless it begins `again`."""
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

    def resize(self, epoch: int, samples: int) -> None:
        """Note how many samples an epoch under way has, as far as they are known: those of a stream come one after the other."""
        page = self._page(epoch)
        assert page.counts is not None, "an epoch under way has counts"
        more = np.zeros(max(samples - page.samples, 0), np.uint8)
        page.samples, page.counts = samples, np.concatenate([page.counts[:samples], more])

    def use(self, epoch: int, rows: Array) -> None:
        """Note that these samples were used."""
        self._waiting.append((epoch, rows))
        self._rows += len(rows)
        if self._rows > self.at_once:
            self._count()

    def _count(self) -> None:
        """Count the waiting rows: few calls with many rows are fast, one call a shard would slow small steps down."""
        if self._waiting:
            counts = self._pages[self._waiting[0][0]].counts
            assert counts is not None, "an epoch is opened before its samples are used, and counted before the next is"
            _add(counts, np.concatenate([rows for _, rows in self._waiting]))
            self._waiting, self._rows = [], 0

    def pages(self) -> Pages:
        """All epochs, to go back to."""
        self._count()
        return {epoch: replace(page, counts=None if page.counts is None else page.counts.copy()) for epoch, page in self._pages.items()}

    def go_back(self, pages: Pages) -> None:
        """Forget what was used since these epochs were as they are here: those steps do not count."""
        self._waiting, self._rows = [], 0
        self._pages = {epoch: replace(page, counts=None if page.counts is None else page.counts.copy()) for epoch, page in pages.items()}

    def close(self, epoch: int) -> None:
        """Note that an epoch has ended."""
        page = self._page(epoch)
        page.ended = True
        assert page.counts is not None, "an epoch is closed once"
        other = np.nonzero(page.counts != 1)[0]
        if len(other) <= _SAVED:
            page.other, page.counts = _pairs(page.counts, other), None
        ended = [epoch for epoch in self.epochs if self._pages[epoch].ended]
        for oldest in ended[: max(len(ended) - self.keep, 0)]:
            del self._pages[oldest]

    # ---- in a checkpoint

    def entries(self, done: Iterable[Array]) -> tuple[Entry, ...]:
        """All epochs in few bytes: the counts other than 1, and in the epoch under way those other than 1 for `done` and 0 for the rest."""
        entries = []
        for epoch in self.epochs:
            page = self._page(epoch)
            other = page.other
            if page.counts is not None:
                expected = np.full(page.samples, page.ended, np.uint8)
                for rows in () if page.ended else done:
                    _add(expected, rows)
                other = _pairs(page.counts, np.nonzero(page.counts != expected)[0][:_SAVED])
            entries.append(Entry(epoch, page.samples, page.ended, other))
        return tuple(entries)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Continue from the epochs of a checkpoint; `open` rebuilds the counts of the one under way."""
        self._pages, self._others = {}, {}
        for entry in entries:
            if entry.ended:
                self._pages[entry.epoch] = _Page(entry.samples, None, True, entry.other)
            else:
                self._others[entry.epoch] = entry.other

    def _page(self, epoch: int) -> _Page:
        self._count()
        if epoch not in self._pages:
            epochs = ", ".join(map(str, self.epochs)) or "none"
            raise ArgumentError(f"the ledger holds no epoch {epoch}; it holds {epochs} (the last {self.keep} that ran).")
        return self._pages[epoch]


def _add(counts: Array, rows: Array) -> None:
    """Add the number of times that each sample is in `rows`."""
    samples, times = np.unique(rows, return_counts=True)
    counts[samples] = np.minimum(counts[samples] + times, _MOST)


def _pairs(counts: Array, samples: Array) -> Pairs:
    return tuple((int(i), int(counts[i])) for i in samples)


def _first(rows: Array) -> str:
    return ", ".join(map(str, rows[:_NAMED].tolist())) + (", …" if len(rows) > _NAMED else "")
