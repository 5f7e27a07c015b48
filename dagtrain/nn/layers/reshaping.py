"""Layers that give their input another shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values

__all__ = ["Flatten"]


@dataclass(frozen=True)
class Flatten(Layer):
    """Join all axes but the first.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten().apply({}, {}, np.zeros((5, 8, 8)))[0].shape
    (5, 64)
    """

    name: str | None = None

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "flatten"

    def forward(self, c: Context, x: Values) -> Values:
        """Shape (samples, product of the other axes)."""
        return x.reshape((x.shape[0], math.prod(x.shape[1:])))
