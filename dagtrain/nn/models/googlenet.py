"""GoogLeNet, with its two auxiliary heads as named outputs that exist in training alone."""

from __future__ import annotations

from collections.abc import Sequence

from dagtrain.arguments import positive, whole
from dagtrain.hinting import hinted
from dagtrain.nn.layers import (
    Activation,
    AveragePooling2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    LocalResponseNorm,
    MaxPooling2D,
)
from dagtrain.nn.model import Model
from dagtrain.nn.symbolic import Input, Value

__all__ = ["GoogLeNet"]

# Name: filters of the four branches; 1×1, 1×1 → 3×3, 1×1 → 5×5, pooling → 1×1.
INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}
HEADS = {"inception_4a": "aux1", "inception_4d": "aux2"}
"""After which module an auxiliary output begins."""
LAST_OF_STAGE = ("inception_3b", "inception_4e")
"""After which modules height and width are halved."""


def _pool() -> MaxPooling2D:
    return MaxPooling2D(3, 2, "same")


def _conv(x: Value, filters: int, window: int, name: str, batch_norm: bool, strides: int = 1) -> Value:
    """Convolution and relu."""
    # The variance of He's first values keeps that of the activations through the 22 layers.
    layer = Conv2D(
        filters,
        window,
        None if batch_norm else "relu",
        strides=strides,
        padding="same",
        use_bias=not batch_norm,
        kernel_initializer="he_normal",
        name=name,
    )
    y: Value = layer(x)
    return Activation("relu", name=f"{name}_relu")(BatchNorm(name=f"{name}_norm")(y)) if batch_norm else y


def _inception(x: Value, filters: Sequence[int], name: str, batch_norm: bool) -> Value:
    one, before_three, three, before_five, five, pool = filters
    inner = Input(x.spec.shape[1:])
    pooled = MaxPooling2D(3, 1, "same", name="pool")(inner)
    branches = [
        _conv(inner, one, 1, "one", batch_norm),
        _conv(_conv(inner, before_three, 1, "before_three", batch_norm), three, 3, "three", batch_norm),
        _conv(_conv(inner, before_five, 1, "before_five", batch_norm), five, 5, "five", batch_norm),
        _conv(pooled, pool, 1, "behind_pool", batch_norm),
    ]
    result: Value = Model(inner, Concatenate(name="join")(branches), name=name)(x)
    return result


def _head(x: Value, filters: int, units: int, classes: int, name: str, batch_norm: bool) -> Value:
    inner = Input(x.spec.shape[1:])
    window = min(5, *x.spec.shape[1:3])
    y = _conv(AveragePooling2D(window, 3, name="pool")(inner), filters, 1, "reduce", batch_norm)
    y = Dropout(0.7, name="dropout")(Dense(units, "relu", kernel_initializer="he_normal", name="dense")(Flatten(name="flatten")(y)))
    result: Value = Model(inner, Dense(classes, name="logits")(y), name=name)(x)
    return result


@hinted
def GoogLeNet(
    classes: int = 1000,
    input_shape: Sequence[int] = (224, 224, 3),
    auxiliary: bool = True,
    width: float = 1.0,
    dropout: float = 0.4,
    batch_norm: bool = False,
) -> Model:
    """GoogLeNet: nine modules of four branches each, the output ``main``, and in training the outputs ``aux1`` and ``aux2``.

    Its two heads exist in training alone: `fit` needs a loss for each, `predict` and `evaluate` leave them out. Train it with
    ``loss={"main": "cross_entropy", "aux1": "cross_entropy", "aux2": "cross_entropy"}``, ``loss_weights={"aux1": 0.3, "aux2": 0.3}``,
    and the labels for each output.

    Source: Szegedy et al., "Going deeper with convolutions", arXiv:1409.4842, table 1 and section 5. Of the table's counts of parameters,
    three cannot be those of its channels; the counts here are exact.

    Parameters
    ----------
    classes
        The number of outputs of each head.
    input_shape
        Height, width and channels of a picture; 32 × 32 at least.
    auxiliary
        Whether it has the auxiliary heads.
    width
        Factor of all numbers of filters and units but the last, for smaller networks.
    dropout
        Rate of dropout before the main output.
    batch_norm
        Whether each convolution has batch normalisation in the place of a bias, and the network no local response normalisation: it then
        learns in far fewer steps (Ioffe and Szegedy, arXiv:1502.03167).

    Examples
    --------
    >>> GoogLeNet(auxiliary=False).summary().parameters, GoogLeNet().summary().parameters
    (6998552, 13378280)
    """
    positive("GoogLeNet: width", width)
    whole("GoogLeNet: classes", classes)

    def wide(n: int) -> int:
        return max(1, round(n * width))

    x = Input(tuple(input_shape), name="x")

    def normalized(y: Value) -> Value:
        return y if batch_norm else LocalResponseNorm()(y)

    y = normalized(_pool()(_conv(x, wide(64), 7, "conv_1", batch_norm, strides=2)))
    y = _conv(_conv(y, wide(64), 1, "conv_2_reduce", batch_norm), wide(192), 3, "conv_2", batch_norm)
    y = _pool()(normalized(y))
    heads: dict[str, Value] = {}
    for name, filters in INCEPTIONS.items():
        y = _inception(y, [wide(n) for n in filters], name, batch_norm)
        if auxiliary and name in HEADS:
            heads[HEADS[name]] = _head(y, wide(128), wide(1024), classes, HEADS[name], batch_norm)
        if name in LAST_OF_STAGE:
            y = _pool()(y)
    y = Dropout(dropout)(GlobalAveragePooling2D()(y))
    return Model(x, {"main": Dense(classes, name="logits")(y)}, auxiliary=heads)
