"""Residual networks for small pictures."""

from __future__ import annotations

from collections.abc import Sequence

from dagtrain.arguments import is_whole, wholes
from dagtrain.hinting import hinted
from dagtrain.nn.layers import Activation, BatchNorm, Conv2D, Dense, GlobalAveragePooling2D
from dagtrain.nn.model import Model
from dagtrain.nn.symbolic import Input, Value

__all__ = ["ResNet"]


def _normalized(x: Value, filters: int, window: int, strides: int = 1) -> Value:
    convolution = Conv2D(filters, window, padding="same", strides=strides, use_bias=False, kernel_initializer="he_normal")
    y: Value = BatchNorm()(convolution(x))
    return y


def _block(x: Value, filters: int, strides: int, name: str) -> Value:
    """Two convolutions, added to their input; where shapes differ, to a convolution of it by single elements."""
    inner = Input(x.spec.shape[1:])
    y = _normalized(Activation("relu")(_normalized(inner, filters, 3, strides)), filters, 3)
    same = strides == 1 and x.spec.shape[-1] == filters
    result: Value = Model(inner, Activation("relu")(y + (inner if same else _normalized(inner, filters, 1, strides))), name=name)(x)
    return result


@hinted
def ResNet(blocks: Sequence[int] = (3, 3, 3), filters: int = 16, classes: int = 10, input_shape: Sequence[int] = (32, 32, 3)) -> Model:
    """A residual network of stages of blocks of two convolutions; by default ResNet-20 for pictures of 32 × 32.

    Each stage after the first halves height and width and has twice as many filters. Where a block changes the shape, its input passes
    through a convolution of single elements.

    Source: He et al., "Deep residual learning for image recognition", arXiv:1512.03385, section 4.2.

    Parameters
    ----------
    blocks
        The number of blocks of each stage.
    filters
        Filters of the first stage.
    classes
        The number of outputs.
    input_shape
        Height, width and channels of a picture.

    Examples
    --------
    >>> ResNet().summary().parameters
    272474
    """
    x = Input(tuple(input_shape), name="x")
    y = Activation("relu")(_normalized(x, filters, 3))
    for stage, count in enumerate(wholes("ResNet: blocks", blocks if is_whole(blocks) else list(blocks))):
        for block in range(count):
            y = _block(y, filters * 2**stage, 2 if stage and not block else 1, f"stage_{stage + 1}_block_{block + 1}")
    return Model(x, Dense(classes)(GlobalAveragePooling2D()(y)))
