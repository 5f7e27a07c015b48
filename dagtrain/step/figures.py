"""The figures that training reports: what they are called, and where their parts lie in the sums of a step.

sums   [loss sum, loss weight │ of each loss: sum, weight … │ penalty: sum, weight │ parts of the metrics …]
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Array, Spec
from dagtrain.nn.metrics import mean_of_parts
from dagtrain.step.heads import Head

__all__ = ["LOSS_PARTS", "Figure", "figures_of", "mean_figure"]

LOSS_PARTS = 2
"""Of the sums of a step, the first two are the loss's sum and weight."""


class Figure(NamedTuple):
    """A quantity that training reports.

    Attributes
    ----------
    name
        In the history.
    parts
        Its parts of the sums.
    value
        ``value(parts, rows)`` → its value; `rows` is None but in evaluation.
    higher_is_better
        Whether a higher value is better.
    rows
        Its number among the figures that keep rows, or None.
    training_only
        Whether evaluation leaves it out.
    """

    name: str
    parts: slice
    value: Callable[[Array, Array | None], Any]
    higher_is_better: bool = False
    rows: int | None = None
    training_only: bool = False


def mean_figure(parts: Array, rows: Array | None) -> float:
    """The value of a figure that is a mean."""
    return mean_of_parts(parts)


def _sum_of_means(parts: Array, rows: Array | None, *, factors: Array, penalty: bool) -> float:
    """Σ factor · sum / weight over the losses that have weight; NaN without any."""
    pairs = parts.reshape(-1, 2)
    factors = np.append(factors, 1.0) if penalty else factors
    counted = pairs[:, 1] != 0
    if not counted[: len(pairs) - penalty].any():
        return float("nan")
    return float(np.sum(factors[counted] * pairs[counted, 0] / pairs[counted, 1]))


def figures_of(heads: Sequence[Head], main: Collection[str], specs: Mapping[str, Spec], penalty: bool) -> tuple[Figure, ...]:
    """The loss; of several outputs the loss of each; the penalty; the metrics.

    `main` has the names of the heads whose outputs exist in evaluation too, `specs` the specs of the outputs.
    """
    several = len(heads) > 1
    figures: list[Figure] = []
    end = LOSS_PARTS
    if several or penalty:
        factors = np.array([head.factor for head in heads])
        is_main = np.array([head.name in main for head in heads])
        end += 2 * (len(heads) + penalty)
        all_parts = slice(LOSS_PARTS, end)
        figures.append(Figure("loss", all_parts, partial(_sum_of_means, factors=factors, penalty=penalty)))
        if not is_main.all() and "main" not in main:  # else the loss of the output of that name
            value = partial(_sum_of_means, factors=factors * is_main, penalty=penalty)
            figures.append(Figure("main_loss", all_parts, value, training_only=True))
        if several:
            for i, head in enumerate(heads):
                place = slice(LOSS_PARTS + 2 * i, LOSS_PARTS + 2 * i + 2)
                figures.append(Figure(f"{head.name}_loss", place, mean_figure, training_only=head.name not in main))
        if penalty:
            figures.append(Figure("penalty", slice(end - 2, end), mean_figure))
    else:
        figures.append(Figure("loss", slice(0, LOSS_PARTS), mean_figure))
    keeps = 0
    for head in heads:
        for metric in head.metrics:
            start, end = end, end + metric.size(specs[head.name])
            rows = keeps if metric.rows is not None and head.name in main else None
            keeps += rows is not None
            name, only = head.titled(metric.name, several), head.name not in main
            figures.append(Figure(name, slice(start, end), metric.figure, metric.higher_is_better, rows, only))
    names = [figure.name for figure in figures]
    ahead = [name for name in names if name.startswith("val_")]
    if ahead:
        raise ArgumentError(f"the figure {ahead[0]!r} would look like one of validation: give the output or the metric another name.")
    if len(set(names)) < len(names):
        raise ArgumentError(f"two figures have one name, among {', '.join(names)}: give an output or a metric another name.")
    return tuple(figures)
