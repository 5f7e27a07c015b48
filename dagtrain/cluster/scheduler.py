"""The engine *scheduler*: K steps unrolled as one Dask graph, every task placed by the Dask scheduler.

Parameters and data go by future: they never pass through the client while steps run. Any worker may die: its tasks are computed again
from what they
depend on, with the same bits. At the end of a segment the state comes to the client, which cuts the chain of dependencies and is the copy
from which
a segment is repeated when its data is lost for good.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from dask.task_spec import DataNode, Task, TaskRef

from dagtrain.errors import ClusterError, DagtrainError
from dagtrain.graph.hooks import plug
from dagtrain.plan.blas import one_blas_thread
from dagtrain.train.engines import Session, add_in_order
from dagtrain.train.graph import Stepped, TaskRecord, begin_task, step_tasks
from dagtrain.train.state import State
from dagtrain.train.step import Program, Scorer

__all__ = ["SchedulerEngine"]

Array = np.ndarray[Any, Any]
STEPS = 32
"""Steps in one submission: enough to hide its cost, few enough for progress to be seen."""
SEGMENT = 192
"""Steps after which the chain of dependencies is cut: each step leaves some kilobytes on the scheduler until then."""
REPEATS = 3
TIMEOUT = 300.0
"""Seconds without a finished submission after which the engine gives up."""


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
    back = {str(new): old for old, new in fresh.items()}
    found = {}
    for record in client.get_task_stream():
        key = back.get(str(record["key"]))
        spans = [s for s in record["startstops"] if s["action"] == "compute"]
        if key is not None and spans:
            found[key] = TaskRecord(record["worker"], spans[0]["start"], spans[-1]["stop"], int(record.get("nbytes") or 0))
    return found


class SchedulerEngine:
    """Steps as Dask tasks on a client's cluster."""

    name = "scheduler"

    def __init__(self, client: Any, steps: int = STEPS) -> None:
        self.client, self.steps = client, steps
        if getattr(client, "asynchronous", False):
            raise ClusterError("the client is asynchronous: the trainer needs a synchronous one, as in Client(asynchronous=False).")
        self.workers = len(client.scheduler_info(n_workers=-1)["workers"])
        self.dashboard: str | None = getattr(client, "dashboard_link", None)

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work on the cluster."""
        return _SchedulerSession(self, program, source)


class _SchedulerSession:
    def __init__(self, engine: SchedulerEngine, program: Program, source: Any) -> None:
        self.client, self.steps = engine.client, engine.steps
        self.program, self.source = program, source
        self.run_id = uuid.uuid4().hex[:8]
        self.events: list[str] = []
        self.segment = 0
        self._reported = 0
        self._held: dict[str, Any] = {}

    def __enter__(self) -> _SchedulerSession:
        return self

    def __exit__(self, *details: object) -> None:
        self._held.clear()

    # ---- what lies on the cluster

    def _data(self, source: Any) -> list[Any]:
        """Keys of a source's partitions, computed on the cluster once and held while the session lasts."""
        name = f"data {id(source)}"
        if name not in self._held:
            graph, keys = source.tasks()
            self._held[name] = (source, self._submit(graph, keys), keys)
        return self._held[name][2]  # type: ignore[no-any-return]

    def _value(self, name: str, value: Any) -> str:
        """Key of a small value that is part of the graph, so that it can be computed again wherever it is lost."""
        key = f"{name}-{self.run_id}-{self.segment}"
        if key not in self._held:
            self._held[key] = self._submit({key: DataNode(key, value)}, [key])
        return key

    def _submit(self, graph: dict[Any, Any], keys: list[Any]) -> list[Any]:
        import dask

        # Data that the user gave in this process is sent once, in the graph, so that a lost partition comes back: its size is no mistake.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
            return list(self.client.get(graph, keys, sync=False))

    # ---- work

    def run(self, state: State, batches: Sequence[Sequence[Array]], check: Callable[[int, Array], None]) -> State:
        done, repeats = 0, 0
        self._reported = 0
        while done < len(batches):
            some = batches[done : done + SEGMENT]
            try:
                state = self._segment(state, some, done, check)
                done, repeats = done + len(some), 0
            except DagtrainError:
                raise
            except Exception as error:
                repeats += 1
                self.events.append(f"step {state.step}: segment repeated after {type(error).__name__}: {str(error)[:200]}")
                if repeats > REPEATS:
                    raise ClusterError(
                        f"the cluster failed {repeats} times in the steps from {state.step} on; the last time: "
                        f"{type(error).__name__}: {error}"
                    ) from error
                self._held.clear()
                self._await_workers()
            self.segment += 1
            self._forget(f"-{self.run_id}-{self.segment - 1}")
        return state

    def _segment(self, state: State, batches: Sequence[Sequence[Array]], offset: int, check: Callable[[int, Array], None]) -> State:
        """Steps between two cuts of the chain, in submissions of some steps of which two are under way at a time."""
        parts = self.program.for_workers(sorted({len(s) for batch in batches for s in batch if len(s)}))
        parts_key = self._value(f"program-{parts.key[:8]}", parts)
        data = self._data(self.source)
        last: Any = self._value("state", Stepped(state, ()))
        sizes, under_way = self.source.sizes, []
        for start in range(0, len(batches), self.steps):
            some = batches[start : start + self.steps]
            token = f"{self.run_id}-{self.segment}-{start}"
            begin = f"begin-{token}"
            tasks: dict[Any, Any] = {begin: Task(begin, begin_task, TaskRef(last))}
            more, last = step_tasks(token, parts_key, begin, data, sizes, some, state.step + start)
            sums = f"sums-{token}"
            tasks |= {**more, sums: Task(sums, sums_task, TaskRef(last))}
            under_way.append((start, *self._submit(tasks, [sums, last])))
            if len(under_way) > 1:
                self._report(under_way.pop(0), offset, check)
        for submission in under_way:
            self._report(submission, offset, check)
        after: Stepped = under_way[-1][2].result(timeout=TIMEOUT)
        # The arrays that arrive may lie in read-only memory of the message.
        return after.state.copy()

    def _report(self, submission: tuple[int, Any, Any], offset: int, check: Callable[[int, Array], None]) -> None:
        start, sums, _ = submission
        for i, values in enumerate(sums.result(timeout=TIMEOUT), offset + start):
            if i >= self._reported:  # a repeated step gives the same sums again
                self._reported = i + 1
                check(i, values)

    def evaluate(self, source: Any, state: State) -> Array:
        data, sizes = self._data(source), source.sizes
        scorer = self.program.for_evaluation(sizes)
        for repeat in range(REPEATS + 1):
            token = f"{self.run_id}-{self.segment}"
            try:
                scorer_key, state_key = self._value("scorer", scorer), self._value("scored", state)
                tasks = {
                    key: Task(key, score_task, TaskRef(scorer_key), TaskRef(state_key), TaskRef(part))
                    for i, part in enumerate(data)
                    for key in [(f"evaluate-{token}", i)]
                }
                found = [f.result(timeout=TIMEOUT) for f in self._submit(tasks, list(tasks))]
                return add_in_order(found)
            except DagtrainError:
                raise
            except Exception as error:
                self.events.append(f"evaluation repeated after {type(error).__name__}: {str(error)[:200]}")
                if repeat == REPEATS:
                    raise ClusterError(
                        f"the cluster failed {repeat + 1} times to evaluate; the last time: {type(error).__name__}: {error}"
                    ) from error
                self._held.clear()
                self._await_workers()
                data = self._data(source)
            finally:
                self.segment += 1
                self._forget(f"-{token}")
        raise AssertionError("the loop returns or raises")

    def _forget(self, ending: str) -> None:
        for key in [k for k in self._held if k.endswith(ending)]:
            del self._held[key]

    def _await_workers(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=60)
        except Exception as error:
            raise ClusterError("no worker is left on the cluster, and none came back within 60 s.") from error


def sums_task(after: Stepped) -> tuple[Array, ...]:
    """The part of a submission's result that the client looks at."""
    return after.sums


def score_task(scorer: Scorer, state: State, part: tuple[Array, Array | None]) -> Array:
    """Sums of loss and metrics over one partition."""
    with one_blas_thread(), np.errstate(all="ignore"):
        return scorer.score(state, *part)
