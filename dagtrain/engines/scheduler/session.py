"""The engine *scheduler*: K steps unrolled as one Dask graph, every task placed by the Dask scheduler.

Parameters and data go by future: they never pass through the client while steps run. Any worker may die: its tasks are computed again
from what they depend on, with the same bits. At the end of a segment the state comes to the client, which cuts the chain of dependencies
and is the copy from which a segment is repeated when its data is lost for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

from dask.task_spec import Task, TaskRef

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
"""Steps in one submission: enough to hide its cost, few enough for progress to be seen."""
SEGMENT = 192
"""Steps after which the chain of dependencies is cut: each step leaves some kilobytes on the scheduler until then."""


class SchedulerEngine(ClusterEngine):
    """Steps as Dask tasks on a client's cluster.

    Parameters
    ----------
    client
        A synchronous Dask client.
    steps
        Steps in one submission.
    segment
        Steps after which the state comes to the client and the chain of dependencies is cut.
    timeouts
        Deadlines of whatever is waited for.
    repeats
        How often steps that fail are done again before the engine gives up.
    """

    name = "scheduler"

    def __init__(self, client: Any, steps: int = STEPS, segment: int = SEGMENT, timeouts: Timeouts = TIMEOUTS, repeats: int = 3) -> None:
        super().__init__(client, timeouts, repeats)
        self.steps, self.segment = steps, segment

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work on the cluster."""
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
                watch.event(f"no worker is left: the steps from {state.step} on are given up")
                break
            for i, shards in enumerate(used, done):
                for shard, rows in shards:
                    watch.used(i, shard, rows)
            done += len(used)
        return state, done

    def _segment(self, state: State, batches: Sequence[Sequence[Array]], offset: int, watch: Watch) -> tuple[State, list[Any]]:
        """Steps between two cuts of the chain, in submissions of some steps of which two are under way at a time.

        Returns the state, and the samples that each shard of each step took.
        """
        try:
            return self._submissions(state, batches, offset, watch)
        finally:
            self.segment += 1
            self._forget(f"-{self.session_id}-{self.segment - 1}")

    def _compare_workers(self, watch: Watch) -> None:
        """Compare the software of workers that have not been asked yet: any of them may get any task."""
        new = sorted(set(self.client.scheduler_info(n_workers=-1)["workers"]) - self._compared)
        if new:
            # Within the loop, so that there is a deadline. Who does not answer now is asked again.
            patience = self.timeouts.answer if watch.exact else self.timeouts.glance

            async def ask(worker: str) -> Any:
                with suppress(OSError):  # a deadline, too: whether all workers answer is not decided here
                    return await asyncio.wait_for(self.client.run(software, workers=[worker], on_error="ignore"), patience)

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
        sizes, under_way = self.source.sizes, []
        used: list[Any] = []
        for start in range(0, len(batches), self.steps):
            if start and watch.stop():
                break
            some = batches[start : start + self.steps]
            token = f"{self.session_id}-{self.segment}-{start}"
            begin = f"begin-{token}"
            tasks: dict[Any, Any] = {begin: Task(begin, begin_task, TaskRef(last))}
            more, last = step_tasks(token, parts_key, begin, data, sizes, some, state.step + start)
            sums = f"sums-{token}"
            tasks |= {**more, sums: Task(sums, sums_task, TaskRef(last))}
            under_way.append((start, *self._submit(tasks, [sums, last])))
            if len(under_way) > 1:
                used += self._report(under_way.pop(0), state.step, offset, watch)
        for submission in under_way:
            used += self._report(submission, state.step, offset, watch)
        after: Stepped = self._result(under_way[-1][2], state.step, watch)
        # The arrays that arrive may lie in read-only memory of the message.
        return after.state.copy(), used

    def _result(self, future: Any, step: int, watch: Watch) -> Any:
        """The value of a future of the steps from this one on."""

        def look(standing: Standing) -> None:
            # Ctrl-C in a terminal also reaches the workers of a cluster made there: they may have died of it, and none comes back.
            if standing.workers == 0 and watch.stop():
                raise AbandonedError

        return results(self.client, [future], self.timeouts, f" in the steps from {step} on", look)[0]

    def _report(self, submission: tuple[int, Any, Any], step: int, offset: int, watch: Watch) -> tuple[Any, ...]:
        """Tell the sums of a submission's steps; returns the samples that each took."""
        start, told, _ = submission
        sums, used = self._result(told, step + start, watch)
        for i, values in enumerate(sums, offset + start):
            if i >= self._reported:  # a repeated step gives the same sums again
                self._reported = i + 1
                try:
                    watch.step(i, values)
                except Exception as error:
                    raise RefusedError(error) from error
        return used  # type: ignore[no-any-return]  # a future's value is Any


def sums_task(after: Stepped) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    """The part of a submission's result that the client looks at."""
    return after.sums, after.used
