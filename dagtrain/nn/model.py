"""Functional models: a graph of layers from inputs to outputs.

    a, b = nn.Input((4,), name="a"), nn.Input((3,), name="b")
    h = nn.Concatenate()([nn.Dense(8, "relu")(a), nn.Dense(8, "relu")(b)])
    model = nn.Model(inputs=[a, b], outputs={"kind": nn.Dense(2)(h), "size": nn.Dense(1)(h)})

Layers are named in the order in which the outputs need them, the auxiliary outputs last, so an auxiliary output or a layer of another kind
changes no other name. A layer that is called twice shares its parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dagtrain.errors import ArgumentError, DTypeError, ShapeError, UnknownNameError
from dagtrain.graph import Spec
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.naming import checked_name, names_of
from dagtrain.nn.symbolic import Input, Step, Value, ordered
from dagtrain.trace.tree import flatten, leaves, unflatten

__all__ = ["Model", "connect"]


@dataclass(frozen=True, eq=False)
class Model(Layer):
    """A model whose layers are connected as you like, with several inputs and outputs.

    It is itself a layer: it may be called on other values, and then shares its parameters by identity as every layer does. A model made of
    inner values of another, such as an encoder, has the same layers.

    Parameters
    ----------
    inputs
        An `Input`, a list of them, or a dict by name.
    outputs
        A value, or a list or dict of values. The names of a dict are those of the columns of y, of losses and of metrics.
    auxiliary
        Outputs that exist in training alone, by name; each has a loss of its own. Needs a dict of outputs.
    name
        Name where it is itself a layer.
    trainable
        Whether training changes the parameters of its layers.

    Raises
    ------
    ArgumentError
        If an output needs an input that is not among `inputs`, an input is used by no output, or two layers or inputs have one name.

    Examples
    --------
    >>> from dagtrain import nn
    >>> import dagtrain as dt, numpy as np
    >>> x = nn.Input((8,), name="x")
    >>> h = nn.Dense(8, "relu")(x)
    >>> model = nn.Model(x, nn.Dense(3)(h + x))
    >>> params, state = model.init(dt.key(0))
    >>> list(params)
    ['dense_1', 'dense_2']
    >>> model.apply(params, state, np.zeros((5, 8), "f4"))[0].shape
    (5, 3)
    """

    inputs: Input | Sequence[Input] | Mapping[str, Input]
    outputs: Value | Sequence[Value] | Mapping[str, Value]
    auxiliary: Mapping[str, Value] | None = None
    name: str | None = None
    trainable: bool = True
    _takes_values = True

    def __post_init__(self) -> None:
        if self.auxiliary is not None and not isinstance(self.auxiliary, Mapping):
            raise ArgumentError(f"Model: auxiliary is a dict of outputs by name, got {self.auxiliary!r}.")
        kinds = {"inputs": (Input, "dagtrain.nn.Input"), "outputs": (Value, "what layers return for nn.Input")}
        for what, (kind, title) in (kinds | {"auxiliary": kinds["outputs"]}).items():
            nest = _plain(getattr(self, what))
            object.__setattr__(self, what, nest)  # a copy: a dict of the user's may change later
            for value in nest.values() if isinstance(nest, dict) else nest if isinstance(nest, list | tuple) else [nest]:
                if not isinstance(value, kind) and not (what == "auxiliary" and nest is None):
                    raise ArgumentError(f"Model: {what} are {title}, one, or a list or dict of them, got {value!r}.")
        inputs = leaves(self.inputs)
        if len({id(value) for value in inputs}) < len(inputs):
            raise ArgumentError("Model: an input stands twice among inputs.")
        if not leaves(self.outputs):
            raise ArgumentError("Model: it has no outputs.")
        if self.auxiliary and not isinstance(self.outputs, Mapping):
            raise ArgumentError('Model: auxiliary outputs have names, so the others need names too: outputs={"main": value}.')
        for what, nest in (("model's input", self.inputs), ("model's output", self.outputs), ("model's output", self.auxiliary)):
            for name in nest if isinstance(nest, Mapping) else ():
                checked_name(what, name)
        twice = [name for name in self.auxiliary or () if name in self.outputs]
        if twice:
            raise ArgumentError(f"Model: two outputs have the name {twice[0]!r}.")
        names = self.input_names
        if len(set(names)) < len(names):
            raise ArgumentError(f"Model: two inputs have the same name: {', '.join(names)}.")
        self._check_inputs(inputs)
        owners: dict[str, Layer] = {}
        for step, name in zip(self.steps, self.names, strict=True):
            checked_name("layer", name)
            if owners.setdefault(name, step.layer) is not step.layer:
                raise ArgumentError(f"Model: two layers have the name {name!r}: use one layer for both, or give one another name=.")

    def _check_inputs(self, inputs: list[Input]) -> None:
        used = {id(value): value for value in self._values() if value.step is None}
        missing = [value for key, value in used.items() if key not in {id(i) for i in inputs}]
        if missing:
            raise ArgumentError(f"Model: the outputs need the input {getattr(missing[0], 'name', None) or missing[0]!r}: add it to inputs.")
        for value, name in zip(inputs, self.input_names, strict=True):
            if id(value) not in used:
                raise ArgumentError(f"Model: no output needs the input {name!r}: leave it out.")

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs, which bind the columns of a dict."""
        if isinstance(self.inputs, Mapping):
            return tuple(self.inputs)
        inputs = leaves(self.inputs)
        return tuple(value.name or ("x" if len(inputs) == 1 else f"input_{i}") for i, value in enumerate(inputs, 1))

    @property
    def known_inputs(self) -> tuple[Spec, ...]:
        """Specs of a batch of one sample."""
        return tuple(value.spec for value in leaves(self.inputs))

    @property
    def encoders(self) -> Mapping[str, Any]:
        """Those of the layers that take inputs of the model."""
        names = dict(zip(map(id, leaves(self.inputs)), self.input_names, strict=True))
        taken = [
            (names[id(value)], step.layer.encoders.get(name))
            for step in self.steps
            for name, value in zip(step.layer.input_names, step.inputs, strict=False)
            if id(value) in names
        ]
        return {name: encoder for name, encoder in taken if encoder is not None}

    @cached_property
    def steps(self) -> list[Step]:
        """The calls of layers in the order in which they run, those for auxiliary outputs last."""
        return ordered([*leaves(self.outputs), *(self.auxiliary or {}).values()])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of the layer of each step."""
        return names_of([step.layer for step in self.steps])

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by name, in the order in which they run."""
        return {name: step.layer for name, step in zip(self.names, self.steps, strict=True)}

    def value(self, name: str) -> Value:
        """The output of the layer of this name (of its first call), to make another model of, as for another head."""
        step = self._step(name)
        of_step = [value for value in self._values() if value.step is step]
        return next((value for value in of_step if value.index == 0), of_step[0])

    def _values(self) -> list[Value]:
        return [*(v for step in self.steps for v in step.inputs), *leaves(self.outputs), *(self.auxiliary or {}).values()]

    def _step(self, name: str) -> Step:
        if name not in self.names:
            raise UnknownNameError.of("layer of the model", name, self.names)
        return self.steps[self.names.index(name)]

    def __reduce__(self) -> tuple[Any, ...]:
        # As a table: pickle and deepcopy would recurse through all steps, each in the inputs of the next.
        known = ("inputs", "outputs", "auxiliary", "steps", "names")
        return _copied, (type(self), self.table(), self.layers, {k: v for k, v in vars(self).items() if k not in known})

    def table(self) -> dict[str, Any]:
        """The connections as plain lists and dicts; `connect` makes the model of them and its layers.

        A value is the name of an input, or a pair: the number of a step, and of its output.
        """
        steps = self.steps
        numbers = {id(step): i for i, step in enumerate(steps)}
        inputs = dict(zip(self.input_names, leaves(self.inputs), strict=True))
        names = {id(value): name for name, value in inputs.items()}

        def refer(nest: Any) -> Any:
            if isinstance(nest, Value):
                return names[id(nest)] if nest.step is None else [numbers[id(nest.step)], nest.index]
            if isinstance(nest, Mapping):
                return {"dict": [[name, refer(part)] for name, part in nest.items()]}
            return {type(nest).__name__: [refer(part) for part in nest]}

        return {
            "inputs": {name: {"shape": list(value.spec.shape[1:]), "dtype": value.dtype.name} for name, value in inputs.items()},
            "steps": [[name, step.method, [refer(v) for v in step.inputs]] for name, step in zip(self.names, steps, strict=True)],
            "outputs": refer(self.outputs),
            "auxiliary": refer(self.auxiliary or {}),
        }

    def forward(self, c: Context, *inputs: Any) -> Any:
        """The outputs; in training also the auxiliary ones."""
        declared = leaves(self.inputs)
        if len(inputs) != len(declared):
            raise ArgumentError(
                f"the model takes the inputs {', '.join(self.input_names)}, got {len(inputs)} of them: give a dict by name, or a tuple."
            )
        values: dict[tuple[int, int], Any] = {}
        for name, value, given in zip(self.input_names, declared, inputs, strict=True):
            if tuple(given.shape[1:]) != value.spec.shape[1:]:
                cure = f" Reshape it to {(-1, *value.spec.shape[1:])}." if math.prod(given.shape[1:]) == value.spec.size else ""
                raise ShapeError(f"the input {name!r} takes samples of shape {value.spec.shape[1:]}, got {tuple(given.shape[1:])}.{cure}")
            if value.dtype.kind in "biu" and given.dtype.kind == "f":
                raise DTypeError(
                    f"the input {name!r} takes {value.dtype}, got {given.dtype}: convert it with .astype({value.dtype.name!r})."
                )
            values[id(value), 0] = given

        def read(value: Value) -> Any:
            key = id(value if value.step is None else value.step), value.index
            if key not in values and value.step is not None:
                name = names[id(value.step)]
                raise ArgumentError(f"layer {name!r} returns fewer outputs here than on symbolic values: it must always return the same.")
            return values[key]

        outermost = c.training and c.outermost
        needed = self.steps if outermost else ordered(leaves(self.outputs))
        names = {id(step): name for step, name in zip(self.steps, self.names, strict=True)}
        for step in needed:
            results = c(step.layer, *map(read, step.inputs), method=step.method, name=names[id(step)])
            values |= {(id(step), i): result for i, result in enumerate(leaves(results))}
        if outermost:
            for name, value in (self.auxiliary or {}).items():
                c.auxiliary(name, read(value))
        named, structure = flatten(self.outputs)
        return unflatten(structure, map(read, named.values()))


def connect(table: Mapping[str, Any], layers: Mapping[str, Layer], kind: type[Model] = Model, **settings: Any) -> Model:
    """The model of a table by `Model.table` and its layers by name; `kind` is its class, and `settings` the other fields.

    Examples
    --------
    >>> from dagtrain import nn
    >>> x = nn.Input((8,), name="x")
    >>> model = nn.Model(x, nn.Dense(3)(x))
    >>> connect(model.table(), {"dense_1": nn.Dense(3)}).input_names
    ('x',)
    """
    inputs = {key: Input(entry["shape"], key, entry["dtype"]) for key, entry in table["inputs"].items()}
    results: list[list[Value]] = []

    def read(reference: Any) -> Any:
        if isinstance(reference, str):
            return inputs[reference]
        if isinstance(reference, dict):
            if "dict" in reference:
                return {k: read(v) for k, v in reference["dict"]}
            return tuple(map(read, reference["tuple"])) if "tuple" in reference else list(map(read, reference["list"]))
        step, index = reference
        return results[step][index]

    for layer, method, references in table["steps"]:
        results.append(leaves(layers[layer](*map(read, references), method=method)))
    return kind(inputs=inputs, outputs=read(table["outputs"]), auxiliary=read(table["auxiliary"]), **settings)


def _copied(kind: type[Model], table: Mapping[str, Any], layers: Mapping[str, Layer], attributes: Mapping[str, Any]) -> Model:
    model: Model = object.__new__(kind)  # its constructor may take other arguments
    vars(model).update({**vars(connect(table, layers)), **attributes})
    return model


def _plain(nest: Any) -> Any:
    """A copy of the nest, with plain dicts and lists."""
    return dict(nest) if isinstance(nest, Mapping) else list(nest) if isinstance(nest, list) else nest
