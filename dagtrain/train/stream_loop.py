"""The epochs of a fit on a stream: each call of the engine runs a round of batches that were read ahead.

    stream ── round ─▶ rows of some steps ── session of the engine on them ─▶ state, done ── advance ─▶ stream

Rounds end with the epoch at the latest. All else is as in the loop over arrays.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dagtrain.data.rounds import BatchStream, Round
from dagtrain.engines.engine import Engine, Watch
from dagtrain.graph import Array
from dagtrain.report.table import plural
from dagtrain.step.program import Program
from dagtrain.step.scores import Scores
from dagtrain.step.state import EpochProgress, State
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
    """

    def __init__(self, engine: Engine, program: Program, source: Any) -> None:
        self.engine, self.program, self.source = engine, program, source

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def run(
        self, state: State, batches: Sequence[Sequence[Array]], watch: Watch, following: Sequence[Sequence[Array]] = ()
    ) -> tuple[State, int]:
        """See `Session.run`."""
        with self.engine.session(self.program, self.source) as session:
            return session.run(state, batches, watch)

    def evaluate(self, source: Any, state: State, watch: Watch) -> Scores:
        """See `Session.evaluate`."""
        with self.engine.session(self.program, source) as session:
            return session.evaluate(source, state, watch)


@dataclass
class StreamLoop(Loop):
    """One call of fit on a stream, which is its `plan`."""

    _round: Round | None = None
    _reading: float = 0.0
    """Seconds of reading the round."""

    @property
    def _stream(self) -> BatchStream:
        assert isinstance(self.plan, BatchStream), "the loop of a stream has one"
        return self.plan

    def _open_epoch(self, epoch: int) -> None:
        self._stream.begin(epoch, self.progress.place[1])
        super()._open_epoch(epoch)

    def _run_steps(self, session: Any) -> None:
        """Read a round and run its steps; without a step left, end the epoch."""
        stream, began = self._stream, time.perf_counter()
        self._round = stream.round(lambda: self.stopping.reason is not None)
        self._reading = time.perf_counter() - began
        if self.stopping.reason is not None:
            return
        if self._round is not None:
            self.source = session.source = self._round.source
            self.first_row = self._round.first_row
            self.progress.ledger.resize(self.progress.epochs, self.first_row + self.source.samples)
        elif stream.done < stream.steps_per_epoch:
            steps = plural(stream.steps_per_epoch, "step")
            self.stopping.ask(f"the batches ended, with {stream.done} of the {steps} of an epoch done")
            warnings.warn(f"training ended early: {self.stopping.reason}.", UserWarning, stacklevel=4)
            return
        super()._run_steps(session)

    def _batches(self, epoch: int, first: int) -> list[Any]:
        return self._round.steps if self._round is not None else []

    def _following(self, epoch: int) -> list[Any]:
        return []

    def _count(self, begun: EpochProgress, steps: list[Array], seconds: float) -> tuple[list[EpochProgress], EpochProgress | None]:
        self._stream.advance(len(steps))
        self.progress.ledger.resize(self.progress.epochs, self._stream.samples)
        return super()._count(begun, steps, seconds + self._reading)

    def _stopped(self, reason: str) -> None:
        super()._stopped(reason)
        if self._stream.once and self._stream.pulled:
            self.event(f"{self._stream.pulled} more batches were read: a fit with the same iterator begins with them", "stop")

    @property
    def _steps_shown(self) -> int | None:
        return self._stream.steps_known
