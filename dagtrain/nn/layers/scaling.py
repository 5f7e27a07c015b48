"""Layers that bring inputs to a common scale by numbers that are known before training, and logits to theirs after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.arguments import is_number
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values, floating

__all__ = ["Normalization", "Rescaling", "Temperature"]


@dataclass(frozen=True)
class Rescaling(Layer):
    """``x * scale + offset``: pixels from 0 to 255 become numbers from 0 to 1 by ``Rescaling(1 / 255)``.

    Raises
    ------
    ArgumentError
        If `scale` or `offset` is no finite number.

    Examples
    --------
    >>> import numpy as np
    >>> Rescaling(1 / 255).apply({}, {}, np.array([[0, 255]], "u1"))[0]
    array([[0., 1.]], dtype=float32)
    """

    scale: float
    offset: float = 0.0
    name: str | None = None
    per_position = True

    def __post_init__(self) -> None:
        for argument, value in (("scale", self.scale), ("offset", self.offset)):
            if not is_number(value) or not np.isfinite(value):
                raise ArgumentError(f"{self.name or 'Rescaling'}: {argument} is a finite number, got {value!r}.")

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"× {self.scale:.3g}" + (f" + {self.offset:.3g}" if self.offset else "")

    def forward(self, c: Context, x: Values) -> Values:
        """The numbers in the new scale."""
        y = floating(x, c.dtype) * self.scale
        return y + self.offset if self.offset else y


@dataclass(frozen=True)
class Normalization(Layer):
    """``(x - mean) / sqrt(variance)`` by the mean and variance of the data, which `dagtrain.data.moments` computes where it lies.

    A variance of 0 counts as 1, so a constant feature becomes 0.

    Parameters
    ----------
    mean, variance
        Arrays (or nested tuples) of the lengths of the axes.
    axis
        The axis or axes with a mean of their own, as given to `moments`: the last one by default; None for one mean of all numbers.
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If they are no finite numbers of one shape, or a variance is negative.
    ShapeError
        If they do not fit the axes of the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from dagtrain.data import moments
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]], "f4")
    >>> statistics = moments(x)
    >>> Normalization(statistics.mean, statistics.variance).apply({}, {}, x)[0]
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """

    mean: Any = None
    variance: Any = None
    axis: int | tuple[int, ...] | None = -1
    name: str | None = None
    detail = "mean 0, variance 1"

    def __post_init__(self) -> None:
        kind = self.name or "Normalization"
        if self.mean is None or self.variance is None:
            raise ArgumentError(
                f"{kind} takes the mean and the variance of the data: statistics = dagtrain.data.moments(x), then "
                "Normalization(statistics.mean, statistics.variance)."
            )
        try:
            mean, variance = np.asarray(self.mean, np.float64), np.asarray(self.variance, np.float64)
        except (TypeError, ValueError):
            raise ArgumentError(f"{kind}: mean and variance are numbers, got {self.mean!r} and {self.variance!r}.") from None
        if mean.shape != variance.shape or not np.all(np.isfinite(mean) & np.isfinite(variance) & (variance >= 0)):
            raise ArgumentError(
                f"{kind}: mean and variance are finite numbers of one shape, the variance not negative; got shapes {mean.shape} and "
                f"{variance.shape}."
            )
        object.__setattr__(self, "mean", _nest(mean.tolist()))  # settings are compared, and described in checkpoints
        object.__setattr__(self, "variance", _nest(variance.tolist()))

    def forward(self, c: Context, x: Values) -> Values:
        """The normalised inputs."""
        x, mean, variance = floating(x, c.dtype), np.asarray(self.mean), np.asarray(self.variance)
        axes = () if self.axis is None else self.axis if isinstance(self.axis, tuple | list) else (self.axis,)
        chosen = sorted({axis % x.ndim for axis in axes if -x.ndim <= axis < x.ndim})
        if len(chosen) < len(axes) or mean.shape != tuple(x.shape[axis] for axis in chosen):
            raise ShapeError(
                f"Normalization: mean of shape {mean.shape} does not fit the axes {self.axis} of x, of shape {tuple(x.shape)}."
            )
        shape = tuple(n if axis in chosen else 1 for axis, n in enumerate(x.shape))
        factor = (1 / np.sqrt(np.where(variance > 0, variance, 1))).reshape(shape).astype(x.dtype)
        return (x - mean.reshape(shape).astype(x.dtype)) * factor


@dataclass(frozen=True)
class Temperature(Layer):
    """The last layer of a calibrated model: ``logits / temperature``, outside training.

    It does nothing until `dagtrain.calibrate` fits the temperature on data that was held out of training. The order of the classes of a
    sample stays. Probabilities then say how often the labels come true. Source: Guo et al., "On calibration of modern neural networks",
    arXiv:1706.04599, section 4.2.

    Parameters
    ----------
    offset
        Whether a number is fitted that is added, too, for logits of two classes: after a loss that weighs positive samples otherwise than
        negative ones, all probabilities are too high or too low. Source: Platt, "Probabilistic outputs for support vector machines" (1999).
    name
        Name in states, errors and pictures.

    Examples
    --------
    >>> import numpy as np
    >>> Temperature().apply({}, {"temperature": np.float32(2.0)}, np.array([[3.0], [-1.0]], "f4"))[0].tolist()
    [[1.5], [-0.5]]
    """

    offset: bool = False
    name: str | None = None
    detail = "after training"

    def forward(self, c: Context, x: Values) -> Values:
        """The logits in training, the calibrated ones else."""
        temperature = c.state("temperature", (), "ones", reduce="first")
        offset = c.state("offset", (), reduce="first") if self.offset else None
        if c.training:
            return x
        y = x / temperature
        return y if offset is None else y + offset


def _nest(values: Any) -> Any:
    return tuple(map(_nest, values)) if isinstance(values, list) else values
