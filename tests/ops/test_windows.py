"""Convolution and pooling in many geometries, and in arrays that are larger than the blocks they are worked on in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, ShapeError
from dagtrain.ops import OPS

from ..each import each
from . import window_references as references

Geometry = dict[str, Any]


def drawn(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...], Geometry]:
    """Shapes of x and of a kernel, with a geometry that has room for a window."""
    axes = int(rng.integers(1, 4))
    window = tuple(int(n) for n in rng.integers(1, 5, axes))
    dilation = tuple(int(n) for n in rng.integers(1, 3, axes))
    padding = tuple((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in window)
    reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    lengths = [max(1, r - sum(pads)) + int(rng.integers(0, 6)) for r, pads in zip(reach, padding, strict=True)]
    groups, item, multiplier = (int(n) for n in rng.integers(1, 4, 3))
    strides = tuple(int(n) for n in rng.integers(1, 4, axes))
    geometry = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    return (int(rng.integers(1, 4)), *lengths, groups * item), (*window, item, groups * multiplier), geometry


def check_conv(x: Any, kernel: Any, geometry: Geometry, expected: Any) -> None:
    """The result, and both gradients: the form is linear in each of x, kernel and g."""
    np.testing.assert_allclose(OPS["conv"].kernel(x, kernel, **geometry), expected, rtol=1e-11, atol=1e-11)
    g = np.random.default_rng(1).normal(size=expected.shape)
    value = float(np.vdot(expected, g))
    by_x = OPS["conv_by_input"].kernel(g, kernel, lengths=x.shape[1:-1], **geometry)
    by_kernel = OPS["conv_by_kernel"].kernel(x, g, window=kernel.shape[:-2], **geometry)
    assert float(np.vdot(x, by_x)) == pytest.approx(value, rel=1e-10, abs=1e-8)
    assert float(np.vdot(kernel, by_kernel)) == pytest.approx(value, rel=1e-10, abs=1e-8)


def test_convolution_in_many_geometries(thorough: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000 if thorough else 100):
        of_x, of_kernel, geometry = drawn(rng)
        x, kernel = rng.normal(size=of_x), rng.normal(size=of_kernel)
        check_conv(x, kernel, geometry, references.conv(x, kernel, **geometry))


@each([((3, 3, 16, 6), 1, 1), ((3, 3, 16, 6), 1, 2), ((3, 3, 8, 6), 2, 1), ((3, 3, 1, 16), 16, 1), ((3, 3, 1, 32), 16, 2)])
def test_convolution_of_more_than_one_block(of_kernel: tuple[int, ...], groups: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(3, 63, 64, 16)), rng.normal(size=of_kernel)
    expected: Any = 0
    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i, j in np.ndindex(3, 3):
        part = around[:, i : i + 63 : stride, j : j + 64 : stride]
        pairs = zip(np.split(part, groups, -1), np.split(kernel[i, j], groups, -1), strict=True)
        expected = expected + np.concatenate([a @ k for a, k in pairs], -1)
    geometry = {"strides": (stride,) * 2, "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": groups}
    check_conv(x, kernel, geometry, expected)


def check_pools(x: Any, geometry: Geometry) -> None:
    values, positions = OPS["max_pool"].kernel(x, **geometry)
    alone = np.empty_like(values)
    OPS["max_pool"].kernel(x, out=(alone, None), **geometry)
    np.testing.assert_array_equal(values, references.max_pool(x, **geometry))
    np.testing.assert_array_equal(alone, values)
    np.testing.assert_array_equal(positions, references.max_positions(x, **geometry))
    picked = OPS["max_pick"].kernel(x, positions, **geometry)
    np.testing.assert_array_equal(picked, values)
    g = np.random.default_rng(1).normal(size=values.shape)
    back = OPS["max_unpool"].kernel(g, positions, lengths=x.shape[1:-1], **geometry)
    assert float(np.vdot(back, x)) == pytest.approx(float(np.vdot(g, values)), rel=1e-10, abs=1e-8)
    sums = OPS["sum_pool"].kernel(x, **geometry)
    np.testing.assert_allclose(sums, references.sum_pool(x, **geometry), rtol=1e-11, atol=1e-11)
    back = OPS["sum_unpool"].kernel(g, lengths=x.shape[1:-1], **geometry)
    assert float(np.vdot(back, x)) == pytest.approx(float(np.vdot(g, sums)), rel=1e-10, abs=1e-8)


def test_pools_in_many_geometries_with_equal_elements(thorough: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000 if thorough else 100):
        of_x, of_kernel, geometry = drawn(rng)
        window = of_kernel[:-2]
        lengths = [max(n, k) for n, k in zip(of_x[1:-1], window, strict=True)]
        x = rng.integers(-2, 2, (of_x[0], *lengths, of_x[-1])).astype("f8")
        check_pools(x, {"window": window, "strides": geometry["strides"], "padding": geometry["padding"]})


@each([((2, 2), (2, 2), ((0, 0), (0, 0))), ((3, 3), (2, 2), ((1, 1), (0, 1)))])
def test_pools_of_more_than_one_block(window: Any, strides: Any, padding: Any) -> None:
    x = np.random.default_rng(0).integers(-3, 3, (5, 64, 64, 16)).astype("f8")
    check_pools(x, {"window": window, "strides": strides, "padding": padding})


def test_a_window_of_more_than_a_byte_of_positions() -> None:
    x = np.random.default_rng(0).normal(size=(2, 20, 20, 2))
    check_pools(x, {"window": (17, 17), "strides": (3, 3), "padding": ((8, 8), (0, 5))})


def test_more_windows_than_elements() -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 2, 2, 2))
    check_pools(x, {"window": (2, 2, 2), "strides": (1, 1, 1), "padding": ((1, 1),) * 3})


def test_windows_of_infinities_and_of_nan() -> None:
    x = np.full((1, 3, 1), -np.inf)
    values, positions = dt.nn.spatial.max_pool(x, 2, 1, padding=1, positions=True)
    assert values.ravel().tolist() == [-np.inf] * 4
    assert positions.ravel().tolist() == [1, 0, 0, 0]  # elements of x, not of the padding
    assert np.isnan(dt.nn.spatial.max_pool(np.array([1.0, np.nan, 2.0, 3.0]).reshape(1, 4, 1), 2).ravel()).tolist() == [True, False]


def test_sums_of_float16_are_accumulated_in_float32() -> None:
    x = np.full((1, 30, 30, 1), 500.0, "f2")
    assert dt.nn.spatial.average_pool(x, 30).ravel().tolist() == [500]  # whose sum is no float16
    kernel = np.full((30, 30, 1, 1), 1 / 900, "f2")
    y = dt.nn.spatial.conv(x, kernel)
    assert y.dtype == np.float16
    assert abs(float(y[0, 0, 0, 0]) - 500) < 1
    sums = OPS["sum_pool"].kernel(np.ones((1, 64, 64, 1), "f2"), window=(64, 64), strides=(1, 1), padding=((0, 0), (0, 0)))
    assert float(sums[0, 0, 0, 0]) == 4096  # in float16 a sum of ones ends at 2048


def test_no_samples_give_no_outputs() -> None:
    x, kernel = np.zeros((0, 8, 8, 3)), np.zeros((3, 3, 3, 4))
    assert dt.nn.spatial.conv(x, kernel).shape == (0, 6, 6, 4)
    assert dt.nn.spatial.max_pool(x, 2).shape == dt.nn.spatial.average_pool(x, 2).shape == (0, 4, 4, 3)


def test_whole_numbers_are_refused_and_shapes_are_named() -> None:
    with pytest.raises(DTypeError, match="conv is defined for floats, not int64"):
        dt.nn.spatial.conv(dt.input("x", (1, 4, 4, 1), "i8"), dt.input("k", (2, 2, 1, 1), "i8"))
    with pytest.raises(ShapeError, match=r"do not belong together.*\(\*window, channels, filters\)"):
        OPS["conv"](dt.input("x", (1, 4, 4, 1)), dt.input("k", (2, 1, 1)), strides=(1,), padding=((0, 0),), dilation=(1,), groups=1)
