"""The engine *scheduler*: K steps unrolled as one Dask graph, every task placed by the Dask scheduler.

Parameters and data go by future: they never pass through the client while steps run. Any worker may die: its tasks are computed again
from what they depend on, with the same bits. At the end of a segment the state comes to the client, which cuts the chain of dependencies
and is the copy from which a segment is repeated when its data is lost for good.
"""

from __future__ import annotations

import time
import uuid
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

from dask.task_spec import DataNode, Task, TaskRef

from dagtrain.data.pick import gather_plan
from dagtrain.draw import TaskRecord
from dagtrain.errors import ClusterError, DagtrainError
from dagtrain.graph import Array
from dagtrain.graph.hooks import plug
from dagtrain.train.engines import Session, Watch, add_in_order
from dagtrain.train.evaluation import score_task
from dagtrain.train.graph import Stepped, begin_task, step_tasks
from dagtrain.train.state import State
from dagtrain.train.step import Program, evaluation_pieces

__all__ = ["ClusterSession", "SchedulerEngine", "dashboard_link"]

STEPS = 32
"""Steps in one submission: enough to hide its cost, few enough for progress to be seen."""
SEGMENT = 192
"""Steps after which the chain of dependencies is cut: each step leaves some kilobytes on the scheduler until then."""
REPEATS = 3
"""How often steps, or an evaluation, are repeated in a row before the engine gives up."""
TIMEOUT = 600.0
"""Seconds without a finished task after which the engine gives up: twice those after which Dask takes a silent worker for lost."""
GLANCE = 5.0
"""Seconds between two looks at the scheduler while a submission runs."""


@plug("current_client")
def current_client() -> Any:
    """The Dask client of this process, if there is one; does not import distributed for it."""
    import sys

    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


@plug("scheduler_engine")
def scheduler_engine(client: Any) -> SchedulerEngine:
    """The engine for a client."""
    return SchedulerEngine(client)


@plug("measure_tasks")
def measure_tasks(tasks: dict[Any, Any], keys: list[Any]) -> dict[Any, TaskRecord] | None:
    """Run tasks on the current client's cluster and collect where and when each ran; None where there is no client."""
    client = current_client()
    if client is None:
        return None
    from distributed import wait

    run = uuid.uuid4().hex[:8]
    fresh = {k: (f"{k[0]}-{run}", *k[1:]) if isinstance(k, tuple) else f"{k}-{run}" for k in tasks}
    renamed = {fresh[k]: node.substitute(fresh, key=fresh[k]) for k, node in tasks.items()}
    client.get_task_stream()  # begins the recording
    futures = client.get(renamed, [fresh[k] for k in tasks], sync=False)
    wait(futures, timeout=TIMEOUT)
    for future in futures:
        if future.status == "error":
            raise future.exception()
    back = {str(new): old for old, new in fresh.items()}
    found = {}
    for record in client.get_task_stream():
        key = back.get(str(record["key"]))
        spans = [s for s in record["startstops"] if s["action"] == "compute"]
        if key is not None and spans:
            found[key] = TaskRecord(record["worker"], spans[0]["start"], spans[-1]["stop"], int(record.get("nbytes") or 0))
    return found


class SchedulerEngine:
    """Steps as Dask tasks on a client's cluster.

    Parameters
    ----------
    client
        A synchronous Dask client.
    steps
        Steps in one submission.
    timeout
        Seconds without a finished task after which the engine gives up.
    segment
        Steps after which the chain of dependencies is cut.
    repeats
        Failures in a row that are made up for.
    glance
        Seconds between two looks at the scheduler while a submission runs.
    """

    name = "scheduler"

    def __init__(
        self,
        client: Any,
        steps: int = STEPS,
        timeout: float = TIMEOUT,
        segment: int = SEGMENT,
        repeats: int = REPEATS,
        glance: float = GLANCE,
    ) -> None:
        self.client, self.steps, self.timeout, self.segment, self.repeats, self.glance = client, steps, timeout, segment, repeats, glance
        if getattr(client, "asynchronous", False):
            raise ClusterError("the client is asynchronous: the trainer needs a synchronous one, as in Client(asynchronous=False).")
        self.workers = len(client.scheduler_info(n_workers=-1)["workers"])
        self.dashboard = dashboard_link(client)

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work on the cluster."""
        return ClusterSession(self, program, source)


def dashboard_link(client: Any) -> str | None:
    """The address of the cluster's dashboard; None where there is no page, which for a cluster of this process needs Bokeh."""
    if getattr(client, "cluster", None) is not None and find_spec("bokeh") is None:
        return None
    return getattr(client, "dashboard_link", None) or None


class ClusterSession:
    """Work on a cluster: what lies there, steps, evaluations; other engines run their steps differently and share the rest."""

    def __init__(self, engine: SchedulerEngine, program: Program, source: Any) -> None:
        self.engine, self.client, self.timeout = engine, engine.client, engine.timeout
        self.program, self.source = program, source
        self.run_id = uuid.uuid4().hex[:8]
        self.segment = 0
        self._reported = 0
        self._failures = 0
        self._held: dict[str, Any] = {}
        self._futures: weakref.WeakSet[Any] = weakref.WeakSet()

    def __enter__(self) -> ClusterSession:
        return self

    def __exit__(self, *details: object) -> None:
        self._held.clear()
        # The traceback of an error would keep what was under way alive.
        for future in list(self._futures):
            future.release()

    # ---- what lies on the cluster

    def _data(self, source: Any) -> list[Any]:
        """Keys of a source's partitions, computed on the cluster once and held while the session lasts."""
        name = f"data {id(source)}"
        if name not in self._held:
            graph, keys = source.tasks()
            self._held[name] = (source, self._submit(graph, keys), keys)
        return self._held[name][2]  # type: ignore[no-any-return]

    def _value(self, name: str, value: Any) -> str:
        """Key of a small value that is part of the graph, so that it can be computed again wherever it is lost; held for a segment."""
        return self._hold(f"{name}-{self.run_id}-{self.segment}", value)

    def _program(self, name: str, value: Any) -> str:
        """The same for what stays as it is until the session ends or fails: workers unpickle and bind it once."""
        return self._hold(f"{name}-{self.run_id}-f{self._failures}", value)

    def _hold(self, key: str, value: Any) -> str:
        if key not in self._held:
            self._held[key] = self._submit({key: DataNode(key, value)}, [key])
        return key

    def _submit(self, graph: dict[Any, Any], keys: list[Any]) -> list[Any]:
        import dask

        # Data that the user gave in this process is sent once, in the graph, so that a lost partition comes back: its size is no mistake.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
            futures = list(self.client.get(graph, keys, sync=False))
        self._futures.update(futures)
        return futures

    def _result(self, future: Any, step: int, watch: Watch | None = None) -> Any:
        """The value of a future, waited for as long as tasks are finished on the way to it."""
        left, deadline = -1, time.monotonic() + self.timeout
        while True:
            try:
                error = future.exception(timeout=min(self.engine.glance, self.timeout))
            except TimeoutError:
                pass
            else:
                if error is not None:
                    raise error
                # Not `result` with a short deadline: a gather that is given up can leave the client unable to gather anything ever after.
                found = self.client.sync(lambda: self.client.gather([future], asynchronous=True), callback_timeout=self.timeout)
                return found[0]
            unfinished, running, workers = self.client.run_on_scheduler(standing, key=future.key)
            # Ctrl-C in a terminal also reaches the workers of a cluster made there: they may have died of it, and none comes back.
            if workers == 0 and watch is not None and watch.stop():
                raise _AbandonedError
            if unfinished != left:
                left, deadline = unfinished, time.monotonic() + self.timeout
            elif time.monotonic() > deadline:
                where = "; ".join(f"{key} runs on {worker}" for key, worker in running) or "none of them runs"
                raise ClusterError(
                    f"no task was finished for {self.timeout:g} s in the steps from {step} on: {unfinished} tasks are left, {where}. "
                    + (
                        "Look at that worker's log."
                        if running
                        else f"The cluster has {workers} workers; are their memory and threads taken?"
                    )
                )

    # ---- work

    def run(
        self, state: State, batches: Sequence[Sequence[Array]], watch: Watch, following: Sequence[Sequence[Array]] = ()
    ) -> tuple[State, int]:
        """See `Session.run`."""
        done, repeats = 0, 0
        self._reported = 0
        while done < len(batches) and not (done and watch.stop()):
            try:
                after, used = self._segment(state, batches[done : done + self.engine.segment], done, watch)
            except DagtrainError:
                raise
            except _RefusedError as refused:
                raise refused.error from None
            except _AbandonedError:
                watch.event(f"no worker is left: the steps from {state.step} on are given up")
                break
            except Exception as error:
                repeats += 1
                watch.event(f"steps from {state.step} on repeated after {type(error).__name__}: {str(error)[:200]}")
                if repeats > self.engine.repeats:
                    raise ClusterError(
                        f"the cluster failed {repeats} times in the steps from {state.step} on; the last time: "
                        f"{type(error).__name__}: {error}"
                    ) from error
                self._recover()
            else:
                for i, shards in enumerate(used, done):
                    for shard, rows in shards:
                        watch.used(i, shard, rows)
                state, done, repeats = after, done + len(used), 0
            self.segment += 1
            self._forget(f"-{self.run_id}-{self.segment - 1}")
        return state, done

    def _segment(self, state: State, batches: Sequence[Sequence[Array]], offset: int, watch: Watch) -> tuple[State, list[Any]]:
        """Steps between two cuts of the chain, in submissions of some steps of which two are under way at a time.

        Returns the state, and the samples that each shard of each step took.
        """
        parts = self.program.for_workers(sorted({len(s) for batch in batches for s in batch if len(s)}))
        parts_key = self._program(f"program-{parts.key[:8]}", parts)
        data = self._data(self.source)
        last: Any = self._value("state", Stepped(state, ()))
        sizes, under_way = self.source.sizes, []
        used: list[Any] = []
        for start in range(0, len(batches), self.engine.steps):
            if start and watch.stop():
                break
            some = batches[start : start + self.engine.steps]
            token = f"{self.run_id}-{self.segment}-{start}"
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
                    raise _RefusedError(error) from error
        return used  # type: ignore[no-any-return]  # a future's value is Any

    def evaluate(self, source: Any, state: State, watch: Watch) -> Array:
        """See `Session.evaluate`."""
        data, sizes = self._data(source), source.sizes
        pieces = evaluation_pieces(source.samples)
        scorer = self.program.for_evaluation(source.samples)
        for repeat in range(self.engine.repeats + 1):
            token = f"{self.run_id}-{self.segment}"
            try:
                scorer_key, state_key = self._program(f"scorer-{data[0][0]}", scorer), self._value("scored", state)
                tasks: dict[Any, Task] = {}
                for i, piece in enumerate(pieces):
                    picks = gather_plan(piece, sizes)
                    key = (f"evaluate-{token}", i)
                    held = (TaskRef(data[p.partition]) for p in picks)
                    tasks[key] = Task(key, score_task, TaskRef(scorer_key), TaskRef(state_key), DataNode(None, picks), *held)
                total = f"evaluated-{token}"
                tasks[total] = Task(total, total_task, *map(TaskRef, tasks))
                found: Array = self._result(self._submit(tasks, [total])[0], state.step)
                return found.copy()
            except DagtrainError:
                raise
            except Exception as error:
                watch.event(f"evaluation repeated after {type(error).__name__}: {str(error)[:200]}")
                if repeat == self.engine.repeats:
                    raise ClusterError(
                        f"the cluster failed {repeat + 1} times to evaluate; the last time: {type(error).__name__}: {error}"
                    ) from error
                self._recover()
                data = self._data(source)
            finally:
                self.segment += 1
                self._forget(f"-{token}")
        raise AssertionError("the loop returns or raises")

    def _forget(self, ending: str) -> None:
        for key in [k for k in self._held if k.endswith(ending)]:
            del self._held[key]

    def _recover(self) -> None:
        """Let go of all that lies on the cluster, and wait for a worker."""
        self._held.clear()
        self._failures += 1
        try:
            self.client.wait_for_workers(1, timeout=60)
        except Exception as error:
            raise ClusterError("no worker is left on the cluster, and none came back within 60 s.") from error


class _RefusedError(Exception):
    """What looks at the steps refused to go on: no failure of the cluster."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _AbandonedError(Exception):
    """A stop was asked for, and nobody is there to finish what is under way."""


def standing(key: Any, dask_scheduler: Any) -> tuple[int, list[tuple[str, str]], int]:
    """On the scheduler: unfinished tasks that a key waits for, some of those that run and their workers, and the number of workers."""
    found, stack = set(), [dask_scheduler.tasks[key]] if key in dask_scheduler.tasks else []
    while stack:
        task = stack.pop()
        if task not in found and task.state not in ("memory", "released", "forgotten", "erred"):
            found.add(task)
            stack += task.dependencies
    running = sorted((str(t.key), t.processing_on.address) for t in found if t.processing_on is not None)
    return len(found), running[:3], len(dask_scheduler.workers)


def sums_task(after: Stepped) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    """The part of a submission's result that the client looks at."""
    return after.sums, after.used


def total_task(*parts: Array) -> Array:
    """The sums of all pieces."""
    return add_in_order(parts)
