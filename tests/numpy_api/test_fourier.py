"""NumPy's Fourier transforms: values and errors are NumPy's, gradients those of differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, ShapeError, UnknownNameError

from ..each import each

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(3, 4, 5))
COMPLEX = REAL + 1j * RNG.normal(size=REAL.shape)
LINES = [{}, {"n": 3}, {"n": 8, "axis": 0}, {"axis": 1, "norm": "ortho"}, {"n": 6, "norm": "forward"}, {"norm": None}]
GRIDS: list[dict[str, Any]] = [{}, {"s": (2, 7)}, {"axes": (0, 2)}, {"s": (4, 3), "axes": (1, 0), "norm": "ortho"}]
CASES = [
    *((name, x, options) for name in ("fft", "ifft", "irfft", "hfft") for x in (REAL, COMPLEX, COMPLEX.astype("c8")) for options in LINES),
    *((name, x, options) for name in ("rfft", "ihfft") for x in (REAL, REAL.astype("f4")) for options in LINES),
    *((name, COMPLEX, options) for name in ("fft2", "ifft2", "irfft2") for options in GRIDS),
    *((name, COMPLEX, options) for name in ("fftn", "ifftn", "irfftn") for options in ({}, {"s": (2, 6), "axes": (0, 1)}, {"axes": (1,)})),
    *((name, REAL, options) for name in ("rfft2", "rfftn") for options in GRIDS if name == "rfft2" or "axes" in options or not options),
    *((name, COMPLEX, options) for name in ("fftshift", "ifftshift") for options in ({}, {"axes": 1}, {"axes": (0, 2)})),
]


FUNCTIONS = {getattr(np.fft, name) for name, _, _ in CASES}


@each(CASES)
def test_values_are_those_of_numpy_and_gradients_those_of_the_linear_map(name: str, x: Any, options: dict[str, Any]) -> None:
    function = getattr(np.fft, name)
    expected = function(x, **options)
    value = function(dt.array(x), **options).compute()
    assert value.dtype == expected.dtype
    assert value.tobytes() == np.ascontiguousarray(expected).tobytes()
    if x.dtype.itemsize < 8 or x.dtype == np.complex64:
        return
    # For a linear map, the change along v is the map of v, whatever the point.
    v = np.cos(x)
    u = RNG.normal(size=expected.shape) + (1j * RNG.normal(size=expected.shape) if np.iscomplexobj(expected) else 0)
    (g,) = dt.grad(np.sum(np.real(function(leaf := dt.array(x), **options) * u)), [leaf])
    change = np.sum(np.real(function(v, **options) * u))
    np.testing.assert_allclose(np.sum(np.real(g.compute() * v)), change, rtol=1e-10, atol=1e-12)


def test_transforms_in_costs_with_second_derivatives_and_many_rows() -> None:
    def power(x: Any) -> Any:
        return np.sum(np.abs(np.fft.rfft(x)) ** 4)

    assert dt.gradcheck(power, REAL[0])
    np.testing.assert_allclose(dt.vmap(np.fft.fft, in_axes=1, out_axes=1)(REAL), np.fft.fft(REAL))
    np.testing.assert_allclose(dt.vmap(dt.grad(power))(REAL[0]), dt.grad(power)(REAL[0]), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: np.fft.rfft(x * 1j), DTypeError, "rfft is not defined for complex128"),
        (lambda x: np.fft.fft(x, n=0), ShapeError, "nothing to transform"),
        (lambda x: np.fft.irfft(x[..., :1]), ShapeError, "give n"),
        (lambda x: np.fft.fft(x, norm="orto"), UnknownNameError, "Did you mean 'ortho'"),
        (lambda x: np.fft.fft(x, axis=3), ShapeError, "axis 3"),
        (lambda x: np.fft.fft2(x, s=(1, 2, 3)), ShapeError, "3 lengths"),
    ],
)
def test_wrong_calls_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(dt.array(REAL))
