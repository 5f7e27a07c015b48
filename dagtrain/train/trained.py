"""`Trained`: the methods of a trainer besides fit and pictures: evaluate, predict, save, inspect.

`Trainer.fit` advances the progress that they use; see `dagtrain.train.progress`.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dagtrain import optim
from dagtrain.arguments import not_negative, whole
from dagtrain.checkpoint.files import open_store
from dagtrain.checkpoint.schema import Manifest
from dagtrain.checkpoint.store import describe_run, refuse_not_finite, write
from dagtrain.checkpoint.weights import read_weights, views_of, write_weights
from dagtrain.data import BatchPlan, Columns, open_source
from dagtrain.data.compute import computed_by
from dagtrain.data.ledger import Ledger
from dagtrain.data.nests import take_apart
from dagtrain.data.open import is_dask_data
from dagtrain.data.rounds import BatchStream
from dagtrain.data.stream import is_stream
from dagtrain.engines.engine import choose_engine
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.hinting import Hinted, hinted, no_attribute
from dagtrain.step.average import state_of
from dagtrain.step.carry import carried
from dagtrain.step.layout import VectorLayout
from dagtrain.step.model import ModelObjective
from dagtrain.step.objective import Objective
from dagtrain.step.program import Program
from dagtrain.step.state import State
from dagtrain.step.statistics import StatisticsLayout
from dagtrain.train import hints
from dagtrain.train.batches import Batches, predict_batches, refuse_arrays
from dagtrain.train.hints import FIXED
from dagtrain.train.history import History
from dagtrain.train.names import bind_inputs
from dagtrain.train.predict import Predictor
from dagtrain.train.progress import Progress
from dagtrain.train.rows import check_alike, open_evaluation
from dagtrain.train.weights import LoadedWeights, first_state, fitting, with_weights

if TYPE_CHECKING:
    from dagtrain.train.loop import Loop
    from dagtrain.train.steps import Steps

__all__ = ["Trained"]

Weights = Literal["trained", "average"]


class Trained(Hinted):
    """The methods of a `Trainer` besides fit.

    Before a fit they work for a model that knows its input, with its first weights.

    Attributes
    ----------
    history
        History of the last fit.
    progress
        How far training is.
    """

    model: Any
    shards: Any
    seed: int
    engine: Any
    threads: int | None
    client: Any
    dtype: np.dtype[Any]
    _objective: Objective
    _optimizer: optim.Optimizer

    def __init__(self) -> None:
        self.history: History | None = None
        self.progress = Progress()
        self._loop: Loop | None = None
        self._is_fitting = False
        self._stepper: Steps | None = None
        self._sample: tuple[Any, BatchPlan] | None = None
        self._stream: BatchStream | None = None
        self._first: tuple[dict[str, Array], float] = {}, 1.0  # weights and a learning rate scale for the first state

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise no_attribute("attribute of a Trainer", name, dir(type(self)), hints.TRAINER)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and name in (*vars(self), "loss", "loss_weights", "metrics", "coupled", "approximate"):
            raise AttributeError(f"{name} is fixed when a trainer is made: make another, as in dt.Trainer(model, ..., {name}=...).")
        here = getattr(type(self), name, None)
        is_known = here is not None or name.startswith("_") or name in Trained.__annotations__ or name in ("history", "progress")
        if not is_known or (isinstance(here, property) and here.fset is None):
            settable = ("client", "engine", "learning_rate_scale", "optimizer", "threads")
            raise no_attribute("attribute to set of a Trainer", name, settable, hints.TRAINER)
        if name in ("client", "engine", "threads") and "_stepper" in vars(self):
            self._close_stepper()  # its next step uses the new one
        super().__setattr__(name, value)

    def _close_stepper(self) -> None:
        """End the steps of a `Stepper` that is open."""
        if self._stepper is not None:
            self._stepper.close()

    @property
    def _columns(self) -> Columns | None:
        """The columns of the rows that it was trained on; None before."""
        program = self.progress.program
        return program.columns if program is not None and self.progress.is_begun else None

    @hinted
    def evaluate(self, x: Any, y: Any = None, *, sample_weight: Any = None, weights: Weights = "trained") -> dict[str, Any]:
        """Loss and metrics on other data, by the weights of its samples, if they have any; x may be a stream of batches, as in fit.

        With ``weights="average"``, those of the averages that the optimiser keeps; see `dagtrain.optim.averaged`.
        """
        program, state = self._ready("evaluate", targets=is_stream(x))
        state = state_of(program, state, weights)
        engine = choose_engine(self.engine, self.threads, self.client)
        with computed_by(self._client):
            if is_stream(x):
                refuse_arrays(y=y, sample_weight=sample_weight)
                return program.evaluated(*Batches(self._objective, x, program.columns).scores(program, state))
            source = open_evaluation(self._objective, x, y, sample_weight, columns=program.columns, fitted=self._columns is not None)
            if self._columns is None:
                program, state = self._first_program(source.columns)
            with engine.session(program, source) as session:
                scores = session.evaluate(source, state)
        return program.evaluated(*scores)

    @hinted
    def predict(self, x: Any, batch_size: int | None = None, probabilities: bool = False, weights: Weights = "trained") -> Any:
        """The model's outputs: a NumPy array, or for dask data a (lazy) dask array of as many blocks; or a nest of them by output.

        Parameters
        ----------
        x
            Samples along the first axis: NumPy array, list, pandas, dask array or DataFrame, list of delayed values or futures. Or a
            stream of batches, as in fit: of a pair (x, y), y is ignored.
        batch_size
            Rows computed at once, from the beginning of each partition; by default 1,024, or a half, a quarter and so on if they would need
            more than 256 MiB to work in. Rows in other batches may differ in the last bits.
        probabilities
            Whether to give the probabilities that the outputs stand for: the softmax or the sigmoid of logits, by the loss.
        weights
            "trained", or "average" for the averages that the optimiser keeps; see `dagtrain.optim.averaged`.
        """
        if batch_size is not None and np.ndim(batch_size):
            raise ArgumentError("predict takes one x: give several inputs as a tuple or a dict by name, as in predict((a, b)).")
        program, state = self._ready("predict")
        state = state_of(program, state, weights)
        batch_size = None if batch_size is None else whole("batch_size", batch_size)
        with computed_by(self._client):
            if is_stream(x):
                return predict_batches(program, x, Predictor(program, state, batch_size, probabilities))
            x = bind_inputs(self._objective, x, self._columns)
            if any(map(is_dask_data, take_apart(x, "x")[0].values())):
                return Predictor(program, state, batch_size, probabilities).lazily(x)
            source = open_source(x, targets=None, dtype=self.dtype, expected=self._columns)
            if self._columns is None and program.columns.of_x != source.columns:
                program, state = self._first_program(source.columns)
            check_alike(program.columns, source.columns, ["x"])
            return Predictor(program, state, batch_size, probabilities).compute(*source.local())

    def save(self, path: Any) -> None:
        """Write a checkpoint for `dagtrain.load` to a folder or fsspec address; an older one there counts until the new one is whole.

        Raises
        ------
        NotFiniteError
            If a parameter is NaN or infinite.
        CheckpointError
            If it cannot be written; names the file and the reason.
        ArgumentError
            In another thread than the running fit's: the state would not match the steps done.
        """
        self._check_thread("be saved")
        program, state = self._ready("be saved")
        plan = self._stream or (None if self._sample is None else self._sample[1])
        manifest = self._describe(program, plan, state, self.progress.record.history)
        refuse_not_finite(manifest, state)
        write(open_store(path), manifest, state)

    def _check_thread(self, purpose: str) -> None:
        """Raise ArgumentError in another thread than that of the running fit, whose progress changes all the time."""
        if self._loop is not None and self._loop.thread != get_ident():
            raise ArgumentError(
                f"the trainer cannot {purpose} from another thread during a fit: do it in a callback. For checkpoints by time see "
                'fit(..., checkpoint="runs/a", checkpoint_every=60).'
            )

    @property
    def _client(self) -> Any:
        """The client of the trainer or of its engine, which also computes the data."""
        return getattr(self.engine, "client", None) if self.client is None else self.client

    # ---- inspection

    def ledger(self) -> Ledger:
        """How often each sample was used in each of the last epochs; ``trainer.ledger().verify()`` proves that it was once.

        It survives checkpoints and failures. It holds the last 8 epochs; ``trainer.ledger().keep = 100`` before fit keeps more.
        """
        return self.progress.ledger

    @property
    def state(self) -> State:
        """Weights, the optimiser's vectors and the number of steps, to read and keep; never change it."""
        return self._ready("give its state")[1]

    def restore_weights(self, state: State) -> None:
        """Restore the weights of an earlier state of this trainer; the optimiser and the number of steps stay."""
        self._check_thread("restore weights")
        current = self.progress.trained("restore weights")[1]
        if (state.parameters.shape, state.statistics.shape) != (current.parameters.shape, current.statistics.shape):
            raise ArgumentError("these are not the weights of this trainer: their number differs.")
        if state.order != current.order:
            raise ArgumentError("these weights are of an optimizer with other groups of parameters: use weights() and load_weights().")
        self.progress.state = replace(current, parameters=state.parameters, statistics=state.statistics)

    @property
    def learning_rate_scale(self) -> float:
        """Factor of the optimiser's learning rate or schedule; part of the state, so checkpoints keep it.

        Set it before or between fits, or in callbacks: the next step has it. On a cluster, to change it seldom costs little, and to change
        it after each step much: there, use a schedule of `dagtrain.optim`.
        """
        return self.progress.learning_rate_scale if self.progress.is_begun else self._first[1]

    @learning_rate_scale.setter
    def learning_rate_scale(self, scale: float) -> None:
        not_negative("learning_rate_scale", scale)
        self._check_thread("scale the learning rate")
        program = self.progress.program
        if program is None or not self.progress.is_begun:
            self._first = self._first[0], float(scale)
            return
        self._check_rate(program)
        self.progress.learning_rate_scale = float(scale)

    def _check_rate(self, program: Program) -> None:
        if not program.update.has_rate:
            raise ArgumentError(f"the optimizer {self.optimizer!r} has no learning rate to scale.")

    @property
    def optimizer(self) -> optim.Optimizer:
        """The optimiser; another one may be assigned between fits.

        A group of parameters keeps its slots, and goes on counting its updates, if each of its parameters had the same optimiser before, of
        whatever rate. Otherwise its slots begin as zeros and it counts from 0. The weights stay. An optimiser that does not fit the model's
        parameters is refused.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: str | optim.Optimizer) -> None:
        new = optim.find(optimizer)
        if self._is_fitting:
            raise ArgumentError("the optimizer cannot be replaced during a fit: assign it between fits, or set learning_rate_scale.")
        self._close_stepper()
        old, state = self.progress.program, self.progress.state
        if old is None or state is None:
            self._optimizer, self.progress.program = new, None
            return
        program = Program(self._objective, new, old.columns, self.seed, shards=old.statistics_layout.shards)
        self.progress.state = carried(old, program, state)
        self._optimizer, self.progress.program = new, program

    def weights(self, which: Weights = "trained") -> dict[str, Array]:
        """Copies of all weights by their dotted names: parameters, such as "dense_1.kernel", then running statistics.

        "average" is for the averages of parameters that the optimiser keeps; see `dagtrain.optim.averaged`.
        """
        layout, statistics, state = self._arrays("give its weights")
        if which != "trained":
            state = state_of(self._ready("give averages of its weights")[0], state, which)
        return {name: view.copy() for name, view in views_of(layout, statistics, state).items()}

    def save_weights(self, path: Any, weights: Weights = "trained") -> None:
        """Write `weights` to a file whose name ends in ``.safetensors`` or ``.npz``."""
        write_weights(path, self.weights(weights))

    def load_weights(self, weights: Any, strict: bool = True) -> LoadedWeights:
        """Take weights by name; the optimiser and the number of steps stay.

        Parameters
        ----------
        weights
            A file ``.safetensors`` or ``.npz``, a folder with a checkpoint, or a mapping (also a nested one) from names to arrays.
        strict
            Whether every name and shape must agree. Otherwise the weights that fit are taken.

        Returns
        -------
        LoadedWeights
            The names that were loaded, are missing or unexpected, and differences in shape.

        Raises
        ------
        ArgumentError
            With `strict`, if anything does not fit; in any case for values that are not finite numbers.
        CheckpointError
            If the file cannot be read.
        """
        self._check_thread("load weights")
        parameters, statistics, state = self._arrays("load weights")
        arrays = read_weights(weights) if isinstance(weights, str | PathLike) else weights
        fit, report = fitting(arrays, views_of(parameters, statistics, state), strict)
        if self.progress.state is None:
            self._first = {**self._first[0], **fit}, self._first[1]
        else:
            self.progress.state = with_weights(parameters, statistics, state, fit)
        return report

    def _arrays(self, purpose: str) -> tuple[VectorLayout, StatisticsLayout, State]:
        """The layouts of parameters and states of layers, and the state that holds them: the first one before a fit."""
        if self.progress.is_begun or isinstance(self._objective, ModelObjective):
            program, state = self._ready(purpose)
            return program.layout, program.statistics_layout, state
        nests = self._objective.initial(self.seed, None)
        parameters, statistics = VectorLayout.of(nests[0], self.dtype), StatisticsLayout.of(nests[1], self._objective.reductions(None))
        first = State(parameters.pack(nests[0]), statistics.pack(nests[1]))
        return parameters, statistics, with_weights(parameters, statistics, first, self._first[0])

    def _ready(self, purpose: str, targets: bool = False, call: str = "") -> tuple[Program, State]:
        """The program and the state; before a fit the first ones, if the model knows its input, and with `targets` the kind of y.

        `call` is how to give the rows instead, for the errors.
        """
        first = f"call fit(x, y) first, or give rows like those of a fit, as in {call}" if call else "call fit(x, y) first"
        if self.progress.is_begun or not isinstance(self._objective, ModelObjective):
            return self.progress.trained(purpose, first)
        columns = self._objective.known_columns
        if columns is None:
            raise ArgumentError(
                f"the trainer cannot {purpose} before its model knows its input: {first}, or make the model with its "
                "input's shape, as in nn.Sequential([...], input_shape=(64,)) or by nn.Input((64,))."
            )
        if targets and columns.y is None:
            raise ArgumentError(f"the trainer cannot {purpose} without data, since a loss takes targets of any kind: {first}.")
        if self.progress.program is None or self.progress.program.columns != columns:
            self.progress.program = self._compile(columns)
        return self.progress.program, self._first_state(self.progress.program)

    def _first_program(self, columns: Columns) -> tuple[Program, State]:
        """The program for rows of these columns, and its first state."""
        return (program := self._compile(columns)), self._first_state(program)

    def _compile(self, columns: Columns, shards: int | None = None) -> Program:
        """The program for rows of these columns; before the number of shards is known, states by shard are those of one."""
        if shards is None:
            shards = self.shards if isinstance(self.shards, int) else 1
        return Program(self._objective, self.optimizer, columns, self.seed, shards=shards)

    def _first_state(self, program: Program) -> State:
        """The state before the first step, with what was set before it."""
        weights, scale = self._first
        if scale != 1.0:
            self._check_rate(program)
        return replace(first_state(program, weights), learning_rate_scale=scale)

    @property
    def parameters(self) -> Any:
        """The parameters as a nest of arrays, to read; `load_weights` replaces them."""
        layout, _, state = self._arrays("give its parameters")
        copy = state.parameters.copy()
        copy.flags.writeable = False
        return layout.tree(copy)

    @property
    def program(self) -> Program:
        """The compiled step."""
        if self.progress.program is not None and self.progress.is_begun:  # the state may be elsewhere
            return self.progress.program
        return self._ready("give its program")[0]

    # ---- internals

    def _describe(self, program: Program, plan: BatchPlan | BatchStream | None, state: State, history: dict[str, list[float]]) -> Manifest:
        ledger = () if plan is None else self.progress.ledger.entries(self.progress.rows_done(plan))
        return describe_run(program, self.optimizer, self.shards, plan, state, self.progress.epochs, history, self.progress.begun, ledger)

    def _quantities(self, program: Program, validated: bool) -> dict[str, bool]:
        """Quantity of each epoch → whether higher is better."""
        return program.quantities | {f"val_{name}": better for name, better in program.evaluated_quantities.items() if validated}

    def _checkpointed(self, epochs: int) -> State | None:
        """The state after `epochs` epochs, if the running fit has a checkpoint of it."""
        return None if self._loop is None or self._loop.run is None else self._loop.run.after_epochs(epochs)
