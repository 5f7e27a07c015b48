"""What the rows of data are like: as a loss needs them, and as a program was compiled for."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.data import open_source
from dagtrain.data.source import Source
from dagtrain.errors import DataError
from dagtrain.graph import Spec
from dagtrain.train.objective import ModelObjective, Objective
from dagtrain.train.step import Program

__all__ = ["check_alike", "check_rows", "open_rows", "row_form"]


def row_form(x: Any) -> Spec | None:
    """Spec of a row of x as it will be in training, without looking at its values; None where x has no rows with elements."""
    try:
        shape = x.shape if hasattr(x, "shape") else np.shape(x)
    except ValueError:  # rows of different lengths
        return None
    if not isinstance(shape, tuple) or not shape or 0 in shape[1:]:
        return None
    return Spec(tuple(int(n) for n in shape[1:]), np.dtype(np.float32))


def open_rows(objective: Objective, x: Any, y: Any) -> Source:
    """The source of the data, checked as the loss of the objective needs it."""
    if y is None and isinstance(objective, ModelObjective):
        raise DataError("a model needs targets: give y beside x.")
    targets = objective.targets if objective.targets != "any" else None
    classes, label_axes = None, 1
    row = row_form(x) if targets == "classes" else None
    if row is not None and isinstance(objective, ModelObjective):
        outputs = objective.outputs_spec(row)
        if outputs.ndim > 1:
            classes, label_axes = outputs.shape[-1], outputs.ndim - 1
    return open_source(x, y, targets=targets, classes=classes, label_axes=label_axes)


def check_rows(program: Program, shape: tuple[int, ...]) -> None:
    """Refuse rows of another shape."""
    if shape != program.x.shape:
        raise DataError(f"the model was trained on rows of shape {program.x.shape}, got rows of shape {shape}.")


def check_alike(program: Program, source: Any) -> None:
    """Refuse data whose rows are not those that the program was compiled for."""
    check_rows(program, source.x_spec.shape)
    if (program.y is None) != (source.y_spec is None):
        raise DataError(f"the trainer was fitted {'without' if program.y is None else 'with'} targets y: do the same here.")
    found, wanted = source.y_spec, program.y
    if found is not None and wanted is not None and found != wanted:
        raise DataError(f"the trainer was fitted on targets that are {wanted} for each row, these are {found}.")
