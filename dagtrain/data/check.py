"""Checks of data before training: the rules as records, and the one place where dtypes change.

    open_source ── make_form ─▶ Form ── inspect ──▶ Finding (the first bad row) ── explain ──▶ DataError
    (once)                       │
                                 └──── read ──▶ columns in the dtypes of training   (for each partition, where it is)

A `Form` is small and pickles, so that a task can check a partition where it is; only findings travel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import float_dtype, one_of
from dagtrain.data.columns import Columns, Rows
from dagtrain.data.rules import RULES, TARGETS, WEIGHTS
from dagtrain.data.windows import cast_rows, partition_of, shared_rows
from dagtrain.errors import DataError
from dagtrain.graph import Array, Spec
from dagtrain.trace.tree import Structure, unflatten

__all__ = [
    "ClassWeights",
    "Finding",
    "Form",
    "cast_dtype",
    "check_dtype",
    "check_lengths",
    "explain",
    "inspect",
    "make_form",
    "read",
    "refuse_masked",
]


Targets = str | None | Mapping[str, str]
"""How y is checked: one of `TARGETS`, or one for each column of y, by its name."""
Labels = tuple[int | None, int] | Mapping[str, tuple[int | None, int]]
"""The number of classes, and the axes of labels; or those of each column of y."""


class ClassWeights(NamedTuple):
    """Labels in order, and the weight of each; any other label has weight 1."""

    labels: tuple[float, ...]
    weights: tuple[float, ...]

    def of(self, y: Array) -> Array:
        """The weight of each of these labels, which have their dtype in training."""
        labels = np.asarray(y, np.float64).reshape(len(y))
        places = np.minimum(np.searchsorted(self.labels, labels), len(self.labels) - 1)
        return np.where(np.take(self.labels, places) == labels, np.take(self.weights, places), 1.0)


@dataclass(frozen=True)
class Form:
    """Description of the rows: the columns in training, and the rules for the elements of each."""

    columns: Columns
    rules: tuple[tuple[str, ...], ...]
    classes: tuple[int, ...] = ()
    """Number of classes of the labels in each column, or 0."""
    class_weights: tuple[tuple[str, ClassWeights], ...] = ()
    """For columns of y, by name."""
    raw: Columns | None = None
    """The columns before weights of classes were added, if they were."""


class Finding(NamedTuple):
    """The first element of a partition that breaks a rule; ``rule`` is "shape" for a partition of another shape than announced."""

    rule: str
    name: str
    position: tuple[int, ...]
    value: Any


_KINDS = {
    "O": "Its elements are Python objects. Number text with np.unique(labels, return_inverse=True)[1]; convert numbers with "
    ".astype(np.float32), which fails if rows differ in length.",
    "c": "Give real and imaginary parts as features of their own: np.stack([x.real, x.imag], axis=-1).",
    "M": "Turn dates into numbers first, for example seconds since the first one.",
    "m": "Turn durations into numbers first, for example seconds.",
    "V": "Give the fields of a structured array as columns of a plain one.",
}
_TEXT = "Turn text into numbers first: np.unique(labels, return_inverse=True)[1] numbers the classes."


def check_dtype(name: str, dtype: np.dtype[Any], title: str = "") -> None:
    """Raise `DataError` for a dtype without real numbers, with the way to convert it; `title` is the user's name of the dtype."""
    if dtype.kind not in "biuf":
        raise DataError(f"{name} has dtype {title or dtype}, but training computes with real numbers. {_KINDS.get(dtype.kind, _TEXT)}")


def refuse_masked(name: str, value: Any) -> None:
    """Raise `DataError` for a masked array with masked elements, or a list that holds one: as an array it would lose its mask."""
    if not _is_masked(value):
        return
    if isinstance(value, list | tuple):
        row = next(i for i, element in enumerate(value) if _is_masked(element))
    else:
        row = int(np.argwhere(np.ma.getmaskarray(value))[0][0]) if value.ndim else 0
    raise DataError(f"{name} {RULES['masked'].says}: row {row}, counted from 0. {RULES['masked'].advice}")


def _is_masked(value: Any) -> bool:
    if isinstance(value, list | tuple):
        kinds = set(map(type, value))  # a test of each number would take longer than to make an array of them
        return any(issubclass(kind, list | tuple | np.ma.MaskedArray) for kind in kinds) and any(map(_is_masked, value))
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))


def check_size(name: str, shape: tuple[int, ...]) -> None:
    """Raise `DataError` for an array without a sample axis, or without elements."""
    if not shape:
        raise DataError(f"{name} is a single number; its first axis must count the samples.")
    if 0 in shape:
        raise DataError(f"{name} is empty: its shape is {shape}.")


def _idle(dtype: np.dtype[Any], floats: np.dtype[Any]) -> set[str]:
    """Rules that no element of this dtype can break; they need no pass over the data."""
    if dtype.kind == "f":
        return set() if dtype.itemsize > 4 and floats == np.float32 else {"fits"}
    return {"finite", "whole", "fits"} | ({"not_negative", "probability", "weight"} if dtype.kind in "bu" else set())


def make_form(
    columns: Mapping[str, Any],
    structure: Mapping[str, Structure],
    headers: Mapping[str, tuple[str, ...]],
    *,
    targets: Targets,
    labels: Callable[[Any], Labels],
    dtype: Any,
    expected: Columns | None = None,
) -> Form:
    """Check shapes and dtypes, before any element.

    Parameters
    ----------
    columns
        The user's whole arrays by name; only shape and dtype are read.
    structure
        The nests of x, y and sample_weight.
    headers
        Names of the columns of those that are tables.
    targets, labels, dtype, expected
        As in `open_source`.

    Raises
    ------
    DataError
        If lengths, shapes or dtypes are unfit for training.
    """
    floats = float_dtype(dtype)
    kinds = targets if isinstance(targets, Mapping) else {"": targets}
    for kind in kinds.values():
        if kind is not None:
            one_of("kind of targets", kind, TARGETS)
    for name, array in columns.items():
        check_dtype(name, array.dtype)
        check_size(name, array.shape)
    if "y" not in structure and not {None, "any"} & set(kinds.values()):
        raise DataError(f"there is no y: this loss compares the outputs with targets ({', '.join(map(str, kinds.values()))}). Pass y.")
    check_lengths(columns)
    rows = {name: Spec(array.shape[1:], array.dtype if array.dtype.kind in "biu" else floats) for name, array in columns.items()}
    x = unflatten(structure["x"], (row for name, row in rows.items() if name.partition(".")[0] == "x"))
    of_labels = labels(x)
    shapes = of_labels if isinstance(of_labels, Mapping) else {"": of_labels}
    classes: dict[str, int] = {}
    rules = {}
    for name, array in columns.items():
        root = name.partition(".")[0]
        output = _output(name, root, kinds)
        kind = kinds[output] if root == "y" else None
        of_column = {"x": TARGETS["any"], "y": TARGETS[kind or "any"], "sample_weight": WEIGHTS}[root]
        if root == "y" and name != root and "" in kinds and of_column is not TARGETS["any"]:
            raise DataError("y is a nest of columns, but this loss compares the outputs with one array: give y as an array.")
        if root == "sample_weight" and name != root and f"y.{name.partition('.')[2]}" not in columns:
            raise DataError(
                "sample_weight is a nest of columns, but there is one number for each sample: give it as an array, or as a dict with names "
                "of columns of y."
            )
        most, label_axes = shapes.get(output, (None, 1)) if root == "y" else (None, 1)
        if kind == "classes" and most == 1:
            raise DataError(
                "the model has one output, which this loss takes for one class. Give it an output for each class, or for two classes take "
                "the loss binary_cross_entropy."
            )
        classes[name] = most or 0
        problem = of_column.shape(array.shape, most, label_axes)
        if problem is not None:
            raise DataError(f"{name} has shape {array.shape}: {problem}")
        if root == "sample_weight" and len(array.shape) > 1:
            of_y = f"y.{name.partition('.')[2]}" if "." in name else "y"
            labelled = columns[of_y].shape if of_y in columns else array.shape[:1]
            if array.shape != labelled[: len(array.shape)]:
                positions = f", or one for each of its positions, shape {labelled}" if len(labelled) > 1 else ""
                raise DataError(f"{name} has shape {array.shape}: a weight is one number for each sample, shape (samples,){positions}.")
        if of_column.dtype is not None:
            rows[name] = Spec(rows[name].shape, np.dtype(of_column.dtype) if of_column.dtype != "float" else floats)
        idle = _idle(array.dtype, floats) | ({"below_classes"} if most is None else set())
        rules[name] = tuple(rule for rule in of_column.rules if rule not in idle)
    for name, spec in () if expected is None else zip(expected.names, expected.specs, strict=True):
        if name in rows:
            rows[name] = Spec(rows[name].shape, cast_dtype(rows[name].dtype, spec.dtype))
    nests = tuple(structure.get(root) for root in ("x", "y", "sample_weight"))
    flat = Columns(tuple(rows), tuple(rows.values()), nests, tuple(headers.get(name, ()) for name in rows))
    return Form(flat, tuple(rules.values()), tuple(classes.values()))


def _output(name: str, root: str, kinds: Mapping[str, str | None]) -> str:
    """The output that a column of y is for: of that name, or the only one, or the first where y is one array."""
    if root != "y" or "" in kinds or name == root:
        return next(iter(kinds))
    output = name.partition(".")[2]
    if output not in kinds:
        raise DataError(f"y has the column {output!r}, which no loss needs: the losses are for {', '.join(kinds)}.")
    return output


def cast_dtype(dtype: np.dtype[Any], expected: np.dtype[Any]) -> np.dtype[Any]:
    """The expected dtype, if numbers of this dtype become it: any as floats, and integers without loss; else the dtype itself."""
    return expected if expected.kind == "f" or np.can_cast(dtype, expected) else dtype


def check_lengths(columns: Mapping[str, Any]) -> None:
    """Raise `DataError` for columns of different numbers of samples."""
    first, of_first = next(iter(columns.items()), ("", None))
    for name, array in columns.items():
        if of_first is not None and array.shape[0] != of_first.shape[0]:
            raise DataError(
                f"{first} has {of_first.shape[0]} samples and {name} has {array.shape[0]}: every sample needs one row of each. "
                f"Their shapes are {of_first.shape} and {array.shape}."
            )


def inspect(form: Form, rows: int, *parts: Array) -> Finding | None:
    """The first element of a raw partition that breaks a rule, or None."""
    columns, classes = form.raw or form.columns, form.classes or (0,) * len(parts)
    for name, part, row, rules, most in zip(columns.names, parts, columns.specs, form.rules, classes, strict=True):
        if np.shape(part) != (rows, *row.shape):
            return Finding("shape", name, (rows, *row.shape), np.shape(part))
        check_dtype(name, np.asarray(part).dtype)
        shared = shared_rows(part) if set(rules) <= {"finite", "fits"} else None
        if shared is not None and not any(RULES[rule].bad(shared.rows, most).any() for rule in rules):
            continue  # each row is in many windows
        for rule in ("masked", *rules) if isinstance(part, np.ma.MaskedArray) else rules:
            tested = RULES[rule].value(part if rule == "masked" else np.asarray(part))
            bad = RULES[rule].bad(tested, most)
            if bad.any():
                position = np.unravel_index(int(bad.argmax()), bad.shape)
                return Finding(rule, name, tuple(map(int, position)), tested[position].item())
    return None


def read(form: Form, *parts: Any) -> Rows:
    """A partition of the raw data in the dtypes of training, rows contiguous but for windows, with the weights of its classes, if any."""
    columns = form.columns
    if form.raw is not None:
        named = dict(zip(form.raw.names, parts, strict=True))
        parts = tuple(
            named[name] if name in named and not name.startswith("sample_weight") else _weighed(form, name, named) for name in columns.names
        )
    return partition_of([cast_rows(part, row.dtype) for part, row in zip(parts, columns.specs, strict=True)])


def _weighed(form: Form, name: str, parts: Mapping[str, Array]) -> Array:
    """The weights of samples for a column of y times those of its classes."""
    columns, output = form.columns, name.partition(".")[2]
    y = f"y.{output}" if output else "y"
    given = parts.get(name, parts.get("sample_weight"))
    if given is not None:
        given = np.asarray(given, columns.specs[columns.names.index(name)].dtype)
    by_class = dict(form.class_weights).get(y)
    if by_class is None:
        return np.ones(len(parts[y])) if given is None else given
    weights = by_class.of(np.asarray(parts[y], columns.specs[columns.names.index(y)].dtype))
    return weights if given is None else weights.reshape(len(given), *(1,) * (given.ndim - 1)) * given


def explain(form: Form, finding: Finding, first_row: int, partition: int) -> DataError:
    """The error for a finding, with the row counted over all partitions."""
    if finding.rule == "shape":
        return DataError(
            f"partition {partition} of {finding.name} has shape {finding.value}, but the collection announced {finding.position}. "
            "Check how the collection was made (the shapes given to from_delayed or map_blocks)."
        )
    rule = RULES[finding.rule]
    row, *column = finding.position
    where = f"row {first_row + row}"
    if finding.rule != "total" and column:
        where += f", column {column[0]}" if len(column) == 1 else f", at {column} in it"
        header = form.columns.headers[form.columns.names.index(finding.name)]
        if len(column) == 1 and column[0] < len(header):
            where += f" ({header[column[0]]!r})"
    classes = form.classes[form.columns.names.index(finding.name)] if form.classes else 0
    says = rule.says.format(value=finding.value, classes=classes, last=classes - 1)
    return DataError(f"{finding.name} {says}: {where}, counted from 0. {rule.advice}")
