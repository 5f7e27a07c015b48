"""Layers of convolution in one, two and three lengths: plain, for each channel by itself, separable, and transposed.

Inputs are (samples, length, channels), (samples, height, width, channels) or (samples, depth, height, width, channels).
"""

from __future__ import annotations

from dataclasses import dataclass

from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn import activations, initializers, spatial
from dagtrain.nn.activations import ActivationFunction
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layers.by_lengths import ByLengths, times
from dagtrain.nn.layers.dense import title_of
from dagtrain.nn.spatial.geometry import Numbers, PaddingArgument, pads
from dagtrain.nn.values import Values

__all__ = [
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
]


class _Windows(ByLengths):
    """What layers of convolution share."""

    kernel_size: Numbers
    strides: Numbers
    padding: PaddingArgument
    dilation_rate: Numbers
    activation: str | ActivationFunction | None
    use_bias: bool
    bias_initializer: str | Initializer

    def __post_init__(self) -> None:
        for argument, value in vars(self).items():
            if argument in ("filters", "groups", "depth_multiplier"):
                whole(f"{self.title}: {argument}", value)
            elif argument.endswith("_initializer"):
                initializers.find(value)
        window = self.each("kernel_size", self.kernel_size)
        strides, dilation = self.each("strides", self.strides), self.each("dilation_rate", self.dilation_rate)
        pads(f"{self.title}: padding", self.padding, window, window, strides, dilation, causal=self.lengths == 1)
        if isinstance(self.activation, int | tuple):
            raise ArgumentError(
                f"{self.title}: after kernel_size comes the activation, got {self.activation!r}: write strides={self.activation!r}."
            )
        activations.find(self.activation)

    @property
    def window(self) -> tuple[int, ...]:
        """Elements of the window along each length."""
        return self.each("kernel_size", self.kernel_size)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        window = times(self.window)
        return ", ".join(filter(None, [window if self.lengths > 1 else f"window {window}", title_of(self.activation)]))

    def floats(self, c: Context, x: Values) -> Values:
        """`x` in the floats of the model."""
        return self.checked(x) if x.dtype == c.dtype else self.checked(x).astype(c.dtype)

    def finished(self, c: Context, y: Values) -> Values:
        """The output with bias and activation."""
        if self.use_bias:
            y = y + c.parameter("bias", (y.shape[-1],), self.bias_initializer)
        return activations.find(self.activation)(y)


@dataclass(frozen=True)
class _Conv(_Windows):
    filters: int
    kernel_size: Numbers
    activation: str | ActivationFunction | None = None
    strides: Numbers = 1
    padding: PaddingArgument = "valid"
    dilation_rate: Numbers = 1
    groups: int = 1
    use_bias: bool = True
    kernel_initializer: str | Initializer = "glorot_uniform"
    bias_initializer: str | Initializer = "zeros"
    name: str | None = None
    trainable: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.filters % self.groups:
            raise ArgumentError(f"{self.title}: {self.filters} filters do not divide into {self.groups} groups.")

    def forward(self, c: Context, x: Values) -> Values:
        """Output of shape (samples, *counts of windows, filters)."""
        x = self.floats(c, x)
        channels = x.shape[-1]
        if channels % self.groups:
            raise ShapeError(f"{self.title}: {channels} channels do not divide into {self.groups} groups.")
        kernel = c.parameter("kernel", (*self.window, channels // self.groups, self.filters), self.kernel_initializer)
        return self.finished(c, spatial.conv(x, kernel, self.strides, self.padding, self.dilation_rate, self.groups))


class Conv1D(_Conv):
    """Convolution along one length; arguments as of `Conv2D`, and ``padding="causal"``: a window ends at its own element.

    Examples
    --------
    >>> import dagtrain as dt
    >>> params, _ = Conv1D(8, 3, padding="causal").init(dt.key(0), (1, 20, 4))
    >>> params["kernel"].shape
    (3, 4, 8)
    """

    lengths = 1


class Conv2D(_Conv):
    """Convolution of pictures: ``activation(conv(x, kernel) + bias)``; see `dagtrain.nn.spatial.conv`.

    Parameters
    ----------
    filters
        Channels of the output.
    kernel_size
        Elements of the window: one number, or one for each length.
    activation
        Name, function, or None.
    strides
        Elements from one window to the next.
    padding
        ``"valid"`` (none), ``"same"`` (as many windows as lengths divided by strides, rounded up), a whole number, or for each length a
        number or a pair (before, after).
    dilation_rate
        Elements from one element of a window to the next.
    groups
        Channels and filters are cut into so many groups, each convolved by itself.
    use_bias
        Whether a bias is added.
    kernel_initializer, bias_initializer
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes kernel and bias.

    Raises
    ------
    ArgumentError
        If a number is not a whole number above 0, or the filters do not divide into groups.
    UnknownNameError
        If there is no padding, activation or initialiser of that name.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> layer = Conv2D(8, 3, "relu", padding="same")
    >>> params, state = layer.init(dt.key(0), (1, 28, 28, 1))
    >>> {name: array.shape for name, array in params.items()}
    {'kernel': (3, 3, 1, 8), 'bias': (8,)}
    >>> layer.apply(params, state, np.ones((1, 28, 28, 1), "f4"))[0].shape
    (1, 28, 28, 8)
    """

    lengths = 2


class Conv3D(_Conv):
    """Convolution of volumes; arguments as of `Conv2D`.

    Examples
    --------
    >>> Conv3D(8, (1, 3, 3)).output_spec((1, 5, 8, 8, 2)).shape
    (1, 5, 6, 6, 8)
    """

    lengths = 3


@dataclass(frozen=True)
class _Depthwise(_Windows):
    kernel_size: Numbers
    activation: str | ActivationFunction | None = None
    strides: Numbers = 1
    padding: PaddingArgument = "valid"
    dilation_rate: Numbers = 1
    depth_multiplier: int = 1
    use_bias: bool = True
    depthwise_initializer: str | Initializer = "glorot_uniform"
    bias_initializer: str | Initializer = "zeros"
    name: str | None = None
    trainable: bool = True

    def forward(self, c: Context, x: Values) -> Values:
        """Output of shape (samples, *counts of windows, channels * depth_multiplier)."""
        x = self.floats(c, x)
        kernel = c.parameter("kernel", (*self.window, x.shape[-1], self.depth_multiplier), self.depthwise_initializer)
        return self.finished(c, spatial.depthwise_conv(x, kernel, self.strides, self.padding, self.dilation_rate))


class DepthwiseConv1D(_Depthwise):
    """Convolution of each channel by itself along one length; arguments as of `DepthwiseConv2D`.

    Examples
    --------
    >>> DepthwiseConv1D(3).output_spec((1, 8, 4)).shape
    (1, 6, 4)
    """

    lengths = 1


class DepthwiseConv2D(_Depthwise):
    """Convolution of each channel by itself, with `depth_multiplier` filters for each; other arguments as of `Conv2D`.

    Examples
    --------
    >>> DepthwiseConv2D(3, depth_multiplier=2).summary((1, 8, 8, 4)).parameters
    80
    """

    lengths = 2


@dataclass(frozen=True)
class _Separable(_Windows):
    filters: int
    kernel_size: Numbers
    activation: str | ActivationFunction | None = None
    strides: Numbers = 1
    padding: PaddingArgument = "valid"
    dilation_rate: Numbers = 1
    depth_multiplier: int = 1
    use_bias: bool = True
    depthwise_initializer: str | Initializer = "glorot_uniform"
    pointwise_initializer: str | Initializer = "glorot_uniform"
    bias_initializer: str | Initializer = "zeros"
    name: str | None = None
    trainable: bool = True

    def forward(self, c: Context, x: Values) -> Values:
        """Output of shape (samples, *counts of windows, filters)."""
        x = self.floats(c, x)
        kernel = c.parameter("depthwise_kernel", (*self.window, x.shape[-1], self.depth_multiplier), self.depthwise_initializer)
        y = spatial.depthwise_conv(x, kernel, self.strides, self.padding, self.dilation_rate)
        one = (1,) * self.lengths
        return self.finished(
            c, spatial.conv(y, c.parameter("pointwise_kernel", (*one, y.shape[-1], self.filters), self.pointwise_initializer))
        )


class SeparableConv1D(_Separable):
    """Convolution along one length in two steps; arguments as of `SeparableConv2D`.

    Examples
    --------
    >>> SeparableConv1D(5, 3).output_spec((1, 8, 4)).shape
    (1, 6, 5)
    """

    lengths = 1


class SeparableConv2D(_Separable):
    """Convolution in two steps: each channel by itself (`depth_multiplier` filters for each), then all channels of an element.

    Other arguments are those of `Conv2D`.

    Examples
    --------
    >>> SeparableConv2D(5, 3).summary((1, 8, 8, 4)).parameters
    61
    """

    lengths = 2


@dataclass(frozen=True)
class _Transpose(_Windows):
    filters: int
    kernel_size: Numbers
    activation: str | ActivationFunction | None = None
    strides: Numbers = 1
    padding: PaddingArgument = "valid"
    output_padding: Numbers | None = None
    dilation_rate: Numbers = 1
    use_bias: bool = True
    kernel_initializer: str | Initializer = "glorot_uniform"
    bias_initializer: str | Initializer = "zeros"
    name: str | None = None
    trainable: bool = True

    def __post_init__(self) -> None:
        if self.padding == "causal":
            raise ArgumentError(f"{self.title}: padding is 'valid', 'same' or numbers, got 'causal'.")
        if self.output_padding is not None:
            self.each("output_padding", self.output_padding, 0)
        super().__post_init__()

    def forward(self, c: Context, x: Values) -> Values:
        """Output of shape (samples, *larger lengths, filters)."""
        x = self.floats(c, x)
        kernel = c.parameter("kernel", (*self.window, self.filters, x.shape[-1]), self.kernel_initializer)
        y = spatial.conv_transpose(x, kernel, self.strides, self.padding, self.dilation_rate, self.output_padding)
        return self.finished(c, y)


class Conv1DTranspose(_Transpose):
    """Transposed convolution along one length; arguments as of `Conv2DTranspose`.

    Examples
    --------
    >>> Conv1DTranspose(3, 4, strides=2, padding="same").output_spec((1, 8, 2)).shape
    (1, 16, 3)
    """

    lengths = 1


class Conv2DTranspose(_Transpose):
    """Transposed convolution of pictures, which enlarges them by the strides; see `dagtrain.nn.spatial.conv_transpose`.

    `output_padding` adds elements at the ends of the output. Other arguments are those of `Conv2D`.

    Examples
    --------
    >>> Conv2DTranspose(3, 4, strides=2, padding="same").output_spec((1, 8, 8, 2)).shape
    (1, 16, 16, 3)
    """

    lengths = 2


class Conv3DTranspose(_Transpose):
    """Transposed convolution of volumes; arguments as of `Conv2DTranspose`.

    Examples
    --------
    >>> Conv3DTranspose(3, 2, strides=2).output_spec((1, 4, 4, 4, 2)).shape
    (1, 8, 8, 8, 3)
    """

    lengths = 3
