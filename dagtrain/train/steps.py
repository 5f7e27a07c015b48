"""`Steps`: the steps of a trainer without epochs, on rows that came just now; see `Stepper`.

    step(x, y) ─┐
    run(steps) ─┴─▶ rows, one source ── session.run(state, schedule) ──▶ logs of each step

The session stays open from one call to the next, which goes on from the state where the engine has it. A copy is brought here as each call
begins: steps that fail are repeated from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dagtrain.data.batches import auto_shards, shard_slice
from dagtrain.data.check import Form
from dagtrain.data.columns import Rows
from dagtrain.data.compute import computed_by
from dagtrain.data.schedule import Schedule
from dagtrain.data.source import ArraySource, partition_sizes
from dagtrain.engines.commits import Commit, StateLostError, StateRef
from dagtrain.engines.engine import choose_engine
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array
from dagtrain.report.records import Event
from dagtrain.step.state import State
from dagtrain.train.additive import check_additive
from dagtrain.train.batches import open_batch
from dagtrain.train.diagnose import check_weight, explain_not_finite
from dagtrain.train.repeat import lost, repeated

if TYPE_CHECKING:
    from dagtrain.engines.engine import Session
    from dagtrain.train.trainer import Trainer

__all__ = ["Steps"]


class Steps:
    """Runs steps of a trainer in a session that stays open from one call to the next.

    Parameters
    ----------
    trainer
        Its progress is advanced.

    Attributes
    ----------
    events
        What else happened: a worker lost, steps repeated.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.events: list[Event] = []
        self._leaving = ExitStack()
        self._session: Session | None = None
        self._ref: StateRef | None = None
        self._last: tuple[State, Any, Schedule] | None = None
        """The state, rows and steps of the last call, until its state is here."""
        self._lengths: frozenset[int] = frozenset()
        self._shards = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    # ---- steps

    def step(self, x: Any, y: Any = None, *, sample_weight: Any = None) -> dict[str, float]:
        """Train on one batch, which is one step.

        Returns
        -------
        dict
            Loss and metrics of the batch, before the update.

        Raises
        ------
        DataError
            If the batch cannot be used, or has other columns than those before.
        NotFiniteError
            If the loss becomes NaN or infinite; the trainer stays before the step.
        """
        return self.run([(x, y, sample_weight)])[0]

    def run(self, steps: Iterable[Any], x: Any = None, y: Any = None, *, sample_weight: Any = None) -> list[dict[str, float]]:
        """Train on several batches, one after the other, without a wait between them.

        Parameters
        ----------
        steps
            Batches: ``(x, y)``, ``(x, y, sample_weight)``, or x alone. Or, if `x` is given, for each step the numbers of its rows there.
            A finite list: an engine takes it as a whole.
        x, y, sample_weight
            A memory from which steps take rows, which may repeat; only the rows that are taken are read, now.

        Returns
        -------
        list of dict
            Loss and metrics of each step. If one fails, the trainer stays before the first of them.
        """
        steps = list(steps)
        if not steps:
            return []
        batches, lengths = ([_batch(step) for step in steps], None) if x is None else self._rows_of(steps, x, y, sample_weight)
        with computed_by(self.trainer._client):
            source, ends = self._open(batches, lengths)
        schedule = self._schedule(ends)
        session = self._begin(source)
        progress = self.trainer.progress
        with progress.alone():
            before = progress.state  # steps that fail are repeated from it
            assert before is not None, "the session began with a state"
            start: State | StateRef = before
            if self._ref is not None and not progress.replaced:
                start = self._ref.with_scale(progress.learning_rate_scale)
            session.source = source
            sums = self._run(before, start, source, schedule)
            self._lengths = schedule.lengths  # so that a step of other sizes needs no other plan
            progress.move()
        return [self.trainer.program.numbers(self.trainer.program.values(each)) for each in sums]

    def _run(self, before: State, start: State | StateRef, source: Any, schedule: Schedule) -> list[Array]:
        """Run steps; keep the reference to the state after them."""
        assert self._session is not None, "it has begun"
        progress, sums = self.trainer.progress, list[Array]()
        self._ref, self._last = None, (before, source, schedule)
        progress.changed = progress.replaced = False
        with closing(self._session.run(start, schedule)) as stream:  # type: ignore[type-var]  # it is a generator
            for item in stream:
                if isinstance(item, Event):
                    self.events.append(item)
                if not isinstance(item, Commit):
                    continue
                sums += item.sums
                self._ref = item.state
        for each in sums:
            check_weight(each)
        wrong = next((i for i, each in enumerate(sums) if not np.isfinite(each[:2]).all()), None)
        if wrong is not None:
            self._ref = None
            raise explain_not_finite(self.trainer.program, source, before, schedule.cut(0, wrong + 1))
        return sums

    def _bring(self) -> State:
        """The state after the last call; its steps are repeated if nobody has it any more."""
        assert self._last is not None, "steps were run"
        assert self._session is not None and self._ref is not None, "steps were committed"  # noqa: PT018  # for one reason
        before, source, schedule = self._last
        try:
            state = self._ref.get()
        except StateLostError as error:
            self.events.append(lost(error, before))
            state, self._ref = repeated(self._session, before, schedule, self.events.append)
        if not (np.isfinite(state.parameters).all() and self.trainer.program.statistics_layout.is_finite(state.statistics)):
            raise explain_not_finite(self.trainer.program, source, before, schedule.cut(0, len(schedule)))
        return state

    # ---- rows

    def _rows_of(self, steps: Sequence[Any], x: Any, y: Any, sample_weight: Any) -> tuple[list[tuple[Any, Any, Any]], list[int]]:
        """The rows of all steps as one batch, and how many each step has."""
        try:
            numbers = [np.asarray(step) for step in steps]
        except ValueError:  # of lists of several lengths
            numbers = []
        if not numbers or any(rows.ndim != 1 or not rows.size or rows.dtype.kind not in "iu" for rows in numbers):
            raise ArgumentError("with x, each step is a list of numbers of rows, as in run([[0, 3], [2, 1]], x, y).")

        def take(data: Any, rows: Array) -> Any:
            if isinstance(data, Mapping):
                return {name: take(each, rows) for name, each in data.items()}
            if isinstance(data, tuple):
                return tuple(take(each, rows) for each in data)
            return None if data is None else np.asarray(data)[rows]

        rows = np.concatenate(numbers)
        try:
            return [(take(x, rows), take(y, rows), take(sample_weight, rows))], list(map(len, numbers))
        except IndexError as error:
            raise DataError(f"a step takes a row that x, y or sample_weight does not have: {error}.") from error

    def _open(self, batches: Sequence[tuple[Any, Any, Any]], lengths: Sequence[int] | None) -> tuple[ArraySource, list[int]]:
        """The rows of all batches as one source, and where each step ends: a batch is one, unless lengths are given."""
        trainer = self.trainer
        expected, parts = trainer._columns, list[tuple[Form, Rows]]()
        for x, y, weight in batches:
            source = open_batch(trainer._objective, None, (), x, y, weight, expected)
            expected = source.columns
            parts.append((source.form, source.local()))
        form = parts[0][0]
        ends = list(accumulate(lengths or (len(rows[0]) for _, rows in parts), initial=0))
        columns = parts[0][1] if len(parts) == 1 else tuple(map(np.concatenate, zip(*(rows for _, rows in parts), strict=True)))
        return ArraySource(form, partition_sizes(ends[-1], form.columns.row_bytes), columns), ends

    def _schedule(self, ends: Sequence[int]) -> Schedule:
        rows = ends[1]
        if not self._shards:
            shards = auto_shards(rows) if self.trainer.shards == "auto" else self.trainer.shards
            if shards > rows:
                raise DataError(
                    f"the first batch has {rows} rows for {shards} shards: every shard of it holds at least one. "
                    f'Give larger batches, set shards to {rows} or less, or shards="auto".'
                )
            self._shards = shards
        cuts = [[shard_slice(a, b - a, self._shards, s) for s in range(self._shards)] for a, b in pairwise(ends)]
        schedule = Schedule.of([[np.arange(cut.start, cut.stop) for cut in step] for step in cuts])
        return Schedule(schedule.at, len(schedule), schedule.lengths | self._lengths, schedule.rows)

    # ---- the session

    def _begin(self, source: ArraySource) -> Session:
        """The session, which begins with the first rows."""
        trainer = self.trainer
        if self._session is None:
            if trainer._is_fitting:
                raise ArgumentError("the trainer is in a fit: a Stepper goes on with it when that has ended.")
            trainer._close_stepper()
            program = trainer._prepare(source, self._shards)
            progress = trainer.progress
            state = trainer._first_state(program) if progress.state is None else progress.state
            check_additive(program, source, state)
            engine = choose_engine(trainer.engine, trainer.threads, trainer.client)
            self._session = self._leaving.enter_context(engine.session(program, source))
            if progress.state is None:
                progress.state = state
            progress.follow(self._bring, ())
            trainer._stepper = self
        return self._session

    def close(self) -> None:
        """Bring the state here, and end the session; a later step begins another."""
        if self._session is None:
            return
        progress = self.trainer.progress
        try:
            _ = progress.state
        finally:
            progress.go_back()
            progress.leave()
            if progress.state is not None and progress.state.step == 0:  # an untrained trainer accepts rows of any shape
                progress.state = None
            self._session = self._ref = self._last = self.trainer._stepper = None
            self._leaving.close()


def _batch(step: Any) -> tuple[Any, Any, Any]:
    """The x, y and weights of a batch."""
    if not isinstance(step, tuple):
        return step, None, None
    if not 1 <= len(step) <= 3:
        raise ArgumentError(f"a batch is x, (x, y) or (x, y, sample_weight), got a tuple of {len(step)}.")
    x, y, weight = (*step, None, None)[:3]
    return x, y, weight
