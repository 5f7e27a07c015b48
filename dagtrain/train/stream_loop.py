"""The epochs of a fit on a stream: the session runs rounds of batches that were read ahead.

    stream ── round ─▶ rows of some steps ── session of the engine on them ─▶ commits ── advance ─▶ stream

Rounds end with the epoch at the latest. All else is as in the loop over arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dagtrain.checkpoint.runs import Place
from dagtrain.data.rounds import BatchStream, Round
from dagtrain.data.schedule import Schedule
from dagtrain.engines.commits import Commit, Item, StateRef
from dagtrain.engines.engine import Engine
from dagtrain.report.records import Event
from dagtrain.report.table import plural
from dagtrain.step.program import Program
from dagtrain.step.scores import Scores
from dagtrain.step.state import State
from dagtrain.train.loop import Loop

__all__ = ["StreamLoop", "StreamSession"]


class StreamSession:
    """Runs steps of one program on a source that changes with each round; each call is a session of the engine.

    Parameters
    ----------
    engine
        Where steps run.
    program
        Compiled step.
    source
        Rows of the next call's steps.
    exact
        See `Engine.session`.
    """

    def __init__(self, engine: Engine, program: Program, source: Any, exact: bool = False) -> None:
        self.engine, self.program, self.source, self.exact = engine, program, source, exact
        self._events: list[Event] = []

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def run(self, start: State | StateRef, steps: Schedule) -> Iterator[Item]:
        """See `Session.run`; the last state is brought here, since the session ends."""
        state, done = start.get() if isinstance(start, StateRef) else start, 0
        with self.engine.session(self.program, self.source, self.exact) as session:
            for item in session.run(state, steps):
                if isinstance(item, Commit):
                    done += len(item.sums)
                    if done == len(steps):
                        item = item._replace(state=_here(item.state.get()))  # the same commit
                yield item

    def evaluate(self, source: Any, state: State) -> Scores:
        """See `Session.evaluate`."""
        with self.engine.session(self.program, source, self.exact) as session:
            scores = session.evaluate(source, state)
            self._events += session.told()
            return scores

    def told(self) -> list[Event]:
        """See `Session.told`."""
        events, self._events = self._events, []
        return events


def _here(state: State) -> StateRef:
    return StateRef(state.step, state.learning_rate_scale, lambda ref: state, is_here=True)


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
        _ = progress.state  # the round before cannot be repeated
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
        """Note in the stream that steps were done."""
        stream = self._batches
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
        return Schedule.of(steps[first[1] - self._base : end[1] - self._base], 1 if self._asked_within else 0)

    def _stopped(self, reason: str) -> None:
        super()._stopped(reason)
        if self._batches.once and self._batches.pulled:
            self.tell("stop", f"{self._batches.pulled} more batches were read: a fit with the same iterator begins with them")
