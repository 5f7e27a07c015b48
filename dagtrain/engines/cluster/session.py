"""What the engines of a cluster have in common: what a session keeps there, how it asks again after a failure, and evaluation.

What is made in a session, futures of data and of compiled steps, is held while it is needed; after a failure all of it is let go of and
made anew, under other names.
"""

from __future__ import annotations

import itertools
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Any, Self, TypeVar

import numpy as np
from dask.task_spec import DataNode, Task, TaskRef

from dagtrain.engines.client import current_client
from dagtrain.engines.cluster.outages import insist
from dagtrain.engines.cluster.waiting import TIMEOUTS, Standing, Timeouts, is_of_cluster, results, submit, thread_given_back, what_was_lost
from dagtrain.engines.engine import Watch, add_in_order
from dagtrain.engines.evaluation import score_tasks
from dagtrain.errors import ClusterError, DagtrainError
from dagtrain.graph import Array
from dagtrain.step.program import Program
from dagtrain.step.software import other_software, software
from dagtrain.step.state import State

__all__ = ["AbandonedError", "ClusterEngine", "ClusterSession", "RefusedError", "SilentError", "dashboard_link"]

T = TypeVar("T")


class ClusterEngine:
    """A client's cluster as a place to run steps: its workers, its page, its deadlines.

    Parameters
    ----------
    client
        A synchronous Dask client.
    timeouts
        Deadlines of whatever is waited for.
    repeats
        How often work that fails is done again before the engine gives up.
    """

    name: str

    def __init__(self, client: Any, timeouts: Timeouts = TIMEOUTS, repeats: int = 3) -> None:
        self.client, self.timeouts, self.repeats = client, timeouts, repeats
        if getattr(client, "asynchronous", False):
            raise ClusterError("the client is asynchronous: the trainer needs a synchronous one, as in Client(asynchronous=False).")
        self.workers = len(client.scheduler_info(n_workers=-1)["workers"])
        self.dashboard = dashboard_link(client)

    @classmethod
    def of(cls, client: Any, threads: int | None) -> Self:
        """The engine on this client's cluster, or on the current one's; threads are the workers'."""
        client = current_client() if client is None else client
        if client is None:
            raise ClusterError(
                f"the engine {cls.name!r} needs a Dask cluster and there is no client. "
                "Create one first, as in client = distributed.Client(), or pass client=."
            )
        return cls(client)


def dashboard_link(client: Any) -> str | None:
    """The address of the cluster's dashboard; None where there is no page, which for a cluster of this process needs Bokeh."""
    if getattr(client, "cluster", None) is not None and find_spec("bokeh") is None:
        return None
    return getattr(client, "dashboard_link", None) or None


class ClusterSession:
    """Work on a cluster: what lies there, and evaluations; engines add how steps are run."""

    def __init__(self, engine: ClusterEngine, program: Program, source: Any) -> None:
        self.client, self.timeouts, self.repeats = engine.client, engine.timeouts, engine.repeats
        self.program, self.source = program, source
        self.session_id = uuid.uuid4().hex[:8]
        self.segment = 0
        self._failures = 0
        self._held: dict[str, Any] = {}
        self._futures: weakref.WeakSet[Any] = weakref.WeakSet()
        self._leaving = ExitStack()
        self._told_software = False
        self._met = ""

    def __enter__(self) -> Self:
        self._leaving.enter_context(thread_given_back())
        return self

    def __exit__(self, *details: object) -> None:
        self._release()
        self._leaving.close()

    def _release(self) -> None:
        """Let go of all that lies on the cluster, also of what the traceback of an error, or of a deadline, keeps alive."""
        self._held.clear()
        for future in list(self._futures):
            future.release()

    # ---- what lies on the cluster

    def _data(self, source: Any) -> list[Any]:
        """Keys of a source's partitions, computed once where what they are made of lies, and held while the session lasts."""
        name = f"data {id(source)}"
        if name in self._held and any(future.cancelled() for future in self._held[name][1]):  # a client that is restarted forgets them
            del self._held[name]
            self._failures += 1
        if name not in self._held:
            graph, keys = source.tasks()
            if self._failures:
                names = {key: (f"{key[0]}-f{self._failures}", *key[1:]) for key in keys}
                graph = {names.get(key, key): node.substitute({}, key=names.get(key, key)) for key, node in graph.items()}
                keys = [names[key] for key in keys]
            origins = sorted({origin for some in source.origins for origin in some}, key=str)
            holders = self.ask("who_has", keys=origins) if origins else {}
            near = (sorted({worker for origin in some for worker in holders.get(origin, ())}) for some in source.origins)
            where = {key: workers for key, workers in zip(keys, near, strict=True) if workers}
            futures = self._submit(graph, keys, workers=partial(_workers_for, where), allow_other_workers=True)
            self._held[name] = (source, futures, keys)
        return self._held[name][2]  # type: ignore[no-any-return]  # held values are of all kinds

    def ask(self, verb: str, wait: float = 0.0, **arguments: Any) -> Any:
        """The scheduler's answer to a question, for which it may itself wait so many seconds."""
        client, within = self.client, wait + self.timeouts.answer
        question = partial(client.sync, getattr(client.scheduler, verb), callback_timeout=within, **arguments)
        return insist(client, question, self.timeouts.outage)

    def _value(self, name: str, value: Any) -> str:
        """Key of a small value that is part of the graph, so that it can be computed again wherever it is lost; held for a segment."""
        return self._hold(f"{name}-{self.session_id}-{self.segment}", value)

    def _program(self, name: str, value: Any) -> str:
        """The same for what stays as it is until the session ends or fails: workers unpickle and bind it once."""
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

    def compare(self, worker: str, there: Mapping[str, str], watch: Watch) -> None:
        """Tell, once, that a worker has other software; refuse it where the bits must be exact."""
        other = other_software(there, software())
        if not other or self._told_software:
            return
        told = f"the worker {worker} has other software than this process ({'; '.join(other)}): the last bits may differ."
        if watch.exact:
            raise ClusterError(f"{told} Use workers with the same, or leave out exact=True.")
        self._told_software = True
        warnings.warn(told, UserWarning, stacklevel=2)

    def _until_done(self, work: Callable[[], T], what: str, watch: Watch) -> T:
        """Do some work; where the cluster fails, let go of all that lies there and do it again."""
        for failures in itertools.count(1):
            try:
                return work()
            except (DagtrainError, RefusedError, AbandonedError):
                raise
            except Exception as error:
                if self.comes_again(error):
                    raise ClusterError(f"a task met the same error again in {what}: {self._met}") from error
                watch.event(f"{what} repeated after {type(error).__name__}: {str(error)[:200]}")
                if failures > self.repeats:
                    last = what_was_lost(error) if isinstance(error, CancelledError) else f"{type(error).__name__}: {error}"
                    raise ClusterError(f"the cluster failed {failures} times in {what}; the last time: {last}") from error
            time.sleep(self.timeouts.pause * 2 ** (failures - 1))  # what failed, such as a cluster that is restarted, may need some time
            self._recover()
        raise AssertionError("the loop returns or raises")

    def comes_again(self, error: BaseException) -> bool:
        """Whether a task met this error the last time too, and it is none of the cluster: to do it once more would be of no use."""
        before, self._met = self._met, "" if is_of_cluster(error) else f"{type(error).__name__}: {error}"
        return bool(self._met) and self._met == before

    def _recover(self) -> None:
        """Let go of all that lies on the cluster, and wait for a worker."""
        self._release()
        self._failures += 1
        try:
            self.client.wait_for_workers(1, timeout=self.timeouts.workers)
        except Exception as error:
            raise ClusterError(f"no worker is left on the cluster, and none came back within {self.timeouts.workers:g} s.") from error

    def evaluate(self, source: Any, state: State, watch: Watch) -> Array:
        """See `dagtrain.engines.engine.Session.evaluate`."""
        return self._until_done(lambda: self._evaluate(source, state), f"the evaluation after step {state.step}", watch)

    def _evaluate(self, source: Any, state: State) -> Array:
        token = f"{self.session_id}-{self.segment}"
        try:
            data, scorer = self._data(source), self.program.for_evaluation(source.samples)
            scorer_key, state_key = self._program(f"scorer-{data[0][0]}", scorer), self._value("scored", state)
            tasks = score_tasks(f"evaluate-{token}", scorer_key, state_key, data, source.sizes)
            total = f"evaluated-{token}"
            tasks[total] = Task(total, total_task, *map(TaskRef, tasks))
            where = f" in the evaluation after step {state.step}"
            (sums,) = results(self.client, self._submit(tasks, [total]), self.timeouts, where, self._see)
            return np.array(sums)
        finally:
            self.segment += 1
            self._forget(f"-{token}")

    def _see(self, standing: Standing) -> None:
        """Called now and then while an evaluation is waited for; raises where it would be in vain."""


class RefusedError(Exception):
    """What looks at the steps refused to go on: no failure of the cluster."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class AbandonedError(Exception):
    """A stop was asked for, and no worker is there to finish what is under way."""


class SilentError(ConnectionError):
    """What is waited for may need a worker that does not answer; the next attempt does without it."""


def _workers_for(where: Mapping[Any, list[str]], key: Any) -> list[str]:
    """The workers that a task should run on; none by name where any will do: Dask keeps what has lost all of its workers from new ones."""
    return where.get(key, [])


def total_task(*parts: Array) -> Array:
    """The sums of all pieces."""
    return add_in_order(parts)
