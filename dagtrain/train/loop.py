"""The epochs of one fit: the steps in a session, and the work between them.

    fit ──▶ Loop ── session.run(state, batches, watch=Loop) ──▶ state, done
             ├─ at a boundary within an epoch: is there a reason to stop? is a checkpoint due?
             └─ after an epoch: validation, history, callbacks, checkpoint, report

One call runs several short epochs, if nothing needs the state at the end of each: on a cluster, the end of a call would take longer than
their steps.

However a fit ends, `Progress` is at a boundary from which training continues exactly: the state, and within an epoch the steps done and the
sums so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from threading import get_ident
from typing import Any

import numpy as np

from dagtrain.checkpoint.runs import CheckpointDirectory, Place, place_text
from dagtrain.checkpoint.schema import Manifest
from dagtrain.data import BatchPlan
from dagtrain.data.rounds import BatchStream
from dagtrain.engines.engine import Session
from dagtrain.errors import DataError, NotFiniteError
from dagtrain.graph import Array
from dagtrain.report.records import Happened, StepTimes
from dagtrain.step.program import Program
from dagtrain.step.state import EpochProgress, State
from dagtrain.train.batches import evaluate
from dagtrain.train.callback import Callbacks, may_lag
from dagtrain.train.diagnose import explain_not_finite
from dagtrain.train.history import Event, History
from dagtrain.train.progress import Progress
from dagtrain.train.publish import Publisher
from dagtrain.train.stopping import Stopping

__all__ = ["Loop"]

_CALL_SECONDS = 1.0
"""Most seconds of the epochs of one call."""
_CALL_SAMPLES = 1 << 20
"""Most samples of the epochs of one call, since it holds all their numbers."""


@dataclass
class Loop:
    """One call of fit; the session's `Watch`.

    Attributes
    ----------
    progress
        How far training is; the loop advances it.
    describe
        Returns the manifest of a state with a history.
    every
        Seconds after which a checkpoint is due within an epoch; None leaves it at the ends of epochs.
    exact
        Whether other software on a worker is an error instead of a warning.
    publisher
        Tells the cluster's dashboard of the fit.
    first_row
        The number in its epoch of the first row of the source.
    in_steps
        Whether the session is running steps.
    thread
        Thread of the fit and of its callbacks.
    """

    progress: Progress
    describe: Callable[[State, dict[str, list[float]]], Manifest]
    program: Program
    source: Any
    plan: BatchPlan | BatchStream
    history: History
    reporter: Any
    callbacks: Callbacks
    stopping: Stopping
    validation: Any = None
    run: CheckpointDirectory | None = None
    every: float | None = None
    exact: bool = False
    publisher: Publisher | None = None
    first_row: int = 0
    in_steps: bool = False
    thread: int = field(default_factory=get_ident)
    _began: float = field(default_factory=time.perf_counter)
    _saved: tuple[Place, float] = ((0, 0), 0.0)
    _first: int = 0
    _sums: list[Array] = field(default_factory=list)
    _epochs: int = 0
    _end: int = 0
    _epoch_seconds: float = float("inf")
    """Seconds of the steps of an epoch, by the last call."""
    _prepared: tuple[int, list[Any]] = (-1, [])
    _single: bool = False
    """Whether each epoch has a call of its own from now on."""
    _page: int = 0
    """The epoch that the ledger was opened for."""

    def train(self, session: Session, first: int, epochs: int) -> None:
        """Run the epochs from `first` to below `epochs`, until a stop is requested."""
        progress = self.progress
        self._saved, self._epochs = (self.progress.place, time.monotonic()), epochs
        self._end = progress.epochs + epochs - first
        self.callbacks.call("on_train_begin")
        for epoch in range(progress.epochs, self._end):
            if self.stopping.reason is not None:
                break
            if progress.epochs > epoch:  # the call of an earlier epoch ran it too
                continue
            self.callbacks.call("on_epoch_begin", self._number(epoch))
            self._open_epoch(epoch)
            while progress.epochs == epoch and self.stopping.reason is None:
                self._run_steps(session)
                if progress.begun is not None and self._is_due:
                    self._save()
        if self.stopping.reason is not None:
            self._stopped(self.stopping.reason)
        if self.callbacks.error is None:
            self.callbacks.call("on_train_end")

    def _open_epoch(self, epoch: int) -> None:
        """Open the ledger for an epoch, some steps of which may be done."""
        self._page = epoch
        self.progress.ledger.open(epoch, self.plan.samples, self.progress.rows_done(self.plan))

    def _number(self, epoch: int) -> int:
        """The number of an epoch in this fit, from its number in the trainer."""
        return epoch - self._end + self._epochs

    def _run_steps(self, session: Session) -> None:
        """Run steps to the end of one or more epochs, or to a boundary where a stop or checkpoint is due; then end these epochs."""
        progress, total = self.progress, self.plan.steps_per_epoch
        state, epoch = progress.trained("train")[1], progress.epochs
        begun = progress.begun or self._no_steps
        if begun.steps == total:  # its validation failed before
            self._report_epoch(epoch, self._end_epoch(session, begun))
            return
        batches = self._batches(epoch, begun.steps)
        following = self._following(epoch + (begun.steps + len(batches)) // total)
        self._first, self._sums, began = begun.steps, [], time.perf_counter()
        self.in_steps = True
        try:
            with progress.ledger.attempt():
                after, done = session.run(state, batches, self, following)
                if not (np.isfinite(after.parameters).all() and self.program.statistics_layout.is_finite(after.statistics)):
                    raise NotFiniteError("the last step made a parameter or a state NaN or infinite")
        except NotFiniteError:
            if len(batches) > total:  # epochs before the one that broke count: run them again, each in a call
                self._single, self._prepared = True, (-1, [])
                return
            raise explain_not_finite(self.program, self.source, state, batches, self.first_row) from None
        finally:
            self.in_steps = False
        # Reported steps that are not in the state do not count.
        ends, under_way = self._count(begun, self._sums[:done], time.perf_counter() - began)
        if self._needs_each_epoch:
            progress.state, progress.begun = after, ends[0] if ends else under_way
            rows = [self._end_epoch(session, end) for end in ends]
        else:
            with self.stopping.undisturbed():
                progress.state = after
                rows = [self._end_epoch(session, end) for end in ends]
                progress.begun = under_way
        for i, row in enumerate(rows, epoch):  # after the progress is at its boundary, since these calls may raise
            if i > epoch:
                self.callbacks.call("on_epoch_begin", self._number(i))
            self._report_epoch(i, row)
        if rows and under_way is not None:
            self.callbacks.call("on_epoch_begin", self._number(epoch + len(rows)))

    def _count(self, begun: EpochProgress, steps: list[Array], seconds: float) -> tuple[list[EpochProgress], EpochProgress | None]:
        """The progress of each epoch that ends within these steps (the parts of each), and of the one under way after them."""
        total, ends = self.plan.steps_per_epoch, []
        step_seconds = seconds / max(len(steps), 1)
        self._epoch_seconds = step_seconds * total if steps else self._epoch_seconds
        for part in _cut(steps, total - begun.steps, total):
            sums = np.array(begun.sums)
            for parts in part:
                sums += parts
            done = begun.steps + len(part)
            begun = EpochProgress(done, tuple(map(float, sums)), begun.seconds + step_seconds * len(part), begun.batches)
            if begun.steps == total:
                ends.append(begun)
                begun = self._no_steps
        return ends, begun if begun.steps else None

    @property
    def _no_steps(self) -> EpochProgress:
        return EpochProgress(0, (0.0,) * self.program.sums, 0.0, self.plan.settings)

    def _batches(self, epoch: int, first: int) -> list[Any]:
        """The batches of a call that begins with step `first` of an epoch.

        Batches from the beginning of an epoch are the same object each time, so a session recognises those that it has prepared.
        """
        if first == 0 and self._prepared[0] == epoch:
            return self._prepared[1]
        epochs = 1 if self._needs_each_epoch else max(1, int(min(_CALL_SECONDS / self._epoch_seconds, _CALL_SAMPLES / self.plan.samples)))
        last = min(epoch + epochs, self._end)
        batches = [self.plan.step(e, i) for e in range(epoch, last) for i in range(first if e == epoch else 0, self.plan.steps_per_epoch)]
        if first == 0:
            self._prepared = epoch, batches
        return batches

    def _following(self, epoch: int) -> list[Any]:
        """The batches of the next call, from the beginning of an epoch."""
        return self._batches(epoch, 0)

    @property
    def _steps_shown(self) -> int | None:
        """Steps of an epoch for people; None where that is unknown."""
        return self.plan.steps_per_epoch

    @property
    def _needs_each_epoch(self) -> bool:
        """Whether anything needs the state at the end of each epoch, or may stop training there."""
        needed = self.validation is not None or self.run is not None or self._single
        return needed or not (self.callbacks.may_lag and may_lag(self.reporter))

    def _end_epoch(self, session: Session, done: EpochProgress) -> dict[str, float]:
        """Validate, and advance the progress to the next epoch; return the quantities of the epoch."""
        progress = self.progress
        state, progress.begun = progress.state, done
        assert state is not None, "steps were done"
        program = self.program
        row = program.numbers(program.values(done.sums))
        if self.validation is not None:
            scores = evaluate(session, program, self.validation, state, self)
            row |= {f"val_{name}": value for name, value in program.numbers(program.evaluated(*scores)).items()}
        row |= {"seconds": done.seconds, "samples_per_second": self.plan.samples / done.seconds}
        with self.stopping.undisturbed():
            progress.ledger.open(progress.epochs, self.plan.samples)
            progress.ledger.close(progress.epochs)
            progress.epochs, progress.begun = progress.epochs + 1, None
            self.history.add(row)
            progress.record.add(row)
        return row

    def _report_epoch(self, epoch: int, row: dict[str, float]) -> None:
        if self.publisher is not None:
            self.publisher.epoch(self._number(epoch), row)
        self.callbacks.call("on_epoch_end", self._number(epoch), row)
        if self.run is not None:
            self._save()
        self.reporter.epoch({"epoch": self._number(epoch) + 1, "epochs": self._epochs, **row})

    # ---- stops and checkpoints

    @property
    def _is_due(self) -> bool:
        return self.run is not None and self.every is not None and time.monotonic() - self._saved[1] >= self.every

    def _save(self) -> None:
        assert self.run is not None, "the caller checks it"
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
        """Check a step's loss and its weight, and report the step."""
        if not np.isfinite(sums[:2]).all():
            raise NotFiniteError(f"the loss of step {i} is {sums[0]}, its weight {sums[1]}")
        if sums[1] < 0:
            raise DataError(
                f"the total weight of the loss is {sums[1]:g} in a batch: weights must not be negative. Check masks and sample weights."
            )
        self._sums.append(np.array(sums))
        total = self.plan.steps_per_epoch
        at = (self._first + i) % total
        loss = float(sums[0] / sums[1]) if sums[1] else np.nan
        self.reporter.step(at + 1, self._steps_shown, loss)
        if self.publisher is not None:
            assert self.progress.state is not None, "steps run"
            self.publisher.step(self.progress.state.step + len(self._sums), loss)
        if self.callbacks.see_batches:
            self.callbacks.call("on_train_batch_end", at, self.program.numbers(self.program.values(sums)))

    def used(self, i: int, shard: int, rows: Array) -> None:
        """Enter the samples of a shard in the ledger."""
        epoch = self.progress.epochs + (self._first + i) // self.plan.steps_per_epoch
        if epoch != self._page:
            self._page = epoch
            self.progress.ledger.open(epoch, self.plan.samples)
        self.progress.ledger.use(epoch, rows + self.first_row if self.first_row else rows)

    def stop(self) -> bool:
        """Whether a stop is requested, or a checkpoint is due."""
        return self.stopping.reason is not None or self._is_due

    def placed(self, placement: Any) -> None:
        """Publish a new placement."""
        if self.publisher is not None:
            self.publisher.placed(placement)

    def spent(self, times: Sequence[StepTimes]) -> None:
        """Publish how ranks spend the time of a step."""
        if self.publisher is not None:
            self.publisher.spent(times)

    def event(self, text: str, kind: str = "cluster", workers: Sequence[str] = ()) -> None:
        """Write a line to the log and to the history."""
        state = self.progress.state
        step = (0 if state is None else state.step) + (len(self._sums) if self.in_steps else 0)
        event = Event(text, time.perf_counter() - self._began, step, kind, workers)
        self.history.events.append(event)
        if self.publisher is not None:
            self.publisher.add(Happened(kind, step, event.seconds, event.workers, text))
        if hasattr(self.reporter, "event"):
            self.reporter.event(event.line)


def _cut(steps: list[Any], first: int, size: int) -> Iterator[list[Any]]:
    """Split steps by epochs: `first` for the one under way, then `size` each."""
    cuts = [0, *range(first, len(steps), size), len(steps)]
    return (steps[a:b] for a, b in pairwise(cuts))
