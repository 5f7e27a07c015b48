"""Convolution, also with a kernel for each channel, and its transpose."""

from __future__ import annotations

from typing import Any

from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn.spatial.geometry import Numbers, PaddingArgument, applied, each, lengths_of, pads, spans
from dagtrain.nn.values import Values

__all__ = ["conv", "conv_transpose", "depthwise_conv"]


def _geometry(name: str, x: Values, kernel: Values, strides: Any, padding: Any, dilation_rate: Any) -> dict[str, Any]:
    lengths = lengths_of(name, x, kernel.ndim - 2)
    count = len(lengths)
    by = each(f"{name}: strides", strides, count)
    dilation = each(f"{name}: dilation_rate", dilation_rate, count)
    around = pads(f"{name}: padding", padding, lengths, kernel.shape[:-2], by, dilation, causal=count == 1)
    return {"strides": by, "padding": around, "dilation": dilation}


def conv(
    x: Values, kernel: Values, strides: Numbers = 1, padding: PaddingArgument = "valid", dilation_rate: Numbers = 1, groups: int = 1
) -> Values:
    """Convolution: for each window the sum over its elements and channels of x times kernel, for each filter.

    Parameters
    ----------
    x
        Shape (samples, *lengths, channels).
    kernel
        Shape (*window, channels / groups, filters).
    strides
        Elements from one window to the next.
    padding
        See `dagtrain.nn.spatial`; with one length also ``"causal"``: a window ends at its own element.
    dilation_rate
        Elements from one element of a window to the next.
    groups
        Channels and filters are cut into so many groups, each convolved by itself.

    Returns
    -------
    tensor or array
        Shape (samples, *counts of windows, filters).

    Raises
    ------
    ShapeError, ArgumentError

    Examples
    --------
    >>> import numpy as np
    >>> x, kernel = np.ones((1, 4, 4, 2)), np.ones((3, 3, 2, 5))
    >>> conv(x, kernel).shape, conv(x, kernel, padding="same", strides=2).shape
    ((1, 2, 2, 5), (1, 2, 2, 5))
    >>> float(conv(x, kernel)[0, 0, 0, 0])
    18.0
    """
    return applied("conv", x, kernel, **_geometry("conv", x, kernel, strides, padding, dilation_rate), groups=whole("groups", groups))


def depthwise_conv(
    x: Values, kernel: Values, strides: Numbers = 1, padding: PaddingArgument = "valid", dilation_rate: Numbers = 1
) -> Values:
    """Convolution of each channel by itself, with a kernel of shape (*window, channels, filters of a channel).

    The filters of a channel lie side by side. Arguments are those of `conv`.

    Examples
    --------
    >>> import numpy as np
    >>> depthwise_conv(np.ones((1, 4, 4, 2)), np.ones((3, 3, 2, 1))).shape
    (1, 2, 2, 2)
    """
    geometry = _geometry("depthwise_conv", x, kernel, strides, padding, dilation_rate)
    *window, channels, multiplier = kernel.shape
    if channels != x.shape[-1]:
        raise ShapeError(f"depthwise_conv: a kernel of shape {tuple(kernel.shape)} is for {channels} channels, x has {x.shape[-1]}.")
    return applied("conv", x, kernel.reshape((*window, 1, channels * multiplier)), **geometry, groups=channels)


def conv_transpose(
    x: Values,
    kernel: Values,
    strides: Numbers = 1,
    padding: PaddingArgument = "valid",
    dilation_rate: Numbers = 1,
    output_padding: Numbers | None = None,
) -> Values:
    """Transposed convolution: what the derivative of a convolution by its input does. It enlarges the lengths by the strides.

    Parameters
    ----------
    x
        Shape (samples, *lengths, channels).
    kernel
        Shape (*window, filters, channels), that of the convolution from filters to channels.
    strides, dilation_rate
        Those of that convolution.
    padding
        That of the convolution. ``"same"`` gives lengths times strides; ``"valid"`` the largest lengths that the windows reach, at least
        lengths times strides; numbers take as many elements away at both ends.
    output_padding
        More elements at the end of each length; with ``"same"``, half a window is then taken away at both ends.

    Returns
    -------
    tensor or array
        Shape (samples, *lengths, filters).

    Examples
    --------
    >>> import numpy as np
    >>> x, kernel = np.ones((1, 4, 4, 2)), np.ones((3, 3, 5, 2))
    >>> conv_transpose(x, kernel, strides=2).shape, conv_transpose(x, kernel, strides=2, padding="same").shape
    ((1, 9, 9, 5), (1, 8, 8, 5))
    """
    name = "conv_transpose"
    lengths = lengths_of(name, x, kernel.ndim - 2)
    count, window = len(lengths), kernel.shape[:-2]
    by, dilation = each(f"{name}: strides", strides, count), each(f"{name}: dilation_rate", dilation_rate, count)
    reach = spans(window, dilation)
    more = (0,) * count if output_padding is None else each(f"{name}: output_padding", output_padding, count, 0)
    if any(m >= max(s, d) for m, s, d in zip(more, by, dilation, strict=True)):
        raise ArgumentError(f"{name}: output_padding is smaller than strides or dilation_rate, got {output_padding!r} with strides {by}.")
    if padding == "same" and output_padding is None:
        outer = tuple(n * s for n, s in zip(lengths, by, strict=True))
        around = pads(f"{name}: padding", "same", outer, window, by, dilation)
    else:
        half = [k // 2 for k in window] if padding == "same" else padding
        around = pads(f"{name}: padding", half, lengths, window, by, dilation)
        outer = tuple(
            (n - 1) * s + (max(r, s) if padding == "valid" and output_padding is None else r + m) - low - high
            for n, s, r, m, (low, high) in zip(lengths, by, reach, more, around, strict=True)
        )
    return applied("conv_by_input", x, kernel, lengths=outer, strides=by, padding=around, dilation=dilation, groups=1)
