"""Checks of the rows of data: against a loss, and against a compiled program."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.data import open_source
from dagtrain.data.parts import is_parts
from dagtrain.data.source import Source
from dagtrain.errors import DataError
from dagtrain.graph import Spec
from dagtrain.step.objective import ModelObjective, Objective
from dagtrain.step.program import Program

__all__ = ["check_alike", "check_rows", "open_rows"]


def open_rows(objective: Objective, x: Any, y: Any) -> Source:
    """The source of the data, checked against the loss of the objective."""
    missing = DataError("a model needs targets: give y with x.")
    if y is None and isinstance(objective, ModelObjective) and not is_parts(x):
        raise missing
    targets = objective.targets if objective.targets != "any" else None

    def labels(row: Spec) -> tuple[int | None, int]:
        if targets == "classes" and isinstance(objective, ModelObjective):
            outputs = objective.outputs_spec(Spec(row.shape, np.dtype(np.float32)))
            if outputs.ndim > 1:
                return outputs.shape[-1], outputs.ndim - 1
        return None, 1

    source = open_source(x, y, targets=targets, labels=labels)
    if source.columns.y is None and isinstance(objective, ModelObjective):
        raise missing
    return source


def check_rows(program: Program, shape: tuple[int, ...]) -> None:
    """Raise DataError for rows of another shape."""
    if shape != program.columns.x.shape:
        raise DataError(f"the model was trained on rows of shape {program.columns.x.shape}, got rows of shape {shape}.")


def check_alike(program: Program, source: Any) -> None:
    """Raise DataError for rows that the program was not compiled for."""
    check_rows(program, source.columns.x.shape)
    y, expected = source.columns.y, program.columns.y
    if (expected is None) != (y is None):
        raise DataError(f"the trainer was fitted {'without' if expected is None else 'with'} targets y: do the same here.")
    if y is not None and expected is not None and y != expected:
        raise DataError(f"the trainer was fitted on targets that are {expected} for each row, got {y}.")
