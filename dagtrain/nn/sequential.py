"""Layers one after the other.

    x ──▶ dense_1 ──▶ dropout_1 ──▶ dense_2 ──▶ y           params = {"dense_1": {...}, "dense_2": {...}}

Layers are named by class and running number, each works inside its own scope (which errors, key names and pictures show), and each gets
a key derived from its position, so that no two layers draw the same random numbers.
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
from dagtrain.nn.either import Values
from dagtrain.nn.layer import Layer, Nest, input_spec, naming, trace_layer
from dagtrain.nn.summary import Summary, known_input, summarize
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
        Shape of one sample, as in ``(64,)``. It need not be told: a model is initialised for the data that it meets. Where it is, other
        data are refused, and `summary`, `init` and `output_spec` need no argument that says it again.

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

    # A memory beside the value, as a cached property is: it is in no comparison, hash or description.
    _met: ClassVar[Spec | None] = None

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
        found = []
        for layer in self.layers:
            given = getattr(layer, "name", None)
            kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
            counts[kind] += given is None
            found.append(given or f"{kind}_{counts[kind]}")
        return tuple(found)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        own = ("apply", "init", "input", "input_shape", "layers", "name", "names", "output_spec", "summary")
        raise AttributeError(str(UnknownNameError.of("attribute of a model", name, own, hints.MODEL)))

    def __iter__(self) -> Iterator[tuple[str, Layer]]:
        return zip(self.names, self.layers, strict=True)

    @property
    def input(self) -> Spec | None:
        """Spec of a batch of one sample: what the model was last initialised for, else of `input_shape` (float32), else None."""
        if self._met is not None or self.input_shape is None:
            return self._met
        return input_spec((1, *self.input_shape))

    def init(self, key: Any, spec: Any = None) -> tuple[Nest, Nest]:
        """First parameters and state of all layers; each layer's output spec is found by tracing it."""
        spec = self._batch(spec)
        object.__setattr__(self, "_met", Spec((1, *spec.shape[1:]), spec.dtype))
        return self._first(key, spec)

    def _batch(self, spec: Any) -> Spec:
        """The spec that was given, if it is of such samples; else the one that is known."""
        found = known_input(self) if spec is None else input_spec(spec)
        if self.input_shape is not None and found.shape[1:] != self.input_shape:
            raise ShapeError(
                f"the model takes samples of shape {self.input_shape}, as its input_shape says, got samples of shape {found.shape[1:]}."
            )
        return found

    def _first(self, key: Any, spec: Spec) -> tuple[Nest, Nest]:
        params: Nest = {}
        state: Nest = {}
        for i, (name, layer) in enumerate(self):
            with naming(name):
                own, kept = layer.init(derive(key, i), spec)
                _, spec = trace_layer(layer, own, kept, spec)
            if own:
                params[name] = own
            if kept:
                state[name] = kept
        return params, state

    def apply(self, params: Nest, state: Nest, x: Values, *, key: Any = None, training: bool = False) -> tuple[Values, Nest]:
        """The last layer's output, and the state of all layers after this batch."""
        strangers = [name for name in params if name not in self.names]
        if strangers:
            raise ArgumentError(
                f"the parameters hold {strangers[0]!r}, which is no layer of this model: its layers are {', '.join(self.names)}."
            )
        after: Nest = {}
        for i, (name, layer) in enumerate(self):
            with scope(name), naming(name):
                own = None if key is None else fold_in(key, i) if isinstance(key, Tensor) else derive(key, i)
                try:
                    x, kept = layer.apply(params.get(name, {}), state.get(name, {}), x, key=own, training=training)
                except KeyError as error:
                    raise ArgumentError(f"the parameters lack {error}: make them with this model's own init(key, spec).") from error
            if kept:
                after[name] = kept
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
            If no shape of the input is given and none is known: by `input_shape`, or from training.
        """
        return summarize(self, self._batch(spec))


def _sample_shape(value: Any) -> tuple[int, ...]:
    good = isinstance(value, tuple | list) and all(is_whole(n) and n > 0 for n in value)
    if not good:
        raise ArgumentError(
            f"Sequential: input_shape is the shape of one sample, without the axis of samples, as in input_shape=(64,); got {value!r}."
        )
    return tuple(int(n) for n in value)
