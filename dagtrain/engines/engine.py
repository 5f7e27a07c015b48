"""Where shards run: choosing an engine, and the session that runs steps in this process.

An engine has a name, a number of workers and ``session(program, source)``. A session runs a schedule of steps as a stream of commits, and
evaluates. Engines have names: those of this package are in a table, others are entry points.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, Self

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.backends.blas import cores, guard
from dagtrain.data.schedule import Schedule
from dagtrain.engines.client import check_client, current_client, is_in_task
from dagtrain.engines.commits import Commit, Item, StateLostError, StateRef
from dagtrain.engines.inline import StepRunner
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.report.records import Event
from dagtrain.step.program import Program
from dagtrain.step.scores import Scores, evaluation_pieces, join_scores
from dagtrain.step.state import State

__all__ = ["ENGINES", "Engine", "InlineEngine", "Session", "choose_engine", "find_engine"]

GROUP = "dagtrain.engines"
"""The group of entry points by which other packages add engines."""
ENGINES = {
    "inline": "dagtrain.engines.engine:InlineEngine",
    "scheduler": "dagtrain.engines.scheduler.session:SchedulerEngine",
    "lanes": "dagtrain.engines.ranks.engine:LanesEngine",
}
"""The engines of this package; each is imported when it is chosen."""


class Session(Protocol):
    """Runs steps of one program.

    Attributes
    ----------
    source
        The rows of the next call of `run`; it may be replaced between two calls.
    """

    source: Any

    def run(self, start: State | StateRef, steps: Schedule) -> Iterator[Item]:
        """The stream of these steps: their commits in order, and what happens meanwhile.

        The engine may run ahead of the stream. Closing it drops what ran ahead; training goes on by another call, from any state or from
        that of the last commit, which stays where it is until then; a StateLostError tells that it is lost. `start` is not changed; its
        `learning_rate_scale` goes to `Update.scalar_values` in every step.
        """

    def evaluate(self, source: Any, state: State) -> Scores:
        """The scores of all rows of a source, in their order; also between two items of a stream."""

    def told(self) -> list[Event]:
        """What happened and no stream has told of: in evaluations."""


class Engine(Protocol):
    """A place to run steps."""

    name: str
    workers: int
    dashboard: str | None

    @classmethod
    def of(cls, client: Any, threads: int | None) -> Self:
        """The engine for a trainer's ``client`` and ``threads``, each None if the user did not pass it."""

    def session(self, program: Program, source: Any, exact: bool = False) -> AbstractContextManager[Session]:
        """Begin a session; it ends with the context.

        With `exact`, a worker with other software than this process is an error, and not a warning: the last bits may differ.
        """


class InlineEngine:
    """Shards on a pool of threads of this process; starts no server and opens no port.

    Parameters
    ----------
    threads
        Their number; by default that of the cores.
    commit
        Seconds of the steps in a commit.
    """

    name = "inline"
    workers = 0
    dashboard: str | None = None

    def __init__(self, threads: int | None = None, commit: float = 0.02) -> None:
        self.threads, self.commit = cores() if threads is None else threads, commit

    @classmethod
    def of(cls, client: Any, threads: int | None) -> Self:
        """The engine with this number of threads; it uses no client."""
        return cls(threads)

    def session(self, program: Program, source: Any, exact: bool = False) -> AbstractContextManager[Session]:
        """Begin a session in this process."""
        return _InlineSession(program, source, self.threads, self.commit)


class _InlineSession:
    def __init__(self, program: Program, source: Any, threads: int, commit: float) -> None:
        self.program, self.source, self.threads, self.commit = program, source, threads, commit
        self._runner: StepRunner | None = None

    def __enter__(self) -> _InlineSession:
        return self

    def __exit__(self, *details: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def run(self, start: State | StateRef, steps: Schedule) -> Iterator[Item]:
        runner = self._begin(start, steps)
        columns, done = self.source.local(), 0
        while done < len(steps):
            first, sums, used = runner.state.step, list[Array](), list[list[tuple[int, Array]]]()
            end, due = steps.until(done), time.perf_counter() + self.commit
            with guard():
                while done < end and not (sums and time.perf_counter() >= due):
                    batch = steps.at(done)
                    sums.append(np.array(runner.step_on(columns, batch)))
                    used.append([(s, rows) for s, rows in enumerate(batch) if len(rows)])
                    done += 1
            yield Commit(first, sums, used, StateRef(runner.state.step, runner.state.learning_rate_scale, self._bring))

    def _begin(self, start: State | StateRef, steps: Schedule) -> StepRunner:
        """The runner of steps of these sizes, with the state to begin with."""
        runner = self._runner
        sizes = steps.lengths | (runner.parts.rows if runner else set())
        if runner is None or len(sizes) > len(runner.parts.rows):
            state = start.get() if isinstance(start, StateRef) else start.copy()
            parts = self.program.for_workers(sizes)  # an error leaves the session as it was
            if runner is not None:
                runner.close()
            runner = self._runner = StepRunner(parts, state, len(steps.at(0)), self.threads)
        elif isinstance(start, State):
            runner.state.assign(start)
        runner.state.learning_rate_scale = start.learning_rate_scale
        return runner

    def _bring(self, ref: StateRef) -> State:
        assert self._runner is not None, "it made the state"
        if self._runner.state.step != ref.step:
            raise StateLostError(f"the steps after {ref.step} were interrupted.")
        return self._runner.state.copy()

    def told(self) -> list[Event]:
        return []

    def evaluate(self, source: Any, state: State) -> Scores:
        if not source.in_memory:
            from dagtrain.engines.evaluation import evaluate_partitions

            return join_scores(evaluate_partitions(self.program, source, state))
        columns = source.local()
        scorer = self.program.for_evaluation(source.samples, source.columns)
        with guard():
            rows = [slice(p.start, p.stop) for p in evaluation_pieces(source.samples)]
            return join_scores([scorer.score(state, tuple(column[r] for column in columns)) for r in rows])


def find_engine(name: object) -> EntryPoint:
    """The entry point of the engine of this name, not imported yet.

    Raises
    ------
    UnknownNameError
        Neither this package nor an installed one has an engine of this name.
    """
    if isinstance(name, str) and name in ENGINES:
        return EntryPoint(name, ENGINES[name], GROUP)
    others = entry_points(group=GROUP)
    return others[one_of("engine", name, {"auto", *ENGINES, *others.names})]


def choose_engine(engine: str | Engine, threads: int | None, client: Any) -> Engine:
    """The engine of this name, or `engine` itself; "auto" is lanes where there is a Dask client, otherwise inline.

    In a Dask task without `client`, "auto" is inline, with the one thread of the task: many fits, each in a task, share a cluster best
    if they do not communicate. Other engines work there by name: they give the thread back while they wait for their own tasks.
    """
    if client is not None:
        check_client(client)
    if not isinstance(engine, str):
        return engine
    if engine == "auto" and client is None and is_in_task():
        return InlineEngine(1 if threads is None else threads)
    if engine == "auto":
        engine = "inline" if client is None and current_client() is None else "lanes"
    point = find_engine(engine)
    engine_class: Any = point.load()
    if not hasattr(engine_class, "of"):
        raise ArgumentError(f"the engine {engine!r} is {point.value}, which has no class method of(client, threads) that makes one.")
    instance: Engine = engine_class.of(client, threads)
    return instance
