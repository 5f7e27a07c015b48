"""What is trained: a model with a loss, or a plain cost function with its parameters; as the graph of one shard.

    parameters, statistics, x, y, weight, key ──▶ weight · gradient, weight · statistics, [weight · loss, weight · metric, …]

The weight is the shard's part of the batch (its samples over all samples), so that plain sums over the shards are the batch's values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, NotScalarError
from dagtrain.functional import differentiate
from dagtrain.graph import Graph, Spec, Tensor, scope
from dagtrain.graph import input as new_input
from dagtrain.nn import losses, metrics
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.random import derive, key
from dagtrain.ops.shape import stack
from dagtrain.trace import flatten, unflatten
from dagtrain.train.vector import VectorLayout

__all__ = ["CostObjective", "ModelObjective", "Objective"]

Array = np.ndarray[Any, Any]


class Objective:
    """The part that a model and a plain cost function have in common: graphs of a shard from one `forward`."""

    targets: str | None = None
    metric_names: tuple[str, ...] = ()
    higher_is_better: tuple[bool, ...] = ()

    def initial(self, seed: int, x: Spec) -> tuple[Any, Any]:
        """First parameters and running statistics, as nests of arrays."""
        raise NotImplementedError

    def forward(
        self, parameters: Any, statistics: Any, x: Tensor, y: Tensor | None, key: Tensor, training: bool
    ) -> tuple[Tensor, list[Tensor], Any]:
        """Loss, metrics and new statistics of one shard."""
        raise NotImplementedError

    def _leaves(
        self, parameters: VectorLayout, statistics: VectorLayout, rows: int, x: Spec, y: Spec | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        p = [new_input(f"parameters.{n}", s, parameters.dtype) for n, s in zip(parameters.names, parameters.shapes, strict=True)]
        s = [new_input(f"statistics.{n}", t, statistics.dtype) for n, t in zip(statistics.names, statistics.shapes, strict=True)]
        data = [new_input("x", (rows, *x.shape), x.dtype)]
        if y is not None:
            data.append(new_input("y", (rows, *y.shape), y.dtype))
        return p, s, data

    def training_graph(self, parameters: VectorLayout, statistics: VectorLayout, rows: int, x: Spec, y: Spec | None) -> Graph:
        """Graph of one shard of this many rows: gradients, statistics and sums."""
        p, s, data = self._leaves(parameters, statistics, rows, x, y)
        weight, key_leaf = new_input("weight", (), parameters.dtype), new_input("key", (2,), np.uint64)
        cost, values, after = self.forward(
            unflatten(parameters.structure, p),
            unflatten(statistics.structure, s),
            data[0],
            data[1] if y is not None else None,
            key_leaf,
            True,
        )
        if not isinstance(cost, Tensor) or cost.shape:
            raise NotScalarError(f"the cost must be one number for a batch, got {cost!r}. Reduce it over the samples with np.mean.")
        grads = differentiate(cost * weight, p)[1]
        outputs = {f"gradient.{n}": g for n, g in zip(parameters.names, grads, strict=True)}
        found, structure = flatten(after)
        if structure != statistics.structure:
            raise ArgumentError("the model returns running statistics of another structure than it began with.")
        for n, t in found.items():
            outputs[f"statistics.{n}"] = cast(as_tensor(t) * weight, statistics.dtype)
        with scope("sums"):
            outputs["sums"] = cast(stack([cast(as_tensor(v), weight.dtype) for v in (cost, *values)]) * weight, np.float64)
        leaves = [*p, *s, *data, weight, key_leaf]
        return Graph({str(t.name): t for t in leaves}, outputs)

    def evaluation_graph(self, parameters: VectorLayout, statistics: VectorLayout, rows: int, x: Spec, y: Spec | None) -> Graph:
        """Graph of loss and metrics on rows that are not trained on, times the number of rows."""
        p, s, data = self._leaves(parameters, statistics, rows, x, y)
        cost, values, _ = self.forward(
            unflatten(parameters.structure, p),
            unflatten(statistics.structure, s),
            data[0],
            data[1] if y is not None else None,
            as_tensor(key(0)),
            False,
        )
        sums = stack([cast(as_tensor(v), np.float64) * float(rows) for v in (cost, *values)])
        return Graph({str(t.name): t for t in [*p, *s, *data]}, {"sums": sums})

    def output_graph(self, parameters: VectorLayout, statistics: VectorLayout, rows: int, x: Spec) -> Graph:
        """Graph of the model's outputs."""
        raise ArgumentError(
            "a plain cost function has no outputs to predict: train a model, or compile a function of your own with dt.compile."
        )


class ModelObjective(Objective):
    """A model, a loss and metrics."""

    def __init__(self, model: Any, loss: Any, metric_list: Sequence[Any]) -> None:
        self.model = model
        self.loss = losses.find(loss)
        self.metrics = [metrics.find(m) for m in metric_list]
        self.targets = self.loss.targets
        self.metric_names = tuple(m.name for m in self.metrics)
        self.higher_is_better = tuple(m.higher_is_better for m in self.metrics)
        if len({"loss", *self.metric_names}) < 1 + len(self.metric_names):
            raise ArgumentError(f"each metric may be named once, and none 'loss': got {list(self.metric_names)}.")

    def initial(self, seed: int, x: Spec) -> tuple[Any, Any]:
        """The model's own initialisation, from the seed alone."""
        parameters, statistics = self.model.init(derive(key(seed), 0), Spec((1, *x.shape), x.dtype))
        return parameters, statistics

    def outputs_spec(self, x: Spec, rows: int = 1) -> Spec:
        """Spec of the model's outputs for this many rows."""
        parameters, statistics = (VectorLayout.of(t) for t in self.initial(0, x))
        return self.output_graph(parameters, statistics, rows, x).outputs["outputs"].spec

    def forward(
        self, parameters: Any, statistics: Any, x: Tensor, y: Tensor | None, key: Tensor, training: bool
    ) -> tuple[Tensor, list[Tensor], Any]:
        """Apply the model, then the loss and the metrics."""
        outputs, after = self.model.apply(parameters, statistics, x, key=key if training else None, training=training)
        with scope("loss"):
            cost = self.loss.function(outputs, y)
        values = []
        for metric in self.metrics:
            with scope(metric.name):
                values.append(metric.function(outputs, y))
        return cost, values, after

    def output_graph(self, parameters: VectorLayout, statistics: VectorLayout, rows: int, x: Spec) -> Graph:
        """Graph of the model's outputs, as in evaluation."""
        p, s, data = self._leaves(parameters, statistics, rows, x, None)
        outputs, _ = self.model.apply(
            unflatten(parameters.structure, p), unflatten(statistics.structure, s), data[0], key=None, training=False
        )
        return Graph({str(t.name): t for t in [*p, *s, *data]}, {"outputs": as_tensor(outputs)})


class CostObjective(Objective):
    """A plain function ``cost(parameters, x, y)`` (or ``cost(parameters, x)``) and its first parameters."""

    def __init__(self, cost: Callable[..., Any], parameters: Any) -> None:
        if not callable(cost):
            raise ArgumentError(f"a Trainer takes a model or a cost function, not a {type(cost).__name__}.")
        if parameters is None:
            raise ArgumentError("a plain cost function needs its first parameters: Trainer(cost, parameters={...}).")
        self.cost, self.parameters = cost, parameters

    def initial(self, seed: int, x: Spec) -> tuple[Any, Any]:
        """The parameters that were given."""
        return self.parameters, {}

    def forward(
        self, parameters: Any, statistics: Any, x: Tensor, y: Tensor | None, key: Tensor, training: bool
    ) -> tuple[Tensor, list[Tensor], Any]:
        """Call the cost function."""
        return (self.cost(parameters, x) if y is None else self.cost(parameters, x, y)), [], {}
