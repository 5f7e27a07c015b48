"""A stack of layers.

    x ──▶ dense_1 ──▶ dropout_1 ──▶ dense_2 ──▶ y           params = {"dense_1": {...}, "dense_2": {...}}

Layers are named by class and running number. A layer that stands in the stack twice has one name and one set of parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.graph import Spec
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.masks import mask_of
from dagtrain.nn.naming import names_of
from dagtrain.nn.symbolic import Input

__all__ = ["Sequential"]


@dataclass(frozen=True)
class Sequential(Layer):
    """A model (or a part of one) whose layers are applied one after the other.

    Called with a mask of positions, or with the lengths of sequences, as second input (or where a layer returns a mask), it hands the mask
    to the layers that take one. Layers
    that treat each position alike keep it, and a layer that returns ``(outputs, mask)`` renews it; a layer whose outputs have no positions
    any more ends it.

    Parameters
    ----------
    layers
        The layers; a `Sequential` may be one of them.
    name
        Name where it is itself a layer.
    input_shape
        Shape of one sample, as in ``(64,)``. Without it, training initialises the model for its data. With it, data of another shape are
        refused, and `summary`, `init` and `output_spec` need no argument.
    trainable
        Whether training changes the parameters of its layers.

    Raises
    ------
    ArgumentError
        If there is no layer, something is not a layer, two layers have one name, or `input_shape` is no shape.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> from dagtrain import nn
    >>> model = nn.Sequential([nn.Dense(128, "relu"), nn.Dropout(0.2), nn.Dense(10)])
    >>> params, state = model.init(dt.key(0), (32, 64))
    >>> params["dense_2"]["kernel"].shape
    (128, 10)
    >>> y, state = model.apply(params, state, np.zeros((32, 64), "f4"))
    >>> y.shape
    (32, 10)
    """

    layers: Sequence[Layer]
    name: str | None = None
    input_shape: Sequence[int] | None = None
    trainable: bool = True
    _takes_values = True  # but refuses them itself

    def __post_init__(self) -> None:
        if not isinstance(self.layers, list | tuple):
            raise ArgumentError(f"Sequential takes a list of layers, got a {type(self.layers).__name__}: write Sequential([Dense(10)]).")
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ArgumentError("Sequential needs at least one layer.")
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                cure = "give input_shape= instead" if isinstance(layer, Input) else "a dagtrain.nn.Layer with a forward"
                raise ArgumentError(f"Sequential: number {i} is {layer!r}, which is not a layer: {cure}.")
        owners: dict[str, Layer] = {}
        for name, layer in self:
            if not (isinstance(name, str) and re.fullmatch(r"[\w-]+", name)):
                raise ArgumentError(f"Sequential: a layer's name is made of letters, digits, '_' and '-', got {name!r}.")
            if owners.setdefault(name, layer) is not layer:
                raise ArgumentError(f"Sequential: two layers have the name {name!r}: give one of them another name=.")
        if self.input_shape is not None:
            object.__setattr__(self, "input_shape", _sample_shape(self.input_shape))

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each layer: the user's, or class and running number."""
        return names_of(self.layers)

    def __iter__(self) -> Iterator[tuple[str, Layer]]:
        return zip(self.names, self.layers, strict=True)

    @property
    def known_inputs(self) -> tuple[Spec, ...] | None:
        """Spec of a batch of one sample of the declared `input_shape` (float32)."""
        return None if self.input_shape is None else (Spec((1, *self.input_shape), np.dtype(np.float32)),)

    @property
    def encoders(self) -> Mapping[str, Any]:
        """Those of the first layer."""
        first = self.layers[0]
        return {"x": first.encoders[first.input_names[0]]} if first.encoders else {}

    def forward(self, c: Context, x: Any, mask: Any = None) -> Any:
        """The last layer's outputs."""
        if self.input_shape is not None and tuple(x.shape[1:]) != self.input_shape:
            raise ShapeError(
                f"the model takes samples of shape {self.input_shape}, as its input_shape says, got samples of shape {tuple(x.shape[1:])}."
            )
        if mask is not None and not any("mask" in layer.input_names for layer in self.layers):
            raise ArgumentError("none of the model's layers takes a mask, so a second input would be ignored: give one array as x.")
        if mask is not None and mask.ndim == 1 and mask.dtype.kind in "iu":
            mask = mask_of("Sequential", mask, x)
        for name, layer in self:
            takes_mask = mask is not None and "mask" in layer.input_names
            if mask is not None and not (takes_mask or layer.per_position):
                raise ArgumentError(
                    f"layer {name!r}: {type(layer).__name__} would drop the mask: it takes none, and is not per_position. Put a layer "
                    "that takes the mask and ends the positions before it, or leave out the mask."
                )
            if takes_mask and mask.dtype.kind == "f" and len(layer.input_names) > 2:  # floats would be a state there
                raise DTypeError(f"layer {name!r}: the second input is a mask (booleans) or lengths (whole numbers), got {mask.dtype}.")
            x = c(layer, x, mask, name=name) if takes_mask else c(layer, x, name=name)
            pair = isinstance(x, tuple) and len(x) == 2 and x[1].dtype.kind != "f"  # floats are a state
            if pair and x[1].ndim < x[0].ndim and x[1].shape == x[0].shape[: x[1].ndim]:
                x, mask = x
            elif isinstance(x, tuple | list | dict):
                raise ArgumentError(f"layer {name!r} has several outputs: a Sequential takes one; connect it with dagtrain.nn.Model.")
            elif mask is not None and (tuple(x.shape[: mask.ndim]) != tuple(mask.shape) or not (layer.per_position or x.ndim > mask.ndim)):
                mask = None  # (samples, features) are no positions, also where there are as many features as there were positions
        return x


def _sample_shape(value: Any) -> tuple[int, ...]:
    valid = isinstance(value, tuple | list) and all(is_whole(n) and n > 0 for n in value)
    if not valid:
        raise ArgumentError(
            f"Sequential: input_shape is the shape of one sample, without the axis of samples, as in input_shape=(64,); got {value!r}."
        )
    return tuple(int(n) for n in value)
