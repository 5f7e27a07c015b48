"""`Trained`: the methods of a trainer after fit: evaluate, predict, save, inspect.

`Trainer.fit` advances the progress that they use; see `dagtrain.train.progress`.
"""

from __future__ import annotations

from dataclasses import replace
from threading import get_ident
from typing import TYPE_CHECKING, Any

from dagtrain.arguments import not_negative, whole
from dagtrain.checkpoint.files import open_store
from dagtrain.checkpoint.schema import Manifest
from dagtrain.checkpoint.store import describe_run, refuse_not_finite, write
from dagtrain.data import BatchPlan, Columns, open_source
from dagtrain.data.compute import computed_by
from dagtrain.data.ledger import Ledger
from dagtrain.data.nests import take_apart
from dagtrain.data.open import is_dask_data
from dagtrain.engines.engine import Unwatched, choose_engine
from dagtrain.errors import ArgumentError
from dagtrain.graph import Graph
from dagtrain.step.objective import Objective
from dagtrain.step.program import Program
from dagtrain.step.state import State
from dagtrain.train.history import History
from dagtrain.train.predict import Predictor
from dagtrain.train.progress import Progress
from dagtrain.train.rows import check_alike, open_rows

if TYPE_CHECKING:
    from dagtrain.train.loop import Loop

__all__ = ["Trained"]


class Trained:
    """The methods of a `Trainer` that need a fit.

    Attributes
    ----------
    history
        History of the last fit.
    progress
        How far training is.
    """

    model: Any
    optimizer: Any
    shards: Any
    seed: int
    engine: Any
    threads: int | None
    client: Any
    _objective: Objective

    def __init__(self) -> None:
        self.history: History | None = None
        self.progress = Progress()
        self._loop: Loop | None = None
        self._is_fitting = False
        self._sample: tuple[Any, BatchPlan] | None = None

    @property
    def _columns(self) -> Columns | None:
        """The columns of the rows that it was trained on; None before."""
        program = self.progress.program
        return None if program is None or self.progress.state is None else program.columns

    def evaluate(self, x: Any, y: Any = None, *, sample_weight: Any = None) -> dict[str, Any]:
        """Loss and metrics on other data, by the weights of its samples, if they have any."""
        program, state = self.progress.trained("evaluate")
        engine = choose_engine(self.engine, self.threads, self.client)
        with computed_by(self._client):
            source = open_rows(self._objective, x, y, sample_weight, program.columns)
            check_alike(program.columns, source.columns)
            with engine.session(program, source) as session:
                scores = session.evaluate(source, state, Unwatched())
        return program.evaluated(*scores)

    def predict(self, x: Any, batch_size: int = 1024, probabilities: bool = False) -> Any:
        """The model's outputs: a NumPy array, or for dask data a (lazy) dask array of as many blocks; or a nest of them by output.

        Parameters
        ----------
        x
            Samples along the first axis: NumPy array, list, pandas, dask array or DataFrame, list of delayed values or futures.
        batch_size
            Rows computed at once, counted from the beginning of each partition. A partition gives the same bits as an array of
            its rows; rows in other batches may differ in the last bits.
        probabilities
            Whether to give the probabilities that the outputs stand for: the softmax or the sigmoid of logits, by the loss.
        """
        program, state = self.progress.trained("predict")
        batch_size = whole("batch_size", batch_size)
        with computed_by(self._client):
            if any(map(is_dask_data, take_apart(x, "x")[0].values())):
                return Predictor(program, state, batch_size, probabilities).lazily(x)
            source = open_source(x, targets=None, expected=program.columns)
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
            During steps, or in another thread than the running fit's: the state would not match the steps done.
        """
        program, state = self.progress.trained("be saved")
        if self._loop is not None and (self._loop.in_steps or self._loop.thread != get_ident()):
            raise ArgumentError(
                "the trainer cannot be saved during steps: call save in on_epoch_end, or give fit a folder and an interval, as in "
                'fit(..., checkpoint="runs/a", checkpoint_every=60).'
            )
        manifest = self._describe(program, None if self._sample is None else self._sample[1], state, self.progress.record.history)
        refuse_not_finite(manifest, state)
        write(open_store(path), manifest, state)

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
        return self.progress.trained("give its state")[1]

    def restore_weights(self, state: State) -> None:
        """Restore the weights of an earlier state of this trainer; the optimiser and the number of steps stay."""
        current = self.progress.trained("restore weights")[1]
        if (state.parameters.shape, state.statistics.shape) != (current.parameters.shape, current.statistics.shape):
            raise ArgumentError("these are not the weights of this trainer: their number differs.")
        self.progress.state = replace(current, parameters=state.parameters, statistics=state.statistics)

    @property
    def learning_rate_scale(self) -> float:
        """Factor of the optimiser's learning rate or schedule; part of the state, so checkpoints keep it.

        Set it between fits, or in callbacks between epochs; between steps, the engine would decide which step has it first.
        """
        return 1.0 if self.progress.state is None else self.progress.state.learning_rate_scale

    @learning_rate_scale.setter
    def learning_rate_scale(self, scale: float) -> None:
        program, state = self.progress.trained("scale its learning rate")
        not_negative("learning_rate_scale", scale)
        if not program.update.has_rate:
            raise ArgumentError(f"the optimizer {self.optimizer!r} has no learning rate to scale.")
        if self._loop is not None and self._loop.in_steps:
            raise ArgumentError("the learning rate cannot be scaled during steps: set it in on_epoch_begin or on_epoch_end.")
        self.progress.state = replace(state, learning_rate_scale=float(scale))

    @property
    def parameters(self) -> Any:
        """The parameters as a nest of arrays, which are copies."""
        program, state = self.progress.trained("give its parameters")
        return program.layout.tree(state.parameters.copy())

    @property
    def program(self) -> Program:
        """The compiled step."""
        return self.progress.trained("give its program")[0]

    def summary(self) -> Any:
        """Table of the model's layers for the rows it was trained on; see `dagtrain.nn.summarize`."""
        program, _ = self.progress.trained("summarize its model")
        if not hasattr(self.model, "summary"):
            raise ArgumentError("only a model made of layers has a summary, not a plain cost function.")
        return self.model.summary(program.columns.of_rows(1)[0])

    def graph(self, rows: int | None = None) -> Graph:
        """The computational graph of one shard of this many rows (by default a full batch's first shard)."""
        program, _ = self.progress.trained("give its graph")
        if rows is None:
            rows = 1 if self._sample is None else len(self._sample[1].step(0, 0)[0])
        return program.shard_graph(rows)

    def step_graph(self, steps: int = 1) -> Any:
        """The next training steps as a Dask graph to draw, inspect and compute.

        It holds the state and the partitions of the data that these steps use, so any scheduler can compute it: see
        `dagtrain.engines.scheduler.step_graph.StepGraph`.
        """
        from dagtrain.engines.scheduler.step_graph import StepGraph

        program, state = self.progress.trained("give its step graph")
        if self._sample is None:
            raise ArgumentError("the step graph needs data: fit first.")
        steps = whole("steps", steps)
        source, plan = self._sample
        first = self.progress.epochs * plan.steps_per_epoch + self.progress.place[1]
        batches = [plan.step(*divmod(i, plan.steps_per_epoch)) for i in range(first, first + steps)]
        return StepGraph.of(program, source, state, batches)

    def placement(self) -> Any:
        """The placement of a step on workers by the engine lanes: a `dagtrain.engines.ranks.Placement`, which ``visualize()`` draws."""
        from dagtrain.engines.ranks.engine import placement_on

        program, _ = self.progress.trained("be placed")
        shards = self.shards if self._sample is None else self._sample[1].shards
        if not isinstance(shards, int):
            raise ArgumentError('the number of shards is unknown: fit first, or give a number instead of shards="auto".')
        return placement_on(self.client, program, shards)

    # ---- internals

    def _describe(self, program: Program, plan: BatchPlan | None, state: State, history: dict[str, list[float]]) -> Manifest:
        ledger = () if plan is None else self.progress.ledger.entries(self.progress.rows_done(plan))
        return describe_run(program, self.optimizer, self.shards, plan, state, self.progress.epochs, history, self.progress.begun, ledger)

    def _quantities(self, program: Program, validated: bool) -> dict[str, bool]:
        """Quantity of each epoch → whether higher is better."""
        return program.quantities | {f"val_{name}": better for name, better in program.evaluated_quantities.items() if validated}

    def _checkpointed(self, epochs: int) -> State | None:
        """The state after `epochs` epochs, if the running fit has a checkpoint of it."""
        run = None if self._loop is None else self._loop.run
        return None if run is None else run.after_epochs(epochs)
