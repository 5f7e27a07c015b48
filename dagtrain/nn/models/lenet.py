"""LeNet-5."""

from __future__ import annotations

from collections.abc import Sequence

from dagtrain.hinting import hinted
from dagtrain.nn.layers import AveragePooling2D, Conv2D, Dense, Flatten
from dagtrain.nn.sequential import Sequential

__all__ = ["LeNet5"]


@hinted
def LeNet5(classes: int = 10, input_shape: Sequence[int] = (28, 28, 1)) -> Sequential:
    """Two convolutions with pooling and three dense layers, in the form that is common today.

    All filters of the second convolution see all channels, and the outputs are logits.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86 (1998), section II.B.

    Parameters
    ----------
    classes
        The number of outputs.
    input_shape
        Height, width and channels of a picture; the original one has 32 × 32, which padding makes of 28 × 28.

    Examples
    --------
    >>> LeNet5().summary().parameters
    61706
    """
    padding = "same" if input_shape[0] < 32 else "valid"
    layers = [Conv2D(6, 5, "tanh", padding=padding), AveragePooling2D(), Conv2D(16, 5, "tanh"), AveragePooling2D(), Flatten()]
    return Sequential([*layers, Dense(120, "tanh"), Dense(84, "tanh"), Dense(classes)], input_shape=input_shape)
