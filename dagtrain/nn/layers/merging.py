"""Layers that make one value of several."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.symbolic import OPERATORS
from dagtrain.nn.values import Values, floating

__all__ = ["Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"]


@dataclass(frozen=True)
class _Merge(Layer):
    """A layer of several inputs of one shape, which joins each to those before it."""

    name: str | None = None
    detail: ClassVar[str]
    combine: ClassVar[Callable[..., Values]]

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The result, of the inputs' shape."""
        kind = type(self).__name__
        if len(inputs) < 2:
            raise ArgumentError(f"{kind} takes two inputs or more, as in {kind}()([a, b]), got {len(inputs)}.")
        if len({x.shape for x in inputs}) > 1:
            raise ShapeError(f"{kind} takes inputs of one shape, got {', '.join(str(x.shape) for x in inputs)}.")
        return reduce(type(self).combine, _alike(c, inputs))


def _alike(c: Context, inputs: Sequence[Values]) -> list[Values]:
    """Inputs in the floats of the model, if one of them is of floats."""
    return [floating(x, c.dtype) if any(one.dtype.kind == "f" for one in inputs) else x for x in inputs]


class Add(_Merge):
    """The sum of its inputs, which have one shape.

    Examples
    --------
    >>> import numpy as np
    >>> Add().apply({}, {}, np.ones((2, 3)), np.ones((2, 3)))[0][0]
    array([2., 2., 2.])
    """

    detail, combine = "sum", operator.add


class Subtract(_Merge):
    """The first of two inputs of one shape, less the second.

    Examples
    --------
    >>> import numpy as np
    >>> Subtract().apply({}, {}, np.ones((2, 3)), np.full((2, 3), 3.0))[0][0]
    array([-2., -2., -2.])
    """

    detail, combine = "difference", operator.sub

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The difference."""
        if len(inputs) != 2:
            raise ArgumentError(f"Subtract takes two inputs, as in Subtract()([a, b]), got {len(inputs)}.")
        return super().forward(c, *inputs)


class Multiply(_Merge):
    """The product of its inputs, which have one shape, element by element.

    Examples
    --------
    >>> import numpy as np
    >>> Multiply().apply({}, {}, np.full((2, 3), 2.0), np.full((2, 3), 3.0))[0][0]
    array([6., 6., 6.])
    """

    detail, combine = "product", operator.mul


class Average(_Merge):
    """The mean of its inputs, which have one shape, element by element.

    Examples
    --------
    >>> import numpy as np
    >>> Average().apply({}, {}, np.ones((2, 3)), np.full((2, 3), 2.0))[0][0]
    array([1.5, 1.5, 1.5])
    """

    detail, combine = "mean", operator.add

    def forward(self, c: Context, *inputs: Values) -> Values:
        """The mean."""
        floats = [floating(x, c.dtype) for x in inputs]
        return super().forward(c, *floats) * (1 / len(inputs))


class Maximum(_Merge):
    """The greatest of its inputs, which have one shape, element by element.

    Examples
    --------
    >>> import numpy as np
    >>> Maximum().apply({}, {}, np.array([[1.0, 5.0]]), np.array([[2.0, 3.0]]))[0]
    array([[2., 5.]])
    """

    detail, combine = "maximum", np.maximum


class Minimum(_Merge):
    """The least of its inputs, which have one shape, element by element.

    Examples
    --------
    >>> import numpy as np
    >>> Minimum().apply({}, {}, np.array([[1.0, 5.0]]), np.array([[2.0, 3.0]]))[0]
    array([[1., 3.]])
    """

    detail, combine = "minimum", np.minimum


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
    detail = "joined"

    def __post_init__(self) -> None:
        if not is_whole(self.axis) or self.axis == 0:
            raise ArgumentError(f"{self.name or 'Concatenate'}: axis is a whole number other than 0 (the samples), got {self.axis!r}.")

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
        return np.concatenate(_alike(c, inputs), axis=axis)


OPERATORS.fill({"+": Add, "-": Subtract, "*": Multiply})
