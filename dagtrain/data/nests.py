"""The nests in which users give data, taken apart into columns.

    {"a": A, "mask": M}     two columns: x.a and x.mask
    (A, B)                  two columns: x.0 and x.1
    [part, part, …]         one column in partitions; each may hold a pair (x, y), or a triple with sample_weight

Names bind columns to a trainer's own: dicts and tables may have another order, but no other names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from dagtrain.arguments import is_future
from dagtrain.data.compute import is_delayed
from dagtrain.errors import DataError
from dagtrain.trace.tree import Leaf, Structure

__all__ = ["FITTED", "ROOTS", "arrange", "check_names", "is_nest", "is_part", "is_parts", "roots_of", "take_apart"]

ROOTS = ("x", "y", "sample_weight")
FITTED = "the trainer was fitted on"
"""Whose names data must have, in errors."""


def is_part(value: Any) -> bool:
    """Whether this is a partition: a delayed value or a future."""
    return is_delayed(value) or is_future(value)


def is_parts(value: Any) -> bool:
    """Whether this is a list of delayed values or futures (or of pairs of them), or one of them."""
    if isinstance(value, list):
        return any(map(is_part, value)) or any(_holds_parts(v) for v in value[:1])
    return is_part(value)


def _holds_parts(value: Any) -> bool:
    if isinstance(value, dict):
        value = tuple(value.values())
    return isinstance(value, tuple | list) and any(is_part(v) or _holds_parts(v) for v in value)


def is_nest(value: Any) -> bool:
    """Whether this holds several columns: a dict, or a tuple of arrays; a tuple of numbers or lists is one array."""
    return isinstance(value, dict) or (isinstance(value, tuple) and any(map(_is_column, value)))


def _is_column(value: Any) -> bool:
    return is_parts(value) or is_nest(value) or getattr(value, "ndim", 0) > 0


def roots_of(x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
    """The nests by "x", "y" and "sample_weight", without those that are None; pairs of partitions as lists of their own.

    Examples
    --------
    >>> roots_of([1, 2], None, [0.5, 1.0])
    {'x': [1, 2], 'sample_weight': [0.5, 1.0]}
    """
    if is_parts(x) and not is_part(x) and any(isinstance(part, tuple | list) for part in x):
        count = len(x[0]) if isinstance(x[0], tuple | list) else 0
        if count not in (2, 3) or any(not isinstance(part, tuple | list) or len(part) != count for part in x):
            raise DataError("x is a list of pairs (x, y) of partitions, but not all of its elements are pairs.")
        if y is not None:
            raise DataError("x is a list of pairs (x, y) of partitions: leave out y, which they hold.")
        if count == 3 and sample_weight is not None:
            raise DataError("x is a list of triples (x, y, sample_weight) of partitions: leave out sample_weight, which they hold.")
        x, y, *weights = (_lists([part[i] for part in x]) for i in range(count))
        sample_weight = weights[0] if weights else sample_weight
    return {name: nest for name, nest in zip(ROOTS, (x, y, sample_weight), strict=True) if nest is not None or name == "x"}


def _lists(nests: list[Any]) -> Any:
    """A list of equal dicts as a dict of lists, and one of tuples of one length as a tuple of lists."""
    if isinstance(nests[0], tuple) and all(isinstance(nest, tuple) and len(nest) == len(nests[0]) for nest in nests):
        return tuple(_lists([nest[i] for nest in nests]) for i in range(len(nests[0])))
    if not isinstance(nests[0], dict):
        return nests
    for nest in nests:
        check_names("a partition", nest if isinstance(nest, dict) else (), nests[0], "the first partition has")
    return {key: _lists([nest[key] for nest in nests]) for key in nests[0]}


def take_apart(nest: Any, path: str = "") -> tuple[dict[str, Any], Structure]:
    """The columns by name, and the structure without them.

    Examples
    --------
    >>> take_apart({"x": {"a": [1], "b": [2]}, "y": [3]})
    ({'x.a': [1], 'x.b': [2], 'y': [3]}, {'x': {'a': *, 'b': *}, 'y': *})
    """
    columns: dict[str, Any] = {}
    return columns, _walk(nest, path, columns)


def _walk(value: Any, path: str, columns: dict[str, Any]) -> Structure:
    # No inner function: one that calls itself is a cycle, which would keep the arrays of a partition until garbage is collected.
    if not is_nest(value):
        if path in columns:
            raise DataError(f"two columns have the name {path!r}: rename one of the keys.")
        columns[path] = value
        return Leaf
    if not value:
        raise DataError(f"{path} is an empty {type(value).__name__}: it needs a column.")
    if isinstance(value, tuple):
        return tuple(_walk(v, f"{path}.{i}", columns) for i, v in enumerate(value))
    if not all(isinstance(key, str) for key in value):
        raise DataError(f"{path} is a dict of columns: its keys are their names, and must be text.")
    return {k: _walk(v, f"{path}.{k}" if path else k, columns) for k, v in value.items()}


def arrange(path: str, nest: Any, structure: Structure) -> Any:
    """The nest with its dicts in the order of a structure; DataError for a dict with other names."""
    if isinstance(nest, dict) and isinstance(structure, dict):
        check_names(path, nest, structure)
        return {key: arrange(f"{path}.{key}", nest[key], part) for key, part in structure.items()}
    if isinstance(nest, tuple) and isinstance(structure, tuple) and len(nest) == len(structure):
        return tuple(arrange(f"{path}.{i}", part, structure[i]) for i, part in enumerate(nest))
    return nest


def check_names(path: str, names: Iterable[str], expected: Collection[str], whose: str = FITTED) -> None:
    """Raise DataError unless these are the same names, in any order."""
    here = list(names)
    known, given = set(expected), set(here)
    missing = [name for name in expected if name not in given]
    extra = [name for name in here if name not in known]
    if missing or extra:
        faults = [f"{what} {', '.join(map(repr, found))}" for what, found in (("without", missing), ("with", extra)) if found]
        raise DataError(f"{path} has other columns than {whose}: it comes {' and '.join(faults)}.")
    if len(here) != len(given):
        raise DataError(f"{path} has two columns of one name, so their order is not known: give each a name of its own.")
