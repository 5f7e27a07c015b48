"""NumPy's Fourier transforms: several axes are one after the other, in NumPy's order, so that the bits are NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.graph import Tensor
from dagtrain.numpy_api.calls import implements
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import conjugate
from dagtrain.ops.fourier import OTHER, fft, ifft, irfft, rfft
from dagtrain.ops.record import axes_of
from dagtrain.ops.shape import roll

implements(np.fft.fft)(fft)
implements(np.fft.ifft)(ifft)
implements(np.fft.rfft)(rfft)
implements(np.fft.irfft)(irfft)


@implements(np.fft.hfft)
def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    return irfft(conjugate(as_tensor(a)), n, axis, OTHER.get(norm or "backward", norm))


@implements(np.fft.ihfft)
def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    return conjugate(rfft(a, n, axis, OTHER.get(norm or "backward", norm)))


def _lengths(name: str, a: Tensor, s: Any, axes: Any) -> tuple[list[int | None], list[int]]:
    """A length for each axis, None for that of a complete transform; and the axes. In `s`, -1 is the length that an axis has."""
    if axes is None:
        axes = range(-len(s), 0) if s is not None else range(a.ndim)
    if isinstance(axes, int | np.integer):
        raise ShapeError(f"np.fft.{name}: axes={axes} is one number; give a tuple of axes.")
    places = list(axes)
    if not places or (s is not None and len(s) != len(places)):
        raise ShapeError(f"np.fft.{name}: {0 if s is None else len(s)} lengths for the axes {tuple(places)}.")
    for place in places:
        axes_of(name, place, a.ndim)
    lengths = [None] * len(places) if s is None else [a.shape[place] if n == -1 else n for n, place in zip(s, places, strict=True)]
    return lengths, places


def _each(transform: Callable[..., Tensor], a: Tensor, pairs: Sequence[tuple[int | None, int]], norm: str | None) -> Tensor:
    for n, axis in pairs:
        a = transform(a, n, axis, norm)
    return a


def _several(name: str, transform: Callable[..., Tensor], default: Any) -> None:
    def complete(a: Any, s: Any = None, axes: Any = default, norm: str | None = None) -> Tensor:
        a = as_tensor(a)
        pairs = list(zip(*_lengths(name, a, s, axes), strict=True))
        return _each(transform, a, pairs[::-1], norm)

    implements(getattr(np.fft, name))(complete)


def _several_real(name: str, default: Any) -> None:
    def forward(a: Any, s: Any = None, axes: Any = default, norm: str | None = None) -> Tensor:
        a = as_tensor(a)
        *others, (n, axis) = zip(*_lengths(name, a, s, axes), strict=True)
        return _each(fft, rfft(a, n, axis, norm), others[::-1], norm)

    def back(a: Any, s: Any = None, axes: Any = default, norm: str | None = None) -> Tensor:
        a = as_tensor(a)
        *others, (n, axis) = zip(*_lengths(name, a, s, axes), strict=True)
        return irfft(_each(ifft, a, others, norm), n, axis, norm)

    implements(getattr(np.fft, name))(back if name.startswith("i") else forward)


for _suffix, _default in (("2", (-2, -1)), ("n", None)):
    _several("fft" + _suffix, fft, _default)
    _several("ifft" + _suffix, ifft, _default)
    _several_real("rfft" + _suffix, _default)
    _several_real("irfft" + _suffix, _default)


@implements(np.fft.fftshift)
def fftshift(x: Any, axes: Any = None) -> Tensor:
    return _shifted(as_tensor(x), axes, lambda n: n // 2)


@implements(np.fft.ifftshift)
def ifftshift(x: Any, axes: Any = None) -> Tensor:
    return _shifted(as_tensor(x), axes, lambda n: -(n // 2))


def _shifted(a: Tensor, axes: Any, by: Callable[[int], int]) -> Tensor:
    places = axes_of("fftshift", axes, a.ndim)
    return roll(a, [by(a.shape[i]) for i in places], list(places)) if places else a
