"""The epochs of one fit: steps through a session, and what is done between them.

    fit ──▶ Loop ── session.run(state, batches, watch=Loop) ──▶ state, done
             ├─ at a boundary within an epoch: is there a reason to stop? is a checkpoint due?
             └─ after an epoch: validation, history, callbacks, checkpoint, report

Epochs that are short are run several in one call, where nothing needs the state at the end of each: a cluster would take longer for
what is done there than for their steps.

However it ends, the trainer is left at a boundary from which training can go on exactly: with the state, and within an epoch with the steps
done and the sums so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from threading import get_ident
from typing import Any

import numpy as np

from dagtrain.checkpoint.runs import CheckpointDirectory, Place, place_text
from dagtrain.checkpoint.schema import Manifest
from dagtrain.checkpoint.store import batches_of
from dagtrain.data import BatchPlan
from dagtrain.engines.engine import Session
from dagtrain.errors import NotFiniteError
from dagtrain.graph import Array
from dagtrain.step.program import Program
from dagtrain.step.state import EpochProgress, State
from dagtrain.train.callback import Callbacks, may_lag
from dagtrain.train.diagnose import explain_not_finite
from dagtrain.train.history import Event, History
from dagtrain.train.progress import Progress
from dagtrain.train.stopping import Stopping

__all__ = ["Loop"]

_TOGETHER = 1.0
"""Seconds of epochs that are run in one call, at most."""
_ROWS = 1 << 20
"""Samples of them, at most: the numbers of all are held."""


@dataclass
class Loop:
    """One call of fit at work; to the session it is the `Watch`.

    Attributes
    ----------
    progress
        How far training is; it is brought forward here.
    describe
        Gives the manifest of a state with a history.
    every
        Seconds after which a checkpoint is due within an epoch; None leaves it at the ends of epochs.
    exact
        Whether other software on a worker is an error, and not a warning.
    in_steps
        Whether steps are being run just now.
    thread
        That of the fit, in which callbacks are called too.
    """

    progress: Progress
    describe: Callable[[State, dict[str, list[float]]], Manifest]
    program: Program
    source: Any
    plan: BatchPlan
    history: History
    reporter: Any
    callbacks: Callbacks
    stopping: Stopping
    validation: Any = None
    run: CheckpointDirectory | None = None
    every: float | None = None
    exact: bool = False
    in_steps: bool = False
    thread: int = field(default_factory=get_ident)
    _began: float = field(default_factory=time.perf_counter)
    _saved: tuple[Place, float] = ((0, 0), 0.0)
    _first: int = 0
    _sums: list[Array] = field(default_factory=list)
    _epochs: int = 0
    _end: int = 0
    _usual: float = float("inf")
    """Seconds that the steps of an epoch took the last time."""
    _ahead: tuple[int, list[Any]] = (-1, [])
    _apart: bool = False
    """Whether each epoch is run by itself from now on."""
    _page: int = 0
    """The epoch that the ledger was opened for."""

    def train(self, session: Session, first: int, epochs: int) -> None:
        """Run the epochs from `first` to below `epochs`, as far as nothing asks for a stop."""
        progress = self.progress
        self._saved, self._epochs = (self.progress.place, time.monotonic()), epochs
        self._end = progress.epochs + epochs - first
        self.callbacks.call("on_train_begin")
        for epoch in range(progress.epochs, self._end):
            if self.stopping.reason is not None:
                break
            if progress.epochs > epoch:  # it was run together with one before
                continue
            self.callbacks.call("on_epoch_begin", self._told(epoch))
            self._page = epoch
            progress.ledger.open(epoch, self.plan.samples, progress.rows_done(self.plan))
            while progress.epochs == epoch and self.stopping.reason is None:
                self._some_steps(session)
                if progress.begun is not None and self._is_due:
                    self._save()
        if self.stopping.reason is not None:
            self._stopped(self.stopping.reason)
        if self.callbacks.error is None:
            self.callbacks.call("on_train_end")

    def _told(self, epoch: int) -> int:
        """The number by which this fit knows an epoch of the trainer."""
        return epoch - self._end + self._epochs

    def _some_steps(self, session: Session) -> None:
        """Run steps to the end of the epoch, or of several, or to the next boundary where there is a reason; do what epoch ends need."""
        progress, total = self.progress, self.plan.steps_per_epoch
        state, epoch = progress.trained("train")[1], progress.epochs
        begun = progress.begun or self._nothing
        if begun.steps == total:  # its validation failed before
            self._tell_epoch(epoch, self._end_epoch(session, begun))
            return
        batches = self._batches(epoch, begun.steps)
        following = self._batches(epoch + (begun.steps + len(batches)) // total, 0)
        self._first, self._sums, began = begun.steps, [], time.perf_counter()
        self.in_steps = True
        try:
            with progress.ledger.attempt():
                after, done = session.run(state, batches, self, following)
                if not (np.isfinite(after.parameters).all() and np.isfinite(after.statistics).all()):
                    raise NotFiniteError("the last step made a parameter NaN or infinite")
        except NotFiniteError:
            if len(batches) > total:  # the epochs before the one that broke count: they are run again, each by itself
                self._apart, self._ahead = True, (-1, [])
                return
            raise explain_not_finite(self.program, self.source, state, batches) from None
        finally:
            self.in_steps = False
        # Reported steps that are not in the state do not count.
        steps = list(zip(self._sums, batches[:done], strict=False))
        ends, left = self._count(begun, steps, time.perf_counter() - began)
        if self._is_looked_at:
            progress.state, progress.begun = after, ends[0] if ends else left
            rows = [self._end_epoch(session, end) for end in ends]
        else:
            with self.stopping.undisturbed():
                progress.state = after
                rows = [self._end_epoch(session, end) for end in ends]
                progress.begun = left
        for i, row in enumerate(rows, epoch):  # when the trainer is at its boundary, whatever they meet
            if i > epoch:
                self.callbacks.call("on_epoch_begin", self._told(i))
            self._tell_epoch(i, row)
        if rows and left is not None:
            self.callbacks.call("on_epoch_begin", self._told(epoch + len(rows)))

    def _count(self, begun: EpochProgress, steps: list[Any], seconds: float) -> tuple[list[EpochProgress], EpochProgress | None]:
        """The epochs that end within steps that took so long, each its sums and its batch, and the one that is left under way."""
        total, ends = self.plan.steps_per_epoch, []
        a_step = seconds / max(len(steps), 1)
        self._usual = a_step * total if steps else self._usual
        for some in _cut(steps, total - begun.steps, total):
            sums = np.array(begun.sums)
            for means, batch in some:
                sums += means * sum(len(shard) for shard in batch)
            begun = EpochProgress(begun.steps + len(some), tuple(map(float, sums)), begun.seconds + a_step * len(some), begun.batches)
            if begun.steps == total:
                ends.append(begun)
                begun = self._nothing
        return ends, begun if begun.steps else None

    @property
    def _nothing(self) -> EpochProgress:
        return EpochProgress(0, (0.0,) * len(self.program.names), 0.0, batches_of(self.plan))

    def _batches(self, epoch: int, first: int) -> list[Any]:
        """The steps of a call that begins with the given one of an epoch.

        Those that begin with an epoch are made once: whoever began on them knows them again.
        """
        if first == 0 and self._ahead[0] == epoch:
            return self._ahead[1]
        together = 1 if self._is_looked_at else max(1, int(min(_TOGETHER / self._usual, _ROWS / self.plan.samples)))
        last = min(epoch + together, self._end)
        found = [self.plan.step(e, i) for e in range(epoch, last) for i in range(first if e == epoch else 0, self.plan.steps_per_epoch)]
        if first == 0:
            self._ahead = epoch, found
        return found

    @property
    def _is_looked_at(self) -> bool:
        """Whether anything needs the state at the end of each epoch, or may stop there."""
        wanted = self.validation is not None or self.run is not None or self._apart
        return wanted or not (self.callbacks.may_lag and may_lag(self.reporter))

    def _end_epoch(self, session: Session, done: EpochProgress) -> dict[str, float]:
        """Validate, and bring the trainer to the next epoch; return its quantities."""
        progress, names = self.progress, self.program.names
        state, progress.begun = progress.state, done
        assert state is not None, "steps were done"
        row = {n: total / self.plan.samples for n, total in zip(names, done.sums, strict=True)}
        if self.validation is not None:
            sums = session.evaluate(self.validation, state, self)
            row |= {f"val_{n}": float(v) / self.validation.samples for n, v in zip(names, sums, strict=True)}
        row |= {"seconds": done.seconds, "samples_per_second": self.plan.samples / done.seconds}
        with self.stopping.undisturbed():
            progress.ledger.open(progress.epochs, self.plan.samples)
            progress.ledger.close(progress.epochs)
            progress.epochs, progress.begun = progress.epochs + 1, None
            self.history.add(row)
            progress.record.add(row)
        return row

    def _tell_epoch(self, epoch: int, row: dict[str, float]) -> None:
        self.callbacks.call("on_epoch_end", self._told(epoch), row)
        if self.run is not None:
            self._save()
        self.reporter.epoch({"epoch": self._told(epoch) + 1, "epochs": self._epochs, **row})

    # ---- stops and checkpoints

    @property
    def _is_due(self) -> bool:
        return self.run is not None and self.every is not None and time.monotonic() - self._saved[1] >= self.every

    def _save(self) -> None:
        assert self.run is not None, "asked before"
        state = self.progress.trained("be saved")[1]
        self.run.save(self.describe(state, self.progress.record.history), state)
        self._saved = self.progress.place, time.monotonic()

    def _stopped(self, reason: str) -> None:
        self.history.stopped = reason
        self.event(f"{reason}, after {place_text(self.progress.place)}", "stop")
        if self.run is not None and self._saved[0] != self.progress.place:
            self._save()

    # ---- the watch

    def step(self, i: int, sums: Array) -> None:
        """Look at a step's loss, and pass it on."""
        if not np.isfinite(sums[0]):
            raise NotFiniteError(f"the loss of step {i} is {sums[0]}")
        self._sums.append(np.array(sums))
        total = self.plan.steps_per_epoch
        at = (self._first + i) % total
        self.reporter.step(at + 1, total, float(sums[0]))
        if self.callbacks.see_batches:
            logs = {name: float(value) for name, value in zip(self.program.names, sums, strict=True)}
            self.callbacks.call("on_train_batch_end", at, logs)

    def used(self, i: int, shard: int, rows: Array) -> None:
        """Note in the ledger which samples a shard took."""
        epoch = self.progress.epochs + (self._first + i) // self.plan.steps_per_epoch
        if epoch != self._page:
            self._page = epoch
            self.progress.ledger.open(epoch, self.plan.samples)
        self.progress.ledger.use(epoch, rows)

    def stop(self) -> bool:
        """Whether somebody asked for a stop, or a checkpoint is due."""
        return self.stopping.reason is not None or self._is_due

    def event(self, text: str, kind: str = "cluster") -> None:
        """Write a line to the log and to the history."""
        state = self.progress.state
        step = (0 if state is None else state.step) + (len(self._sums) if self.in_steps else 0)
        event = Event(text, time.perf_counter() - self._began, step, kind)
        self.history.events.append(event)
        if hasattr(self.reporter, "event"):
            self.reporter.event(event.line)


def _cut(steps: list[Any], first: int, size: int) -> Iterator[list[Any]]:
    """The steps by epochs: of the first, so many are left."""
    cuts = [0, *range(first, len(steps), size), len(steps)]
    return (steps[a:b] for a, b in pairwise(cuts))
