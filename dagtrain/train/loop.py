"""The epochs of one fit: a consumer of the session's stream of commits.

    fit ──▶ Loop ◀── Commit, Event ── session.run(state, schedule)
             ├─ after each step: ledger, callbacks
             └─ after an epoch: validation, history, callbacks, checkpoint

A session runs ahead of the loop, and a commit may go beyond the end of an epoch. Where a callback stops training, changes the rate or sets
the weights, what lies beyond is dropped. If the state of a boundary within a commit is needed, the steps since the last state in this
process are repeated: steps are pure, so they give the same bits; from then on commits end at such boundaries.

However a fit ends, `Progress` is at a boundary from which training continues exactly: the state, and within an epoch the steps done and the
sums so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import numpy as np

from dagtrain.checkpoint.runs import CheckpointDirectory, Place, place_text
from dagtrain.checkpoint.schema import Manifest
from dagtrain.data import BatchPlan
from dagtrain.data.rounds import BatchStream
from dagtrain.data.schedule import Schedule
from dagtrain.engines.commits import Commit, Item, Placed, StateLostError, StateRef
from dagtrain.engines.engine import Session
from dagtrain.errors import NotFiniteError
from dagtrain.graph import Array
from dagtrain.report.records import Event
from dagtrain.step.program import Program
from dagtrain.step.state import EpochProgress, State
from dagtrain.train.batches import evaluate
from dagtrain.train.callback import Callbacks, LazyLogs
from dagtrain.train.diagnose import check_weight, explain_not_finite
from dagtrain.train.events import EventLog
from dagtrain.train.history import History
from dagtrain.train.progress import Anchor, Progress
from dagtrain.train.publish import Publisher
from dagtrain.train.repeat import lost, repeated
from dagtrain.train.stopping import Stopping

__all__ = ["Loop"]

_ANCHOR_SECONDS, _ANCHOR_SHARE = 1.0, 0.05
"""Seconds between two states that are brought here only to go back to, and the largest share of the time that this may take."""
_CALM = 4
"""Streams of one epoch that nobody changes, after one that somebody changed, until the session may run ahead again."""


@dataclass
class Loop:
    """One call of fit.

    Attributes
    ----------
    progress
        How far training is; the loop advances it.
    describe
        Returns the manifest of a state with a history.
    every
        Seconds after which a checkpoint is due within an epoch; None leaves it at the ends of epochs.
    publisher
        Tells the cluster's dashboard of the fit.
    first_row
        The number in its epoch of the first row of the source.
    thread
        Thread of the fit and of its callbacks.
    """

    progress: Progress
    describe: Callable[[State, dict[str, list[float]]], Manifest]
    program: Program
    source: Any
    plan: BatchPlan | BatchStream
    history: History
    callbacks: Callbacks
    events: EventLog
    stopping: Stopping
    validation: Any = None
    run: CheckpointDirectory | None = None
    every: float | None = None
    publisher: Publisher | None = None
    first_row: int = 0
    thread: int = field(default_factory=get_ident)
    _clock: float = 0.0
    """When the last seconds were counted."""
    _saved: tuple[Place, float] = ((0, 0), 0.0)
    _epochs: int = 0
    _end: int = 0
    _opened: int = -1
    """The epoch that was begun last."""
    _step: int = 0
    """Updates made."""
    _session: Any = None
    _stream: Any = None
    """The stream; None while there is none, and once it was closed to repeat steps."""
    _ref: StateRef | None = None
    """The state after the last commit."""
    _beyond: int = 0
    """Steps of the last commit that the progress does not have yet."""
    _asked: bool = False
    """Whether somebody has asked for the state at the end of an epoch."""
    _within: int | None = None
    """The last epoch within which somebody has asked for the state, until one passes in which nobody does."""
    _calm: int = _CALM
    """Streams in a row that nobody has changed."""
    _brought: tuple[float, float] = (0.0, 0.0)
    """When a state was last brought here, and how long it took."""

    def train(self, session: Session, first: int, epochs: int) -> None:
        """Run the epochs from `first` to below `epochs`, until a stop is requested."""
        progress = self.progress
        assert progress.state is not None, "a fit begins with a state"
        self._session, self._saved, self._epochs = session, (progress.place, time.monotonic()), epochs
        self._end, self._step = progress.epochs + epochs - first, progress.state.step
        self._clock = time.perf_counter()
        self._brought = self._clock, 0.0
        progress.follow(self._bring, (self.history, progress.record))
        earlier = [*self.history.events]
        try:
            self.callbacks.call("on_train_begin")
            for event in earlier:
                self.callbacks.call("on_event", event)
            while self.stopping.reason is None and progress.epochs < self._end:
                self._follow()
                self.events.add_late(self._session.told())
            if self.stopping.reason is not None:
                self._stopped(self.stopping.reason)
            if self.callbacks.error is None:
                self.callbacks.call("on_train_end")
            _ = progress.state
            self.events.add_late(self._session.told())
        except BaseException as error:
            if isinstance(error, Exception) and not progress.is_here and self._ref is not None and not self._beyond:
                with suppress(Exception):  # the error says more
                    if self._is_finite(state := self._ref.get()):
                        progress.arrive(state)
            progress.go_back()
            raise
        finally:
            progress.leave()

    def _number(self, epoch: int) -> int:
        """The number of an epoch in this fit, from its number in the trainer."""
        return epoch - self._end + self._epochs

    # ---- the stream

    def _follow(self) -> None:
        """Take commits until the epochs are done, a stop is requested or the training is changed."""
        progress = self.progress
        if self._begin_epoch() and self.stopping.reason is not None:
            return
        if progress.begun is not None and progress.begun.steps == self.plan.steps_per_epoch:  # its validation failed before
            self._end_epoch()
            return
        start = self._start()
        progress.changed = progress.replaced = False
        self._stream = self._session.run(start, self._ahead())
        with closing(self._stream) as stream:
            while (item := self._next(stream)) is not None:
                if isinstance(item, Commit):
                    self._take(item)
                    if self.stopping.reason is None and not self._beyond and progress.epochs < self._end:
                        self._begin_epoch()
                elif isinstance(item, Event):
                    self.events.add(item)
                elif isinstance(item, Placed) and self.publisher is not None:
                    self.publisher.placed(item.placement)
                if self._stream is None or self._beyond or progress.changed or self.stopping.reason is not None:
                    break
        self._calm = 0 if progress.changed else self._calm + 1

    def _next(self, stream: Iterator[Item]) -> Item | None:
        try:
            return next(stream, None)
        except BaseException as error:
            if isinstance(error, StateLostError) and self._ref is not None:  # it was to begin with this one: now without
                self._ref = None
                self.events.later(lost(error, self._anchor.state))
                return None
            if self._ref is not None and not self._ref.is_here:
                self._ref = None  # the session may not have it any more
            raise

    def _start(self) -> State | StateRef:
        """The state of this boundary: where it lies, if nobody has set another."""
        progress = self.progress
        if self._beyond:
            _ = progress.state
        if self._ref is None or progress.replaced or self._beyond:
            assert progress.state is not None, "a fit begins with a state"
            self._ref = None  # of another state, perhaps
            return progress.state
        return self._ref.with_scale(progress.learning_rate_scale)

    def _ahead(self) -> Schedule:
        """The steps that follow: all, or those of this epoch where the end of one has changed the training lately."""
        return self._steps(self.progress.place, (self._end if self._calm >= _CALM else self.progress.epochs + 1, 0))

    def _steps(self, first: Place, end: Place) -> Schedule:
        """The steps from `first` to below `end`."""
        assert isinstance(self.plan, BatchPlan), "a stream has its own"
        total = self.plan.steps_per_epoch
        needed = self._asked or self.validation is not None or self.run is not None
        every = 1 if self._within is not None else total if needed else 0
        return self.plan.schedule(first[0] * total + first[1], end[0] * total + end[1], every)

    # ---- the state

    def _bring(self) -> State:
        """The state of this boundary, from where it lies; if it is nowhere, the steps before it are repeated."""
        began, state = time.perf_counter(), None
        if self._ref is not None and not self._beyond:
            try:
                state = self._ref.get()
            except StateLostError as error:
                self.events.later(lost(error, self._anchor.state))
        if state is None:
            state = self._repeated()
        now = time.perf_counter()
        self._brought = now, now - began
        if not self._is_finite(state):
            raise self._explanation(self._anchor.state, self._steps(self._anchor.place, self.progress.place))
        return state

    @property
    def _anchor(self) -> Anchor:
        assert self.progress.anchor is not None, "there is one during a fit"
        return self.progress.anchor

    def _is_finite(self, state: State) -> bool:
        return bool(np.isfinite(state.parameters).all()) and self.program.statistics_layout.is_finite(state.statistics)

    def _repeated(self) -> State:
        """The state of this boundary, by the steps since the last state that is here."""
        progress, anchor = self.progress, self._anchor
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._asked, self._ref = True, None
        self._note_look()
        steps = self._steps(anchor.place, progress.place)
        state, self._ref = repeated(self._session, anchor.state, steps, self.events.later) if len(steps) else (anchor.state, None)
        self._beyond = 0
        return state

    def _note_look(self) -> None:
        """Note that somebody asks for the state of this boundary, if it is within an epoch."""
        if self.progress.place[1] not in (0, self.plan.steps_per_epoch):
            self._within = self.progress.epochs

    def _explanation(self, state: State, steps: Schedule) -> NotFiniteError:
        """The error for the first of these steps that makes NaN or infinity."""
        return explain_not_finite(self.program, self.source, state, steps.cut(0, len(steps)), self.first_row)

    # ---- steps and epochs

    def _take(self, commit: Commit) -> None:
        """Enter the steps of a commit, up to the first after which something else is to follow."""
        progress, program, publisher, now = self.progress, self.program, self.publisher, time.perf_counter()
        assert commit.first == self._step, "commits come in order, without a gap"
        count = len(commit.sums)
        self._ref, self._beyond = commit.state, count
        seconds, self._clock = (now - self._clock) / count, now
        if publisher is not None:
            publisher.spent(commit.times)
        for i, (sums, used) in enumerate(zip(commit.sums, commit.used, strict=True)):
            if i:
                progress.move()
                if self._begin_epoch():
                    return
            self._check(sums)
            self._enter(sums, used, seconds)
            self._beyond = count - i - 1
            at, interrupted = progress.place[1] - 1, False
            if publisher is not None:
                publisher.step(self._step, float(sums[0] / sums[1]) if sums[1] else np.nan)
            if self.callbacks.see_batches:
                interrupted = self._call("on_train_batch_end", at, LazyLogs(program, sums))
                if progress.is_here and self._within is not None:
                    self._note_look()
            if at + 1 == self.plan.steps_per_epoch:
                interrupted |= self._end_epoch()
            if interrupted:
                return
        self._look_after()

    def _enter(self, sums: Array, used: Sequence[tuple[int, Array]], seconds: float) -> None:
        """Advance the progress by a step."""
        progress = self.progress
        begun = progress.begun or EpochProgress(0, np.zeros(self.program.sums), 0.0, self.plan.settings)
        progress.move()
        together = np.asarray(begun.sums) + sums  # a new array, since anchors keep the one before
        progress.begun = EpochProgress(begun.steps + 1, together, begun.seconds + seconds, begun.batches)
        self._step += 1
        for _, rows in used:
            progress.ledger.use(progress.epochs, rows + self.first_row if self.first_row else rows)

    def _check(self, sums: Array) -> None:
        """Raise for a step that gives no finite loss: the trainer stays before it."""
        if not np.isfinite(sums[:2]).all():
            state, (epoch, step) = self.progress.state, self.progress.place
            assert state is not None, "there is one during a fit"
            raise self._explanation(state, self._steps((epoch, step), (epoch, step + 1)))
        if sums[1] < 0:
            _ = self.progress.state  # the trainer stays before the step
            check_weight(sums)

    def _begin_epoch(self) -> bool:
        """Begin the epoch, or its remaining steps, if that was not done; whether a callback wants something else."""
        epoch = self.progress.epochs
        if self._opened == epoch:
            return False
        self._opened = epoch
        interrupted = self._call("on_epoch_begin", self._number(epoch))
        self._open_epoch(epoch)
        return interrupted

    def _open_epoch(self, epoch: int) -> None:
        """Open the ledger for an epoch, some steps of which may be done."""
        self.progress.ledger.open(epoch, self.plan.samples, self.progress.rows_done(self.plan))

    def _end_epoch(self) -> bool:
        """Validate, and advance the progress to the next epoch; whether a callback wants something else."""
        progress, program = self.progress, self.program
        epoch, done = progress.epochs, progress.begun
        assert done is not None, "steps were done"
        row = program.numbers(program.values(done.sums))
        if self.validation is not None:
            assert progress.state is not None, "there is one during a fit"
            scores = evaluate(self._session, program, self.validation, progress.state)
            self.events.add_late(self._session.told())
            row |= {f"val_{name}": value for name, value in program.numbers(program.evaluated(*scores)).items()}
        now = time.perf_counter()
        seconds, self._clock = done.seconds + now - self._clock, now
        row |= {"seconds": seconds, "samples_per_second": self.plan.samples / seconds}
        with self.stopping.undisturbed():
            progress.ledger.open(epoch, self.plan.samples)
            progress.ledger.close(epoch)
            progress.epochs, progress.begun = epoch + 1, None
            self.history.add(row)
            progress.record.add(row)
            if progress.is_here:
                progress.drop_anchor()
        if self.publisher is not None:
            self.publisher.epoch(self._number(epoch), row)
        interrupted = self._call("on_epoch_end", self._number(epoch), row)
        if self.run is not None:
            self._save()
        if self._within is not None and self._within < epoch and self._stream is not None:  # commits may be longer again
            self._within = None
            self._stream.close()
            self._stream = None
        return interrupted or self._stream is None

    def _call(self, moment: str, *args: Any) -> bool:
        """Call the callbacks; whether one of them has stopped or changed the training, or asked for a state within a commit."""
        reason = self.stopping.reason
        self.callbacks.call(moment, *args)
        return self.progress.changed or self.stopping.reason is not reason or self._stream is None

    # ---- stops, checkpoints and events

    def _look_after(self) -> None:
        """After a commit: save if it is due, or bring the state here if none was for long."""
        if self.run is not None and self.every is not None and time.monotonic() - self._saved[1] >= self.every:
            self._save()
        when, took = self._brought
        if time.perf_counter() - when > max(_ANCHOR_SECONDS, took / _ANCHOR_SHARE):
            _ = self.progress.state

    def _save(self) -> None:
        assert self.run is not None, "the caller checks it"
        state = self.progress.trained("be saved")[1]
        self.run.save(self.describe(state, self.progress.record.history), state)
        self._saved = self.progress.place, time.monotonic()

    def _stopped(self, reason: str) -> None:
        self.history.stopped = reason
        _ = self.progress.state
        self.events.add_late(self._session.told())
        self.tell("stop", f"{reason}, after {place_text(self.progress.place)}")
        if self.run is not None and self._saved[0] != self.progress.place:
            self._save()

    def tell(self, kind: str, text: str) -> None:
        """Record an event of the fit itself."""
        self.events.add(Event(kind, text, self._step))
