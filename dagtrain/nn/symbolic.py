"""Symbolic values: what a layer returns when it is called on an `Input`. Functional models are made of them.

    a = Input((4,), name="a")          Value of shape (batch, 4)
    h = Dense(8, "relu")(a)            Value of shape (batch, 8), made by a Step: the layer, its method and its inputs
    h + a, h - a, h * a                Add()([h, a]), Subtract()([h, a]), Multiply()([h, a])

A layer is traced where it is called, so a wrong shape is an error in that line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.errors import ArgumentError, DTypeError
from dagtrain.graph import Spec, Tensor, spec_of
from dagtrain.graph import input as new_input
from dagtrain.graph.protocols import Slot
from dagtrain.hinting import Hinted
from dagtrain.nn.context import Context
from dagtrain.nn.passes import Pass
from dagtrain.nn.tracing import maker
from dagtrain.ops.random import key as new_key
from dagtrain.trace.tree import flatten, map_leaves, unflatten

if TYPE_CHECKING:
    from dagtrain.nn.layer import Layer

__all__ = ["OPERATORS", "Input", "Step", "Value", "called", "ordered"]

OPERATORS: Slot[dict[str, Callable[[], Layer]]] = Slot("dagtrain.nn.layers.merging")
"""The layers that the operators of symbolic values stand for."""


@dataclass(frozen=True, eq=False)
class Step:
    """A layer called on symbolic values."""

    layer: Layer
    method: str
    inputs: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Value:
    """An array that a functional model computes: output number `index` of a step, or an input.

    Attributes
    ----------
    spec
        For a batch of one sample.
    step
        None for an input.
    index
        Its number among the outputs of the step.
    """

    spec: Spec
    step: Step | None = None
    index: int = 0

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Its shape; None stands for the number of samples."""
        return (None, *self.spec.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its dtype."""
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        """Number of axes, that of the samples included."""
        return self.spec.ndim

    def __repr__(self) -> str:
        of = "input" if self.step is None else type(self.step.layer).__name__
        return f"<{of}: {self.dtype} ({', '.join(['batch', *map(str, self.spec.shape[1:])])})>"

    def __add__(self, other: Any) -> Value:
        return self._merged("+", other)

    def __sub__(self, other: Any) -> Value:
        return self._merged("-", other)

    def __mul__(self, other: Any) -> Value:
        return self._merged("*", other)

    def _merged(self, operator: str, other: Any) -> Value:
        if not isinstance(other, Value):
            raise ArgumentError(f"a symbolic value is combined with others alone, not with {other!r}: write a layer for it.")
        value: Value = OPERATORS.value[operator]()([self, other])
        return value

    def _no_operator(self, *others: Any) -> Any:
        raise ArgumentError(
            "symbolic values hold no numbers, and have the operators +, - and * alone: for others write a layer of NumPy functions."
        )

    __rsub__ = __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __pow__ = __neg__ = __getitem__ = _no_operator
    __radd__ = __rmul__ = __bool__ = __iter__ = __len__ = __float__ = _no_operator

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        raise _no_function(ufunc)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise _no_function(function)


def _no_function(function: Any) -> ArgumentError:
    return ArgumentError(
        f"np.{function.__name__} of a symbolic value: write a layer, whose forward(self, c, x) may use NumPy's functions, and call it."
    )


class Input(Hinted, Value):
    """An input of a functional model.

    Parameters
    ----------
    shape
        Shape of one sample, without the axis of samples.
    name
        Name of the column of x that it takes; by default ``input_1``, ``input_2`` and so on, in the order of the model's inputs.
    dtype
        Its dtype.

    Examples
    --------
    >>> from dagtrain import nn
    >>> a = Input((4,), name="a")
    >>> nn.Dense(8)(a).shape
    (None, 8)
    """

    name: str | None

    def __init__(self, shape: Sequence[int], name: str | None = None, dtype: Any = "float32") -> None:
        if not isinstance(shape, tuple | list) or not all(is_whole(n) and n > 0 for n in shape):
            raise ArgumentError(f"Input takes the shape of one sample, as in Input((64,)), without the axis of samples; got {shape!r}.")
        if name is not None and not (isinstance(name, str) and re.fullmatch(r"[\w-]+", name)):
            raise ArgumentError(f"the name of an input is made of letters, digits, '_' and '-', got {name!r}.")
        try:
            wide = np.dtype(dtype)
        except TypeError:
            raise DTypeError(f"Input: dtype is that of an array, as in 'float32' or 'int64', got {dtype!r}.") from None
        super().__init__(Spec((1, *map(int, shape)), wide))
        object.__setattr__(self, "name", name)


def called(layer: Layer, inputs: tuple[Any, ...], method: str) -> Any:
    """The symbolic outputs of a layer for symbolic inputs: a value, or a tuple or dict of them."""
    values = layer.arguments(inputs)
    for value in values:
        if isinstance(value, Tensor | Context):
            what = "a tensor" if isinstance(value, Tensor) else "the context"
            raise ArgumentError(
                f"{type(layer).__name__}(...) is called on {what}: in forward(self, c, x) the context calls layers, as in c(self.field, x)."
            )
        if not isinstance(value, Value):
            raise ArgumentError(
                f"{type(layer).__name__}(...) is called on {type(value).__name__}: a layer is called on symbolic values, which begin with "
                "dagtrain.nn.Input((features,)). To compute with arrays: params, state = layer.init(dagtrain.key(0), x), then "
                "layer.apply(params, state, x)."
            )
    step = Step(layer, method, values)
    outputs = outputs_of(step, [value.spec for value in values])
    named, structure = flatten(outputs)
    return unflatten(structure, [Value(spec, step, i) for i, spec in enumerate(named.values())])


def outputs_of(step: Step, specs: Sequence[Spec]) -> Any:
    """The specs of a step's outputs."""
    shared = Pass(
        True, np.dtype(np.float32), new_input("key", (2,), np.uint64), make=maker(new_key(0), allocate=False, arrays={}, requests={})
    )
    tensors = tuple(new_input(f"x_{i}", spec.shape, spec.dtype) for i, spec in enumerate(specs))
    call = Context(shared, step.layer, (step.layer.name or type(step.layer).__name__,), True).enter(tensors, step.method)
    return map_leaves(spec_of, call.outputs)


def ordered(outputs: Iterable[Value]) -> list[Step]:
    """The steps that these values need, each after those that it needs: depth first, from the first output to the last."""
    order: dict[int, Step] = {}
    for output in outputs:
        stack: list[tuple[Step, bool]] = [] if output.step is None else [(output.step, False)]
        while stack:
            step, ready = stack.pop()
            if id(step) in order:
                continue
            if ready:
                order[id(step)] = step
                continue
            stack.append((step, True))
            stack += [(value.step, False) for value in reversed(step.inputs) if value.step is not None]
    return list(order.values())
