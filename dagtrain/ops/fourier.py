"""Discrete Fourier transforms along one axis, by NumPy's own kernels; `norm` says which of a pair divides, as in numpy.fft.

A transform is a symmetric matrix, so that its cotangents are transformed by the same one; those of real numbers are the real parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.elementwise import conjugate, real
from dagtrain.ops.record import Draw, Op, Sample, as_tensor, axis_of
from dagtrain.ops.shape import pad, slice_

__all__ = ["fft", "ifft", "irfft", "rfft"]

OTHER = {"backward": "forward", "ortho": "ortho", "forward": "backward"}
"""The `norm` by which the inverse transform has the factor of this one."""
Transform = Callable[..., Any]


def _spec(name: str, transform: Transform) -> Callable[..., Spec]:
    def infer(a: Spec, *, axis: int, norm: str, length: int | None = None) -> Spec:
        if not a.shape[axis] or length == 0:
            raise ShapeError(f"{name}: there is nothing to transform along axis {axis} of shape {a.shape}.")
        try:
            example = transform(np.zeros(2, a.dtype))
        except TypeError:
            raise DTypeError(f"{name} is not defined for {a.dtype}.") from None
        count = {"rfft": a.shape[axis] // 2 + 1, "irfft": length}.get(name, a.shape[axis])
        return Spec((*a.shape[:axis], count, *a.shape[axis + 1 :]), example.dtype)  # type: ignore[arg-type]  # irfft has a length

    return infer


def _op(name: str, transform: Transform, gradient: Any, *samples: Sample) -> Op:
    def kernel(a: Any, out: Any = None, *, axis: int, norm: str, length: int | None = None) -> Any:
        return transform(a, length, axis, norm, out=out)

    def flops(spec: Spec, a: Spec, *, axis: int, **_: Any) -> float:
        return 5.0 * spec.size * float(np.log2(max(a.shape[axis], 2)))

    return Op(name, kernel, _spec(name, transform), gradient, samples, flops=flops)


def _sample(shape: tuple[int, ...], axis: int, norm: str = "backward", **more: Any) -> Sample:
    return Sample((Draw(shape),), {"axis": axis, "norm": norm, **more})


def _rfft_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: int, norm: str) -> tuple[Tensor]:
    # The half that is left out has no cotangent.
    return (real(_fft(_of_length(g, a.shape[axis], axis), axis=axis, norm=norm)),)


def _irfft_gradient(g: Tensor, y: Tensor, a: Tensor, *, axis: int, norm: str, length: int) -> tuple[Tensor]:
    # All frequencies but the first, and the last of an even number, stand for two.
    count = length // 2 + 1
    twice = np.full(count, 2.0, real(a).dtype)
    twice[0] = 1
    if length % 2 == 0:
        twice[-1] = 1
    by_frequency = conjugate(_rfft(g, axis=axis, norm=OTHER[norm])) * twice.reshape(-1, *(1,) * (a.ndim - axis - 1))
    return (_of_length(by_frequency, a.shape[axis], axis),)


_SAMPLES = (_sample((3, 4), 1), _sample((5, 2), 0, "ortho"), _sample((5,), 0, "forward"))
_fft: Op = _op("fft", np.fft.fft, lambda g, y, a, *, axis, norm: (_fft(g, axis=axis, norm=norm),), *_SAMPLES)
_ifft: Op = _op("ifft", np.fft.ifft, lambda g, y, a, *, axis, norm: (_ifft(g, axis=axis, norm=norm),), *_SAMPLES)
_rfft: Op = _op("rfft", np.fft.rfft, _rfft_gradient, *_SAMPLES)
_irfft: Op = _op("irfft", np.fft.irfft, _irfft_gradient, _sample((3, 4), 1, length=6), _sample((3, 2), 0, "forward", length=5))


def _of_length(a: Tensor, length: int, axis: int) -> Tensor:
    """The first elements along an axis, with zeros behind them where there are too few."""
    if a.shape[axis] >= length:
        return slice_(a, tuple(slice(0, length if i == axis else None) for i in range(a.ndim)))
    return pad(a, [(0, length - n if i == axis else 0) for i, n in enumerate(a.shape)])


def _transform(op: Op, a: Any, n: int | None, axis: int, norm: str | None) -> Tensor:
    a = as_tensor(a)
    place = axis_of(op.name, axis, a.ndim)
    norm = norm or "backward"
    one_of(f"norm of {op.name}", norm, OTHER)
    if op is _irfft:
        length = 2 * (a.shape[place] - 1) if n is None else n
        if length < 1:
            raise ShapeError(f"irfft: {length} numbers are none; give n.")
        return op(_of_length(a, length // 2 + 1, place), axis=place, norm=norm, length=length)
    return op(a if n is None else _of_length(a, n, place), axis=place, norm=norm)


def fft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """numpy.fft.fft."""
    return _transform(_fft, a, n, axis, norm)


def ifft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """numpy.fft.ifft."""
    return _transform(_ifft, a, n, axis, norm)


def rfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """numpy.fft.rfft."""
    return _transform(_rfft, a, n, axis, norm)


def irfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """numpy.fft.irfft."""
    return _transform(_irfft, a, n, axis, norm)
