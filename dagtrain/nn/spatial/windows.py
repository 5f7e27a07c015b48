"""Windows themselves, and normalisation over windows of channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.nn.spatial.geometry import Numbers, PaddingArgument, applied, each, lengths_of, pads
from dagtrain.nn.values import Values

__all__ = ["local_response_norm", "patches", "patches_transpose"]


def _geometry(name: str, lengths: tuple[int, ...], size: Any, strides: Any, padding: Any, dilation_rate: Any) -> dict[str, Any]:
    count = len(lengths)
    window, dilation = each(f"{name}: size", size, count), each(f"{name}: dilation_rate", dilation_rate, count)
    by = window if strides is None else each(f"{name}: strides", strides, count)
    around = pads(f"{name}: padding", padding, lengths, window, by, dilation)
    return {"window": window, "strides": by, "padding": around, "dilation": dilation}


def patches(
    x: Values, size: Numbers, strides: Numbers | None = None, padding: PaddingArgument = "valid", dilation_rate: Numbers = 1
) -> Values:
    """The elements of each window side by side: shape (samples, *counts of windows, elements of a window times channels).

    Examples
    --------
    >>> import numpy as np
    >>> patches(np.arange(4.0).reshape(1, 4, 1), 2, strides=1)[0]
    array([[0., 1.],
           [1., 2.],
           [2., 3.]])
    """
    return applied("patches", x, **_geometry("patches", lengths_of("patches", x), size, strides, padding, dilation_rate))


def patches_transpose(
    y: Values,
    lengths: Numbers,
    size: Numbers,
    strides: Numbers | None = None,
    padding: PaddingArgument = "valid",
    dilation_rate: Numbers = 1,
) -> Values:
    """The sum of patches at the places that they come from: the transpose of `patches` of an array of these lengths.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.ones((1, 4, 1))
    >>> patches_transpose(patches(x, 2, strides=1), 4, 2, strides=1).ravel()
    array([1., 2., 2., 1.])
    """
    name = "patches_transpose"
    whole_lengths = each(f"{name}: lengths", lengths, len(lengths_of(name, y)))
    return applied(name, y, lengths=whole_lengths, **_geometry(name, whole_lengths, size, strides, padding, dilation_rate))


def local_response_norm(x: Values, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Values:
    """``x / (k + alpha / size * sum of squares) ** beta``; the sum is over `size` neighbouring channels.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section 3.3, where
    alpha stands for ``alpha / size`` here.

    Examples
    --------
    >>> import numpy as np
    >>> local_response_norm(np.ones((1, 2, 2, 3)), size=3, alpha=3.0, beta=1.0)[0, 0, 0].round(3)
    array([0.333, 0.25 , 0.333])
    """
    channels, n = x.shape[-1], whole("local_response_norm: size", size)
    around = ((n // 2, (n - 1) // 2),)
    squares = np.square(x).reshape((-1, channels, 1))
    if n > 2 * channels:  # windows that hold all channels; longer ones would lie outside
        around, n = ((channels - 1, channels - 1),), 2 * channels - 1
    total = applied("sum_pool", squares, window=(n,), strides=(1,), padding=around).reshape(x.shape)
    base = total * (alpha / size) + k
    if beta == 0.75:  # roots are many times faster than powers
        root = np.sqrt(base)
        return x / (root * np.sqrt(root))
    return x / base**beta
