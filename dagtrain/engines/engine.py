"""Where shards run: choosing an engine, and the session that runs steps in this process.

An engine has a name, a number of workers and ``session(program, source)``. A session has ``run(state, batches, watch) → state, done`` and
``evaluate(source, state, watch) → sums``; whoever calls them looks on through a `Watch`. Engines are found
by name: those of this package in a table, others by entry points.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, Self

from dagtrain.arguments import one_of
from dagtrain.engines.client import current_client, is_in_task
from dagtrain.engines.inline import StepRunner
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.plan.blas import cores, guard
from dagtrain.step.program import Program, evaluation_pieces
from dagtrain.step.state import State

__all__ = ["ENGINES", "Engine", "InlineEngine", "Session", "Unwatched", "Watch", "choose_engine", "find_engine"]

GROUP = "dagtrain.engines"
"""The group of entry points by which other packages add engines."""
ENGINES = {
    "inline": "dagtrain.engines.engine:InlineEngine",
    "scheduler": "dagtrain.engines.scheduler.session:SchedulerEngine",
    "lanes": "dagtrain.engines.ranks.engine:LanesEngine",
}
"""Where the engines of this package are; imported when one is asked for."""


class Watch(Protocol):
    """What looks on while a session works: the trainer's side. All of it is called in the thread that called the session.

    Attributes
    ----------
    exact
        Whether it is an error, and not a warning, that a worker has other software than this process: the last bits may differ.
    """

    exact: bool

    def step(self, i: int, sums: Array) -> None:
        """Loss and metrics (means over the batch) of step i of this call: in order, each once; may raise NotFiniteError."""

    def used(self, i: int, shard: int, rows: Array) -> None:
        """The samples that this shard of step i took, told by whoever put them together.

        Each (i, shard) that has samples once, and only when the step counts: the state that `run` returns, or will, has it in it.
        """

    def stop(self) -> bool:
        """Whether to end at the next boundary; asked between steps, or between submissions or segments, never before the first."""

    def event(self, text: str) -> None:
        """Something besides the steps that a person should know: a worker lost, a segment repeated."""


class Unwatched:
    """A `Watch` that wants to know nothing and never stops."""

    exact = False

    def step(self, i: int, sums: Array) -> None:
        """Nothing."""

    def used(self, i: int, shard: int, rows: Array) -> None:
        """Nothing."""

    def stop(self) -> bool:
        """Never."""
        return False

    def event(self, text: str) -> None:
        """Nothing."""


class Session(Protocol):
    """An engine at work on one program and one source of data."""

    def run(
        self, state: State, batches: Sequence[Sequence[Array]], watch: Watch, following: Sequence[Sequence[Array]] = ()
    ) -> tuple[State, int]:
        """The state after these steps and how many of them were done: all, unless `watch.stop` said True.

        The state that is given is left as it is. May be called again and again, with any state, and batches whose shards have other
        sizes: the first call may be of an epoch's last steps alone. Its `learning_rate_scale` goes to
        `Update.scalar_values` in every step, and is that of the state that is returned.

        `following` are the steps that will probably be asked for next, as the very object that will then be given as `batches`: an
        engine may begin on them while the caller is busy with the state that is returned.
        """

    def evaluate(self, source: Any, state: State, watch: Watch) -> Array:
        """Sums of loss and metrics over all rows of a source; of the watch, only `event` is called."""


class Engine(Protocol):
    """A place to run steps."""

    name: str
    workers: int
    dashboard: str | None

    @classmethod
    def of(cls, client: Any, threads: int | None) -> Self:
        """The engine for a trainer's ``client`` and ``threads``, each None where the user says nothing."""

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work; ends when the context does."""


class InlineEngine:
    """Shards on a pool of threads of this process; starts no server and opens no port."""

    name = "inline"
    workers = 0
    dashboard: str | None = None

    def __init__(self, threads: int | None = None) -> None:
        self.threads = cores() if threads is None else threads

    @classmethod
    def of(cls, client: Any, threads: int | None) -> Self:
        """The engine with so many threads; it uses no client."""
        return cls(threads)

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work in this process."""
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
        x, y = self.source.local()
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
                shards = [None if not len(s) else (x[s], None if y is None else y[s]) for s in batch]
                runner.step(shards, partial(watch.step, i))
                for s, rows in enumerate(batch):
                    if len(rows):
                        watch.used(i, s, rows)
        return runner.state.copy(), len(batches)

    def evaluate(self, source: Any, state: State, watch: Watch) -> Array:
        if not source.in_memory:
            from dagtrain.engines.evaluation import evaluate_partitions

            return add_in_order(evaluate_partitions(self.program, source, state))
        x, y = source.local()
        scorer = self.program.for_evaluation(source.samples)
        with guard():
            rows = [slice(p.start, p.stop) for p in evaluation_pieces(source.samples)]
            return add_in_order([scorer.score(state, x[r], None if y is None else y[r]) for r in rows])


def add_in_order(parts: Sequence[Array]) -> Array:
    """Sum from the first to the last."""
    total = parts[0]
    for more in parts[1:]:
        total = total + more
    return total


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
    """The engine of this name, or the one that is given; "auto" is ranks where there is a Dask client, else inline.

    In a Dask task it is inline, with the one thread that the task has, unless a client is given: many fits, each in a task, share a cluster
    best without a word between them. Another engine may be asked for there: it gives the thread back while it waits for its own tasks.
    """
    if not isinstance(engine, str):
        return engine
    if engine == "auto" and client is None and is_in_task():
        return InlineEngine(1 if threads is None else threads)
    if engine == "auto":
        engine = "inline" if client is None and current_client() is None else "lanes"
    point = find_engine(engine)
    kind: Any = point.load()
    if not hasattr(kind, "of"):
        raise ArgumentError(f"the engine {engine!r} is {point.value}, which has no class method of(client, threads) that makes one.")
    made: Engine = kind.of(client, threads)
    return made
