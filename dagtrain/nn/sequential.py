"""A stack of layers.

    x ──▶ dense_1 ──▶ dropout_1 ──▶ dense_2 ──▶ y           params = {"dense_1": {...}, "dense_2": {...}}

Layers are named by class and running number. Each works inside its own scope, which errors, key names and pictures show, and has a key
derived from its position, so no two layers draw the same random numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from dagtrain.arguments import is_whole
from dagtrain.errors import ArgumentError, ShapeError, UnknownNameError
from dagtrain.graph import Spec, Tensor, scope
from dagtrain.nn import hints
from dagtrain.nn.layer import Layer, Nest, input_spec, naming, trace_layer
from dagtrain.nn.summary import Summary, known_input, summarize
from dagtrain.nn.values import Values
from dagtrain.ops.random import derive, fold_in
from dagtrain.ops.random import key as new_key

__all__ = ["Sequential"]


@dataclass(frozen=True)
class Sequential:
    """A model (or a part of one) whose layers are applied one after the other.

    Parameters
    ----------
    layers
        The layers; a `Sequential` may be one of them.
    name
        Name where it is itself a layer.
    input_shape
        Shape of one sample, as in ``(64,)``. Without it, training initialises the model for its data. With it, data of another shape are
        refused, and `summary`, `init` and `output_spec` need no argument.

    Raises
    ------
    ArgumentError
        If there is no layer, something is not a layer, two layers have one name, or `input_shape` is no shape.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> from dagtrain import nn
    >>> model = nn.Sequential([nn.Dense(128, "relu"), nn.Dropout(0.2), nn.Dense(10)])
    >>> params, state = model.init(dt.key(0), dt.Spec((32, 64), np.dtype("f4")))
    >>> params["dense_2"]["kernel"].shape
    (128, 10)
    >>> y, state = model.apply(params, state, np.zeros((32, 64), "f4"))
    >>> y.shape
    (32, 10)
    """

    layers: Sequence[Layer]
    name: str | None = None
    input_shape: Sequence[int] | None = None

    # A cache, like a cached property: no part of comparisons, hash or description.
    _initialized_for: ClassVar[Spec | None] = None

    def __post_init__(self) -> None:
        if not isinstance(self.layers, list | tuple):
            raise ArgumentError(f"Sequential takes a list of layers, got a {type(self.layers).__name__}: write Sequential([Dense(10)]).")
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ArgumentError("Sequential needs at least one layer.")
        for i, layer in enumerate(self.layers):
            if isinstance(layer, type) or not (hasattr(layer, "init") and hasattr(layer, "apply")):
                raise ArgumentError(f"Sequential: number {i} is {layer!r}, which is not a layer (it needs the methods init and apply).")
        for name in self.names:
            if not (isinstance(name, str) and re.fullmatch(r"[\w-]+", name)):
                raise ArgumentError(f"Sequential: a layer's name is made of letters, digits, '_' and '-', got {name!r}.")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ArgumentError(f"Sequential: two layers have the name {twice[0]!r}: give one of them another name=.")
        if self.input_shape is not None:
            object.__setattr__(self, "input_shape", _sample_shape(self.input_shape))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each layer: the user's, or class and running number."""
        counts: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            name = getattr(layer, "name", None)
            kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
            counts[kind] += name is None
            names.append(name or f"{kind}_{counts[kind]}")
        return tuple(names)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        attributes = ("apply", "init", "input", "input_shape", "layers", "name", "names", "output_spec", "summary")
        raise AttributeError(str(UnknownNameError.of("attribute of a model", name, attributes, hints.MODEL)))

    def __iter__(self) -> Iterator[tuple[str, Layer]]:
        return zip(self.names, self.layers, strict=True)

    @property
    def input(self) -> Spec | None:
        """Spec of a batch of one sample: from the last initialisation, else from `input_shape` (float32), else None."""
        if self._initialized_for is not None or self.input_shape is None:
            return self._initialized_for
        return input_spec((1, *self.input_shape))

    def init(self, key: Any, spec: Any = None) -> tuple[Nest, Nest]:
        """First parameters and state of all layers; tracing a layer gives the spec of its output."""
        spec = self._batch(spec)
        object.__setattr__(self, "_initialized_for", Spec((1, *spec.shape[1:]), spec.dtype))
        return self._first(key, spec)

    def _batch(self, spec: Any) -> Spec:
        """The spec of the batch, checked against `input_shape`; None stands for the known input."""
        batch = known_input(self) if spec is None else input_spec(spec)
        if self.input_shape is not None and batch.shape[1:] != self.input_shape:
            raise ShapeError(
                f"the model takes samples of shape {self.input_shape}, as its input_shape says, got samples of shape {batch.shape[1:]}."
            )
        return batch

    def _first(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        params: Nest = {}
        state: Nest = {}
        for i, (name, layer) in enumerate(self):
            with naming(name):
                layer_params, layer_state = layer.init(derive(key, i), spec)
                _, spec = trace_layer(layer, layer_params, layer_state, spec)
            if layer_params:
                params[name] = layer_params
            if layer_state:
                state[name] = layer_state
        return params, state

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """The last layer's output, and the state of all layers after this batch."""
        unknown = [name for name in params if name not in self.names]
        if unknown:
            raise ArgumentError(
                f"the parameters hold {unknown[0]!r}, which is no layer of this model: its layers are {', '.join(self.names)}."
            )
        after: Nest = {}
        for i, (name, layer) in enumerate(self):
            with scope(name), naming(name):
                layer_key = None if key is None else fold_in(key, i) if isinstance(key, Tensor) else derive(key, i)
                try:
                    x, layer_state = layer.apply(params.get(name, {}), state.get(name, {}), x, key=layer_key, training=training)
                except KeyError as error:
                    raise ArgumentError(f"the parameters lack {error}: make them with this model's own init(key, spec).") from error
            if layer_state:
                after[name] = layer_state
        return x, after

    def output_spec(self, spec: Any = None) -> Spec:
        """Spec of the output for a batch of this spec."""
        spec = self._batch(spec)
        return trace_layer(self, *self._first(new_key(0), spec), spec)[1]

    def summary(self, spec: Any = None) -> Summary:
        """Table of the layers: output shapes, parameters, bytes and FLOPs; see `dagtrain.nn.summary.summarize`.

        Raises
        ------
        ArgumentError
            If `spec` is None and neither `input_shape` nor training has set the shape of the input.
        """
        return summarize(self, self._batch(spec))


def _sample_shape(value: Any) -> tuple[int, ...]:
    valid = isinstance(value, tuple | list) and all(is_whole(n) and n > 0 for n in value)
    if not valid:
        raise ArgumentError(
            f"Sequential: input_shape is the shape of one sample, without the axis of samples, as in input_shape=(64,); got {value!r}."
        )
    return tuple(int(n) for n in value)
