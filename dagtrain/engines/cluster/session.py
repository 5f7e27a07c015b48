"""Shared by the engines of a cluster: the futures of a session, repeating work after a failure, and evaluation.

A session holds the futures of its data and compiled steps while it needs them. After a failure it releases all of them and submits them
again under other names.
"""

from __future__ import annotations

import time
import uuid
import warnings
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Any, Self

from dask.task_spec import DataNode, List, Task, TaskRef

from dagtrain.engines.client import check_client, current_client, wait_for_workers, workers_of
from dagtrain.engines.cluster.outages import insist
from dagtrain.engines.cluster.waiting import TIMEOUTS, Standing, Timeouts, is_of_cluster, results, submit, thread_given_back, what_was_lost
from dagtrain.engines.evaluation import score_tasks
from dagtrain.errors import ClusterError, DagtrainError
from dagtrain.report.records import Event
from dagtrain.step.program import Program
from dagtrain.step.scores import Scores, join_scores
from dagtrain.step.software import other_software, software
from dagtrain.step.state import State

__all__ = ["ClusterEngine", "ClusterSession", "Repeats", "SilentError", "dashboard_link"]


class ClusterEngine:
    """Runs steps on a client's cluster.

    Parameters
    ----------
    client
        A synchronous Dask client.
    timeouts
        Deadlines of all waits.
    repeats
        How often failed work is repeated before an error.
    """

    name: str

    def __init__(self, client: Any, timeouts: Timeouts = TIMEOUTS, repeats: int = 3) -> None:
        self.client, self.timeouts, self.repeats = client, timeouts, repeats
        check_client(client)
        self.workers = len(workers_of(client))
        self.dashboard = dashboard_link(client)

    @classmethod
    def of(cls, client: Any, threads: int | None) -> Self:
        """The engine on the cluster of `client`, or of the current client; `threads` is ignored, as workers have threads of their own."""
        client = current_client() if client is None else client
        if client is None:
            raise ClusterError(
                f"the engine {cls.name!r} needs a Dask cluster and there is no client. "
                "Create one first, as in client = distributed.Client(), or pass client=."
            )
        return cls(client)


def dashboard_link(client: Any) -> str | None:
    """The address of the cluster's dashboard; None without one: for a cluster of this process it needs Bokeh."""
    if getattr(client, "cluster", None) is not None and find_spec("bokeh") is None:
        return None
    return getattr(client, "dashboard_link", None) or None


class ClusterSession:
    """Futures and evaluations on a cluster; engines add how steps run."""

    def __init__(self, engine: ClusterEngine, program: Program, source: Any, exact: bool = False) -> None:
        self.client, self.timeouts, self.repeats = engine.client, engine.timeouts, engine.repeats
        self.program, self._source, self.exact = program, source, exact
        self.events: list[Event] = []
        self.session_id = uuid.uuid4().hex[:8]
        self.segment = 0
        self._failures = 0
        self._held: dict[str, Any] = {}
        self._futures: weakref.WeakSet[Any] = weakref.WeakSet()
        self._leaving = ExitStack()
        self._warned_of_software = False
        self._last_error = ""

    def __enter__(self) -> Self:
        self._leaving.enter_context(thread_given_back())
        return self

    def __exit__(self, *details: object) -> None:
        self._release()
        self._leaving.close()

    def _release(self) -> None:
        """Release all futures, also those that the traceback of an error keeps alive."""
        self._held.clear()
        for future in list(self._futures):
            future.release()

    @property
    def source(self) -> Any:
        """See `Session.source`; the rows of the one before are released."""
        return self._source

    @source.setter
    def source(self, source: Any) -> None:
        self._held.pop(f"data {id(self._source)}", None)
        self._source = source

    # ---- futures

    def _data(self, source: Any) -> list[Any]:
        """Keys of a source's partitions, computed once, on the workers that hold their origins, and held until the session ends."""
        name = f"data {id(source)}"
        if name in self._held and any(future.cancelled() for future in self._held[name][1]):  # restarting a client cancels its futures
            del self._held[name]
            self._failures += 1
        if name not in self._held:
            graph, keys = source.tasks()
            if self._failures:
                names = {key: (f"{key[0]}-f{self._failures}", *key[1:]) for key in keys}
                graph = {names.get(key, key): node.substitute({}, key=names.get(key, key)) for key, node in graph.items()}
                keys = [names[key] for key in keys]
            origins = sorted({origin for of_partition in source.origins for origin in of_partition}, key=str)
            holders = self.ask("who_has", keys=origins) if origins else {}
            near = (sorted({worker for origin in of_partition for worker in holders.get(origin, ())}) for of_partition in source.origins)
            workers_of = {key: workers for key, workers in zip(keys, near, strict=True) if workers}
            futures = self._submit(graph, keys, workers=partial(_workers_for, workers_of), allow_other_workers=True)
            self._held[name] = (source, futures, keys)
        return self._held[name][2]  # type: ignore[no-any-return]  # held values are of all kinds

    def ask(self, verb: str, wait: float = 0.0, **arguments: Any) -> Any:
        """The scheduler's answer to a request, for which it may itself wait `wait` seconds."""
        client, within = self.client, wait + self.timeouts.answer
        question = partial(client.sync, getattr(client.scheduler, verb), callback_timeout=within, **arguments)
        return insist(client, question, self.timeouts.outage)

    def _value(self, name: str, value: Any) -> str:
        """Key of a small value that is part of the graph, so that Dask can restore it when it is lost; held for a segment."""
        return self._hold(f"{name}-{self.session_id}-{self.segment}", value)

    def _program(self, name: str, value: Any) -> str:
        """Key of a value that stays the same until the session ends or fails: workers unpickle and bind it once."""
        return self._hold(f"{name}-{self.session_id}-f{self._failures}", value)

    def _hold(self, key: str, value: Any) -> str:
        if key not in self._held:
            self._held[key] = self._submit({key: DataNode(key, value)}, [key])
        return key

    def _submit(self, graph: dict[Any, Any], keys: list[Any], **annotations: Any) -> list[Any]:
        futures = submit(self.client, graph, keys, **annotations)
        self._futures.update(futures)
        return futures

    def _forget(self, ending: str) -> None:
        for key in [k for k in self._held if k.endswith(ending)]:
            del self._held[key]

    # ---- work

    def told(self) -> list[Event]:
        """What happened since the last call."""
        events, self.events = self.events, []
        return events

    def untold(self) -> Iterator[Event]:
        """The same one by one: what a consumer does not take is told later."""
        while self.events:
            yield self.events.pop(0)

    def compare(self, worker: str, there: Mapping[str, str]) -> None:
        """Warn once of a worker with other software; raise if the bits must be exact."""
        differences = other_software(there, software())
        if not differences or self._warned_of_software:
            return
        message = f"the worker {worker} has other software than this process ({'; '.join(differences)}): the last bits may differ."
        if self.exact:
            raise ClusterError(f"{message} Use workers with the same, or leave out exact=True.")
        self._warned_of_software = True
        warnings.warn(message, UserWarning, stacklevel=2)

    def comes_again(self, error: BaseException) -> bool:
        """Whether a task raised this error the last time too, and the cluster is not its cause: a repetition would raise it again."""
        before, self._last_error = self._last_error, "" if is_of_cluster(error) else f"{type(error).__name__}: {error}"
        return bool(self._last_error) and self._last_error == before

    def _recover(self) -> None:
        """Release all futures, and wait for a worker."""
        self._release()
        self._failures += 1
        try:
            wait_for_workers(self.client, 1, self.timeouts.workers)
        except Exception as error:
            raise ClusterError(f"no worker is left on the cluster, and none came back within {self.timeouts.workers:g} s.") from error

    def evaluate(self, source: Any, state: State) -> Scores:
        """See `dagtrain.engines.engine.Session.evaluate`."""
        repeats = Repeats(self, f"the evaluation after step {state.step}", "evaluation repeated", state.step)
        while True:
            try:
                return self._evaluate(source, state)
            except Exception as error:
                repeats.take(error)

    def _evaluate(self, source: Any, state: State) -> Scores:
        token = f"{self.session_id}-{self.segment}"
        try:
            data, scorer = self._data(source), self.program.for_evaluation(source.samples, source.columns)
            scorer_key, state_key = self._program(f"scorer-{data[0][0]}", scorer), self._value("scored", state)
            tasks = score_tasks(f"evaluate-{token}", scorer_key, state_key, data, source.sizes)
            total = f"evaluated-{token}"
            tasks[total] = Task(total, join_scores, List(*map(TaskRef, tasks)))
            work = f" in the evaluation after step {state.step}"
            (scores,) = results(self.client, self._submit(tasks, [total]), self.timeouts, work, self._see)
            return scores  # type: ignore[no-any-return]  # results are of all kinds
        finally:
            self.segment += 1
            self._forget(f"-{token}")

    def _see(self, standing: Standing) -> None:
        """Called every `Timeouts.glance` while an evaluation runs; raises if it cannot finish."""


class Repeats:
    """The attempts at some work, which is repeated if the cluster fails.

    Parameters
    ----------
    session
        Whose work it is.
    what
        The work, for messages.
    kind, step
        Of the events that tell of repetitions.
    """

    def __init__(self, session: ClusterSession, what: str, kind: str, step: int) -> None:
        self.session, self.what, self.kind, self.step = session, what, kind, step
        self.failures = 0

    def take(self, error: Exception) -> None:
        """Take the error of an attempt: release all futures for the next one; raise it if a repetition would not help."""
        session = self.session
        if isinstance(error, DagtrainError):
            raise error
        self.failures += 1
        if session.comes_again(error):
            raise ClusterError(f"a task raised the same error again in {self.what}: {session._last_error}") from error
        session.events.append(Event(self.kind, f"{type(error).__name__}: {str(error)[:200]}", self.step))
        if self.failures > session.repeats:
            last = what_was_lost(error) if isinstance(error, CancelledError) else f"{type(error).__name__}: {error}"
            raise ClusterError(f"the cluster failed {self.failures} times in {self.what}; the last time: {last}") from error
        time.sleep(session.timeouts.pause * 2 ** (self.failures - 1))  # a cluster that restarts needs time
        session._recover()


class SilentError(ConnectionError):
    """The awaited result may need a worker that does not answer; the next attempt excludes that worker."""


def _workers_for(workers_of: Mapping[Any, list[str]], key: Any) -> list[str]:
    """The workers that a task should run on, empty for any: Dask does not give a task whose named workers are all lost to new ones."""
    return workers_of.get(key, [])
