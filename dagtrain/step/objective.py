"""Objectives of training: a model with a loss, or a plain cost function with its parameters; as the graph of one shard.

    parameters, statistics, x, y, sample_weight, part, key ──▶ gradient of the loss's sum, part · statistics, sums
    sums = [loss sum, loss weight, parts of the metrics …]

A loss is a sum and a weight. Everything but the statistics adds up over shards; the update divides the total gradient by the total weight.
The part is the shard's fraction of the batch's rows, by which running statistics are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.functional import grad
from dagtrain.graph import Spec, Tensor, ancestors_of, scope, topological
from dagtrain.nn import activations, losses, metrics
from dagtrain.nn.sums import refuse_outer, sum_and_weight
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.random import derive, key
from dagtrain.ops.shape import concatenate, stack
from dagtrain.step.layout import VectorLayout
from dagtrain.trace import flatten, trace_nested
from dagtrain.trace.tree import leaves, map_leaves

__all__ = ["CostObjective", "ModelObjective", "Objective"]

LOSS_PARTS = 2
"""Of the sums of a step, the first two are the loss's sum and weight."""


def _rows(x: Any, rows: int) -> Any:
    """The nest of specs of this many rows, from that of one row."""
    return map_leaves(lambda row: Spec((rows, *row.shape), row.dtype), x)


class Objective:
    """Base of model and cost function: functions of a shard, to be traced, that all derive from one `forward`."""

    targets: str | None = None
    coupled = False
    """Whether the cost couples the rows of a shard on purpose, and need not add up over rows."""
    metrics: Sequence[metrics.Metric] = ()
    frozen: frozenset[str] = frozenset()
    """Dotted names of the parameters that their layers declare as not trainable."""

    def initial(self, seed: int, x: Any) -> tuple[Any, Any]:
        """First parameters and running statistics, as nests of arrays."""
        raise NotImplementedError

    def forward(
        self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any, key: Tensor, training: bool
    ) -> tuple[tuple[Any, Any], list[Tensor], Any]:
        """The loss's sum and weight, the parts of each metric, and the new statistics of one shard."""
        raise NotImplementedError

    def contribution(
        self,
        parameters: Any,
        statistics: Any,
        x: Any,
        y: Any,
        sample_weight: Any,
        part: Tensor,
        key: Tensor,
        *,
        fixed: Collection[str] = (),
    ) -> dict[str, Any]:
        """One shard's addend to a step: gradient of the loss's sum, its part of the statistics, the sums of loss and metrics.

        The gradient is that of the parameters whose names are not in `fixed`.
        """
        (total, weight), parts, after = self.forward(parameters, statistics, x, y, sample_weight, key, True)
        _check_weight(weight, [*leaves(parameters), *leaves(statistics), key])
        trained = {name: leaf for name, leaf in flatten(parameters)[0].items() if name not in fixed}
        gradient = dict(zip(trained, grad(total, list(trained.values())), strict=True))
        if flatten(after)[1] != flatten(statistics)[1]:
            raise ArgumentError("the model returns running statistics of another structure than its init gave.")
        averaged = map_leaves(lambda new, old: cast(as_tensor(new) * part, old.dtype), after, statistics)
        return {"gradient": gradient, "statistics": averaged, "sums": _joined(total, weight, parts)}

    def scores(self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        """The sums of loss and metrics in evaluation, and the rows of the metrics that need them all."""
        (total, weight), parts, _ = self.forward(parameters, statistics, x, y, sample_weight, as_tensor(key(0)), False)
        return {"sums": _joined(total, weight, parts), "rows": self.rows(parameters, statistics, x, y, sample_weight)}

    def rows(self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any) -> list[Tensor]:
        """What the metrics that have rows keep of these."""
        return []

    def outputs(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Tensor]:
        """The model's outputs, as in evaluation."""
        raise ArgumentError("a plain cost function has no outputs to predict: train a model, or compile your own function with dt.compile.")

    def probabilities(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Tensor]:
        """The probabilities that the outputs stand for, by the link of the loss."""
        return self.outputs(parameters, statistics, x)

    def outputs_spec(self, x: Any, rows: int = 1) -> Spec:
        """Spec of the model's outputs for this many rows."""
        parameters, statistics = (VectorLayout.of(t).specs for t in self.initial(0, x))
        return trace_nested(self.outputs, parameters, statistics, _rows(x, rows)).graph.outputs["outputs"].spec

    def sizes(self, x: Any) -> tuple[int, ...]:
        """Number of parts of each metric, for rows of x of this spec."""
        outputs = self.outputs_spec(x) if self.metrics else None
        return tuple(metric.size(outputs) for metric in self.metrics)  # type: ignore[arg-type]  # there are outputs where there are metrics


class ModelObjective(Objective):
    """A model, a loss and metrics."""

    def __init__(self, model: Any, loss: Any, metric_list: Sequence[Any]) -> None:
        self.model = model
        self.loss = losses.find(loss)
        self.metrics = [metrics.find(m) for m in metric_list]
        self.targets = self.loss.targets
        names = [m.name for m in self.metrics]
        if len({"loss", *names}) < 1 + len(names):
            raise ArgumentError(f"each metric may be named once, and none 'loss', got {names}.")

    def initial(self, seed: int, x: Any) -> tuple[Any, Any]:
        """The model's own initialisation, from the seed alone."""
        parameters, statistics = self.model.init(derive(key(seed), 0), _rows(x, 1))
        return parameters, statistics

    def forward(
        self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any, key: Tensor, training: bool
    ) -> tuple[tuple[Any, Any], list[Tensor], Any]:
        """Apply the model, then the loss and the metrics."""
        outputs, after = self.model.apply(parameters, statistics, x, key=key if training else None, training=training)
        with scope("loss"):
            loss = self.loss.parts(outputs, y, sample_weight)
        parts = []
        for metric in self.metrics:
            with scope(metric.name):
                parts.append(metric.parts_of(outputs, y, sample_weight))
        return loss, parts, after

    def rows(self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any) -> list[Tensor]:
        """Rows of the outputs, whose tensors are those of `forward`."""
        kept = [metric for metric in self.metrics if metric.rows is not None]
        outputs = self.outputs(parameters, statistics, x)["outputs"] if kept else None
        return [as_tensor(metric.rows_of(outputs, y, sample_weight)) for metric in kept]

    def outputs(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Tensor]:
        """The model's outputs, as in evaluation."""
        return {"outputs": as_tensor(self.model.apply(parameters, statistics, x, key=None, training=False)[0])}

    def probabilities(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Tensor]:
        """Softmax or sigmoid of the outputs."""
        if self.loss.link not in ("softmax", "sigmoid"):
            raise ArgumentError(f"outputs trained by the loss {self.loss.name!r} stand for no probabilities: leave out probabilities=True.")
        return {"outputs": activations.find(self.loss.link)(self.outputs(parameters, statistics, x)["outputs"])}


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

    def result(self, parameters: Any, x: Any, y: Any) -> Any:
        """What the cost function returns."""
        return self.cost(parameters, x) if y is None else self.cost(parameters, x, y)

    def forward(
        self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any, key: Tensor, training: bool
    ) -> tuple[tuple[Any, Any], list[Tensor], Any]:
        """Call the cost function."""
        result, columns = self.result(parameters, x, y), [*leaves(x), *leaves(y)]
        if not self.coupled:
            refuse_outer(result, columns[0].shape[0], columns)
        total, weight, _ = sum_and_weight(result, columns[0].shape[0], sample_weight)
        return (total, weight), [], {}


def _joined(total: Any, weight: Any, parts: Sequence[Tensor]) -> Tensor:
    """The loss's sum and weight, and the parts of the metrics, in one vector."""
    with scope("sums"):
        loss = stack([cast(as_tensor(total), np.float64), cast(as_tensor(weight), np.float64)])
        return concatenate([loss, *parts]) if parts else loss


def _check_weight(weight: Any, variables: Sequence[Tensor]) -> None:
    """Raise ArgumentError unless the weight of a loss depends on columns alone: the total gradient is divided by it."""
    if isinstance(weight, Tensor) and weight in ancestors_of(variables, topological([weight])):
        raise ArgumentError(
            "the weight of a loss must be a function of the data alone, but this one depends on parameters, on running statistics or on "
            "random numbers. Return (sum, weight) with a weight made of columns, such as the sum of a mask."
        )
