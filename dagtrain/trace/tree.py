"""Nested dicts, lists and tuples of arrays, taken apart into named leaves and put together again.

    {"w": x, "b": [y, z]}   ⇄   {"w": x, "b.0": y, "b.1": z}

Dicts keep the order in which they were written; a leaf is any value but a dict, list, tuple or None; a `Spec` is a leaf too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dagtrain.errors import ArgumentError
from dagtrain.graph import Spec

__all__ = ["Structure", "flatten", "leaves", "map_leaves", "names", "unflatten"]

Structure = Any
"""A nest with every leaf replaced by `Leaf`; equal structures compare equal."""


class _Leaf:
    _only: _Leaf | None = None

    def __new__(cls) -> _Leaf:
        if cls._only is None:
            cls._only = object.__new__(cls)
        return cls._only

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Leaf, ())

    def __repr__(self) -> str:
        return "*"


Leaf = _Leaf()


def flatten(tree: Any, prefix: str = "") -> tuple[dict[str, Any], Structure]:
    """Named leaves in order, and the structure without them.

    Examples
    --------
    >>> flatten({"w": 1, "b": [2, 3]}, "params")
    ({'params.w': 1, 'params.b.0': 2, 'params.b.1': 3}, {'w': *, 'b': [*, *]})
    """
    named: dict[str, Any] = {}
    structure = _walk(tree, prefix, named)
    return named, structure


def _walk(tree: Any, path: str, named: dict[str, Any]) -> Any:
    if tree is None:
        return None
    if isinstance(tree, dict):
        for k in tree:
            if not isinstance(k, str):
                raise ArgumentError(f"nested dicts of arrays have text as keys, got {k!r} at {path or 'the top'}.")
        return {k: _walk(v, f"{path}.{k}" if path else k, named) for k, v in tree.items()}
    if isinstance(tree, list | tuple) and not isinstance(tree, Spec):
        parts = [_walk(v, f"{path}.{i}" if path else str(i), named) for i, v in enumerate(tree)]
        if isinstance(tree, tuple) and hasattr(tree, "_fields"):
            return type(tree)(*parts)
        return type(tree)(parts)
    name = path or "output"
    if name in named:
        raise ArgumentError(f"two leaves have the name {name!r}: rename one of the keys.")
    named[name] = tree
    return Leaf


def unflatten(structure: Structure, values: Any) -> Any:
    """Put leaves, in order, back into a structure."""
    return _fill(structure, iter(values))


def _fill(structure: Any, values: Iterator[Any]) -> Any:
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {k: _fill(v, values) for k, v in structure.items()}
    if isinstance(structure, list | tuple):
        parts = [_fill(v, values) for v in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)
    return next(values)


def leaves(tree: Any) -> list[Any]:
    """The leaves in order."""
    return list(flatten(tree)[0].values())


def names(tree: Any, prefix: str = "") -> list[str]:
    """The names of the leaves in order."""
    return list(flatten(tree, prefix)[0])


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function to each leaf, together with the leaves at the same place in others of the same structure."""
    named, structure = flatten(tree)
    rows = [named.values(), *(_same(other, structure) for other in others)]
    return unflatten(structure, [function(*row) for row in zip(*rows, strict=True)])


def _same(tree: Any, structure: Structure) -> list[Any]:
    named, other = flatten(tree)
    if other != structure:
        raise ArgumentError(f"two nests differ in structure: {structure} and {other}.")
    return list(named.values())
