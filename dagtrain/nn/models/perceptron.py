"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from dagtrain.arguments import is_whole, wholes
from dagtrain.hinting import hinted
from dagtrain.nn.activations import ActivationFunction
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers import Dense, Dropout
from dagtrain.nn.sequential import Sequential

__all__ = ["MLP"]


@hinted
def MLP(
    units: Sequence[int] = (128,),
    classes: int = 10,
    activation: str | ActivationFunction = "relu",
    dropout: float = 0.0,
    input_shape: Sequence[int] | None = None,
) -> Sequential:
    """Dense layers with an activation between them.

    Parameters
    ----------
    units
        The widths of the hidden layers.
    classes
        The number of outputs, which have no activation.
    activation
        Of the hidden layers.
    dropout
        Rate of dropout behind each hidden layer.
    input_shape
        Shape of one sample; by default that of the data.

    Examples
    --------
    >>> MLP((256, 128)).summary((1, 784)).parameters
    235146
    """
    layers: list[Layer] = []
    for n in wholes("MLP: units", units if is_whole(units) else list(units)):
        layers += [Dense(n, activation), *([Dropout(dropout)] if dropout else [])]
    return Sequential([*layers, Dense(classes)], input_shape=input_shape)
