"""`Trainer`: fit, evaluate, predict.

    Trainer ── Program (compiled step) ──▶ engine.run(program, source, state, batches) ──▶ state

The loop knows epochs, batches and progress; an engine knows where shards run. The final weights are a pure function of model, data, seed
and shards.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np

from dagtrain import optim
from dagtrain.data import BatchPlan, open_source
from dagtrain.data.batches import check_shuffle, whole
from dagtrain.data.source import lies_elsewhere
from dagtrain.errors import ArgumentError, NotFiniteError, UnknownNameError
from dagtrain.graph import Graph, Spec
from dagtrain.plan.blas import blas_description
from dagtrain.train.checkpoint import describe_run, refuse_not_finite, write
from dagtrain.train.diagnose import explain_not_finite
from dagtrain.train.engines import Unwatched, choose_engine
from dagtrain.train.history import History
from dagtrain.train.manifest import Manifest
from dagtrain.train.objective import CostObjective, ModelObjective, Objective
from dagtrain.train.predict import Predictor
from dagtrain.train.rows import check_alike, check_rows, open_rows
from dagtrain.train.runs import Run
from dagtrain.train.state import State
from dagtrain.train.step import Program, evaluation_pieces
from dagtrain.train.storage import open_store

__all__ = ["Trainer"]

Array = np.ndarray[Any, Any]
ENGINES = ("auto", "inline", "scheduler", "lanes")


class Trainer:
    """Trains a model, or any cost function, on arrays or dask collections.

    Parameters
    ----------
    model
        A model (`dagtrain.nn.Sequential`, or anything with ``init`` and ``apply``), or a cost function ``cost(parameters, x, y)``.
    loss
        Name or function, for a model; see `dagtrain.nn.losses`.
    optimizer
        Name or `dagtrain.optim.Optimizer`.
    metrics
        Names or functions; see `dagtrain.nn.metrics`.
    shards
        Into how many parts each batch is cut; ``"auto"`` derives it from the batch size alone.
    seed
        Of the initial parameters, the order of the samples and all random ops.
    engine
        ``"inline"``: this process. ``"scheduler"``: each part of a step is a Dask task. ``"auto"``: the
        current Dask client's cluster if there is one, else inline.
    threads
        Threads of the engine inline.
    parameters
        First parameters of a cost function: a nest of float arrays.
    client
        The Dask client to use; by default the current one.

    Raises
    ------
    UnknownNameError, ArgumentError
        For names and arguments that are wrong; each says what would be right.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(256, 4)).astype("f4")
    >>> y = (x.sum(axis=1) > 0).astype("i8")
    >>> model = dt.nn.Sequential([dt.nn.Dense(16, "tanh"), dt.nn.Dense(2)])
    >>> trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-2), metrics=["accuracy"], seed=0)
    >>> history = trainer.fit(x, y, epochs=5, batch_size=64, verbose=0)
    >>> history.history["accuracy"][-1] > 0.9
    True
    """

    def __init__(
        self,
        model: Any,
        loss: Any = None,
        optimizer: Any = "adam",
        metrics: Sequence[Any] = (),
        shards: int | Literal["auto"] = "auto",
        seed: int = 0,
        engine: str = "auto",
        threads: int | None = None,
        parameters: Any = None,
        client: Any = None,
    ) -> None:
        if engine not in ENGINES:
            raise UnknownNameError.of("engine", engine, ENGINES)
        if threads is not None:
            threads = whole("threads", threads, 1)
        if shards != "auto":
            shards = whole('shards (if not "auto")', shards, 1)
        seed = whole("seed", seed, 0)
        if isinstance(metrics, str):
            raise ArgumentError(f"metrics is a list of names, as in metrics=[{metrics!r}].")
        self._objective: Objective
        if hasattr(model, "init") and hasattr(model, "apply"):
            if loss is None:
                raise ArgumentError('a model needs a loss, as in loss="cross_entropy".')
            if parameters is not None:
                raise ArgumentError("parameters= goes with a plain cost function; a model makes its own from the seed.")
            self._objective = ModelObjective(model, loss, metrics)
        else:
            if parameters is None and isinstance(loss, dict | list | tuple):
                loss, parameters = None, loss  # Trainer(cost, parameters)
            if loss is not None or metrics:
                raise ArgumentError(
                    "a plain cost function is its own loss and has no metrics: leave out loss= and metrics=, and give its first "
                    "parameters as parameters=."
                )
            self._objective = CostObjective(model, parameters)
        self.model = model
        self.optimizer = optim.find(optimizer)
        self.shards, self.seed, self.engine, self.threads, self.client = shards, seed, engine, threads, client
        self.history: History | None = None
        self._program: Program | None = None
        self._state: State | None = None
        self._epochs_done = 0
        self._sample: tuple[Any, BatchPlan] | None = None

    # ---- training

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool | Literal["global", "local", "none"] = True,
        verbose: int = 1,
        reporter: Any = None,
        checkpoint: Any = None,
        resume: bool = False,
        keep: int | None = 3,
        exact: bool = False,
    ) -> History:
        """Train; called again, it goes on where it was.

        Parameters
        ----------
        x, y
            Samples along the first axis: NumPy arrays, pandas, dask arrays or dataframes. `y` is left out for a cost of `x` alone.
        epochs
            How many times every sample is used; with `resume`, the epochs that are already done count.
        batch_size
            Samples of a step; the last step of an epoch takes what is left.
        validation_data
            ``(x, y)`` to evaluate after each epoch.
        shuffle
            True (or "global"): each epoch has an order of its own, drawn over all samples. "local": drawn within the partitions that
            each shard owns, so that no data moves; the bits then depend on the partition sizes too. False (or "none"): as they come.
        verbose
            0 silent, 1 progress and table, 2 table.
        reporter
            Takes the place of the console; see `dagtrain.report.Reporter`.
        checkpoint
            Folder (or fsspec address) that gets a checkpoint after each epoch, written while training goes on; see `load`.
        resume
            Go on from the last checkpoint there, if there is one, on any engine and any number of workers: to the same bits.
        keep
            How many checkpoints are kept; None keeps all.
        exact
            Refuse to go on from a checkpoint made with another dagtrain, NumPy or BLAS, where otherwise a warning is given.

        Raises
        ------
        DataError
            Before any task is sent, if the data cannot be used.
        NotFiniteError
            If the loss becomes NaN or infinite; names the first op that made it.
        """
        epochs = whole("epochs", epochs, 1)
        if resume and checkpoint is None:
            raise ArgumentError('resume=True needs the folder of the checkpoints, as in fit(..., checkpoint="runs/a", resume=True).')
        reporter = _console(verbose) if reporter is None else reporter
        engine = choose_engine(self.engine, self.threads, self.client)
        check_shuffle(shuffle)
        whole("batch_size", batch_size, 1)
        BatchPlan(batch_size, batch_size, self.shards, self.seed)  # a full batch can be cut: seen before data is opened
        run = None if checkpoint is None else Run(checkpoint, keep)
        source = open_rows(self._objective, x, y)
        plan = BatchPlan(source.samples, batch_size, self.shards, self.seed, shuffle, source.sizes)
        program = self._prepare(source)
        validation = None if validation_data is None else self._open_validation(validation_data, program)
        # Whatever the user's functions get wrong is an error here and not in the midst of training.
        program.for_workers(sorted({len(s) for i in {0, plan.steps_per_epoch - 1} for s in plan.step(0, i) if len(s)}))
        if validation is not None:
            program.for_evaluation([p.stop - p.start for p in evaluation_pieces(validation.samples)])
        self._sample = source, plan
        history = History(info=self._info(engine, plan))
        state = self._state if self._state is not None else program.first_state()
        found = None if run is None else run.begin(self._describe(program, plan, state, {}), resume, exact)
        if found is not None:
            state = self._take(program, found.state, found.manifest.epochs)
            history.history = {name: list(values) for name, values in found.manifest.history.items()}
            history.events.append(f"went on from {found.path}")
        first = self._epochs_done if resume else 0
        better = dict(zip(program.names, (False, *self._objective.higher_is_better), strict=True))
        reporter.start({**history.info, "dashboard": engine.dashboard, "epoch": first, "epochs": epochs, "higher_is_better": better})
        with closing(reporter), engine.session(program, source) as session, run or nullcontext():
            for epoch in range(first, epochs):
                state, row = self._epoch(session, program, source, plan, state, reporter, history)
                timing = {name: row.pop(name) for name in ("seconds", "samples_per_second")}
                if validation is not None:
                    sums = session.evaluate(validation, state, Unwatched())
                    row |= {f"val_{n}": float(v) / validation.samples for n, v in zip(program.names, sums, strict=True)}
                row |= timing
                self._state = state
                self._epochs_done += 1
                history.add(row)
                if run is not None:
                    run.save(self._describe(program, plan, state, history.history), state)
                reporter.epoch({"epoch": epoch + 1, "epochs": epochs, **row})
        history.fingerprint = state.fingerprint
        reporter.finish({"fingerprint": history.fingerprint, "events": history.events or None})
        self.history = history
        return history

    def _epoch(
        self, session: Any, program: Program, source: Any, plan: BatchPlan, state: State, reporter: Any, history: History
    ) -> tuple[State, dict[str, float]]:
        began = time.perf_counter()
        batches = [plan.step(self._epochs_done, i) for i in range(plan.steps_per_epoch)]
        counts = [sum(len(s) for s in batch) for batch in batches]
        totals = np.zeros(len(program.names))

        class Seen(Unwatched):
            def step(self, i: int, sums: Array) -> None:
                if not np.isfinite(sums[0]):
                    raise NotFiniteError(f"the loss of step {i} is {sums[0]}")
                totals[...] += sums * counts[i]
                reporter.step(i + 1, len(batches), float(sums[0]))

            def event(self, text: str) -> None:
                history.events.append(text)

        try:
            after, _ = session.run(state, batches, Seen())
            if not (np.isfinite(after.parameters).all() and np.isfinite(after.statistics).all()):
                raise NotFiniteError("the last step made a parameter NaN or infinite")
        except NotFiniteError:
            raise explain_not_finite(program, source, state, batches) from None
        seconds = time.perf_counter() - began
        row = {n: float(t) / source.samples for n, t in zip(program.names, totals, strict=True)}
        return after, {**row, "seconds": seconds, "samples_per_second": source.samples / seconds}

    # ---- after training

    def evaluate(self, x: Any, y: Any = None) -> dict[str, float]:
        """Loss and metrics on other data, as means over its samples."""
        program, state = self._trained("evaluate")
        engine = choose_engine(self.engine, self.threads, self.client)
        source = open_rows(self._objective, x, y)
        check_alike(program, source)
        with engine.session(program, source) as session:
            sums = session.evaluate(source, state, Unwatched())
        return {n: float(v) / source.samples for n, v in zip(program.names, sums, strict=True)}

    def predict(self, x: Any, batch_size: int = 1024) -> Any:
        """The model's outputs: a NumPy array, or for data that lies elsewhere a (lazy) dask array of as many blocks.

        Parameters
        ----------
        x
            Samples along the first axis: NumPy array, list, pandas, dask array or DataFrame, list of delayed values or futures.
        batch_size
            Rows computed at once, counted from the beginning of each partition. A partition gives the same bits as its rows given as an
            array; rows in other batches may differ in the last bits.
        """
        program, state = self._trained("predict")
        batch_size = whole("batch_size", batch_size, 1)
        if lies_elsewhere(x):
            return Predictor(program, state, batch_size).lazily(x)
        source = open_source(x, None, targets=None)
        check_rows(program, source.x_spec.shape)
        return Predictor(program, state, batch_size)(source.local()[0])

    def save(self, path: Any) -> None:
        """Write everything that `dagtrain.load` needs to a folder or fsspec address; a checkpoint that is there counts until it is done.

        Raises
        ------
        NotFiniteError
            If a parameter is NaN or infinite.
        CheckpointError
            If it cannot be written; says which file and why.
        """
        program, state = self._trained("be saved")
        rows = {} if self.history is None else self.history.history
        manifest = self._describe(program, None if self._sample is None else self._sample[1], state, rows)
        refuse_not_finite(manifest, state)
        write(open_store(path), manifest, state)

    # ---- what can be looked at

    @property
    def parameters(self) -> Any:
        """The parameters as a nest of arrays (copies)."""
        program, state = self._trained("give its parameters")
        return program.layout.tree(state.parameters.copy())

    @property
    def program(self) -> Program:
        """The compiled step."""
        return self._trained("give its program")[0]

    def summary(self) -> Any:
        """Table of the model's layers for the rows it was trained on; see `dagtrain.nn.summarize`."""
        program, _ = self._trained("sum its model up")
        if not hasattr(self.model, "summary"):
            raise ArgumentError("only a model made of layers can be summed up, not a plain cost function.")
        return self.model.summary(Spec((1, *program.x.shape), program.x.dtype))

    def graph(self, rows: int | None = None) -> Graph:
        """The computational graph of one shard of this many rows (by default a full batch's first shard)."""
        program, _ = self._trained("give its graph")
        if rows is None:
            rows = 1 if self._sample is None else len(self._sample[1].step(0, 0)[0])
        return program.shard_graph(rows)

    def step_graph(self, steps: int = 1) -> Any:
        """The next training steps as a Dask graph that anyone can draw, inspect and compute: see `dagtrain.train.graph.StepGraph`.

        It holds the state and the partitions of the data that these steps use, so that it can be computed anywhere.
        """
        from dagtrain.train.graph import StepGraph

        program, state = self._trained("give its step graph")
        if self._sample is None:
            raise ArgumentError("the step graph needs data: fit first.")
        steps = whole("steps", steps, 1)
        source, plan = self._sample
        first = self._epochs_done
        batches = [plan.step(first + i // plan.steps_per_epoch, i % plan.steps_per_epoch) for i in range(steps)]
        return StepGraph.of(program, source, state, batches)

    # ---- within

    def _open_validation(self, data: tuple[Any, Any], program: Program) -> Any:
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise ArgumentError("validation_data is a pair (x, y).")
        found = open_rows(self._objective, *data)
        check_alike(program, found)
        return found

    def _prepare(self, source: Any) -> Program:
        if self._program is None or self._state is None:  # a program that trained nothing binds nobody to its rows
            self._program = self._compile(source.x_spec, source.y_spec)
        check_alike(self._program, source)
        return self._program

    def _compile(self, x: Spec, y: Spec | None) -> Program:
        return Program(self._objective, self.optimizer, x, y, self.seed)

    def _take(self, program: Program, state: State, epochs: int) -> State:
        """Have what was trained elsewhere."""
        self._program, self._state, self._epochs_done = program, state, epochs
        return state

    def _describe(self, program: Program, plan: BatchPlan | None, state: State, history: dict[str, list[float]]) -> Manifest:
        return describe_run(program, self.optimizer, self.shards, plan, state, self._epochs_done, history)

    def _trained(self, purpose: str) -> tuple[Program, State]:
        if self._program is None or self._state is None:
            raise ArgumentError(f"the trainer cannot {purpose} before it was fitted: call fit(x, y) first.")
        return self._program, self._state

    def _info(self, engine: Any, plan: BatchPlan) -> dict[str, Any]:
        from dagtrain import __version__

        assert self._program is not None
        return {
            "engine": engine.name,
            "workers": engine.workers or None,
            "shards": plan.shards,
            "parameters": self._program.layout.size,
            "samples": plan.samples,
            "seed": self.seed,
            "dagtrain": __version__,
            "numpy": np.__version__,
            "blas": blas_description(),
        }


def _console(verbose: int) -> Any:
    from dagtrain.report import Reporter

    return Reporter(verbose=verbose)


@contextmanager
def closing(reporter: Any) -> Iterator[None]:
    """Take the reporter's progress bar away where training ends by an error."""
    try:
        yield
    except BaseException:
        if hasattr(reporter, "close"):
            reporter.close()
        raise
