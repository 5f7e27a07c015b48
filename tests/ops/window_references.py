"""What ops of windows compute, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np


def windows(x: Any, window: Any, strides: Any, padding: Any, dilation: Any = None, fill: float = 0.0) -> Any:
    """(samples, *counts, *window, channels), each window taken by itself."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    steps = dilation or (1,) * len(window)
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[1:-1], window, strides, steps, strict=True)]
    y = np.empty((x.shape[0], *counts, *window, x.shape[-1]), x.dtype)
    for place in np.ndindex(*counts):
        cut = [slice(o * s, o * s + d * (k - 1) + 1, d) for o, s, d, k in zip(place, strides, steps, window, strict=True)]
        y[:, *place] = x[:, *cut]
    return y


def conv(x: Any, kernel: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> Any:
    window = kernel.shape[:-2]
    each = windows(x, window, strides, padding, dilation)
    parts = zip(np.split(each, groups, -1), np.split(kernel, groups, -1), strict=True)
    return np.concatenate([np.tensordot(a, k, len(window) + 1) for a, k in parts], -1)


def patches(x: Any, **geometry: Any) -> Any:
    each = windows(x, **geometry)
    return each.reshape(*each.shape[: x.ndim - 1], -1)


def _lines(x: Any, fill: float, **geometry: Any) -> Any:
    each = windows(x, **geometry, fill=fill)
    return each.reshape(*each.shape[: x.ndim - 1], -1, x.shape[-1])


def max_pool(x: Any, **geometry: Any) -> Any:
    return _lines(x, -np.inf, **geometry).max(-2)


def max_positions(x: Any, **geometry: Any) -> Any:
    return _lines(x, -np.inf, **geometry).argmax(-2)


def sum_pool(x: Any, **geometry: Any) -> Any:
    return _lines(x, 0.0, **geometry).sum(-2)
