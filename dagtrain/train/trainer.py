"""`Trainer`: fit, evaluate, predict.

    Trainer ── Program (compiled step) ──▶ engine.run(program, source, state, batches) ──▶ state

The loop knows epochs, batches and progress; an engine knows where shards run. The final weights are a pure function of model, data, seed
and shards.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from dagtrain import optim
from dagtrain.data import BatchPlan, open_source
from dagtrain.data.batches import whole
from dagtrain.data.check import check_dtype
from dagtrain.errors import ArgumentError, DataError, NotFiniteError, UnknownNameError
from dagtrain.graph import Graph, Spec
from dagtrain.plan.blas import blas_description
from dagtrain.train.diagnose import explain_not_finite
from dagtrain.train.engines import choose_engine
from dagtrain.train.history import History
from dagtrain.train.objective import CostObjective, ModelObjective, Objective
from dagtrain.train.predict import Predictor
from dagtrain.train.state import State
from dagtrain.train.step import Program

__all__ = ["Trainer"]

Array = np.ndarray[Any, Any]
ENGINES = ("auto", "inline", "scheduler")


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
        ``"inline"``: this process. ``"scheduler"``: each part of a step is a Dask task. ``"auto"``:
        the current Dask client's cluster if there is one,
        else inline.
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
            if loss is not None or metrics:
                raise ArgumentError("a plain cost function is its own loss and has no metrics: leave out loss= and metrics=.")
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
        shuffle: bool = True,
        verbose: int = 1,
        reporter: Any = None,
    ) -> History:
        """Train; called again, it goes on where it was.

        Parameters
        ----------
        x, y
            Samples along the first axis: NumPy arrays, pandas, dask arrays or dataframes. `y` is left out for a cost of `x` alone.
        epochs
            How many times every sample is used.
        batch_size
            Samples of a step; the last step of an epoch takes what is left.
        validation_data
            ``(x, y)`` to evaluate after each epoch.
        shuffle
            Whether each epoch has an order of its own.
        verbose
            0 silent, 1 progress and table, 2 table.
        reporter
            Takes the place of the console; see `dagtrain.report.Reporter`.

        Raises
        ------
        DataError
            Before any task is sent, if the data cannot be used.
        NotFiniteError
            If the loss becomes NaN or infinite; names the first op that made it.
        """
        epochs = whole("epochs", epochs, 1)
        reporter = _console(verbose) if reporter is None else reporter
        engine = choose_engine(self.engine, self.threads, self.client)
        BatchPlan(
            whole("batch_size", batch_size, 1), batch_size, self.shards, self.seed
        )  # a full batch can be cut: seen before data is opened
        source = self._open(x, y)
        plan = BatchPlan(source.samples, batch_size, self.shards, self.seed, shuffle)
        program = self._prepare(source)
        validation = None if validation_data is None else self._open_validation(validation_data, program)
        # Whatever the user's functions get wrong is an error here and not in the midst of training.
        program.for_workers(sorted({len(s) for i in {0, plan.steps_per_epoch - 1} for s in plan.step(0, i) if len(s)}))
        if validation is not None:
            program.for_evaluation(validation.sizes)
        self._sample = source, plan
        history = History(info=self._info(engine, plan))
        state = self._state if self._state is not None else program.first_state()
        better = dict(zip(program.names, (False, *self._objective.higher_is_better), strict=True))
        reporter.start({**history.info, "dashboard": engine.dashboard, "epochs": epochs, "higher_is_better": better})
        with closing(reporter), engine.session(program, source) as session:
            for epoch in range(epochs):
                state, row = self._epoch(session, program, source, plan, state, reporter)
                timing = {name: row.pop(name) for name in ("seconds", "samples_per_second")}
                if validation is not None:
                    sums = session.evaluate(validation, state)
                    row |= {f"val_{n}": float(v) / validation.samples for n, v in zip(program.names, sums, strict=True)}
                row |= timing
                self._state = state
                self._epochs_done += 1
                history.add(row)
                reporter.epoch({"epoch": epoch + 1, "epochs": epochs, **row})
            history.events += session.events
        history.fingerprint = state.fingerprint
        reporter.finish({"fingerprint": history.fingerprint, "events": history.events or None})
        self.history = history
        return history

    def _epoch(
        self, session: Any, program: Program, source: Any, plan: BatchPlan, state: State, reporter: Any
    ) -> tuple[State, dict[str, float]]:
        began = time.perf_counter()
        batches = [plan.step(self._epochs_done, i) for i in range(plan.steps_per_epoch)]
        counts = [sum(len(s) for s in batch) for batch in batches]
        totals = np.zeros(len(program.names))

        def check(i: int, sums: Array) -> None:
            if not np.isfinite(sums[0]):
                raise NotFiniteError(f"the loss of step {i} is {sums[0]}")
            totals[...] += sums * counts[i]
            reporter.step(i + 1, len(batches), float(sums[0]))

        try:
            after = session.run(state, batches, check)
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
        source = self._open(x, y)
        _check_alike(program, source)
        with engine.session(program, source) as session:
            sums = session.evaluate(source, state)
        return {n: float(v) / source.samples for n, v in zip(program.names, sums, strict=True)}

    def predict(self, x: Any, batch_size: int = 1024) -> Any:
        """The model's outputs: a NumPy array, or for a dask array a (lazy) dask array.

        Parameters
        ----------
        x
            Samples along the first axis.
        batch_size
            Rows computed at once.
        """
        program, state = self._trained("predict")
        batch_size = whole("batch_size", batch_size, 1)
        if type(x).__module__.startswith("dask.array"):
            outputs = program.output_plan(1).outputs["outputs"]
            check_dtype("x", x.dtype)
            _check_rows(program, x.shape[1:])
            rows = x.rechunk(dict.fromkeys(range(1, x.ndim), -1))
            return rows.map_blocks(
                Predictor(program, state, batch_size),
                dtype=outputs.dtype,
                drop_axis=list(range(1, x.ndim)),
                new_axis=list(range(1, outputs.ndim)),
                chunks=(rows.chunks[0], *((n,) for n in outputs.shape[1:])),
                meta=np.empty((0,) * outputs.ndim, outputs.dtype),
            )
        source = open_source(x, None, targets=None)
        _check_rows(program, source.x_spec.shape)
        return Predictor(program, state, batch_size)(source.local()[0])

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

    def _open(self, x: Any, y: Any) -> Any:
        objective = self._objective
        if y is None and isinstance(objective, ModelObjective):
            raise DataError("a model needs targets: give y beside x.")
        targets = objective.targets if objective.targets != "any" else None
        classes, label_axes = None, 1
        row = row_form(x) if targets == "classes" else None
        if row is not None and isinstance(objective, ModelObjective):
            outputs = objective.outputs_spec(row)
            if outputs.ndim > 1:
                classes, label_axes = outputs.shape[-1], outputs.ndim - 1
        return open_source(x, y, targets=targets, classes=classes, label_axes=label_axes)

    def _open_validation(self, data: tuple[Any, Any], program: Program) -> Any:
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise ArgumentError("validation_data is a pair (x, y).")
        found = self._open(*data)
        _check_alike(program, found)
        return found

    def _prepare(self, source: Any) -> Program:
        if self._program is None or self._state is None:  # a program that trained nothing binds nobody to its rows
            self._program = Program(self._objective, self.optimizer, source.x_spec, source.y_spec, self.seed)
        _check_alike(self._program, source)
        return self._program

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


def row_form(x: Any) -> Spec | None:
    """Spec of a row of x as it will be in training, without looking at its values; None where x has no rows with elements."""
    try:
        shape = x.shape if hasattr(x, "shape") else np.shape(x)
    except ValueError:  # rows of different lengths
        return None
    if not isinstance(shape, tuple) or not shape or 0 in shape[1:]:
        return None
    return Spec(tuple(int(n) for n in shape[1:]), np.dtype(np.float32))


def _check_rows(program: Program, shape: tuple[int, ...]) -> None:
    if shape != program.x.shape:
        raise DataError(f"the model was trained on rows of shape {program.x.shape}, got rows of shape {shape}.")


def _check_alike(program: Program, source: Any) -> None:
    """Refuse data whose rows are not those that the program was compiled for."""
    _check_rows(program, source.x_spec.shape)
    if (program.y is None) != (source.y_spec is None):
        raise DataError(f"the trainer was fitted {'without' if program.y is None else 'with'} targets y: do the same here.")
    found, wanted = source.y_spec, program.y
    if found is not None and wanted is not None and found != wanted:
        raise DataError(f"the trainer was fitted on targets that are {wanted} for each row, these are {found}.")


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
