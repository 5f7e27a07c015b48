"""`Trainer`: a model with its settings of training, and `fit`.

    Trainer ── Program (compiled step) ──▶ Loop ◀── commits ── session.run(state, schedule)

The loop handles epochs, batches and progress; an engine decides where shards run. The final weights are a pure function of model, data,
seed and shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial, wraps
from threading import Lock
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from dagtrain import arguments, optim
from dagtrain.arguments import flag, float_dtype, fraction, is_number, whole
from dagtrain.checkpoint.runs import CheckpointDirectory
from dagtrain.data import BatchPlan, Buckets
from dagtrain.data.buckets import cut_of, order_of
from dagtrain.data.compute import computed_by
from dagtrain.data.source import Source
from dagtrain.data.stream import is_stream
from dagtrain.engines.engine import Engine, choose_engine, find_engine
from dagtrain.errors import ArgumentError
from dagtrain.hinting import hinted
from dagtrain.nn.layer import Layer
from dagtrain.report.records import Event
from dagtrain.step.contribution import Contribution, ContributionObjective
from dagtrain.step.model import ModelObjective
from dagtrain.step.objective import CostObjective, Objective
from dagtrain.step.program import Program
from dagtrain.train.additive import check_additive
from dagtrain.train.batches import Batches, check_arguments, only_for_arrays, open_batches, validation_batches
from dagtrain.train.callback import Callback, Callbacks
from dagtrain.train.console import Console
from dagtrain.train.events import EventLog
from dagtrain.train.history import History, describe_fit, epochs_of
from dagtrain.train.loop import Loop
from dagtrain.train.pictures import Pictured
from dagtrain.train.publish import published, publisher_of
from dagtrain.train.rows import check_alike, open_arrays, open_validation, shapes_of_shards
from dagtrain.train.steps import Steps
from dagtrain.train.stopping import Stopping, interruptible
from dagtrain.train.stream_loop import StreamLoop

__all__ = ["Trainer"]

_ENTRANCE = Lock()
P = ParamSpec("P")
R = TypeVar("R")


def _one_at_a_time(fit: Callable[Concatenate[Trainer, P], R]) -> Callable[Concatenate[Trainer, P], R]:
    """Refuse a second fit of a trainer while one runs, in any thread: each would advance the other's progress."""

    @wraps(fit)
    def alone(trainer: Trainer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with _ENTRANCE:
            if trainer._is_fitting:
                raise ArgumentError("the trainer is already in a fit: stop that one first, or use another trainer.")
            trainer._is_fitting = True
        try:
            trainer._close_stepper()
            return fit(trainer, *args, **kwargs)
        finally:
            trainer._is_fitting = False

    return alone


class Trainer(Pictured):
    """Trains a model, or any cost function, on arrays or dask collections.

    Parameters
    ----------
    model
        A model (`dagtrain.nn.Sequential`, `dagtrain.nn.Model`, or any `dagtrain.nn.Layer`), a cost function ``cost(parameters, x, y)``, or
        a `dagtrain.Contribution`.
    loss
        Name or function, for a model; see `dagtrain.nn.losses`. For a model whose outputs have names, a dict of them.
    optimizer
        Name or `dagtrain.optim.Optimizer`; `dagtrain.optim.by_name` gives groups of parameters one each.
    metrics
        Names or functions; see `dagtrain.nn.metrics`. With losses by output, a dict of lists.
    shards
        Number of parts of each batch; ``"auto"`` derives it from the batch size alone.
    seed
        Seed of the initial parameters, the order of the samples and all random ops.
    engine
        ``"inline"``: this process. ``"lanes"``: the step is placed once on the workers of a Dask cluster and repeated there.
        ``"scheduler"``: each part of a step is a Dask task. ``"auto"``: lanes where there is a Dask client, else inline.
        Or an engine with settings of its own, such as `dagtrain.engines.LanesEngine`.
    threads
        Threads of the engine inline.
    parameters
        First parameters of a cost function or contribution: a nest of float arrays.
    client
        The Dask client that runs steps and computes dask data; by default the current one.
    coupled
        Whether the cost couples rows on purpose, as contrastive losses do: it is then computed in each shard alone, and the number of
        shards is part of it. Otherwise the cost must add up over rows, which is checked before the first step.
    loss_weights
        Factors of the losses by output in their sum, by default 1.
    dtype
        Floating-point dtype of training, "float32" or "float64": of the floats in the data, of parameters, optimiser and predictions.
    approximate
        Whether rewrites may change the last places, or results for NaN and infinity, for speed: convolutions by 3 × 3 windows lose a digit
        and take about three quarters of the time. The bits are the same for any number of workers, too, but others than without.

    Raises
    ------
    UnknownNameError, ArgumentError
        For wrong names and arguments; the message says what is right.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(256, 4)).astype("f4")
    >>> y = (x.sum(axis=1) > 0).astype("i8")
    >>> model = dt.nn.Sequential([dt.nn.Dense(16, "tanh"), dt.nn.Dense(2)])
    >>> trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-2), metrics=["accuracy"], seed=0)
    >>> history = trainer.fit(x, y, epochs=12, batch_size=64, verbose=0)
    >>> history.history["accuracy"][-1] > 0.9
    True
    """

    def __init__(
        self,
        model: Any,
        loss: Any = None,
        optimizer: Any = "adam",
        metrics: Sequence[Any] | Mapping[str, Sequence[Any]] = (),
        shards: int | Literal["auto"] = "auto",
        seed: int = 0,
        engine: str | Engine = "auto",
        threads: int | None = None,
        parameters: Any = None,
        client: Any = None,
        coupled: bool = False,
        loss_weights: Mapping[str, float] | None = None,
        dtype: Any = "float32",
        approximate: bool = False,
    ) -> None:
        if engine != "auto" and not hasattr(engine, "session"):
            find_engine(engine)
        if threads is not None:
            threads = whole("threads", threads)
        if shards != "auto":
            shards = whole('shards (if not "auto")', shards)
        seed = arguments.seed(seed)
        self._objective: Objective
        if isinstance(model, Layer):
            if loss is None:
                raise ArgumentError('a model needs a loss, as in loss="cross_entropy".')
            if parameters is not None:
                raise ArgumentError("parameters= goes with a plain cost function; a model makes its own from the seed.")
            self._objective = ModelObjective(model, loss, metrics, loss_weights)
        else:
            if isinstance(model, list | tuple):
                raise ArgumentError("a list of layers is no model yet: Trainer(dt.nn.Sequential([...]), loss=...).")
            if parameters is None and isinstance(loss, dict | list | tuple):
                loss, parameters = None, loss  # Trainer(cost, parameters)
            if (loss is not None or metrics or loss_weights is not None) and (callable(model) or isinstance(model, Contribution)):
                raise ArgumentError(
                    "a plain cost function or a contribution is its own loss and has no metrics: leave them out, and give its parameters "
                    "as parameters=."
                )
            kind = ContributionObjective if isinstance(model, Contribution) else CostObjective
            self._objective = kind(model, parameters)
        self._objective.coupled, self._objective.approximate = flag("coupled", coupled), flag("approximate", approximate)
        self.dtype = self._objective.dtype = float_dtype(dtype)
        self.model = model
        self._optimizer = optim.find(optimizer)
        self.shards, self.seed, self.engine, self.threads, self.client = shards, seed, engine, threads, client
        super().__init__()

    # ---- training

    @hinted
    @_one_at_a_time
    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        class_weight: Mapping[Any, Any] | Literal["balanced"] | None = None,
        epochs: int = 1,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        shuffle: bool | Literal["global", "local", "none"] | Buckets | None = None,
        verbose: int = 1,
        callbacks: Sequence[Callback] = (),
        checkpoint: Any = None,
        checkpoint_every: float | Literal["epoch"] = "epoch",
        resume: bool = False,
        keep: int | None = 3,
        exact: bool = False,
    ) -> History:
        """Train; a second call continues where the first ended.

        The first Ctrl-C or SIGTERM ends training after the steps of some 20 ms (on a cluster, the last that all workers have reported) and
        returns; the trainer keeps its state, and continues from it to the same bits. The second raises KeyboardInterrupt or SystemExit at
        once.

        Parameters
        ----------
        x, y
            Samples along the first axis: NumPy arrays, pandas, dask arrays or dataframes; or tuples and dicts of them, which a cost
            function then gets. `y` is left out for a cost of `x` alone. Tables and dicts may have their columns in another order in a
            later call, but no others.

            Or as `x` a stream of batches, each of which is one step: ``(x, y)``, ``(x, y, sample_weight)``, or x alone. A function is
            called for each epoch, with its number (from 0) if it takes an argument; an object to iterate over, such as a DataLoader, is
            begun anew for each; an iterator is read once.
        sample_weight
            One number from 0 up for each sample, or for each position of `y`: how much it counts in the loss and the metrics.
        class_weight
            The weight of each label in y, 1 for labels that are not in it; or "balanced": all labels count alike. It multiplies the
            weights of samples, in training only. For several outputs, a dict of these by output.
        epochs
            How many times every sample is used; with `resume`, including the epochs already done.
        batch_size
            Samples of a step, 32 by default; the last step of an epoch takes the rest.
        steps_per_epoch
            Steps of an epoch of a stream; by default an epoch ends where its iterator ends. If it ends before that, so does training.
        validation_data
            ``(x, y)``, ``(x, y, sample_weight)``, or a function of batches, to evaluate after each epoch.
        validation_split
            The fraction of the samples, the last ones, to evaluate after each epoch instead of training on them.
        shuffle
            True (or "global"), the default: each epoch draws an order of all samples. "local": it draws orders within the partitions that
            each shard owns, so no data moves; the bits then depend on the partition sizes too. False (or "none"): the order of the data.
            `dagtrain.data.Buckets`: steps of rows of about one length, computed on as many positions as they need.
        verbose
            0 silent, 1 progress and table, 2 table; see `dagtrain.callbacks.Console`.
        callbacks
            Called during training; see `dagtrain.train.callbacks`.
        checkpoint
            Folder (or fsspec address) for a checkpoint after each epoch, and after a stop within one, written while training goes on;
            see `load`.
        checkpoint_every
            ``"epoch"``, or the seconds after which a checkpoint is also written within an epoch.
        resume
            Continue from the last checkpoint in the folder, if any, to the same bits on any engine and any number of workers.
        keep
            Number of checkpoints to keep; None keeps all.
        exact
            Raise an error, not a warning, for software that may change the last bits: a checkpoint or a worker with another dagtrain,
            NumPy or BLAS, or with a processor for which they choose other code.

        Raises
        ------
        DataError
            If the data cannot be used; before any step.
        NotFiniteError
            If the loss becomes NaN or infinite; names the op that first made it.
        """
        epochs = whole("epochs", epochs)
        if resume and checkpoint is None:
            raise ArgumentError('resume=True needs the folder of the checkpoints, as in fit(..., checkpoint="runs/a", resume=True).')
        if checkpoint_every != "epoch" and not (is_number(checkpoint_every) and checkpoint_every > 0):
            raise ArgumentError(f'checkpoint_every is "epoch" or a number of seconds above 0, got {checkpoint_every!r}.')
        fraction("validation_split", validation_split)
        if validation_split and validation_data is not None:
            raise ArgumentError("give validation_data or validation_split, not both.")
        every = None if checkpoint_every == "epoch" else float(checkpoint_every)
        stopping = Stopping()
        console = Console(verbose)
        listeners = Callbacks(callbacks, stopping.ask, console)
        engine = choose_engine(self.engine, self.threads, self.client)
        streams, earlier = is_stream(x), self._stream
        arguments_of_arrays = only_for_arrays(y, sample_weight, batch_size, shuffle, validation_split, class_weight)
        check_arguments(x, steps_per_epoch, epochs, resume, arguments_of_arrays)
        batch_size, shuffle = (32 if batch_size is None else whole("batch_size", batch_size)), (True if shuffle is None else shuffle)
        if not streams:  # check that a full batch can be cut, before the data is opened
            BatchPlan(batch_size, batch_size, self.shards, self.seed)
        run = None if checkpoint is None else CheckpointDirectory(checkpoint, keep)
        saved = run.first if run is not None and resume else None
        expected = self._columns or (saved and saved.manifest.rows)
        source: Source
        validation: Source | Batches | None = None
        stream = None
        with computed_by(self._client):
            if streams:
                epoch = max(self.progress.epochs, saved.manifest.epochs if saved else 0)
                stream = open_batches(self._objective, x, self.shards, steps_per_epoch, class_weight, expected, epoch, earlier)
                source = stream.first()
                batch_size, shuffle = source.samples, False
            else:
                source, validation = open_arrays(self._objective, x, y, sample_weight, class_weight, validation_split, expected)
        sample = BatchPlan(source.samples, batch_size, self.shards, self.seed, order_of(shuffle, source), source.sizes)
        self._stream, plan = stream, stream or sample
        program = self._prepare(source, len(sample.step(0, 0)))
        program.cut = cut_of(shuffle, source.columns)
        if validation_data is not None:
            with computed_by(self._client):
                opening = validation_batches if is_stream(validation_data) else open_validation
                validation = opening(self._objective, validation_data, program.columns)
        # Tracing here raises errors in the user's functions before training.
        with shapes_of_shards(sample):
            program.for_workers(len(s) for i in (0, sample.steps_per_epoch - 1) for s in sample.step(0, i))
        if isinstance(validation, Source):
            program.for_evaluation(validation.samples, validation.columns)
        self._sample = source, sample
        self.progress.restart_if_other(plan)
        history = History(info=describe_fit(engine, program, sample, streams, self.seed))
        state = self.progress.state if self.progress.state is not None else self._first_state(program)
        with computed_by(self._client):
            check_additive(program, source, state)
        resumed = None if run is None else run.begin(self._describe(program, plan, state, {}), resume, exact)
        if resumed is not None:
            self.progress.take(program, resumed)
            self.progress.restart_if_other(plan)
        elif self.progress.state is None:
            self.progress.state = state
        better = self._quantities(program, validation is not None)
        describe = partial(self._describe, program, plan)
        first = self.progress.epochs if resume else 0
        steps = None if streams and steps_per_epoch is None else plan.steps_per_epoch
        listeners.bind(self, better, {"epoch": first, "epochs": epochs, "steps": steps, "dashboard": engine.dashboard})
        if resume:
            history.history = self.progress.record.copy().history
        publisher = publisher_of(engine, self.model, program, sample, streams, self.state, self.progress.place[1], (first, epochs))
        if publisher is not None:
            for row in epochs_of(history):
                publisher.epoch(row.pop("epoch"), row)
        events = EventLog(history, listeners, publisher)
        loop = (StreamLoop if streams else Loop)(
            self.progress, describe, program, source, plan, history, listeners, events, stopping, validation, run, every, publisher
        )
        self.history, self._loop = history, loop
        with published(getattr(engine, "client", None), publisher, history):
            try:
                with (
                    closing(console),
                    interruptible(stopping),
                    computed_by(self._client),
                    engine.session(program, source, exact) as session,
                    run or nullcontext(),
                ):
                    if resumed is not None:
                        events.record(Event("resume", str(resumed.path), self.state.step))
                    loop.train(session, first, epochs)
            finally:
                self._loop, program.cut = None, None
                state = self.progress.state or state
                if state.step == 0:  # an untrained trainer accepts rows of any shape
                    self.progress.state, self._first = None, (self._first[0], state.learning_rate_scale)
            history.fingerprint = state.fingerprint
        if listeners.error is not None:
            raise listeners.error
        return history

    @hinted
    def partial_fit(self, x: Any, y: Any = None, *, sample_weight: Any = None) -> dict[str, float]:
        """Train on one batch, which is one step; returns its loss and metrics. For many steps, above all on a cluster, see `Stepper`."""
        if self._stepper is not None:
            return self._stepper.step(x, y, sample_weight=sample_weight)
        with Steps(self) as steps:
            return steps.step(x, y, sample_weight=sample_weight)

    def stop(self, reason: str = "stopped") -> bool:
        """End the running fit at its next boundary, as Ctrl-C does; for callbacks and other threads.

        Returns
        -------
        bool
            Whether a fit was running.
        """
        loop = self._loop
        if loop is not None:
            loop.stopping.ask(reason)
        return loop is not None

    # ---- internals

    def _prepare(self, source: Any, shards: int) -> Program:
        program, columns = self.progress.program, source.columns
        if program is None or self.progress.state is None:  # an untrained program does not fix the rows
            program = self._compile(columns, shards)
        check_alike(program.columns, columns)
        program.statistics_layout.check_shards(shards)
        if program.columns != columns:  # other weights, or names at last
            program = self._compile(columns, shards)
        self.progress.program = program
        return program

    def _tell(self, text: str, kind: str) -> None:
        """Write an event of the running fit."""
        if self._loop is not None:
            self._loop.tell(kind, text)
