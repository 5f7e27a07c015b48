"""Initialisers: first values of parameters, by name, as pure functions of a key.

    kernel of shape (..., fan-in channels, units):   fan_in  = channels × the leading axes (a convolution's window)
                                                     fan_out = units    × the leading axes

The counter-based generator Philox draws float64 numbers from the key, which are rounded to `dtype`: one key, one array. `orthogonal`
uses LAPACK, so its bits are the same only where LAPACK is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.arguments import not_negative
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Array
from dagtrain.nn import hints
from dagtrain.registry import Registry

__all__ = [
    "INITIALIZERS",
    "Initializer",
    "fans",
    "find",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "zeros",
]

Shape = tuple[int, ...]
Initializer = Callable[..., Array]
"""``initializer(key, shape, dtype=np.float32) -> array``; any function of this form can stand for a name."""
INITIALIZERS: Registry[Initializer] = Registry("initialiser", hints.INITIALIZERS)


def fans(shape: Shape) -> tuple[int, int]:
    """The number of inputs of one unit (fan-in), and of units that one input feeds (fan-out).

    Examples
    --------
    >>> fans((64, 128)), fans((3, 3, 16, 32))
    ((64, 128), (144, 288))
    """
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _generator(key: Any) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.asarray(key, np.uint64)))


@INITIALIZERS.add
def zeros(key: Any, shape: Shape, dtype: Any = np.float32) -> Array:
    """All 0."""
    return np.zeros(shape, dtype)


@INITIALIZERS.add
def ones(key: Any, shape: Shape, dtype: Any = np.float32) -> Array:
    """All 1."""
    return np.ones(shape, dtype)


@INITIALIZERS.add
def uniform(key: Any, shape: Shape, dtype: Any = np.float32, *, limit: float = 0.05) -> Array:
    """Spread evenly over [-limit, limit).

    Examples
    --------
    >>> import dagtrain as dt
    >>> uniform(dt.key(0), (2, 2), limit=0.5).shape
    (2, 2)
    """
    not_negative("uniform: limit", limit)
    return _generator(key).uniform(-limit, limit, shape).astype(dtype)


@INITIALIZERS.add
def normal(key: Any, shape: Shape, dtype: Any = np.float32, *, std: float = 0.05) -> Array:
    """From the normal distribution around 0."""
    not_negative("normal: std", std)
    return (std * _generator(key).standard_normal(shape)).astype(dtype)


@INITIALIZERS.add
def truncated_normal(key: Any, shape: Shape, dtype: Any = np.float32, *, std: float = 0.05) -> Array:
    """From the normal distribution around 0; values beyond ``2 * std`` are drawn again, so the standard deviation is 0.88 of `std`."""
    not_negative("truncated_normal: std", std)
    generator = _generator(key)
    values = generator.standard_normal(shape)
    flat = values.reshape(-1)
    while (outside := np.flatnonzero(np.abs(flat) > 2)).size:
        flat[outside] = generator.standard_normal(outside.size)
    return (std * flat.reshape(shape)).astype(dtype)


@INITIALIZERS.add
def glorot_uniform(key: Any, shape: Shape, dtype: Any = np.float32) -> Array:
    """Evenly within ``sqrt(6 / (fan_in + fan_out))`` (Glorot and Bengio, AISTATS 2010, equation 16)."""
    return uniform(key, shape, dtype, limit=math.sqrt(6 / max(sum(fans(shape)), 1)))


@INITIALIZERS.add
def glorot_normal(key: Any, shape: Shape, dtype: Any = np.float32) -> Array:
    """Normal with variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, AISTATS 2010, equation 12)."""
    return normal(key, shape, dtype, std=math.sqrt(2 / max(sum(fans(shape)), 1)))


@INITIALIZERS.add
def he_uniform(key: Any, shape: Shape, dtype: Any = np.float32) -> Array:
    """Evenly within ``sqrt(6 / fan_in)``, for relu (He et al., arXiv:1502.01852, section 2.2)."""
    return uniform(key, shape, dtype, limit=math.sqrt(6 / max(fans(shape)[0], 1)))


@INITIALIZERS.add
def he_normal(key: Any, shape: Shape, dtype: Any = np.float32) -> Array:
    """Normal with variance ``2 / fan_in``, for relu (He et al., arXiv:1502.01852, equation 10)."""
    return normal(key, shape, dtype, std=math.sqrt(2 / max(fans(shape)[0], 1)))


@INITIALIZERS.add
def lecun_uniform(key: Any, shape: Shape, dtype: Any = np.float32) -> Array:
    """Evenly within ``sqrt(3 / fan_in)`` (LeCun et al., "Efficient BackProp", 1998, section 4.6)."""
    return uniform(key, shape, dtype, limit=math.sqrt(3 / max(fans(shape)[0], 1)))


@INITIALIZERS.add
def lecun_normal(key: Any, shape: Shape, dtype: Any = np.float32) -> Array:
    """Normal with variance ``1 / fan_in`` (LeCun et al., "Efficient BackProp", 1998, equation 16)."""
    return normal(key, shape, dtype, std=math.sqrt(1 / max(fans(shape)[0], 1)))


@INITIALIZERS.add
def orthogonal(key: Any, shape: Shape, dtype: Any = np.float32, *, gain: float = 1.0) -> Array:
    """Orthonormal columns (or rows, where there are fewer) once the leading axes are merged.

    Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning", arXiv:1312.6120.

    Raises
    ------
    ShapeError
        If the shape has fewer than two axes.

    Examples
    --------
    >>> import dagtrain as dt
    >>> q = orthogonal(dt.key(0), (4, 3), np.float64)
    >>> np.allclose(q.T @ q, np.eye(3))
    True
    """
    if len(shape) < 2:
        raise ShapeError(f"orthogonal needs a shape of at least two axes, got {shape}.")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(_generator(key).standard_normal((max(rows, columns), min(rows, columns))))
    # LAPACK chooses the signs of r's diagonal; without them q is uniformly distributed over the orthogonal matrices.
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


def find(initializer: str | Initializer) -> Initializer:
    """The initialiser of this name; a callable is returned unchanged.

    Raises
    ------
    UnknownNameError
        If there is no initialiser of this name.

    Examples
    --------
    >>> find("zeros")(None, (2,))
    array([0., 0.], dtype=float32)
    """
    if not isinstance(initializer, str) and not callable(initializer):
        example = "lambda key, shape, dtype: np.full(shape, 0.5, dtype)"
        raise ArgumentError(f"an initialiser is a name or a function (key, shape, dtype) -> array, as in {example}; got {initializer!r}.")
    return initializer if callable(initializer) else INITIALIZERS.find(initializer)
