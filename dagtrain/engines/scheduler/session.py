"""The engine *scheduler*: K steps unrolled as one Dask graph, every task placed by the Dask scheduler.

Parameters and data are futures: they never pass through the client while steps run. Any worker may die: Dask computes its tasks again
from their dependencies, with the same bits. At the end of a segment the client fetches the state. That cuts the chain of dependencies, and
the next segment can be repeated from this copy if its futures are lost for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

from dask.task_spec import Task, TaskRef

from dagtrain.engines.client import workers_of
from dagtrain.engines.cluster.session import AbandonedError, ClusterEngine, ClusterSession, RefusedError
from dagtrain.engines.cluster.waiting import TIMEOUTS, Standing, Timeouts, results
from dagtrain.engines.engine import Session, Watch
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

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin a session on the cluster."""
        return SchedulerSession(self, program, source)


class SchedulerSession(ClusterSession):
    """Steps as Dask tasks; see `dagtrain.engines.engine.Session`."""

    def __init__(self, engine: SchedulerEngine, program: Program, source: Any) -> None:
        super().__init__(engine, program, source)
        self.steps, self.most = engine.steps, engine.segment
        self._reported = 0
        self._compared: set[str] = set()

    def run(
        self, state: State, batches: Sequence[Sequence[Array]], watch: Watch, following: Sequence[Sequence[Array]] = ()
    ) -> tuple[State, int]:
        """See `Session.run`."""
        done = 0
        self._reported = 0
        while done < len(batches) and not (done and watch.stop()):
            work = partial(self._segment, state, batches[done : done + self.most], done, watch)
            try:
                state, used = self._until_done(work, f"the steps from {state.step} on", watch)
            except RefusedError as refused:
                raise refused.error from None
            except AbandonedError:
                watch.event(f"no worker is left: the steps from {state.step} on are abandoned", "abandoned")
                break
            for i, shards in enumerate(used, done):
                for shard, rows in shards:
                    watch.used(i, shard, rows)
            done += len(used)
        return state, done

    def _segment(self, state: State, batches: Sequence[Sequence[Array]], offset: int, watch: Watch) -> tuple[State, list[Any]]:
        """Run the steps between two cuts of the chain, with two submissions of `steps` steps running at a time.

        Returns the state, and the samples in each shard of each step.
        """
        try:
            return self._submissions(state, batches, offset, watch)
        finally:
            self.segment += 1
            self._forget(f"-{self.session_id}-{self.segment - 1}")

    def _compare_workers(self, watch: Watch) -> None:
        """Compare the software of workers that were not compared before: any of them may get any task."""
        new = sorted(set(workers_of(self.client)) - self._compared)
        if new:
            # In the client's event loop, so that there is a deadline. The next segment asks workers again that did not answer.
            seconds = self.timeouts.answer if watch.exact else self.timeouts.glance

            async def ask(worker: str) -> Any:
                with suppress(OSError):  # includes TimeoutError: a worker that does not answer is no error here
                    return await asyncio.wait_for(self.client.run(software, workers=[worker], on_error="ignore"), seconds)

            async def ask_all() -> list[Any]:
                return await asyncio.gather(*map(ask, new))

            for answer in self.client.sync(ask_all):
                for worker, there in (answer or {}).items():
                    self._compared.add(worker)
                    self.compare(worker, there, watch)

    def _submissions(self, state: State, batches: Sequence[Sequence[Array]], offset: int, watch: Watch) -> tuple[State, list[Any]]:
        self._compare_workers(watch)
        parts = self.program.for_workers(len(s) for batch in batches for s in batch)
        parts_key = self._program(f"program-{parts.key[:8]}", parts)
        data = self._data(self.source)
        last: Any = self._value("state", Stepped(state, ()))
        sizes, running = self.source.sizes, []
        used: list[Any] = []
        for start in range(0, len(batches), self.steps):
            if start and watch.stop():
                break
            token = f"{self.session_id}-{self.segment}-{start}"
            begin, sums = f"begin-{token}", f"sums-{token}"
            begin_with = Task(begin, begin_task, TaskRef(last))
            steps = batches[start : start + self.steps]
            tasks, last = step_tasks(token, parts_key, begin, data, sizes, steps, state.step + start, bool(parts.weight_plans))
            tasks = {begin: begin_with, **tasks, sums: Task(sums, sums_task, TaskRef(last))}
            running.append((start, *self._submit(tasks, [sums, last])))
            if len(running) > 1:
                used += self._report(running.pop(0), state.step, offset, watch)
        for submission in running:
            used += self._report(submission, state.step, offset, watch)
        after: Stepped = self._result(running[-1][2], state.step, watch)
        # The arrays of a received state may be read-only views of the message.
        return after.state.copy(), used

    def _result(self, future: Any, step: int, watch: Watch) -> Any:
        """The value of a future of the steps from this one on."""

        def look(standing: Standing) -> None:
            # Ctrl-C in a terminal also reaches the workers of a cluster started there: they may have ended for good.
            if standing.workers == 0 and watch.stop():
                raise AbandonedError

        return results(self.client, [future], self.timeouts, f" in the steps from {step} on", look)[0]

    def _report(self, submission: tuple[int, Any, Any], step: int, offset: int, watch: Watch) -> tuple[Any, ...]:
        """Report loss and metrics of a submission's steps; returns the samples in each."""
        start, future, _ = submission
        sums, used = self._result(future, step + start, watch)
        for i, values in enumerate(sums, offset + start):
            if i >= self._reported:  # a repeated step has the same sums
                self._reported = i + 1
                try:
                    watch.step(i, values)
                except Exception as error:
                    raise RefusedError(error) from error
        return used  # type: ignore[no-any-return]  # a future's value is Any


def sums_task(after: Stepped) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    """The part of a submission's result that the client fetches."""
    return after.sums, after.used
