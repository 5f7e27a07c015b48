"""The windows of an array side by side, and their sum at the places that they come from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.graph import Spec, make_spec
from dagtrain.ops.record import Draw, Op, Sample
from dagtrain.ops.windows import Lengths, Padding, counts_of, taps

__all__ = ["patches", "patches_transpose"]


def _counts(name: str, lengths: Lengths, window: Lengths, strides: Lengths, padding: Padding, dilation: Lengths) -> Lengths:
    if len(lengths) != len(window):
        raise ShapeError(f"{name}: a window of {len(window)} axes takes (samples, *lengths, channels) with as many lengths, got {lengths}.")
    return counts_of(name, lengths, window, strides, padding, dilation)


def _by_tap(a: Any, window: Lengths) -> Any:
    """Patches as (samples, *counts, *window, channels)."""
    return a.reshape(*a.shape[:-1], *window, a.shape[-1] // math.prod(window))


def _spec(x: Spec, *, window: Lengths, **geometry: Any) -> Spec:
    counts = _counts("patches", x.shape[1:-1], window, **geometry)
    return make_spec((x.shape[0], *counts, math.prod(window) * x.shape[-1]), x.dtype)


def _kernel(x: Any, out: Any = None, *, window: Lengths, **geometry: Any) -> Any:
    counts = _counts("patches", x.shape[1:-1], window, **geometry)
    out = np.empty((x.shape[0], *counts, math.prod(window) * x.shape[-1]), x.dtype) if out is None else out
    if any(map(any, geometry["padding"])):
        out[...] = 0
    by_tap = _by_tap(out, window)
    for tap in taps(x.shape[1:-1], counts, window, **geometry):
        by_tap[:, *tap.windows, *tap.place] = x[:, *tap.elements]
    return out


patches: Op = Op(
    "patches",
    _kernel,
    _spec,
    lambda g, y, x, **attributes: (patches_transpose(g, lengths=x.shape[1:-1], **attributes),),
    (
        Sample((Draw((2, 4, 3, 2)),), {"window": (2, 2), "strides": (1, 2), "padding": ((1, 0), (0, 1)), "dilation": (2, 1)}),
        Sample((Draw((2, 5, 2)),), {"window": (3,), "strides": (2,), "padding": ((0, 0),), "dilation": (1,)}),
    ),
    flops=lambda *_, **__: 0.0,
)


def _transpose_spec(g: Spec, *, lengths: Lengths, window: Lengths, **geometry: Any) -> Spec:
    counts = _counts("patches_transpose", lengths, window, **geometry)
    if g.shape[1:-1] != counts or g.shape[-1] % math.prod(window):
        raise ShapeError(f"patches_transpose: windows {window} of the lengths {lengths} do not give patches of shape {g.shape}.")
    return make_spec((g.shape[0], *lengths, g.shape[-1] // math.prod(window)), g.dtype)


def _transpose_kernel(g: Any, out: Any = None, *, lengths: Lengths, window: Lengths, **geometry: Any) -> Any:
    by_tap = _by_tap(g, window)
    out = np.empty((g.shape[0], *lengths, by_tap.shape[-1]), g.dtype) if out is None else out
    out[...] = 0
    for tap in taps(lengths, tuple(g.shape[1:-1]), window, **geometry):
        target = out[:, *tap.elements]
        np.add(target, by_tap[:, *tap.windows, *tap.place], out=target)
    return out


patches_transpose: Op = Op(
    "patches_transpose",
    _transpose_kernel,
    _transpose_spec,
    lambda h, y, g, *, lengths, **attributes: (patches(h, **attributes),),
    (
        Sample(
            (Draw((2, 3, 2, 8)),),
            {"lengths": (4, 3), "window": (2, 2), "strides": (1, 2), "padding": ((1, 0), (0, 1)), "dilation": (2, 1)},
        ),
        Sample((Draw((2, 2, 6)),), {"lengths": (5,), "window": (3,), "strides": (2,), "padding": ((0, 0),), "dilation": (1,)}),
    ),
    flops=lambda spec, g, **_: float(g.size),
)
