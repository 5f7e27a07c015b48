"""The heads of a model: its outputs with their losses and metrics; and several losses as one sum with one weight.

    kind ──▶ cross_entropy  (S₁, W₁) ─┐
    size ──▶ squared error  (S₂, W₂) ─┼──▶  λ₁ S₁/W₁ + λ₂ S₂/W₂ + penalty
    layers ▶ add_loss                ─┘

Where the weights are the same tensor, or constants, the addends of a step are Σ λ S with one weight. Where they differ, each shard needs
the batch's weights W first: the addends are Σ λ S · n/W with the rows as their weight, which are n in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import not_negative
from dagtrain.errors import ArgumentError, DataError, UnknownNameError
from dagtrain.graph import Array, Tensor
from dagtrain.nn import losses, metrics
from dagtrain.nn.calls import naming
from dagtrain.nn.losses import Loss
from dagtrain.nn.metrics import Metric
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.step.sum_tree import add_tree

__all__ = [
    "ONE_ARRAY",
    "WITHOUT_NAMES",
    "Head",
    "Parts",
    "by_output",
    "heads_of",
    "loss_of",
    "output_of",
    "penalties_of",
    "ratio",
    "scales_of",
    "source_of",
    "target_of",
    "weighted_total",
]


WITHOUT_NAMES = (
    'the model gives several outputs without names: give them as a dict, as in nn.Model(inputs, {"kind": a, "size": b}), and losses by '
    "its names: loss={...}."
)


ONE_ARRAY = "the loss is for the output {0!r}, but the model gives one array: give one loss, or let the model return {{{0!r}: array}}."


@dataclass(frozen=True)
class Head:
    """An output of a model with its loss and metrics.

    Attributes
    ----------
    name
        Of the output; "" where the model has one output, which is an array.
    factor
        Of its loss in the sum of losses.
    """

    name: str
    loss: Loss
    factor: float
    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        for metric in () if self.takes_targets else self.metrics:
            loss = getattr(metric.parts, "keywords", {}).get("loss")
            if loss is None or loss.targets != "none":
                raise ArgumentError(f"the metric {metric.name!r} compares outputs with y, and the loss {self.loss.name!r} takes none.")

    @property
    def takes_targets(self) -> bool:
        """Whether its loss compares the output with a column of y."""
        return self.loss.targets != "none"

    def titled(self, figure: str, several: bool) -> str:
        """The name of a figure in the history."""
        return f"{self.name}_{figure}" if several else figure


class Parts(NamedTuple):
    """The sum and the weight of a loss in a shard."""

    total: Any
    weight: Any


def loss_of(loss: Loss, output: Any, target: Any, weight: Any, parts: Any = None) -> Parts:
    """The sum and the weight of a loss.

    Where a layer mixed samples, a target is compared with its own row's outputs and those of the row before, each weighed by the part that
    the target has in them; see `dagtrain.nn.Context.share_targets`. The weight is as without mixing.
    """
    plain = Parts(*loss.parts(output, target, weight))
    if parts is None:
        return plain
    total: Any = 0.0
    for outputs, part in ((output, parts), (np.roll(output, 1, axis=0), np.roll(1 - parts, 1, axis=0))):
        part = cast(as_tensor(part), output.dtype)
        if weight is not None:
            part = cast(as_tensor(weight), output.dtype) * part.reshape((-1, *(1,) * (np.ndim(weight) - 1)))
        with naming("the loss of mixed targets, which weighs each sample"):
            total = total + loss.parts(outputs, target, part)[0]
    return Parts(total, plain.weight)


def by_output(what: str, value: Any, names: Sequence[str]) -> Any:
    """Losses, metrics or weights that are given in a list in the order of the outputs, as a dict by their names; others as they are."""
    if not isinstance(value, list | tuple) or (what == "metrics" and not any(isinstance(part, list | tuple) for part in value)):
        return value
    if not names and len(value) == 1:
        return value[0]
    if not names:
        cure = f"let the model give a dict of outputs, and give {what} as a dict by its names"
        raise ArgumentError(f"{what} is a list of {len(value)}, but the names of the outputs are not known: {cure}.")
    if len(value) != len(names):
        raise ArgumentError(
            f"{what} is a list of {len(value)}, but the outputs are {', '.join(names)}: give one for each in this order, or {what} as a "
            "dict by their names."
        )
    return dict(zip(names, value, strict=True))


def heads_of(loss: Any, metric_list: Any, factors: Any) -> tuple[Head, ...]:
    """The heads of these arguments of a trainer: one each, or dicts of them by the names of outputs."""
    if not isinstance(loss, Mapping):
        if isinstance(metric_list, Mapping) or factors is not None:
            raise ArgumentError("metrics and loss_weights by the names of outputs go with losses by name: loss={...}.")
        return (Head("", losses.find(loss), 1.0, _metrics(metric_list)),)
    if not loss:
        raise ArgumentError('loss is an empty dict: give a loss for an output, as in loss={"kind": "cross_entropy"}.')
    if not isinstance(metric_list, Mapping):
        if metric_list and len(loss) > 1:
            raise ArgumentError('with several losses, metrics are given by output, as in metrics={"kind": ["accuracy"]}.')
        metric_list = dict.fromkeys(loss, metric_list)
    for what, by_name in (("metrics", metric_list), ("loss_weights", factors or {})):
        if not isinstance(by_name, Mapping):
            raise ArgumentError(f"{what} is a dict by the names of outputs, got {by_name!r}.")
        for name in by_name:
            if name not in loss:
                raise UnknownNameError.of(f"output with a loss in {what}", name, list(loss))
    return tuple(
        Head(
            str(name),
            losses.find(of_output),
            float(not_negative(f"the weight of the loss of {name}", (factors or {}).get(name, 1.0))),
            _metrics(metric_list.get(name, ())),
        )
        for name, of_output in loss.items()
    )


def _metrics(metric_list: Any) -> tuple[Metric, ...]:
    if isinstance(metric_list, str):
        raise ArgumentError(f"metrics is a list of names, as in metrics=[{metric_list!r}].")
    chosen = tuple(metrics.find(metric) for metric in metric_list)
    names = [metric.name for metric in chosen]
    if len({"loss", *names}) < 1 + len(names):
        raise ArgumentError(f"each metric may be named once, and none 'loss', got {names}.")
    return chosen


def output_of(head: Head, outputs: Any) -> Any:
    """The output of a head; None if the model gives none of this name here."""
    if not isinstance(outputs, dict | list | tuple):
        if head.name:
            raise ArgumentError(ONE_ARRAY.format(head.name))
        return as_tensor(outputs)
    if not isinstance(outputs, dict):
        raise ArgumentError(WITHOUT_NAMES)
    if not head.name:
        if len(outputs) == 1:
            return as_tensor(next(iter(outputs.values())))
        raise ArgumentError(f"the model has the outputs {', '.join(outputs)}: give a loss by name for each that has one: loss={{...}}.")
    output = outputs.get(head.name)
    return None if output is None else as_tensor(output)


def source_of(head: Head, main: Sequence[str], names: Sequence[str]) -> str:
    """The name of the column of y that a head is compared with: its own, or for an auxiliary head that of the only main one."""
    if head.name in names:
        return head.name
    if head.name not in main and len(main) == 1 and main[0] in names:
        return main[0]
    raise DataError(f"y has no column {head.name!r}, which a loss needs: its columns are {', '.join(names)}.")


def target_of(head: Head, main: Sequence[str], y: Any) -> Any:
    """What a head is compared with; None if its loss takes no targets."""
    if not head.takes_targets:
        return None
    if isinstance(y, dict):
        return y[source_of(head, main, list(y))] if head.name else _only(y)
    if isinstance(y, tuple) or len(main) > 1:
        raise DataError(f"there are losses for {', '.join(main) or 'one output'}: give y as a dict by the names of outputs.")
    return y


def _only(y: dict[str, Any]) -> Any:
    if len(y) > 1:
        raise DataError(f"y has the columns {', '.join(y)}, but the model has one loss: give y as an array.")
    return next(iter(y.values()))


def weighted_total(
    losses: Mapping[str, Parts],
    by_sample: Mapping[str, Parts],
    penalties: Sequence[Any],
    factors: Mapping[str, float],
    rows: int,
    scales: Tensor | None,
) -> Parts:
    """All losses as one sum and weight of a shard.

    Parameters
    ----------
    losses, by_sample
        Losses, and penalties with a value for each sample.
    penalties
        Numbers that count as they are, whatever the weights.
    factors
        Of each loss.
    rows
        Of the shard.
    scales
        The rows of the batch for each unit of a loss's weight, see `scales_of`; None where the losses have one weight.
    """
    parts, factors = {**losses, **by_sample}, dict.fromkeys(by_sample, 1.0) | dict(factors)
    if scales is not None:
        scaled = [as_tensor(p.total) * cast(scales[i] * factors[name], p.total.dtype) for i, (name, p) in enumerate(parts.items())]
        total = sum(scaled[1:], scaled[0])
        for penalty in penalties:
            total = total + penalty * rows
        return Parts(total, rows * cast(np.max(scales[: len(losses)]) > 0, np.float64))  # 0 if all losses are masked
    names = list(parts)
    first = parts[names[0]]
    total = _times(first.total, factors[names[0]])
    for name in names[1:]:
        total = total + _times(parts[name].total, factors[name] * ratio(first.weight, parts[name].weight))
    for penalty in penalties:
        total = total + penalty * (first.weight if not isinstance(first.weight, Tensor) else cast(first.weight, penalty.dtype))
    return Parts(total, first.weight)


def scales_of(weights: Sequence[Array | None], rows: int) -> Array:
    """For each loss the rows of a batch for each unit of its weight, 0 without weight; from the weights of the losses in each shard.

    Examples
    --------
    >>> scales_of([np.array([3.0, 2.0, 0.0]), None, np.array([5.0, 0.0, 0.0])], 8)
    array([1., 4., 0.])
    """
    total = add_tree(weights)
    assert total is not None, "a step has at least one sample"
    return np.divide(rows, total, out=np.zeros(len(total)), where=total != 0)


def _times(total: Any, factor: float) -> Any:
    return total if factor == 1 else total * factor


def ratio(first: Any, other: Any) -> float:
    """The quotient of two weights that are one tensor, or constants; NaN for others."""
    if first is other:
        return 1.0
    return float("nan") if isinstance(first, Tensor) or isinstance(other, Tensor) else float(first) / float(other)


def penalties_of(values: Mapping[str, Any], rows: int) -> tuple[dict[str, Tensor], dict[str, Parts]]:
    """What layers added to the loss: numbers, and the parts of those with a value for each sample."""
    numbers: dict[str, Tensor] = {}
    by_sample: dict[str, Parts] = {}
    for name, value in values.items():
        tensor = as_tensor(value)
        if not tensor.shape:
            numbers[name] = tensor
        elif tensor.shape == (rows,):
            by_sample[f"penalty {name}"] = Parts(np.sum(tensor), float(rows))
        else:
            raise ArgumentError(
                f"the loss {name!r} that a layer added is one number, or one for each of {rows} samples, got shape {tensor.shape}."
            )
    return numbers, by_sample
