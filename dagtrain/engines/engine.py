"""Where shards run: choosing an engine, and the session that runs steps in this process.

An engine has a name, a number of workers and ``session(program, source)``. A session has ``run(state, batches, watch) → state, done`` and
``evaluate(source, state, watch) → scores``; it reports to the caller's `Watch`. Engines have names: those of this package are in a table,
others are entry points.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, Self

from dagtrain.arguments import one_of
from dagtrain.backends.blas import cores, guard
from dagtrain.engines.client import current_client, is_in_task
from dagtrain.engines.inline import StepRunner
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.report.records import StepTimes
from dagtrain.step.program import Program
from dagtrain.step.scores import Scores, evaluation_pieces, join_scores
from dagtrain.step.state import State

__all__ = ["ENGINES", "Engine", "InlineEngine", "Session", "Unwatched", "Watch", "choose_engine", "find_engine"]

GROUP = "dagtrain.engines"
"""The group of entry points by which other packages add engines."""
ENGINES = {
    "inline": "dagtrain.engines.engine:InlineEngine",
    "scheduler": "dagtrain.engines.scheduler.session:SchedulerEngine",
    "lanes": "dagtrain.engines.ranks.engine:LanesEngine",
}
"""The engines of this package; each is imported when it is chosen."""


class Watch(Protocol):
    """The trainer's side of a session, which reports to it. All methods are called in the thread that called the session.

    Attributes
    ----------
    exact
        Whether a worker with other software than this process is an error, and not a warning: the last bits may differ.
    """

    exact: bool

    def step(self, i: int, sums: Array) -> None:
        """Take the parts of loss and metrics (see `Program.values`) of step i of this call: in order, each once; may raise an error."""

    def used(self, i: int, shard: int, rows: Array) -> None:
        """Take the samples in this shard of step i, from the process that assembled it.

        Called once for each (i, shard) that has samples, and only for steps that are part of the state that `run` returns.
        """

    def stop(self) -> bool:
        """Whether to end at the next boundary: of steps, submissions or segments; never called before the first step."""

    def event(self, text: str, kind: str = "cluster", workers: Sequence[str] = ()) -> None:
        """Take an event that the user should see: a worker lost, a segment repeated; its kind, and the workers that it is about."""

    def placed(self, placement: Any) -> None:
        """Take a new placement, which has a method ``diagram``."""

    def spent(self, times: Sequence[StepTimes]) -> None:
        """Take how ranks spend the time of a step, at most once a segment."""


class Unwatched:
    """A `Watch` that ignores everything and never stops."""

    exact = False

    def step(self, i: int, sums: Array) -> None:
        """Do nothing."""

    def used(self, i: int, shard: int, rows: Array) -> None:
        """Do nothing."""

    def stop(self) -> bool:
        """Return False."""
        return False

    def event(self, text: str, kind: str = "cluster", workers: Sequence[str] = ()) -> None:
        """Do nothing."""

    def placed(self, placement: Any) -> None:
        """Do nothing."""

    def spent(self, times: Sequence[StepTimes]) -> None:
        """Do nothing."""


class Session(Protocol):
    """Runs steps of one program on one source of data."""

    def run(
        self, state: State, batches: Sequence[Sequence[Array]], watch: Watch, following: Sequence[Sequence[Array]] = ()
    ) -> tuple[State, int]:
        """Run these steps; return the state after them and the number of steps done: all, unless `watch.stop` returned True.

        `state` is not changed. Further calls may pass any state, and batches whose shards have other sizes: the first call may be for the
        last steps of an epoch. The `learning_rate_scale` of `state` goes to `Update.scalar_values` in every step and into the returned
        state.

        `following` are the probable `batches` of the next call, as the same object: an engine may begin them while the caller works on
        the returned state.
        """

    def evaluate(self, source: Any, state: State, watch: Watch) -> Scores:
        """The scores of all rows of a source, in their order; calls only `event` of the watch."""


class Engine(Protocol):
    """A place to run steps."""

    name: str
    workers: int
    dashboard: str | None

    @classmethod
    def of(cls, client: Any, threads: int | None) -> Self:
        """The engine for a trainer's ``client`` and ``threads``, each None if the user did not pass it."""

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin a session; it ends with the context."""


class InlineEngine:
    """Shards on a pool of threads of this process; starts no server and opens no port."""

    name = "inline"
    workers = 0
    dashboard: str | None = None

    def __init__(self, threads: int | None = None) -> None:
        self.threads = cores() if threads is None else threads

    @classmethod
    def of(cls, client: Any, threads: int | None) -> Self:
        """The engine with this number of threads; it uses no client."""
        return cls(threads)

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin a session in this process."""
        return _InlineSession(program, source, self.threads)


class _InlineSession:
    def __init__(self, program: Program, source: Any, threads: int) -> None:
        self.program, self.source, self.threads = program, source, threads
        self._runner: StepRunner | None = None

    def __enter__(self) -> _InlineSession:
        return self

    def __exit__(self, *details: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def run(
        self, state: State, batches: Sequence[Sequence[Array]], watch: Watch, following: Sequence[Sequence[Array]] = ()
    ) -> tuple[State, int]:
        columns = self.source.local()
        runner = self._runner
        sizes = {len(s) for batch in batches for s in batch if len(s)} | set(runner.parts.plans if runner else ())
        if runner is None or len(sizes) > len(runner.parts.plans):
            if runner is not None:
                runner.close()
            parts = self.program.for_workers(sizes)
            runner = self._runner = StepRunner(parts, state.copy(), len(batches[0]), self.threads)
        else:
            runner.state.assign(state)
        with guard():
            for i, batch in enumerate(batches):
                if i and watch.stop():
                    return runner.state.copy(), i
                shards = [tuple(column[s] for column in columns) if len(s) else None for s in batch]
                runner.step(shards, partial(watch.step, i))
                for s, rows in enumerate(batch):
                    if len(rows):
                        watch.used(i, s, rows)
        return runner.state.copy(), len(batches)

    def evaluate(self, source: Any, state: State, watch: Watch) -> Scores:
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
