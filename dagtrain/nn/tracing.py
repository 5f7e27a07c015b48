"""A layer traced for specs: its first values, and the calls of the layers in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.graph import Array, Spec, Tensor, make_spec, spec_of
from dagtrain.graph import input as new_input
from dagtrain.nn.checks import check_key
from dagtrain.nn.context import run_pass
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.naming import Nest, nested, number_of
from dagtrain.nn.passes import Call, Pass
from dagtrain.ops.random import derive

if TYPE_CHECKING:
    from dagtrain.nn.layer import Layer

__all__ = ["First", "first_pass", "input_spec", "maker"]


class Request(NamedTuple):
    """A parameter or state that a layer asks for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initializer: Initializer

    def draw(self, name: str, key: Any) -> Array:
        """Its first value: a function of the key and of its dotted name."""
        own = derive(key, number_of(tuple(name.split("."))))
        array = np.asarray(self.initializer(own, self.shape, self.dtype), self.dtype)
        if array.shape != self.shape:
            raise ShapeError(f"the initializer of {name!r} made an array of shape {array.shape} instead of {self.shape}.")
        return array


class First(NamedTuple):
    """A model traced once for its first values.

    Attributes
    ----------
    parameters, state
        Nested dicts of arrays.
    call
        The model's call, on tensors.
    shared
        The pass.
    requests
        What the layers asked for, by dotted name.
    """

    parameters: Nest
    state: Nest
    call: Call
    shared: Pass
    requests: dict[str, Request]

    def draw(self, key: Any) -> tuple[Nest, Nest]:
        """First parameters and state by another key, without another trace."""
        parameters, states = (
            nested({path: self.requests[name].draw(name, key) for path in asked for name in [".".join(path)]})
            for asked in (self.shared.parameters, self.shared.states)
        )
        return parameters, states


def input_spec(value: Any) -> Spec:
    """Spec of a batched input, from a spec, an array, or a shape (then float32).

    Examples
    --------
    >>> print(input_spec((32, 64)))
    float32[32, 64]
    """
    spec = make_spec(value, np.float32) if isinstance(value, tuple | list) and not isinstance(value, Spec) else spec_of(value)
    if not spec.ndim:
        raise ShapeError(f"a model's input is an array with samples on its first axis, or a shape such as (32, 64); got {value!r}.")
    return spec


def _specs(layer: Layer, inputs: tuple[Any, ...]) -> tuple[Spec, ...]:
    known = layer.known_inputs
    if not inputs or (len(inputs) == 1 and inputs[0] is None):
        if known is None:
            raise ArgumentError(
                "the model does not declare the shape of its input: give one with the axis of samples, as in "
                "model.summary((1, 64)), or make the model for samples of a shape, as in Sequential([...], input_shape=(64,))."
            )
        return known
    is_shape = len(inputs) == 1 and isinstance(inputs[0], tuple | list) and not any(isinstance(n, tuple | list) for n in inputs[0])
    is_shape = is_shape and not any(hasattr(n, "shape") and getattr(n, "shape", ()) != () for n in inputs[0])
    return tuple(input_spec(value) for value in (inputs if is_shape else layer.arguments(inputs)))


def first_pass(
    layer: Layer, key: Any, inputs: tuple[Any, ...], dtype: Any = None, *, allocate: bool = True, most: float = math.inf
) -> First:
    """Trace a layer in training mode, and make its first values.

    Parameters
    ----------
    layer
        Layer or model.
    key, inputs, dtype
        As for `Layer.init`.
    allocate
        Whether to draw first values; else they take no memory, however large they are.
    most
        Most calls of layers; more are an ArgumentError.
    """
    check_key(key)
    specs = _specs(layer, inputs)
    names = layer.input_names
    tensors = tuple(new_input(names[i] if i < len(names) else f"x_{i}", spec.shape, spec.dtype) for i, spec in enumerate(specs))
    if dtype is None:
        dtype = np.float64 if any(spec.dtype == np.float64 for spec in specs) else np.float32
    try:
        is_float = np.dtype(dtype).kind == "f"
    except TypeError:
        is_float = False
    if not is_float:
        raise DTypeError(f"parameters are floats, got dtype={dtype!r}.")
    arrays: dict[str, Array] = {}
    requests: dict[str, Request] = {}
    placeholder = new_input("key", (2,), np.uint64)
    shared = Pass(True, np.dtype(dtype), placeholder, make=maker(key, allocate=allocate, arrays=arrays, requests=requests), most=most)
    call = run_pass(shared, layer, tensors)
    params, state = (nested({path: arrays[".".join(path)] for path in made}) for made in (shared.parameters, shared.states))
    return First(params, state, call, shared, requests)


def maker(key: Any, *, allocate: bool = True, arrays: dict[str, Array], requests: dict[str, Request]) -> Callable[..., Tensor]:
    """A function that gives a tensor in the place of each new parameter or state, and enters request and first value."""

    def make(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], initializer: Initializer) -> Tensor:
        request = requests[name] = Request(shape, dtype, initializer)
        if allocate:
            arrays[name] = request.draw(name, key)
        else:
            if math.prod(shape) > np.iinfo(np.intp).max:
                raise ShapeError(f"{name!r} would have the shape {shape}, more elements than an array can have.")
            arrays[name] = np.broadcast_to(np.zeros((), dtype), shape)
        return new_input(name, shape, dtype)

    return make
