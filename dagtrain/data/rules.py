"""The rules for the elements of data, and the kinds of targets, as records."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dagtrain.graph import Array

__all__ = ["RULES", "TARGETS", "WEIGHTS", "Rule", "Target"]


class Rule(NamedTuple):
    """A condition on every element; ``bad`` is True where an element breaks it."""

    bad: Callable[[Array, int], Array]
    says: str
    advice: str
    value: Callable[[Array], Array] = lambda part: part


RULES: dict[str, Rule] = {
    "finite": Rule(
        lambda part, _: ~np.isfinite(part),
        "holds {value}",
        "Missing values are not guessed: fill them or drop such rows, or learn what a gap in a table means with dt.data.Features.",
    ),
    "fits": Rule(
        lambda part, _: np.abs(part) > np.finfo(np.float32).max,
        "holds {value:.3g}, too large for float32",
        'Scale the data, or train in float64: Trainer(..., dtype="float64").',
    ),
    "whole": Rule(
        lambda part, _: part != np.floor(part),
        "holds the label {value}, which is not a whole number",
        "Class labels are 0, 1, 2, ...; to predict numbers, use a regression loss such as mean squared error.",
    ),
    "not_negative": Rule(
        lambda part, _: part < 0,
        "holds the label {value}, which is negative",
        "Class labels are 0, 1, 2, ...: np.unique(y, return_inverse=True)[1] numbers any labels so.",
    ),
    "below_classes": Rule(
        lambda part, classes: part >= classes,
        "holds the label {value}, but there are {classes} classes (labels 0 to {last})",
        "Give the model as many outputs as there are classes, and number the labels from 0.",
    ),
    "binary": Rule(
        lambda part, _: (part < 0) | (part > 1),
        "holds {value}, but a binary target is 0 or 1 (or a probability between)",
        "Turn the labels into 0 and 1, for example with (y > 0).",
    ),
    "sign": Rule(
        lambda part, _: (part != -1) & (part != 1),
        "holds {value}, but this loss wants -1 or +1",
        "Turn labels 0 and 1 into signs with 2 * y - 1.",
    ),
    "count": Rule(
        lambda part, _: part < 0,
        "holds {value}, which is negative",
        "A count is 0 or more; for numbers of both signs take mean_squared_error.",
    ),
    "masked": Rule(
        lambda part, _: np.ma.getmaskarray(part),
        "holds a masked element",
        "Missing values are not guessed: fill them with .filled(...) or drop such rows before training.",
    ),
    "weight": Rule(
        lambda part, _: part < 0,
        "holds {value}, but a weight is not negative",
        "A sample of weight 0 does not count.",
    ),
    "probability": Rule(
        lambda part, _: part < 0,
        "holds {value}, but a probability is not negative",
        "Each row is a probability for every class; for class numbers take cross-entropy.",
    ),
    "total": Rule(
        lambda part, _: np.abs(part - 1) > 1e-3,
        "holds probabilities that sum to {value:.6g} instead of 1",
        "Divide each row by its sum.",
        lambda part: part.sum(axis=-1, dtype=np.float64, keepdims=True),
    ),
}


class Target(NamedTuple):
    """The checks of one kind of column: its rules in order, its dtype in training, and what is wrong with a shape.

    The dtype "float" is the trainer's; None keeps integers and booleans.
    """

    rules: tuple[str, ...] = ()
    dtype: str | None = "float"
    shape: Callable[[tuple[int, ...], int | None, int], str | None] = lambda shape, classes, axes: None


def _label_shape(shape: tuple[int, ...], classes: int | None, axes: int) -> str | None:
    if len(shape) == axes:
        return None
    one = (
        "one number a sample, shape (samples,)" if axes == 1 else f"whole numbers along {axes} axes, the outputs' axes without the classes"
    )
    if len(shape) == axes + 1 and shape[-1] == 1:
        return f"class labels are {one}. Take the only column: y[..., 0], of a table y.iloc[:, 0]."
    if len(shape) == axes + 1:
        return (
            f"class labels are {one}. Turn one-hot rows into labels with y.argmax(axis=-1), "
            "or take a loss whose targets are a distribution, such as kl_divergence."
        )
    flatten = " If each sample has one label, put dt.nn.Flatten() before the Dense layers." if len(shape) == 1 else ""
    return f"class labels are {one}.{flatten}"


def _distribution_shape(shape: tuple[int, ...], classes: int | None, axes: int) -> str | None:
    if len(shape) < 2:
        return "a distribution is a row of probabilities for each sample, shape (samples, classes). For class numbers take cross-entropy."
    if classes is not None and shape[-1] != classes:
        return f"its rows have {shape[-1]} probabilities, but there are {classes} classes."
    return None


TARGETS: dict[str, Target] = {
    "classes": Target(("finite", "whole", "not_negative", "below_classes"), "int64", shape=_label_shape),
    "binary": Target(("finite", "binary")),
    "signs": Target(("finite", "sign")),
    "like_outputs": Target(("finite", "fits")),
    "counts": Target(("finite", "fits", "count")),
    "vectors": Target(("finite", "fits")),
    "pairs": Target(("finite", "binary")),
    "distribution": Target(("finite", "probability", "total"), shape=_distribution_shape),
    "any": Target(("finite", "fits"), None),
}
"""Kinds of targets by name; "any" is for cost functions that declare no kind, and for x."""


WEIGHTS = Target(("finite", "fits", "weight"))
