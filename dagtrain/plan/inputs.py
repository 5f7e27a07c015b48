"""A caller's value as the array that every executor reads: C order, the declared shape and dtype, nothing lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Array, Spec, refuse_masked, spec_of

__all__ = ["as_input"]

_HOLDS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
"""Kind of numbers → its rank; an input takes numbers of its own rank and of lower ones."""


def as_input(name: str, spec: Spec, value: Any) -> Array:
    """The value of an input as an array of its spec.

    Raises
    ------
    ArgumentError
        If the shape differs, or if converting the dtype would lose the imaginary part or the fraction.

    Examples
    --------
    >>> as_input("x", Spec((2,), np.dtype("f4")), [1, 2])
    array([1., 2.], dtype=float32)
    """
    array = np.asarray(refuse_masked(value))
    if array.shape != spec.shape:
        raise ArgumentError(f"input {name!r} is {spec}, got {spec_of(array)}.")
    if array.dtype != spec.dtype and _HOLDS.get(array.dtype.kind, 9) > _HOLDS[spec.dtype.kind]:
        raise ArgumentError(f"input {name!r} is {spec}, got {spec_of(array)}: convert it with .astype if the loss is intended.")
    # Sums add in the order of memory: results must depend on an input's values alone, not on its layout.
    return np.asarray(array, spec.dtype, order="C")
