"""Nests of data bound to a model's inputs and outputs by their names.

    (A, B), [A, B]  of the inputs a, b   ◀──▶   {"a": A, "b": B}         whichever the trainer was fitted on
    (K, S)          of the outputs       ───▶   {"kind": K, "size": S}

Evaluation needs no targets of outputs that exist in training alone, and leaves them out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dagtrain.data.columns import Columns
from dagtrain.data.nests import is_nest, is_parts
from dagtrain.errors import DataError
from dagtrain.step.model import ModelObjective
from dagtrain.step.objective import Objective
from dagtrain.trace.tree import Leaf, Structure

__all__ = ["bind_inputs", "bind_targets", "encoded", "for_evaluation"]


def bind_inputs(objective: Objective, x: Any, expected: Columns | None) -> Any:
    """The inputs in the form of the expected columns, tables as numbers; a list of the arrays of several inputs as a tuple."""
    if not isinstance(objective, ModelObjective):
        return x
    names, required = objective.model.input_names, objective.model.required_inputs
    if len(required) > 1 and _is_list_of_columns(x):
        x = tuple(x)
    x = encoded(x, names, objective.model.encoders)
    return x if expected is None else _in_form(x, names, expected.structure[0])


def bind_targets(objective: Objective, nest: Any, structure: Structure, training_only: Collection[str] = ()) -> Any:
    """Targets, or weights of samples, by the names of the outputs with losses, in the form of an expected structure."""
    if not isinstance(objective, ModelObjective) or not objective.target_names:
        return nest
    every = objective.target_names
    names = [name for name in every if name not in training_only]
    if isinstance(nest, tuple | list) and len(every) > 1 and (_is_list_of_columns(nest) or (isinstance(nest, tuple) and is_nest(nest))):
        order = next((some for some in (every, names) if len(some) == len(nest)), None)
        if order is None:
            raise DataError(
                f"there are losses for {', '.join(every)}, but {len(nest)} columns of y in a {type(nest).__name__}: give a dict."
            )
        nest = dict(zip(order, nest, strict=True))
    if len(every) > 1 and set(names) <= set(getattr(nest, "columns", ())) <= set(every):
        nest = {name: nest[name] for name in nest.columns}
    if isinstance(nest, dict) and training_only:
        nest = {name: part for name, part in nest.items() if name not in training_only} or nest
    return _in_form(nest, names, structure)


def for_evaluation(objective: Objective, columns: Columns) -> tuple[Columns, Collection[str]]:
    """The columns that evaluation needs of those of training, and the names of the outputs that exist in training alone."""
    if not isinstance(objective, ModelObjective) or not objective.target_names:
        return columns, ()
    training_only = objective.training_only(columns.x)
    if not training_only or len(training_only) == len(objective.heads):  # without any other, the objective refuses
        return columns, ()
    return columns.without(training_only), training_only


def encoded(x: Any, names: Sequence[str], encoders: Mapping[str, Any]) -> Any:
    """The inputs with their tables as numbers, by the features that the model holds; None stays."""
    for name, features in encoders.items():
        if isinstance(x, dict):
            x = {key: features.encode(part) if key == name and part is not None else part for key, part in x.items()}
        elif isinstance(x, tuple):
            x = tuple(features.encode(part) if i == names.index(name) and part is not None else part for i, part in enumerate(x))
        elif name == names[0] and x is not None:
            x = features.encode(x)
    return x


def _in_form(nest: Any, names: Sequence[str], structure: Structure) -> Any:
    """The nest as a dict, a tuple or one array, like the structure, if it is another of these, of the same names."""
    if isinstance(nest, tuple) and is_nest(nest) and isinstance(structure, dict | type(Leaf)):
        order = [name for name in names if not isinstance(structure, dict) or name in structure]
        nest = dict(zip(order, nest, strict=True)) if len(order) == len(nest) else nest
    if isinstance(nest, dict) and isinstance(structure, tuple) and set(nest) == set(names[: len(structure)]):
        return tuple(nest[name] for name in names[: len(structure)])
    if isinstance(nest, dict) and structure is Leaf and list(nest) == list(names[:1]):
        return nest[names[0]]
    if isinstance(structure, dict) and list(structure) == list(names[:1]) and nest is not None and not is_nest(nest):
        return {names[0]: nest}
    return nest


def _is_list_of_columns(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and not is_parts(value) and all(getattr(part, "ndim", 0) > 0 for part in value)
