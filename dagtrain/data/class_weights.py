"""Weights of classes as weights of samples: a source whose samples also weigh what their class does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dagtrain.arguments import is_number, not_negative
from dagtrain.data.check import ClassWeights
from dagtrain.data.columns import Columns
from dagtrain.data.source import Source
from dagtrain.errors import ArgumentError, DataError, UnknownNameError
from dagtrain.graph import Spec

__all__ = ["MOST", "weigh_classes"]

MOST = 10_000
"""Most labels that "balanced" counts; y holds other things than labels if there are more."""


def weigh_classes(source: Source, class_weight: Any, dtype: Any = np.float32, whole: bool = True) -> Source:
    """The source with each sample's weight times that of its class.

    Parameters
    ----------
    source
        With one label for each sample.
    class_weight
        A dict from labels to weights, 1 for labels that are not in it; or "balanced": samples / (labels * samples of the label), so that
        all labels count alike, as in scikit-learn. Where y is a dict of columns, a dict of these by their names.
    dtype
        Of the weights.
    whole
        Whether the source is all data; a batch need not have every label.

    Raises
    ------
    ArgumentError
        For other things than these.
    DataError
        If y is not one label for each sample; if it has labels without a weight, while a weight is for a label that it does not have.
    """
    y = source.columns.y
    if isinstance(y, Mapping) and isinstance(class_weight, Mapping):
        others = [name for name in class_weight if name not in y]
        if others and is_number(others[0]):
            example = f'{{"{next(iter(y))}": {{0: 1.0, 1: 3.0}}}}'
            raise ArgumentError(
                f"y has the columns {', '.join(y)}: class_weight is a dict of weights by these, as in class_weight={example}."
            )
        if others:
            raise UnknownNameError.of("output in class_weight", others[0], list(y))
        by_column = {f"y.{name}": _weights(source, f"y.{name}", y[name], part, whole) for name, part in class_weight.items()}
    else:
        by_column = {"y": _weights(source, "y", y, class_weight, whole)}
    columns = source.columns
    x, targets, given = columns.bind(columns.specs)
    floats = Spec((), np.dtype(dtype))
    headers = dict(zip(columns.names, columns.headers, strict=True))
    if isinstance(targets, Mapping):
        given = {name: given.get(name, floats) if isinstance(given, Mapping) else given or floats for name in targets}
    weighted = Columns.of(x, targets, given or floats, headers)
    return source.with_form(replace(source.form, columns=weighted, class_weights=tuple(by_column.items()), raw=columns))


def _weights(source: Source, column: str, y: Any, class_weight: Any, whole: bool) -> ClassWeights:
    """The weight of each label in a column of y."""
    title = "y" if column == "y" else f"y[{column[2:]!r}]"
    if not isinstance(y, Spec) or y.size != 1:
        what = "none" if y is None else f"{y} for each" if isinstance(y, Spec) else "a nest of columns: give a dict of weights by its names"
        raise DataError(f"class_weight needs one label for each sample as {title}, got {what}.")
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = source.label_counts(column)
        if len(counts) > MOST:
            raise DataError(f'class_weight="balanced" needs labels as {title}, but {title} has {len(counts):,} different values.')
        total = sum(counts.values())
        weights = {label: total / (len(counts) * count) for label, count in counts.items()}
    elif isinstance(class_weight, Mapping) and class_weight and all(map(is_number, class_weight)):
        kind = y.dtype if y.dtype.kind == "f" else np.dtype(np.float64)
        weights = {float(kind.type(label)): not_negative(f"the class weight of {label}", weight) for label, weight in class_weight.items()}
        if len(weights) < len(class_weight):
            raise ArgumentError(f"class_weight has two labels that are the same number in {kind}.")
        counts = source.label_counts(column) if whole else {}
        others = [label for label in weights if label not in counts]
        if whole and others and not counts.keys() <= weights.keys():
            raise DataError(
                f"class_weight has the label {others[0]:g}, which {title} does not have: the weights would be ignored. "
                f"The labels in {title} are {', '.join(f'{label:g}' for label in list(counts)[:10])}{', …' if len(counts) > 10 else ''}."
            )
    else:
        raise ArgumentError(
            f'class_weight is a dict from labels to weights, as in {{0: 1.0, 1: 3.0}}, or "balanced", or a dict of these by the columns of '
            f"y, got {class_weight!r}."
        )
    labels = sorted(weights)
    return ClassWeights(tuple(labels), tuple(weights[label] for label in labels))
