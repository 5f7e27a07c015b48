"""Convolution over one, two or more axes, and its two gradients: three ops that are each other's derivatives.

    y  = conv(x, kernel)                        Σ over taps and channels
    x' = conv_by_input(g, kernel)               also called transposed convolution
    k' = conv_by_kernel(x, g)

All three are one form, linear in each of x, kernel and g: the derivative of one by either input is another one. Arrays are
(samples, *lengths, channels) and kernels (*window, channels of a group, filters); the filters of a group lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor, make_spec
from dagtrain.ops import conv_kernels, depthwise_kernels, winograd
from dagtrain.ops.conv_kernels import Shapes
from dagtrain.ops.record import Draw, Kernel, Op, Sample
from dagtrain.ops.reduce import in_single
from dagtrain.ops.windows import Lengths, Padding, counts_of

__all__ = ["conv", "conv_by_input", "conv_by_kernel", "pays_by_tiles", "tiled_conv", "tiled_conv_by_input"]


def _check(name: str, a: Spec, kernel: Lengths, groups: int) -> None:
    if len(kernel) != a.ndim or a.ndim < 3:
        raise ShapeError(
            f"{name}: shapes {a.shape} and {kernel} do not belong together: one is (samples, *lengths, channels), the kernel "
            "(*window, channels, filters) with as many axes in its window as there are lengths."
        )
    if kernel[-1] % groups:
        raise ShapeError(f"{name}: {kernel[-1]} filters do not divide into {groups} groups.")


def _dtype(name: str, *specs: Spec) -> Any:
    dtype = np.result_type(*(spec.dtype for spec in specs))
    if dtype.kind not in "fc":
        raise DTypeError(f"{name} is defined for floats, not {dtype}. Cast with x.astype(np.float32) first.")
    return dtype


@lru_cache(maxsize=1024)
def _shapes(
    samples: int,
    lengths: Lengths,
    kernel: Lengths,
    counts: Lengths | None,
    strides: Lengths,
    padding: Padding,
    dilation: Lengths,
    groups: int,
) -> Shapes:
    """The shapes for a kernel of this shape; `counts` derive from the rest."""
    *window, item, filters = kernel
    counts = counts_of("conv", lengths, tuple(window), strides, padding, dilation) if counts is None else counts
    return Shapes(samples, lengths, item * groups, tuple(window), filters, groups, counts, strides, padding, dilation)


def _forward_shapes(x: Any, kernel: Any, **geometry: Any) -> Shapes:
    return _shapes(x.shape[0], x.shape[1:-1], kernel.shape, None, **geometry)


def _input_shapes(g: Any, kernel: Any, lengths: Lengths, **geometry: Any) -> Shapes:
    return _shapes(g.shape[0], lengths, kernel.shape, g.shape[1:-1], **geometry)


def _kernel_shapes(x: Any, g: Any, window: Lengths, **geometry: Any) -> Shapes:
    kernel = (*window, x.shape[-1] // geometry["groups"], g.shape[-1])
    return _shapes(x.shape[0], x.shape[1:-1], kernel, g.shape[1:-1], **geometry)


_FORMS: dict[str, tuple[Callable[..., Shapes], Callable[[Shapes], Lengths]]] = {
    "forward": (_forward_shapes, lambda s: (s.samples, *s.counts, s.filters)),
    "by_input": (_input_shapes, lambda s: (s.samples, *s.lengths, s.channels)),
    "by_kernel": (_kernel_shapes, lambda s: (*s.window, s.channels // s.groups, s.filters)),
}
"""By the name of a kernel, the shapes for its two arrays, and the shape of its result."""


def _kernel(name: str, module: Any = None) -> Kernel:
    """NumPy's kernel of this name, by default of the module for the shapes; sums of float16 are accumulated in float32."""
    shapes, result = _FORMS[name]

    def find(name: str, s: Shapes) -> Any:
        return getattr(module or (depthwise_kernels if s.is_depthwise else conv_kernels), name)

    def call(a: Any, b: Any, out: Any = None, scratch: Any = None, **attributes: Any) -> Any:
        dtype = np.result_type(a, b)
        if dtype == np.float16:
            return in_single(call, (a, b), out, **attributes)
        s = shapes(a, b, **attributes)
        return find(name, s)(a, b, np.empty(result(s), dtype) if out is None else out, scratch, s)

    def scratch(a: Spec, b: Spec, **attributes: Any) -> Any:
        s = shapes(a, b, **attributes)
        return find(f"{name}_scratch", s)(s, np.result_type(a.dtype, b.dtype))

    return Kernel(call, scratch=scratch)


def _conv_spec(x: Spec, kernel: Spec, *, strides: Lengths, padding: Padding, dilation: Lengths, groups: int) -> Spec:
    _check("conv", x, kernel.shape, groups)
    if kernel.shape[-2] * groups != x.shape[-1]:
        raise ShapeError(
            f"conv: a kernel of shape {kernel.shape} takes {kernel.shape[-2] * groups} channels"
            f"{f' in {groups} groups' if groups > 1 else ''}, and x of shape {x.shape} has {x.shape[-1]}."
        )
    counts = counts_of("conv", x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
    return make_spec((x.shape[0], *counts, kernel.shape[-1]), _dtype("conv", x, kernel))


_PLAIN: dict[str, Any] = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
_LINE: dict[str, Any] = {"strides": (2,), "padding": ((1, 2),), "dilation": (2,), "groups": 1}
_PADDED: dict[str, Any] = {"strides": (1, 2), "padding": ((1, 1), (2, 0)), "dilation": (1, 1), "groups": 2}
_DEPTHWISE: dict[str, Any] = {"strides": (1, 1), "padding": ((1, 0), (0, 1)), "dilation": (1, 1), "groups": 3}
_SOLID: dict[str, Any] = {"strides": (1, 2, 1), "padding": ((0, 0), (1, 0), (0, 0)), "dilation": (1, 1, 2), "groups": 1}

_CASES = (
    ((2, 4, 5, 2), (3, 2, 2, 3), (2, 2, 4, 3), _PLAIN),
    ((2, 3, 2, 2), (1, 1, 2, 3), (2, 3, 2, 3), _PLAIN),
    ((2, 7, 2), (3, 2, 3), (2, 3, 3), _LINE),
    ((1, 3, 4, 4), (3, 3, 2, 4), (1, 3, 2, 4), _PADDED),
    ((2, 3, 4, 3), (2, 3, 1, 3), (2, 3, 3, 3), _DEPTHWISE),
    ((1, 2, 3, 4, 1), (2, 2, 2, 1, 2), (1, 1, 2, 2, 2), _SOLID),
)
"""Shapes of x, kernel and y, and the attributes."""

conv: Op = Op(
    "conv",
    _kernel("forward"),
    _conv_spec,
    lambda g, y, x, kernel, **attributes: (
        conv_by_input(g, kernel, lengths=x.shape[1:-1], **attributes),
        conv_by_kernel(x, g, window=kernel.shape[:-2], **attributes),
    ),
    tuple(Sample((Draw(x), Draw(kernel)), attributes) for x, kernel, _, attributes in _CASES),
    macs=lambda spec, x, kernel, **_: float(spec.size * math.prod(kernel.shape[:-1])),
)

# ---- the gradient by x


def _input_spec(g: Spec, kernel: Spec, *, lengths: Lengths, strides: Lengths, padding: Padding, dilation: Lengths, groups: int) -> Spec:
    _check("conv_by_input", g, kernel.shape, groups)
    counts = counts_of("conv_by_input", lengths, kernel.shape[:-2], strides, padding, dilation)
    if (*counts, kernel.shape[-1]) != g.shape[1:]:
        raise ShapeError(
            f"conv_by_input: a convolution of the lengths {lengths} by a kernel of shape {kernel.shape} gives "
            f"{(*counts, kernel.shape[-1])} for each sample, and g has the shape {g.shape}."
        )
    return make_spec((g.shape[0], *lengths, kernel.shape[-2] * groups), _dtype("conv_by_input", g, kernel))


def _input_gradient(h: Tensor, y: Tensor, g: Tensor, kernel: Tensor, *, lengths: Lengths, **attributes: Any) -> tuple[Tensor, Tensor]:
    return conv(h, kernel, **attributes), conv_by_kernel(h, g, window=kernel.shape[:-2], **attributes)


conv_by_input: Op = Op(
    "conv_by_input",
    _kernel("by_input"),
    _input_spec,
    _input_gradient,
    tuple(Sample((Draw(y), Draw(kernel)), {"lengths": x[1:-1], **attributes}) for x, kernel, y, attributes in _CASES),
    macs=lambda spec, g, kernel, **_: float(g.size * math.prod(kernel.shape[:-1])),
)

# ---- the gradient by the kernel


def _kernel_spec(x: Spec, g: Spec, *, window: Lengths, strides: Lengths, padding: Padding, dilation: Lengths, groups: int) -> Spec:
    if x.shape[-1] % groups:
        raise ShapeError(f"conv_by_kernel: {x.shape[-1]} channels do not divide into {groups} groups.")
    kernel = (*window, x.shape[-1] // groups, g.shape[-1])
    _check("conv_by_kernel", x, kernel, groups)
    counts = counts_of("conv_by_kernel", x.shape[1:-1], window, strides, padding, dilation)
    if (x.shape[0], *counts) != g.shape[:-1]:
        raise ShapeError(f"conv_by_kernel: windows {window} over x of shape {x.shape} do not give g of shape {g.shape}.")
    return make_spec(kernel, _dtype("conv_by_kernel", x, g))


def _kernel_gradient(h: Tensor, y: Tensor, x: Tensor, g: Tensor, *, window: Lengths, **attributes: Any) -> tuple[Tensor, Tensor]:
    return conv_by_input(g, h, lengths=x.shape[1:-1], **attributes), conv(x, h, **attributes)


conv_by_kernel: Op = Op(
    "conv_by_kernel",
    _kernel("by_kernel"),
    _kernel_spec,
    _kernel_gradient,
    tuple(Sample((Draw(x), Draw(y)), {"window": kernel[:-2], **attributes}) for x, kernel, y, attributes in _CASES),
    macs=lambda spec, x, g, **_: float(g.size * math.prod(spec.shape[:-1])),
)

# ---- in tiles, approximately


def _in_tiles(a: Any, kernel: Any, attributes: Any) -> Shapes | None:
    """The shapes of what `tiled_conv` computes, or `tiled_conv_by_input` where the attributes have `lengths`."""
    return _input_shapes(a, kernel, **attributes).turned if "lengths" in attributes else _forward_shapes(a, kernel, **attributes)


def pays_by_tiles(a: Any, kernel: Any, attributes: Any) -> bool:
    """Whether `tiled_conv`, or `tiled_conv_by_input` where the attributes have `lengths`, is faster, in float32."""
    s = _in_tiles(a, kernel, attributes)
    return np.result_type(a.dtype, kernel.dtype) == np.float32 and s is not None and winograd.pays(s)


def _tiled(op: Op, kernel: str, x: Lengths, lengths: dict[str, Lengths]) -> Op:
    """The record of an op in tiles."""
    name = f"tiled_{op.name}"

    def infer(a: Spec, kernel: Spec, **attributes: Any) -> Spec:
        spec, s = op.infer(a, kernel, **attributes), _in_tiles(a, kernel, attributes)
        if s is None or not winograd.is_possible(s):
            raise ShapeError(f"{name} takes windows of 3 by 3 side by side, and lengths of the result that 4 divides.")
        return spec

    sample = Sample((Draw(x), Draw((3, 3, 2, 3))), {**lengths, **_PLAIN, "padding": ((1, 1), (1, 1))})
    return Op(name, _kernel(kernel, winograd), infer, op.gradient, (sample,), macs=op.macs)


tiled_conv = _tiled(conv, "forward", (2, 4, 8, 2), {})
tiled_conv_by_input = _tiled(conv_by_input, "by_input", (2, 4, 8, 3), {"lengths": (4, 8)})
