"""Where shards run: choosing an engine, and the session that runs steps in this process.

An engine has a name, a number of workers and ``session(program, source)``. A session has ``run(state, batches, check) → state``,
``evaluate(source, state) → sums`` and ``events``. Engines on a cluster plug themselves in from `dagtrain.cluster`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from dagtrain.errors import ClusterError
from dagtrain.graph import hooks
from dagtrain.plan.blas import one_blas_thread
from dagtrain.train.inline import StepRunner
from dagtrain.train.state import State
from dagtrain.train.step import Program, evaluation_pieces

__all__ = ["Engine", "InlineEngine", "Session", "choose_engine"]

Array = np.ndarray[Any, Any]


class Session(Protocol):
    """An engine at work on one program and one source of data."""

    events: list[str]

    def run(self, state: State, batches: Sequence[Sequence[Array]], check: Callable[[int, Array], None]) -> State:
        """The state after these steps; `check(i, sums)` sees the loss and metrics of every step in order."""

    def evaluate(self, source: Any, state: State) -> Array:
        """Sums of loss and metrics over all rows of a source."""


class Engine(Protocol):
    """A place to run steps."""

    name: str
    workers: int
    dashboard: str | None

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work; ends when the context does."""


class InlineEngine:
    """Shards on a pool of threads of this process; starts no server and opens no port."""

    name = "inline"
    workers = 0
    dashboard: str | None = None

    def __init__(self, threads: int | None = None) -> None:
        self.threads = (
            threads if threads is not None else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work in this process."""
        return _InlineSession(program, source, self.threads)


class _InlineSession:
    def __init__(self, program: Program, source: Any, threads: int) -> None:
        self.program, self.source, self.threads = program, source, threads
        self.events: list[str] = []
        self._runner: StepRunner | None = None

    def __enter__(self) -> _InlineSession:
        return self

    def __exit__(self, *details: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def run(self, state: State, batches: Sequence[Sequence[Array]], check: Callable[[int, Array], None]) -> State:
        x, y = self.source.local()
        runner = self._runner
        if runner is None:
            parts = self.program.for_workers(sorted({len(s) for batch in batches for s in batch if len(s)}))
            runner = self._runner = StepRunner(parts, state.copy(), len(batches[0]), self.threads)
        else:
            runner.load(state)
        with one_blas_thread(), np.errstate(all="ignore"):
            for i, batch in enumerate(batches):
                shards = [None if not len(s) else (x[s], None if y is None else y[s]) for s in batch]
                runner.step(shards, lambda sums, i=i: check(i, sums))  # type: ignore[misc]  # mypy does not infer a lambda's default
        return runner.state.copy()

    def evaluate(self, source: Any, state: State) -> Array:
        x, y = source.local()
        pieces = evaluation_pieces(source.samples)
        scorer = self.program.for_evaluation([p.stop - p.start for p in pieces])
        with one_blas_thread(), np.errstate(all="ignore"):
            return add_in_order([scorer.score(state, x[p], None if y is None else y[p]) for p in pieces])


def add_in_order(parts: Sequence[Array]) -> Array:
    """Sum from the first to the last."""
    total = parts[0]
    for more in parts[1:]:
        total = total + more
    return total


def choose_engine(name: str, threads: int | None, client: Any) -> Engine:
    """The engine of this name; "auto" is inline unless there is a Dask client."""
    if name == "inline":
        return InlineEngine(threads)
    found = client if client is not None else hooks.call("current_client")
    if found is None:
        if name == "auto":
            return InlineEngine(threads)
        raise ClusterError(
            f"the engine {name!r} needs a Dask cluster and there is no client. "
            "Create one first, as in client = distributed.Client(), or pass client=."
        )
    engine: Engine = hooks.call("scheduler_engine", found)
    return engine
