"""The epochs of a fit on a stream: the session runs rounds of batches that were read ahead.

    stream ── round ─▶ rows of some steps, the session's source ── run ─▶ commits ── advance ─▶ stream

Rounds end with the epoch at the latest. All else is as in the loop over arrays.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from dagtrain.checkpoint.runs import Place
from dagtrain.data.rounds import BatchStream, Round
from dagtrain.data.schedule import Schedule
from dagtrain.report.table import plural
from dagtrain.train.loop import Loop

__all__ = ["StreamLoop"]


@dataclass
class StreamLoop(Loop):
    """One call of fit on a stream, which is its `plan`."""

    _round: Round | None = None
    _base: int = 0
    """Steps of the epoch before the round."""

    @property
    def _batches(self) -> BatchStream:
        assert isinstance(self.plan, BatchStream), "the loop of a stream has one"
        return self.plan

    def _open_epoch(self, epoch: int) -> None:
        self._batches.begin(epoch, self.progress.place[1])
        super()._open_epoch(epoch)

    def _follow(self) -> None:
        """Read a round and run its steps; without a step left, end the epoch."""
        stream, progress = self._batches, self.progress
        if self._begin_epoch() and self.stopping.reason is not None:
            return
        self._round = stream.round(lambda: self.stopping.reason is not None)
        if self.stopping.reason is not None:
            return
        if self._round is not None:
            self.source = self._session.source = self._round.source
            self.first_row, self._base = self._round.first_row, stream.done
            progress.ledger.resize(progress.epochs, self.first_row + self.source.samples)
        elif stream.done < stream.steps_per_epoch:
            steps = plural(stream.steps_per_epoch, "step")
            self.stopping.ask(f"the batches ended, with {stream.done} of the {steps} of an epoch done")
            warnings.warn(f"training ended early: {self.stopping.reason}.", UserWarning, stacklevel=4)
            return
        epoch = progress.epochs
        super()._follow()
        if progress.epochs == epoch:
            self._advance()

    def _advance(self) -> None:
        """Note in the stream that steps were done, once the state after them is here: they cannot be repeated any more."""
        _, stream = self.progress.state, self._batches
        stream.advance(self.progress.place[1] - stream.done)
        self.progress.ledger.resize(self.progress.epochs, stream.samples)

    def _end_epoch(self) -> bool:
        self._advance()
        return super()._end_epoch()

    def _ahead(self) -> Schedule:
        assert self._round is not None, "a round was read"
        return self._steps(self.progress.place, (self.progress.epochs, self._base + len(self._round.steps)))

    def _steps(self, first: Place, end: Place) -> Schedule:
        steps = [] if self._round is None else self._round.steps
        last = end[1] - self._base if end[0] == first[0] else len(steps)  # a round ends with its epoch
        return Schedule.of(steps[first[1] - self._base : last], 0 if self._within is None else 1)

    def _stopped(self, reason: str) -> None:
        super()._stopped(reason)
        if self._batches.once and self._batches.pulled:
            self.tell("stop", f"{self._batches.pulled} more batches were read: a fit with the same iterator begins with them")
