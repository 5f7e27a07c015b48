"""Objectives of training: a model with a loss, or a plain cost function with its parameters; as the graph of one shard.

    parameters, statistics, x, y, sample_weight, part, key, scales ──▶ gradient of the loss's sum, statistics, sums
    sums = [loss sum, loss weight, parts of the metrics …]

A loss is a sum and a weight. Gradients and sums add up over shards; the update divides the total gradient by the total weight. Statistics
are the states of layers, each reduced in its own way; for means, the part is the shard's fraction of the batch's rows. Scales are there
only where losses have different weights, see `dagtrain.step.heads`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.data.columns import Columns
from dagtrain.errors import ArgumentError, NotConnectedError
from dagtrain.functional import grad
from dagtrain.graph import Spec, Tensor, ancestors_of, scope, spec_of, topological
from dagtrain.nn.reductions import REDUCTIONS
from dagtrain.nn.sums import refuse_outer, sum_and_weight
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.random import key
from dagtrain.ops.shape import concatenate, stack
from dagtrain.step.figures import LOSS_PARTS, Figure, mean_figure
from dagtrain.step.heads import Parts
from dagtrain.step.layout import VectorLayout
from dagtrain.trace import flatten, trace_nested, unflatten
from dagtrain.trace.tree import leaves, map_leaves

__all__ = [
    "CostObjective",
    "Differentiated",
    "Forward",
    "Objective",
    "check_weight",
    "pair",
    "row_of",
    "rows_of",
]


def rows_of(x: Any, rows: int) -> Any:
    """The nest of specs of this many rows, from that of one row."""
    return map_leaves(lambda row: Spec((rows, *row.shape), row.dtype), x)


def row_of(x: Any) -> Any:
    """The nest of specs of one row, from columns."""
    return map_leaves(lambda column: Spec(column.shape[1:], column.dtype), x)


class Forward(NamedTuple):
    """One shard, forwards.

    Attributes
    ----------
    loss
        The sum and weight of all losses.
    parts
        The parts of the figures after the loss, each one axis of float64.
    rows
        What the figures that keep rows keep of these.
    statistics
        The states of layers after the shard.
    """

    loss: Parts
    parts: Sequence[Tensor]
    rows: Sequence[Tensor]
    statistics: Any


class Objective:
    """What training does with a shard, as functions to be traced; its one way to train is `contribution`."""

    coupled = False
    """Whether the cost couples the rows of a shard on purpose, and need not add up over rows."""
    random = False
    """Whether its sums depend on random numbers in evaluation too."""
    approximate = False
    """Whether its plans may be rewritten to faster ones that differ in the last places; see `dagtrain.plan.plan`."""
    dtype = np.dtype(np.float32)
    """Of parameters, statistics and all floats of the rows."""

    @property
    def targets(self) -> str | dict[str, str] | None:
        """How y is checked; for several columns of y, by their names."""
        return None

    def initial(self, seed: int, x: Any) -> tuple[Any, Any]:
        """First parameters and states of layers, as nests of arrays."""
        raise NotImplementedError

    def reductions(self, x: Any) -> Mapping[str, str]:
        """Dotted name of a state → how its values after each shard become one, by default their mean; see `dagtrain.nn.reductions`."""
        return {}

    def contribution(
        self,
        parameters: Any,
        statistics: Any,
        x: Any,
        y: Any,
        sample_weight: Any,
        part: Tensor,
        key: Tensor,
        scales: Tensor | None = None,
        *,
        fixed: Collection[str] = (),
    ) -> dict[str, Any]:
        """What one shard contributes to a step.

        The gradient of the loss's sum by the parameters that are not in `fixed`; to the states of layers; the sums of loss and metrics.
        """
        raise NotImplementedError

    def scores(self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        """The sums of loss and metrics in evaluation, and the rows of the metrics that need them all."""
        raise NotImplementedError

    def description(self, describe: Callable[[Any, str], Any]) -> dict[str, Any]:
        """The objective in a checkpoint: its kind, and its parts as `describe` describes them."""
        raise NotImplementedError

    def kept(self, x: Any, fixed: Collection[str]) -> frozenset[str]:
        """Dotted names of the states that no step changes: a mean of equal values would have other last bits."""
        return frozenset()

    @staticmethod
    def contributed(statistics: Any, after: Any, part: Tensor, reductions: Mapping[str, str]) -> Any:
        """What a shard contributes to the states, from those before and after it."""
        (new, structure), (before, expected) = flatten(after), flatten(statistics)
        if structure != expected:
            raise ArgumentError(f"the states after a shard are nested as {structure}, and before it as {expected}: they must be alike.")
        values = [
            cast(REDUCTIONS[reductions.get(name, "mean")].contributes(as_tensor(value), old, part), old.dtype)
            for value, (name, old) in zip(new.values(), before.items(), strict=True)
        ]
        return unflatten(structure, values)

    def weights(self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any, key: Tensor) -> dict[str, Tensor]:
        """The weight of each loss of a shard, where losses have different ones: functions of the columns alone."""
        raise ArgumentError("a plain cost function has one loss.")

    def weight_count(self, columns: Columns) -> int:
        """The number of weights, one for each loss, if they differ, so that a shard needs those of the whole batch; else 0."""
        return 0

    def outputs(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Any]:
        """The model's outputs, as in evaluation."""
        raise ArgumentError("a plain cost function has no outputs to predict: train a model, or compile your own function with dt.compile.")

    def probabilities(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Any]:
        """The probabilities that the outputs stand for, by the links of the losses."""
        return self.outputs(parameters, statistics, x)

    def outputs_spec(self, x: Any, rows: int = 1) -> Any:
        """Spec of the model's outputs for this many rows, or a nest of specs."""
        first, states = self.initial(0, x)
        parameters, statistics = VectorLayout.of(first, self.dtype).specs, map_leaves(spec_of, states)
        traced = trace_nested(lambda p, s, x: self.outputs(p, s, x)["outputs"], parameters, statistics, rows_of(x, rows))
        return unflatten(traced.results, [output.spec for output in traced.graph.outputs.values()])

    def frozen(self, x: Any) -> frozenset[str]:
        """Dotted names of the parameters that layers keep from training."""
        return frozenset()

    def figures(self, x: Any) -> tuple[Figure, ...]:
        """What training reports, for rows of x of this spec; the loss first."""
        return (Figure("loss", slice(0, LOSS_PARTS), mean_figure),)


class Differentiated(Objective):
    """An objective whose contribution is the derivative of a loss; loss, metrics and states derive from one `forward`."""

    def forward(
        self,
        parameters: Any,
        statistics: Any,
        x: Any,
        y: Any,
        sample_weight: Any,
        key: Tensor,
        scales: Tensor | None = None,
        training: bool = True,
        fixed: Collection[str] = (),
    ) -> Forward:
        """The losses, metrics and new statistics of one shard."""
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
        scales: Tensor | None = None,
        *,
        fixed: Collection[str] = (),
    ) -> dict[str, Any]:
        """The derivative of the loss's sum, the new states and the sums."""
        forward = self.forward(parameters, statistics, x, y, sample_weight, key, scales, fixed=fixed)
        total, weight = forward.loss
        check_weight([weight], [*leaves(parameters), *leaves(statistics), key])
        trained = {name: leaf for name, leaf in flatten(parameters)[0].items() if name not in fixed}
        _check_used(total, trained)
        gradient = dict(zip(trained, grad(total, list(trained.values())), strict=True))
        after = self.contributed(statistics, forward.statistics, part, self.reductions(row_of(x)))
        return {"gradient": gradient, "statistics": after, "sums": _joined(forward)}

    def scores(self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        """The sums and rows of `forward` in evaluation."""
        forward = self.forward(parameters, statistics, x, y, sample_weight, as_tensor(key(0)), training=False)
        return {"sums": _joined(forward), "rows": list(forward.rows)}


class CostObjective(Differentiated):
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

    def description(self, describe: Callable[[Any, str], Any]) -> dict[str, Any]:
        """The name of the function."""
        return {"kind": "cost", "model": describe(self.cost, "the cost")}

    def result(self, parameters: Any, x: Any, y: Any) -> Any:
        """What the cost function returns."""
        return self.cost(parameters, x) if y is None else self.cost(parameters, x, y)

    def forward(
        self,
        parameters: Any,
        statistics: Any,
        x: Any,
        y: Any,
        sample_weight: Any,
        key: Tensor,
        scales: Tensor | None = None,
        training: bool = True,
        fixed: Collection[str] = (),
    ) -> Forward:
        """Call the cost function."""
        result, columns = self.result(parameters, x, y), [*leaves(x), *leaves(y)]
        if not self.coupled:
            refuse_outer(result, columns[0].shape[0], columns)
        total, weight, _ = sum_and_weight(result, columns[0].shape[0], sample_weight)
        return Forward(Parts(total, weight), (), (), {})


def _joined(forward: Forward) -> Tensor:
    """The loss's sum and weight, and the parts of the figures, in one vector."""
    with scope("sums"):
        loss = pair(*forward.loss)
        return concatenate([loss, *forward.parts]) if forward.parts else loss


def pair(total: Any, weight: Any) -> Tensor:
    """A sum and a weight as parts."""
    return stack([cast(as_tensor(total), np.float64), cast(as_tensor(weight), np.float64)])


def _check_used(total: Any, trained: Mapping[str, Tensor]) -> None:
    """Raise NotConnectedError for parameters that the loss does not depend on."""
    used = set(topological([as_tensor(total)]))
    idle = [name for name, leaf in trained.items() if leaf not in used]
    if idle and len(idle) < len(trained):
        others = f" (nor on {len(idle) - 1} others)" if idle[1:] else ""
        raise NotConnectedError(
            f"the loss does not depend on the parameter {idle[0]!r}{others}: give the output that it belongs to a loss, leave it out, or "
            f'freeze it, as in optimizer=optim.by_name({{"{idle[0]}": optim.frozen(), "*": "adam"}}).'
        )


def check_weight(weights: Sequence[Any], variables: Sequence[Tensor]) -> None:
    """Raise ArgumentError unless the weights of losses depend on columns alone: the total gradient is divided by them."""
    tensors = [weight for weight in weights if isinstance(weight, Tensor)]
    if not ancestors_of(variables, topological(tensors)).isdisjoint(tensors):
        raise ArgumentError(
            "the weight of a loss must be a function of the data alone, but this one depends on parameters, on running statistics or on "
            "random numbers. Return (sum, weight) with a weight made of columns, such as the sum of a mask."
        )
