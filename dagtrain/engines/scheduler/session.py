"""The engine *scheduler*: K steps unrolled as one Dask graph, every task placed by the Dask scheduler.

Parameters and data are futures: they never pass through the client while steps run. Any worker may die: Dask computes its tasks again
from their dependencies, with the same bits. At the end of a segment the client fetches the state. That cuts the chain of dependencies, and
the next segment can be repeated from this copy if its futures are lost for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, NamedTuple

from dask.task_spec import Task, TaskRef

from dagtrain.data.schedule import Schedule
from dagtrain.engines.client import workers_of
from dagtrain.engines.cluster.session import ClusterEngine, ClusterSession, Repeats
from dagtrain.engines.cluster.waiting import TIMEOUTS, Timeouts, fetch, waiting
from dagtrain.engines.commits import Commit, Idle, Item, StateLostError, StateRef
from dagtrain.engines.engine import Session
from dagtrain.engines.scheduler.step_graph import Stepped, begin_task, step_tasks
from dagtrain.graph import Array
from dagtrain.step.program import Program
from dagtrain.step.software import software
from dagtrain.step.state import State

__all__ = ["SchedulerEngine", "SchedulerSession"]

STEPS = 32
"""Steps in one submission: enough to hide its cost, few enough to show progress."""
SEGMENT = 192
"""Steps after which the chain of dependencies is cut: each step leaves kilobytes on the scheduler until then."""


class SchedulerEngine(ClusterEngine):
    """Steps as Dask tasks on a client's cluster.

    Parameters
    ----------
    client
        A synchronous Dask client.
    steps
        Steps in one submission.
    segment
        Steps after which the client fetches the state and the chain of dependencies is cut.
    timeouts
        Deadlines of all waits.
    repeats
        How often failed steps are repeated before an error.
    """

    name = "scheduler"

    def __init__(self, client: Any, steps: int = STEPS, segment: int = SEGMENT, timeouts: Timeouts = TIMEOUTS, repeats: int = 3) -> None:
        super().__init__(client, timeouts, repeats)
        self.steps, self.segment = steps, segment

    def session(self, program: Program, source: Any, exact: bool = False) -> AbstractContextManager[Session]:
        """Begin a session on the cluster."""
        return SchedulerSession(self, program, source, exact)


class _Submission(NamedTuple):
    """Some steps that were submitted: the futures of their sums, and of the state after them."""

    start: int
    sums: Any
    last: Any


class SchedulerSession(ClusterSession):
    """Steps as Dask tasks; see `dagtrain.engines.engine.Session`."""

    def __init__(self, engine: SchedulerEngine, program: Program, source: Any, exact: bool = False) -> None:
        super().__init__(engine, program, source, exact)
        self.steps, self.most = engine.steps, engine.segment
        self._reported = 0
        self._compared: set[str] = set()

    def run(self, start: State | StateRef, steps: Schedule) -> Iterator[Item]:
        """See `Session.run`."""
        state, done = start.get() if isinstance(start, StateRef) else start, 0
        while done < len(steps):
            end = min(done + self.most, steps.until(done))
            repeats, self._reported = Repeats(self, f"the steps from {state.step} on", "repeated", state.step), done
            while True:
                try:
                    after = yield from self._segment(state, steps, done, end)
                    break
                except Exception as error:
                    repeats.take(error)
                yield from self.untold()
            state, done = after, end

    def _segment(self, state: State, steps: Schedule, first: int, end: int) -> Generator[Item, None, State]:
        """Run the steps between two cuts of the chain, with two submissions of `steps` steps running at a time; returns the state."""
        try:
            return (yield from self._submissions(state, steps, first, end))
        finally:
            self.segment += 1
            self._forget(f"-{self.session_id}-{self.segment - 1}")

    def _compare_workers(self) -> None:
        """Compare the software of workers that were not compared before: any of them may get any task."""
        new = sorted(set(workers_of(self.client)) - self._compared)
        if new:
            # In the client's event loop, so that there is a deadline. The next segment asks workers again that did not answer.
            seconds = self.timeouts.answer if self.exact else self.timeouts.glance

            async def ask(worker: str) -> Any:
                with suppress(OSError):  # includes TimeoutError: a worker that does not answer is no error here
                    return await asyncio.wait_for(self.client.run(software, workers=[worker], on_error="ignore"), seconds)

            async def ask_all() -> list[Any]:
                return await asyncio.gather(*map(ask, new))

            for answer in self.client.sync(ask_all):
                for worker, there in (answer or {}).items():
                    self._compared.add(worker)
                    self.compare(worker, there)

    def _submissions(self, state: State, steps: Schedule, first: int, end: int) -> Generator[Item, None, State]:
        self._compare_workers()
        parts = self.program.for_workers(steps.lengths)
        parts_key = self._program(f"program-{parts.key[:8]}", parts)
        data = self._data(self.source)
        last: Any = self._value("state", Stepped(state, ()))
        sizes, running = self.source.sizes, list[_Submission]()
        for start in range(first, end, self.steps):
            token = f"{self.session_id}-{self.segment}-{start}"
            begin, sums = f"begin-{token}", f"sums-{token}"
            begin_with = Task(begin, begin_task, TaskRef(last))
            batches = steps.cut(start, min(start + self.steps, end))
            number = state.step + start - first
            tasks, last = step_tasks(token, parts_key, begin, data, sizes, batches, number, bool(parts.weight_plans))
            tasks = {begin: begin_with, **tasks, sums: Task(sums, sums_task, TaskRef(last))}
            running.append(_Submission(start, *self._submit(tasks, [sums, last])))
            if len(running) > 1:
                yield from self._commit(running.pop(0), state, first)
        while len(running) > 1:
            yield from self._commit(running.pop(0), state, first)
        last_step: Stepped = yield from self._result(running[0].last, state.step)
        after = last_step.state.copy()  # the arrays of a received state may be views of the message
        yield from self._commit(running[0], state, first, after)
        return after

    def _result(self, future: Any, step: int) -> Generator[Item, None, Any]:
        """The value of a future of the steps from this one on."""
        for _ in waiting(self.client, [future], self.timeouts, f" in the steps from {step} on"):
            yield from self.untold()
            yield Idle()
        return fetch(self.client, [future], self.timeouts)[0]

    def _commit(self, submission: _Submission, state: State, first: int, after: State | None = None) -> Iterator[Item]:
        """The commit of a submission's steps, without those that were reported before a repetition."""
        number = state.step + submission.start - first
        sums, used = yield from self._result(submission.sums, number)
        known = max(0, self._reported - submission.start)  # a repeated step has the same sums
        self._reported = max(self._reported, submission.start + len(sums))
        if known < len(sums):
            bring = partial(self._bring, submission.last) if after is None else lambda ref: after.copy()
            yield Commit(
                number + known,
                sums[known:],
                used[known:],
                StateRef(number + len(sums), state.learning_rate_scale, bring, after is not None),
            )

    def _bring(self, future: Any, ref: StateRef) -> State:
        try:
            for _ in waiting(self.client, [future], self.timeouts, f" in the steps before {ref.step}"):
                pass
            after: Stepped = fetch(self.client, [future], self.timeouts)[0]
        except Exception as error:
            raise StateLostError(f"the state of step {ref.step} cannot be fetched: {type(error).__name__}: {error}") from error
        return after.state.copy()


def sums_task(after: Stepped) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    """The part of a submission's result that the client fetches."""
    return after.sums, after.used
