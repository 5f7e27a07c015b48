"""What a caller gives for an input becomes the array that every executor reads: one layout, the declared shape and dtype, nothing lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Array, Spec, spec_of

__all__ = ["as_given"]

_HOLDS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
"""A kind of numbers takes those of its own rank and of lower ones."""


def as_given(name: str, spec: Spec, value: Any) -> Array:
    """The value of an input as an array of its spec.

    Raises
    ------
    ArgumentError
        If its shape is another, or its dtype cannot become the input's without losing the imaginary part or what follows the point.

    Examples
    --------
    >>> as_given("x", Spec((2,), np.dtype("f4")), [1, 2])
    array([1., 2.], dtype=float32)
    """
    array = np.asarray(value)
    if array.shape != spec.shape:
        raise ArgumentError(f"input {name!r} is {spec}, got {spec_of(array)}.")
    if array.dtype != spec.dtype and _HOLDS.get(array.dtype.kind, 9) > _HOLDS[spec.dtype.kind]:
        raise ArgumentError(f"input {name!r} is {spec}, got {spec_of(array)}: convert it with .astype, if losing digits is meant.")
    # Sums add in the order of memory: results must depend on an input's values alone, not on its layout.
    return np.asarray(array, spec.dtype, order="C")
