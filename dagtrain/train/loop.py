"""The epochs of one fit: steps through a session, and what is done between them.

    fit ──▶ Loop ── session.run(state, batches, watch=Loop) ──▶ state, done
             ├─ at a boundary within an epoch: is there a reason to stop? is a checkpoint due?
             └─ after an epoch: validation, history, callbacks, checkpoint, report

However it ends, the trainer is left at a boundary from which training can go on exactly: with the state, and within an epoch with the steps
done and the sums so far.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dagtrain.data import BatchPlan
from dagtrain.errors import NotFiniteError
from dagtrain.train.callback import Callbacks
from dagtrain.train.checkpoint import batches_of
from dagtrain.train.diagnose import explain_not_finite
from dagtrain.train.engines import Session
from dagtrain.train.history import Event, History
from dagtrain.train.runs import Place, Run, told
from dagtrain.train.state import Begun
from dagtrain.train.step import Program
from dagtrain.train.stopping import Stopping

if TYPE_CHECKING:
    from dagtrain.train.trainer import Trainer

__all__ = ["Loop"]

Array = np.ndarray[Any, Any]


@dataclass
class Loop:
    """One call of fit at work; to the session it is the `Watch`.

    Attributes
    ----------
    trainer
        Has the state, the epochs done, how far the next one is, and the ledger; all of them are brought forward here.
    every
        Seconds after which a checkpoint is due within an epoch; None leaves it at the ends of epochs.
    exact
        Whether other software on a worker is an error, and not a warning.
    in_steps
        Whether steps are being run just now.
    """

    trainer: Trainer
    program: Program
    source: Any
    plan: BatchPlan
    history: History
    reporter: Any
    callbacks: Callbacks
    stopping: Stopping
    validation: Any = None
    run: Run | None = None
    every: float | None = None
    exact: bool = False
    in_steps: bool = False
    _began: float = field(default_factory=time.perf_counter)
    _saved: tuple[Place, float] = ((0, 0), 0.0)
    _first: int = 0
    _sums: list[Array] = field(default_factory=list)
    _until: int = 0
    _ahead: tuple[int, list[Any]] = (-1, [])

    def train(self, session: Session, first: int, epochs: int) -> None:
        """Run the epochs from `first` to below `epochs`, as far as nothing asks for a stop."""
        self._saved, self._until = (self._place, time.monotonic()), epochs
        self.callbacks.call("on_train_begin")
        for epoch in range(first, epochs):
            if self.stopping.reason is not None:
                break
            self.callbacks.call("on_epoch_begin", epoch)
            if not self._steps(session):
                break
            self._end_epoch(session, epoch, epochs)
        if self.stopping.reason is not None:
            self._stopped(self.stopping.reason)
        if self.callbacks.error is None:
            self.callbacks.call("on_train_end")

    def _steps(self, session: Session) -> bool:
        """Run the steps that are left of the epoch under way; whether all of them were done."""
        trainer, total = self.trainer, self.plan.steps_per_epoch
        begun = trainer._begun or Begun(0, (0.0,) * len(self.program.names), 0.0, batches_of(self.plan))
        trainer._ledger.open(trainer._epochs_done, self.plan.samples, trainer._rows_done(self.plan))
        while begun.steps < total:
            if self.stopping.reason is not None:
                return False
            begun = self._some_steps(session, begun)
            if begun.steps < total and self._is_due:
                self._save()
        return True

    def _some_steps(self, session: Session, begun: Begun) -> Begun:
        """Run steps until the end of the epoch, or the next boundary when there is a reason."""
        trainer = self.trainer
        state, epoch = trainer._trained("train")[1], trainer._epochs_done
        batches = self._batches(epoch, begun.steps)
        following = self._batches(epoch + 1, 0) if epoch + 1 < self._until else ()
        self._first, self._sums, began = begun.steps, [], time.perf_counter()
        self.in_steps = True
        try:
            with trainer._ledger.attempt(epoch):
                after, done = session.run(state, batches, self, following)
                if not (np.isfinite(after.parameters).all() and np.isfinite(after.statistics).all()):
                    raise NotFiniteError("the last step made a parameter NaN or infinite")
        except NotFiniteError:
            raise explain_not_finite(self.program, self.source, state, batches) from None
        finally:
            self.in_steps = False
        totals = np.array(begun.sums)
        for sums, batch in zip(self._sums, batches[:done], strict=False):  # steps that were told and are not in the state do not count
            totals += sums * sum(len(rows) for rows in batch)
        seconds = begun.seconds + time.perf_counter() - began
        trainer._state, trainer._begun = after, Begun(begun.steps + done, tuple(map(float, totals)), seconds, begun.batches)
        return trainer._begun

    def _batches(self, epoch: int, first: int) -> list[Any]:
        """The steps of an epoch from the given one on; those of a whole epoch are made once, and known again by who began on them."""
        if first == 0 and self._ahead[0] == epoch:
            return self._ahead[1]
        found = [self.plan.step(epoch, i) for i in range(first, self.plan.steps_per_epoch)]
        if first == 0:
            self._ahead = epoch, found
        return found

    def _end_epoch(self, session: Session, epoch: int, epochs: int) -> None:
        trainer, names = self.trainer, self.program.names
        state, begun = trainer._state, trainer._begun
        assert state is not None, "steps were done"
        assert begun is not None, "steps were done"
        row = {n: total / self.plan.samples for n, total in zip(names, begun.sums, strict=True)}
        if self.validation is not None:
            sums = session.evaluate(self.validation, state, self)
            row |= {f"val_{n}": float(v) / self.validation.samples for n, v in zip(names, sums, strict=True)}
        row |= {"seconds": begun.seconds, "samples_per_second": self.plan.samples / begun.seconds}
        trainer._ledger.close(trainer._epochs_done)
        trainer._epochs_done, trainer._begun = trainer._epochs_done + 1, None
        self.history.add(row)
        trainer._record.add(row)
        self.callbacks.call("on_epoch_end", epoch, row)
        if self.run is not None:
            self._save()
        self.reporter.epoch({"epoch": epoch + 1, "epochs": epochs, **row})

    # ---- stops and checkpoints

    @property
    def _place(self) -> Place:
        return self.trainer._epochs_done, 0 if self.trainer._begun is None else self.trainer._begun.steps

    @property
    def _is_due(self) -> bool:
        return self.run is not None and self.every is not None and time.monotonic() - self._saved[1] >= self.every

    def _save(self) -> None:
        assert self.run is not None, "asked before"
        state = self.trainer._trained("be saved")[1]
        self.run.save(self.trainer._describe(self.program, self.plan, state, self.trainer._record.history), state)
        self._saved = self._place, time.monotonic()

    def _stopped(self, reason: str) -> None:
        self.history.stopped = reason
        self.event(f"{reason}, after {told(self._place)}", "stop")
        if self.run is not None and self._saved[0] != self._place:
            self._save()

    # ---- the watch

    def step(self, i: int, sums: Array) -> None:
        """Look at a step's loss, and pass it on."""
        if not np.isfinite(sums[0]):
            raise NotFiniteError(f"the loss of step {i} is {sums[0]}")
        self._sums.append(np.array(sums))
        done = self._first + i + 1
        self.reporter.step(done, self.plan.steps_per_epoch, float(sums[0]))
        if self.callbacks.see_batches:
            logs = {name: float(value) for name, value in zip(self.program.names, sums, strict=True)}
            self.callbacks.call("on_train_batch_end", done - 1, logs)

    def used(self, i: int, shard: int, rows: Array) -> None:
        """Note in the ledger which samples a shard took."""
        self.trainer._ledger.use(self.trainer._epochs_done, rows)

    def stop(self) -> bool:
        """Whether somebody asked for a stop, or a checkpoint is due."""
        return self.stopping.reason is not None or self._is_due

    def event(self, text: str, kind: str = "cluster") -> None:
        """Write a line to the log and to the history."""
        state = self.trainer._state
        step = (0 if state is None else state.step) + (len(self._sums) if self.in_steps else 0)
        event = Event(text, time.perf_counter() - self._began, step, kind)
        self.history.events.append(event)
        if hasattr(self.reporter, "event"):
            self.reporter.event(event.line)
