"""Layers that are random in training and do nothing otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagtrain.arguments import fraction
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["Dropout"]


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, set each element to 0 with probability `rate` and divide the others by ``1 - rate``; otherwise do nothing.

    The mask is a function of the key alone. In a model each call has a key of its own, by the layer's name: a Dropout with a name keeps its
    noise when others are added before it.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014); scaled in training as in
    its section 10.

    Raises
    ------
    ArgumentError
        If `rate` is not in [0, 1), or `training` is set without a key.

    Examples
    --------
    >>> import numpy as np
    >>> import dagtrain as dt
    >>> y, _ = Dropout(0.5).apply({}, {}, np.ones((1000, 10), "f4"), key=dt.key(0), training=True)
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]
    """

    rate: float
    name: str | None = None
    per_position = True

    def __post_init__(self) -> None:
        fraction(f"{self.name or 'Dropout'}: rate", self.rate)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"drops {100 * self.rate:g} %"

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training with elements set to 0."""
        if not c.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        x = x if x.dtype.kind == "f" else x.astype(c.dtype)
        uniform = apply_op(find_op("random_uniform"), c.key(), shape=tuple(x.shape), dtype=np.dtype(np.float32).str)
        # A NumPy number of x's dtype: a Python number would turn the boolean mask into float64.
        return x * ((uniform < np.float32(keep)) * x.dtype.type(1 / keep))
