"""Nests of arrays, without the arrays, as plain JSON and back."""

from __future__ import annotations

from typing import Any

from dagtrain.checkpoint.describe import Description, short
from dagtrain.trace.tree import Leaf

__all__ = ["describe_structure", "structure_of"]


def describe_structure(structure: Any) -> Description:
    """The structure of a nest (see `dagtrain.trace.flatten`) as JSON, or None if it holds other classes than dict, list and tuple.

    Examples
    --------
    >>> describe_structure({"w": Leaf, "b": [Leaf, None]})
    {'dict': [['w', '*'], ['b', {'list': ['*', '-']}]]}
    """
    if structure is None:
        return "-"
    if structure is Leaf:
        return "*"
    if type(structure) is dict:
        parts = [[k, describe_structure(v)] for k, v in structure.items()]
        return None if any(p[1] is None for p in parts) else {"dict": parts}
    if type(structure) in (list, tuple):
        parts = [describe_structure(v) for v in structure]
        return None if None in parts else {type(structure).__name__: parts}
    return None


def structure_of(description: Description) -> Any:
    """The structure of a description by `describe_structure`; ValueError for anything else."""
    if description == "-":
        return None
    if description == "*":
        return Leaf
    if isinstance(description, dict) and len(description) == 1:
        ((kind, parts),) = description.items()
        if kind == "dict" and isinstance(parts, list) and all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in parts):
            return {k: structure_of(v) for k, v in parts}
        if kind in ("list", "tuple") and isinstance(parts, list):
            structures = [structure_of(p) for p in parts]
            return structures if kind == "list" else tuple(structures)
    raise ValueError(f"{short(description)} describes no nest of arrays")
