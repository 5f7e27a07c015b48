"""Masks of sequences: which steps of each sample count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.nn.values import Values

__all__ = ["mask_of", "of_floats"]


def mask_of(title: str, mask: Values, x: Values) -> Values:
    """A mask (samples, steps) of booleans, from one of booleans or whole numbers, or from the length of each sequence."""
    rows, steps = x.shape[:2]
    if mask.dtype.kind not in "biu":
        raise DTypeError(
            f"{title}: the input after x is a mask (booleans) or lengths (whole numbers), got {mask.dtype}; a first state comes after "
            "the mask."
        )
    if tuple(mask.shape) == (rows,) and mask.dtype != bool:
        return np.arange(steps) < mask[:, None]
    if tuple(mask.shape) != (rows, steps):
        raise ShapeError(
            f"{title}: a mask has the samples and steps of x, {(rows, steps)}, and lengths are whole numbers {(rows,)}; got {mask.dtype} "
            f"{tuple(mask.shape)}."
        )
    return mask if mask.dtype == bool else mask != 0


def of_floats(mask: Values | None, states: Sequence[Any]) -> tuple[Values | None, list[Any]]:
    """The mask and the first states; an input of floats in the mask's place is a state, since symbolic values have no None."""
    return (mask, list(states)) if mask is None or mask.dtype.kind != "f" else (None, [mask, *states])
