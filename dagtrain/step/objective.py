"""Objectives of training: a model with a loss, or a plain cost function with its parameters; as the graph of one shard.

    parameters, statistics, x, y, weight, key ──▶ weight · gradient, weight · statistics, [weight · loss, weight · metric, …]

The weight is the shard's fraction of the batch's samples, so plain sums over the shards are the batch's values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, NotScalarError
from dagtrain.functional import grad
from dagtrain.graph import Spec, Tensor, scope
from dagtrain.nn import losses, metrics
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.random import derive, key
from dagtrain.ops.shape import stack
from dagtrain.step.layout import VectorLayout
from dagtrain.trace import flatten, trace_nested, unflatten
from dagtrain.trace.tree import leaves, map_leaves

__all__ = ["CostObjective", "ModelObjective", "Objective"]


def _rows(x: Any, rows: int) -> Any:
    """The nest of specs of this many rows, from that of one row."""
    return map_leaves(lambda row: Spec((rows, *row.shape), row.dtype), x)


class Objective:
    """Base of model and cost function: functions of a shard, to be traced, that all derive from one `forward`."""

    targets: str | None = None
    metric_names: tuple[str, ...] = ()
    higher_is_better: tuple[bool, ...] = ()

    def initial(self, seed: int, x: Any) -> tuple[Any, Any]:
        """First parameters and running statistics, as nests of arrays."""
        raise NotImplementedError

    def forward(self, parameters: Any, statistics: Any, x: Any, y: Any, key: Tensor, training: bool) -> tuple[Tensor, list[Tensor], Any]:
        """Loss, metrics and new statistics of one shard."""
        raise NotImplementedError

    def contribution(self, parameters: Any, statistics: Any, x: Any, y: Any, weight: Tensor, key: Tensor) -> dict[str, Any]:
        """One shard's addend to a step: gradient, new statistics, loss and metrics, each times the shard's weight."""
        cost, values, after = self.forward(parameters, statistics, x, y, key, True)
        if not isinstance(cost, Tensor) or cost.shape:
            raise NotScalarError(f"the cost must be one number for a batch, got {cost!r}. Reduce it over the samples with np.mean.")
        gradient = unflatten(flatten(parameters)[1], grad(cost * weight, leaves(parameters)))
        if flatten(after)[1] != flatten(statistics)[1]:
            raise ArgumentError("the model returns running statistics of another structure than its init gave.")
        weighted = map_leaves(lambda new, old: cast(as_tensor(new) * weight, old.dtype), after, statistics)
        with scope("sums"):
            sums = cast(stack([cast(as_tensor(v), weight.dtype) for v in (cost, *values)]) * weight, np.float64)
        return {"gradient": gradient, "statistics": weighted, "sums": sums}

    def scores(self, parameters: Any, statistics: Any, x: Any, y: Any) -> dict[str, Tensor]:
        """Loss and metrics in evaluation, times the number of rows."""
        cost, values, _ = self.forward(parameters, statistics, x, y, as_tensor(key(0)), False)
        return {"sums": stack([cast(as_tensor(v), np.float64) * float(leaves(x)[0].shape[0]) for v in (cost, *values)])}

    def outputs(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Tensor]:
        """The model's outputs, as in evaluation."""
        raise ArgumentError("a plain cost function has no outputs to predict: train a model, or compile your own function with dt.compile.")


class ModelObjective(Objective):
    """A model, a loss and metrics."""

    def __init__(self, model: Any, loss: Any, metric_list: Sequence[Any]) -> None:
        self.model = model
        self.loss = losses.find(loss)
        self.metrics = [metrics.find(m) for m in metric_list]
        self.targets = self.loss.targets
        if any(m.value is not metrics.mean_of_parts for m in self.metrics):
            raise ArgumentError("training takes metrics that are means; compute others of predictions, by dt.nn.metrics.")
        self.metric_names = tuple(m.name for m in self.metrics)
        self.higher_is_better = tuple(m.higher_is_better for m in self.metrics)
        if len({"loss", *self.metric_names}) < 1 + len(self.metric_names):
            raise ArgumentError(f"each metric may be named once, and none 'loss', got {list(self.metric_names)}.")

    def initial(self, seed: int, x: Any) -> tuple[Any, Any]:
        """The model's own initialisation, from the seed alone."""
        parameters, statistics = self.model.init(derive(key(seed), 0), _rows(x, 1))
        return parameters, statistics

    def outputs_spec(self, x: Any, rows: int = 1) -> Spec:
        """Spec of the model's outputs for this many rows."""
        parameters, statistics = (VectorLayout.of(t).specs for t in self.initial(0, x))
        return trace_nested(self.outputs, parameters, statistics, _rows(x, rows)).graph.outputs["outputs"].spec

    def forward(self, parameters: Any, statistics: Any, x: Any, y: Any, key: Tensor, training: bool) -> tuple[Tensor, list[Tensor], Any]:
        """Apply the model, then the loss and the metrics."""
        outputs, after = self.model.apply(parameters, statistics, x, key=key if training else None, training=training)
        with scope("loss"):
            cost = self.loss(outputs, y)
        values = []
        for metric in self.metrics:
            with scope(metric.name):
                total, weight = metric.parts(outputs, y)
                values.append(total / weight)
        return cost, values, after

    def outputs(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Tensor]:
        """The model's outputs, as in evaluation."""
        return {"outputs": as_tensor(self.model.apply(parameters, statistics, x, key=None, training=False)[0])}


class CostObjective(Objective):
    """A plain function ``cost(parameters, x, y)`` (or ``cost(parameters, x)``) and its first parameters."""

    def __init__(self, cost: Callable[..., Any], parameters: Any) -> None:
        if not callable(cost):
            raise ArgumentError(f"a Trainer takes a model or a cost function, not a {type(cost).__name__}.")
        if parameters is None:
            raise ArgumentError("a plain cost function needs its first parameters: Trainer(cost, parameters={...}).")
        self.cost, self.parameters = cost, parameters

    def initial(self, seed: int, x: Any) -> tuple[Any, Any]:
        """The user's first parameters."""
        return self.parameters, {}

    def forward(self, parameters: Any, statistics: Any, x: Any, y: Any, key: Tensor, training: bool) -> tuple[Tensor, list[Tensor], Any]:
        """Call the cost function."""
        return (self.cost(parameters, x) if y is None else self.cost(parameters, x, y)), [], {}
