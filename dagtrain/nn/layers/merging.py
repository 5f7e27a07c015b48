"""Layers that make one value of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.symbolic import OPERATORS
from dagtrain.nn.values import Values

__all__ = ["Add", "Concatenate", "Multiply"]


def _merged(kind: str, inputs: tuple[Values, ...], combine: Callable[[Values, Values], Values]) -> Values:
    if len(inputs) < 2:
        raise ArgumentError(f"{kind} takes two inputs or more, as in {kind}()([a, b]), got {len(inputs)}.")
    if len({x.shape for x in inputs}) > 1:
        raise ShapeError(f"{kind} takes inputs of one shape, got {', '.join(str(x.shape) for x in inputs)}.")
    return reduce(combine, inputs)


@dataclass(frozen=True)
class Add(Layer):
    """The sum of its inputs, which have one shape.

    Examples
    --------
    >>> import numpy as np
    >>> Add().apply({}, {}, np.ones((2, 3)), np.ones((2, 3)))[0][0]
    array([2., 2., 2.])
    """

    name: str | None = None

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "sum"

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The sum."""
        return _merged("Add", inputs, lambda a, b: a + b)


@dataclass(frozen=True)
class Multiply(Layer):
    """The product of its inputs, which have one shape, element by element.

    Examples
    --------
    >>> import numpy as np
    >>> Multiply().apply({}, {}, np.full((2, 3), 2.0), np.full((2, 3), 3.0))[0][0]
    array([6., 6., 6.])
    """

    name: str | None = None

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "product"

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The product."""
        return _merged("Multiply", inputs, lambda a, b: a * b)


@dataclass(frozen=True)
class Concatenate(Layer):
    """Its inputs joined along an axis.

    Parameters
    ----------
    axis
        The axis to join along; 0 is that of the samples and cannot be joined.

    Examples
    --------
    >>> import numpy as np
    >>> Concatenate().apply({}, {}, np.zeros((5, 2)), np.zeros((5, 3)))[0].shape
    (5, 5)
    """

    axis: int = -1
    name: str | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.axis) or self.axis == 0:
            raise ArgumentError(f"{self.name or 'Concatenate'}: axis is a whole number other than 0 (the samples), got {self.axis!r}.")

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "joined"

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The joined inputs."""
        ndim = inputs[0].ndim if inputs else 0
        if len(inputs) < 2 or not -ndim < self.axis < ndim:
            raise ShapeError(
                f"Concatenate takes two inputs or more with an axis {self.axis} that is not the samples', "
                f"got {', '.join(str(x.shape) for x in inputs)}."
            )
        axis = self.axis % ndim
        if len({(*x.shape[:axis], *x.shape[axis + 1 :]) for x in inputs}) > 1:
            raise ShapeError(
                f"Concatenate takes inputs that differ in axis {self.axis} alone, got {', '.join(str(x.shape) for x in inputs)}."
            )
        return np.concatenate(inputs, axis=axis)


OPERATORS.fill({"+": Add, "*": Multiply})
