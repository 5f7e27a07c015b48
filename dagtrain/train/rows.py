"""Checks of the rows of data: against a loss, and against a compiled program."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dagtrain.data import BatchPlan, Columns, open_source
from dagtrain.data.class_weights import weigh_classes
from dagtrain.data.nests import ROOTS, is_parts, roots_of
from dagtrain.data.source import Source
from dagtrain.errors import ArgumentError, DataError, GraphError
from dagtrain.step.model import ModelObjective
from dagtrain.step.objective import Objective
from dagtrain.trace.tree import Leaf, Structure
from dagtrain.train.names import bind_inputs, bind_targets, for_evaluation

__all__ = ["check_alike", "hold_out", "open_arrays", "open_evaluation", "open_rows", "open_validation", "shapes_of_shards"]


def open_rows(
    objective: Objective,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    expected: Columns | None = None,
    training_only: Collection[str] = (),
) -> Source:
    """The source of the data, checked against the loss of the objective, in the order of the expected columns.

    In evaluation, `training_only` has the names of the outputs whose targets are left out.
    """
    roots = roots_of(x, y, sample_weight)
    _, of_y, of_weight = expected.structure if expected is not None else (None,) * 3
    x = bind_inputs(objective, roots["x"], expected)
    y = bind_targets(objective, roots.get("y"), of_y, training_only)
    sample_weight = bind_targets(objective, roots.get("sample_weight"), of_weight, training_only)
    missing = DataError("a model needs targets: give y with x.")
    needs = isinstance(objective, ModelObjective) and objective.takes_targets
    if y is None and needs and not is_parts(x):
        raise missing
    targets = objective.targets if needs and objective.targets != "any" else None
    labels = objective.labels if isinstance(objective, ModelObjective) else None
    source = open_source(x, y, sample_weight, targets=targets, labels=labels, dtype=objective.dtype, expected=expected)
    if source.columns.y is None and needs:
        raise missing
    if source.columns.y is not None and isinstance(objective, ModelObjective) and not needs:
        raise DataError(f"the loss {objective.losses[0].name!r} takes no targets: leave y out.")
    return source


def open_arrays(
    objective: Objective, x: Any, y: Any, sample_weight: Any, class_weight: Any, split: float, expected: Columns | None
) -> tuple[Source, Source | None]:
    """The samples of a fit, with the weights of their classes; and those that a split leaves for validation."""
    source, validation = open_rows(objective, x, y, sample_weight, expected), None
    if split:
        source, validation = hold_out(source, split)
    if class_weight is not None:
        source = weigh_classes(source, class_weight, objective.dtype)
    return source, validation


def open_evaluation(objective: Objective, x: Any, y: Any, sample_weight: Any = None, *, columns: Columns, fitted: bool = True) -> Source:
    """The source of rows to evaluate, alike to the columns of a trainer if it is fitted; it has no targets of outputs of training alone."""
    here, training_only = for_evaluation(objective, columns)
    source = open_rows(objective, x, y, sample_weight, here if fitted else None, training_only)
    if fitted:
        check_alike(here, source.columns)
    return source


def open_validation(objective: Objective, data: Any, expected: Columns) -> Source:
    """The source of ``(x, y)`` or ``(x, y, sample_weight)`` for validation, with the columns of training."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ArgumentError("validation_data is a pair (x, y), a triple (x, y, sample_weight), or a function of batches.")
    try:
        return open_evaluation(objective, *data, columns=expected)
    except DataError as error:
        raise DataError(f"validation_data: {error}") from error


def hold_out(source: Source, fraction: float) -> tuple[Source, Source]:
    """The samples to train on, and the last ones, for validation."""
    last = round(source.samples * fraction)
    if not 0 < last < source.samples:
        use = "train on" if last else "validate on"
        raise ArgumentError(f"validation_split={fraction:g} of {source.samples} samples leaves none to {use}.")
    return source.split(source.samples - last)


@contextmanager
def shapes_of_shards(plan: BatchPlan) -> Iterator[None]:
    """Say in errors of shapes that the rows are those of a shard."""
    try:
        yield
    except GraphError as error:
        error.add_note(f"The rows in these shapes are those of a shard: {plan.shards} are a batch of {plan.batch_size} samples.")
        raise


def check_alike(expected: Columns, here: Columns, roots: Sequence[str] = ("x", "y")) -> None:
    """Raise DataError for columns of x and y other than those that a program was compiled for."""
    structures = dict(zip(ROOTS, zip(expected.structure, here.structure, strict=True), strict=True))
    for root in roots:
        there, structure = structures[root]
        if (there is None) != (structure is None):
            raise DataError(f"the trainer was fitted {'without' if there is None else 'with'} targets y: do the same here.")
        if there != structure:
            raise DataError(f"the trainer was fitted on {_text(root, there)}, got {_text(root, structure)}.")
    specs = dict(zip(here.names, here.specs, strict=True))
    for name, spec in zip(expected.names, expected.specs, strict=True):
        root = name.partition(".")[0]
        if root not in roots or specs[name] == spec:
            continue
        if specs[name].shape == spec.shape:
            cure = f"convert it with .astype({spec.dtype.name!r})"
            raise DataError(f"the trainer was fitted on {name} of dtype {spec.dtype}, got {specs[name].dtype}: {cure}.")
        if root == "y":
            raise DataError(f"the trainer was fitted on targets that are {spec} for each row, got {specs[name]}.")
        of = "" if name == "x" else f" of {name}"
        cure = " One sample alone is x[None]." if specs[name].shape == spec.shape[1:] else ""
        raise DataError(f"the model was trained on rows{of} of shape {spec.shape}, got rows of shape {specs[name].shape}.{cure}")


def _text(root: str, structure: Structure) -> str:
    if structure is Leaf:
        return f"one array as {root}"
    columns = ", ".join(structure) if isinstance(structure, dict) else f"{len(structure)} columns"
    return f"a {type(structure).__name__} of {columns} as {root}"
