"""Layers of another layer, or of a plain function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values

__all__ = ["Lambda", "Residual"]


@dataclass(frozen=True)
class Residual(Layer):
    """The outputs of a layer, and its inputs added to them: ``x + inner(x)``, or ``shortcut(x) + inner(x)``.

    Source: He et al., "Deep residual learning for image recognition", arXiv:1512.03385, section 3.2.

    Parameters
    ----------
    inner
        A layer; several are a `Sequential`.
    shortcut
        A layer for the inputs, where the outputs of `inner` have another shape.

    Raises
    ------
    ArgumentError
        If it is given no layer.
    ShapeError
        If what is added differs in shape.

    Examples
    --------
    >>> from dagtrain import nn
    >>> Residual(nn.Sequential([nn.Dense(16, "relu"), nn.Dense(4)])).output_spec((1, 4)).shape
    (1, 4)
    >>> Residual(nn.Dense(8), shortcut=nn.Dense(8, use_bias=False)).output_spec((1, 4)).shape
    (1, 8)
    """

    inner: Layer
    shortcut: Layer | None = None
    name: str | None = None
    trainable: bool = True
    detail = "residual"

    def __post_init__(self) -> None:
        for layer in (self.inner, self.shortcut):
            if not (isinstance(layer, Layer) or (layer is None and layer is not self.inner)):
                raise ArgumentError(f"{self.name or 'Residual'} takes a layer, as in Residual(Sequential([...])), got {layer!r}.")

    @property
    def per_position(self) -> bool:  # type: ignore[override]  # that of its layers
        """Whether its layers treat every position alike."""
        return self.inner.per_position and (self.shortcut is None or self.shortcut.per_position)

    def forward(self, c: Context, x: Values) -> Values:
        """The sum."""
        y, past = c(self.inner, x), x if self.shortcut is None else c(self.shortcut, x)
        if y.shape != past.shape:
            raise ShapeError(
                f"Residual adds what has one shape: its layer made {tuple(y.shape)}, and {tuple(past.shape)} is beside it. Give shortcut= "
                "a layer that makes the inputs alike, such as Dense or Conv2D with a window of 1."
            )
        return y + (past if past.dtype == y.dtype else past.astype(y.dtype))


@dataclass(frozen=True)
class Lambda(Layer):
    """A function of arrays in NumPy's functions, as a layer without parameters.

    A checkpoint holds the name of a function, never its code: `dagtrain.load` takes the function itself, as in
    ``custom={"scale": scale}``. A function without a name (a lambda) cannot be saved.

    Parameters
    ----------
    function
        ``function(x, ...) -> array``, of as many arrays as the layer has inputs, with the samples on the first axis.

    Raises
    ------
    ArgumentError
        If it is no function. In saving, if it has no name.

    Examples
    --------
    >>> import numpy as np
    >>> Lambda(np.square).apply({}, {}, np.array([[1.0, 2.0]]))[0]
    array([[1., 4.]])
    """

    function: Callable[..., Values]
    name: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.function) or isinstance(self.function, Layer):
            raise ArgumentError(f"{self.name or 'Lambda'} takes a function of arrays, as in Lambda(np.square), got {self.function!r}.")

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return getattr(self.function, "__name__", "function").strip("<>")

    def forward(self, c: Context, *inputs: Values) -> Values:
        """What the function returns."""
        return self.function(*inputs)
