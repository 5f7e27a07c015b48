"""`Layer`: a part of a model, written as one function of a context.

    @dataclass(frozen=True)
    class Scale(nn.Layer):
        def forward(self, c, x):
            return x * c.parameter("scale", x.shape[-1:], "ones")

    init(key, x)                   -> (params, state)          forward once, with a context that makes what is asked for
    apply(params, state, x, ...)   -> (outputs, state)         a pure function of tensors or arrays
    layer(value)                   -> value                    a node of a functional model; see `dagtrain.nn.Model`

Gradients change `params`; `state` holds running statistics of the batches. Both are nested dicts of arrays. A layer itself is a frozen
dataclass: its settings and nothing else.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np

from dagtrain.arguments import flag
from dagtrain.errors import ArgumentError, ShapeError, UnknownArgumentError
from dagtrain.graph import Spec, spec_of
from dagtrain.hinting import Hinted, no_attribute
from dagtrain.nn import hints
from dagtrain.nn.calls import signature_of
from dagtrain.nn.checks import array_nest, check_inputs, check_key
from dagtrain.nn.context import Context, run_pass
from dagtrain.nn.naming import Nest, nested
from dagtrain.nn.passes import Call, Pass
from dagtrain.nn.picture import graph_of
from dagtrain.nn.summary import Summary, summarize
from dagtrain.nn.symbolic import Value, called
from dagtrain.nn.tracing import first_pass
from dagtrain.nn.values import Values, spread
from dagtrain.ops.random import key as new_key
from dagtrain.trace.tree import map_leaves

__all__ = ["Applied", "Layer"]


class Applied(NamedTuple):
    """What a model gives for a batch.

    Attributes
    ----------
    outputs
        An array, or a tuple or dict of them.
    state
        The state after the batch.
    losses
        What layers added to the loss, by dotted name.
    auxiliary
        Outputs that exist in training alone.
    parts
        For each row of the outputs, how much of it stands for its own targets and not for those of the next row; None without mixing.
    call
        The call of the model, with those of the layers in it.
    """

    outputs: Any
    state: Nest
    losses: dict[str, Values]
    auxiliary: dict[str, Values]
    parts: Values | None = None
    call: Call | None = None


class Layer(Hinted):
    """Base of layers and models: a frozen dataclass with a method ``forward(self, c, *inputs)``.

    `c` is the `dagtrain.nn.Context` of the call. A layer whose fields hold other layers calls them by ``c(self.field, x)``.

    Attributes
    ----------
    name
        Name in parameters, errors and pictures; None leaves it to the layer or model that holds it.
    trainable
        Whether training changes its parameters and those of the layers in it.
    per_position
        Whether it treats every position of a sequence alike, so that a mask stays as it is.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import dagtrain as dt, numpy as np
    >>> @dataclass(frozen=True)
    ... class Residual(dt.nn.Layer):
    ...     inner: dt.nn.Layer
    ...     def forward(self, c, x):
    ...         return x + c(self.inner, x)
    >>> layer = Residual(dt.nn.Dense(3, "relu"))
    >>> params, state = layer.init(dt.key(0), (8, 3))
    >>> params["inner"]["kernel"].shape
    (3, 3)
    >>> layer.apply(params, state, np.zeros((8, 3), "f4"))[0].shape
    (8, 3)
    """

    name: str | None = None
    trainable: bool = True
    per_position: bool = False
    _takes_values = False
    """Whether its constructor takes symbolic values."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """A new layer, which is made first and called then."""
        if not cls._takes_values and any(isinstance(v, Value) for a in args for v in (a if isinstance(a, list | tuple) else [a])):
            raise ArgumentError(f"{cls.__name__} is called with symbolic values where it takes settings: write {cls.__name__}(...)(x).")
        made = super().__new__(cls, *args, **kwargs)
        names, flags = _settings(cls.__init__)
        twice = [setting for setting in names[: len(args)] if setting in kwargs]
        if twice:
            raise ArgumentError(f"{cls.__name__}: {twice[0]} is given twice: its arguments are {', '.join(names)}, in this order.")
        for setting, value in (*zip(names, args, strict=False), *kwargs.items()):
            if setting in flags:
                flag(f"{cls.__name__}: {setting}", value)
            elif setting == "name" and not (value is None or isinstance(value, str | Layer)):
                raise ArgumentError(f"{cls.__name__}: name is a str, got {value!r}: its arguments are {', '.join(names)}, in this order.")
        return made

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a layer as the default of a field: all instances would share it."""
        super().__init_subclass__(**options)
        for name in vars(cls).get("__annotations__", ()):
            if isinstance(vars(cls).get(name), Layer):
                raise ArgumentError(
                    f"{cls.__name__}.{name}: all instances would share the layer that is the field's default, and its parameters. Write "
                    f"{name}: nn.Layer = field(default_factory=lambda: ...)."
                )

    def forward(self, c: Context, *inputs: Any) -> Any:
        """The outputs for a batch of inputs, whose first axis counts samples."""
        raise ArgumentError(f"{type(self).__name__} has no forward: define forward(self, c, x), which returns the outputs.")

    @property
    def known_inputs(self) -> tuple[Spec, ...] | None:
        """Specs of a batch of one sample, for layers that declare them."""
        return None

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs, which bind the columns of a dict; of layers, the parameters of `forward`."""
        return tuple(signature_of(self.forward).parameters)[1:]

    @property
    def required_inputs(self) -> tuple[str, ...]:
        """The names of the inputs that cannot be left out."""
        optional = {p.name for p in signature_of(self.forward).parameters.values() if p.default is not p.empty}
        return tuple(name for name in self.input_names if name not in optional)

    @property
    def encoders(self) -> Mapping[str, Any]:
        """By the name of an input, what encodes the tables that a trainer is given for it; see `dagtrain.data.Features`."""
        return {}

    def init(self, key: Any, *inputs: Any, dtype: Any = None) -> tuple[Nest, Nest]:
        """First parameters and state.

        Parameters
        ----------
        key
            Key of the first values; see `dagtrain.key`.
        *inputs
            For each input a spec, an array, or a shape (then float32), with the axis of samples; a dict of them by name; nothing for the
            declared inputs.
        dtype
            Of the parameters; by default float64 for float64 inputs, else float32.

        Returns
        -------
        tuple
            Nested dicts of arrays.
        """
        first = first_pass(self, key, inputs, dtype)
        return first.parameters, first.state

    def apply(self, params: Nest, state: Nest, *inputs: Any, key: Any = None, training: bool = False) -> tuple[Any, Nest]:
        """The outputs for a batch, and the state after it; `run` also gives what layers add to the loss, and how they mix targets."""
        applied = self.run(params, state, *inputs, key=key, training=training)
        return applied.outputs, applied.state

    def run(
        self, params: Nest, state: Nest, *inputs: Any, key: Any = None, training: bool = False, fixed: Collection[str] | None = None
    ) -> Applied:
        """As `apply`, with the losses that layers add and the auxiliary outputs.

        `fixed` has the dotted names of the parameters that are not trained; by default the layers say it.
        """
        parameters, states = array_nest("parameters", params), array_nest("states", state)
        dtype = next((p.dtype for p in parameters.values() if p.dtype.kind == "f"), np.dtype(np.float32))
        if key is not None:
            check_key(key)
        shared = Pass(training, dtype, key, parameters, states, fixed=fixed)
        if len(inputs) == 1 and isinstance(inputs[0], list) and not all(hasattr(value, "ndim") for value in inputs[0]):
            check_inputs(self.input_names, self.input_names, inputs)  # a list of numbers is no list of inputs
        arrays = self.arguments(inputs)
        check_inputs(self.input_names, self.required_inputs, arrays)
        call = run_pass(shared, self, arrays)
        if training and shared.unused:
            raise ArgumentError(f"the parameters and states hold {shared.unused[0]!r}, which no layer of this model asks for.")
        return Applied(call.outputs, nested({**states, **shared.updates}), shared.losses, shared.auxiliary, shared.parts, call)

    def arguments(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs of `forward` in order, from as many inputs, one tuple, or one dict by name."""
        if len(inputs) != 1 or not isinstance(inputs[0], dict):
            return spread(inputs)
        columns, names = inputs[0], self.input_names
        if any(p.kind is p.VAR_POSITIONAL for p in signature_of(self.forward).parameters.values()) and not self.known_inputs:
            raise ShapeError(f"the inputs of {type(self).__name__} have no names: give them as a tuple, not as a dict.")
        required = self.required_inputs
        missing, others = [n for n in required if n not in columns], [n for n in columns if n not in names]
        if (missing or others) and len(required) == 1:
            raise ShapeError(
                f"the model takes one array as {names[0]}, got a dict of {', '.join(map(str, columns))}: join them with np.concatenate, or "
                "make a model of several inputs with dagtrain.nn.Model."
            )
        if missing or others:
            raise ShapeError(
                f"{type(self).__name__} takes the inputs {', '.join(names)}, got a dict of {', '.join(map(str, columns))}: "
                f"{f'{others[0]!r} is none of them' if others else f'{missing[0]!r} is missing'}."
            )
        last = max(i for i, name in enumerate(names) if name in columns)
        return tuple(columns.get(name) for name in names[: last + 1])

    def output_spec(self, *inputs: Any) -> Any:
        """Spec of the outputs for these inputs (as in `init`), or a nest of specs."""
        call = first_pass(self, new_key(0), inputs, allocate=False).call
        return map_leaves(spec_of, call.outputs)

    def summary(self, *inputs: Any, dtype: Any = None) -> Summary:
        """Table of the layers: output shapes, parameters, bytes and FLOPs; see `dagtrain.nn.summarize`.

        Raises
        ------
        ArgumentError
            If there are no inputs given and none declared.
        """
        return summarize(self, *inputs, dtype=dtype)

    def visualize(self, filename: str | os.PathLike[str] | None = None, *inputs: Any, training: bool = False, **options: Any) -> Any:
        """The picture of its graph: every layer a box, that of a large model collapsed.

        Parameters
        ----------
        filename
            Where to write it, in the format of its extension; by default nowhere.
        *inputs
            As for `init`.
        training
            Whether to show what it computes in training, with the auxiliary outputs.
        **options
            As for `dagtrain.draw.draw`, such as ``collapse=True``: one node for each layer.

        Examples
        --------
        >>> from dagtrain import nn
        >>> "dense_2" in nn.Sequential([nn.Dense(3, "relu"), nn.Dense(2)]).visualize(None, (1, 4)).dot
        True
        """
        return graph_of(self, inputs, training).visualize(filename, **options)

    def __call__(self, *inputs: Any, method: str = "forward", **others: Any) -> Any:
        """The symbolic outputs for symbolic inputs, which begin with `dagtrain.nn.Input`; a functional model is made of them."""
        if others:
            raise UnknownArgumentError.of(f"argument in a call of {type(self).__name__}", next(iter(others)), ["method"], hints.CALL)
        return called(self, inputs, method)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise no_attribute(f"attribute of {type(self).__name__}", name, sorted({*dir(type(self)), *vars(self)}), hints.MODEL)


@cache
def _settings(init: Callable[..., None]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The arguments of a layer in their order, and those that are True or False."""
    parameters = [p for p in inspect.signature(init).parameters.values() if p.name != "self"]
    names = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return names, frozenset(p.name for p in parameters if p.annotation in ("bool", bool))
