"""The context that a layer's `forward` works in: parameters, running state, keys, losses and other layers, by name.

    forward(c, x)   with a context that makes what is asked for  →  first parameters and state
    forward(c, x)   with a context that has it                   →  outputs, the state after the batch, losses of layers

The name of a parameter is the path of its layer and its own name: ``encoder.dense_1.kernel``. A layer is known by its identity: used twice,
it has one path and one set of parameters. Keys and first values derive from paths, so a layer that is added changes no other's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from dagtrain.arguments import is_number, is_whole
from dagtrain.errors import ArgumentError, DagtrainError, ShapeError
from dagtrain.graph import Tensor, scope
from dagtrain.graph.origin import raised_at
from dagtrain.hinting import no_attribute
from dagtrain.nn import hints, initializers
from dagtrain.nn.calls import signature_of
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.naming import Path, checked_name, inside, number_of, places_in
from dagtrain.nn.passes import Call, Pass
from dagtrain.nn.reductions import check_reduction
from dagtrain.nn.shapes import check_samples
from dagtrain.nn.values import Values, spread
from dagtrain.ops.random import derive, fold_in

if TYPE_CHECKING:
    from dagtrain.nn.layer import Layer

__all__ = ["RESERVED", "Context", "run_pass"]

RESERVED = ("apply", "arguments", "init", "output_spec", "run", "summary", "visualize")
"""Methods of every layer, which are not called in a context."""


class Context:
    """What a layer's `forward` gets first: all that it may ask for, under the layer's own name.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import dagtrain as dt
    >>> @dataclass(frozen=True)
    ... class Scale(dt.nn.Layer):
    ...     def forward(self, c, x):
    ...         return x * c.parameter("scale", x.shape[-1:], "ones")
    >>> params, state = Scale().init(dt.key(0), (8, 3))
    >>> params
    {'scale': array([1., 1., 1.], dtype=float32)}
    """

    def __init__(self, shared: Pass, layer: Layer, path: Path, trainable: bool) -> None:
        self._pass, self._layer, self._path = shared, layer, path
        self._asked: set[str] = set()
        self._added: set[str] = set()
        self._scopes: dict[str, set[str]] = {}
        self._call: Call | None = None
        self._method = ""
        self._trainable = trainable

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise no_attribute("attribute of a context", name, dir(type(self)), hints.CONTEXT)

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters of this layer."""
        depth, fixed = len(self._path), self._pass.fixed
        here = [".".join(path) for path in self._pass.parameters if path[:depth] == self._path]
        return self._trainable if fixed is None or not here else not all(name in fixed for name in here)

    @property
    def training(self) -> bool:
        """Whether this is a step of training."""
        return self._pass.training

    @property
    def dtype(self) -> np.dtype[Any]:
        """The floats of this model: the dtype of new parameters."""
        return self._pass.dtype

    @property
    def outermost(self) -> bool:
        """Whether this is the context of the whole model."""
        return not self._path

    # ---- parameters and state

    def parameter(self, name: str, shape: Sequence[int], initializer: str | Initializer = "glorot_uniform", dtype: Any = None) -> Values:
        """A parameter, which training changes.

        Parameters
        ----------
        name
            Its name in the layer.
        shape
            Its shape, which must be the same for all inputs of the layer.
        initializer
            Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
        dtype
            By default `dtype` of the context.

        Raises
        ------
        ShapeError
            If the parameter exists with another shape.
        ArgumentError
            If it does not exist, because it was not asked for in training mode, or the name was asked for in this call already.
        """
        value = self._value("parameter", self._pass.parameters, name, shape, initializer, dtype)
        if not self._trainable:  # any use of a shared layer that is not trainable
            self._pass.frozen.add(".".join((*self._path, name)))
        return value

    def state(
        self, name: str, shape: Sequence[int], initializer: str | Initializer = "zeros", reduce: str = "mean", dtype: Any = None
    ) -> Values:
        """An array that layers change themselves, such as a running mean; with `update` it gets another value.

        Parameters
        ----------
        name, shape, initializer, dtype
            As for a parameter; also integers and booleans.
        reduce
            How the values after each shard of a batch become one:

            - "mean": their mean, weighted by the rows of the shards;
            - "sum": what the shards add to the old value is added up;
            - "max": the largest, element by element;
            - "first": that of the first shard with rows;
            - "shard": each shard has a value of its own, which only its next shard reads; in training alone. In `Trainer.weights` it has
              an axis of shards in front.
        """
        check_reduction(name, reduce, self.dtype if dtype is None else np.dtype(dtype))
        path, shared = (*self._path, name), self._pass
        before = shared.reductions.setdefault(".".join(path), reduce)
        if before != reduce:
            raise ArgumentError(f"the state {name!r} is asked for with reduce={before!r} and with reduce={reduce!r}: it has one.")
        if reduce == "shard" and not self.training and shared.make is None and path not in shared.states:
            raise ArgumentError(
                f"the state {name!r} has a value for each shard of a step of training, and none in evaluation and prediction: ask for it "
                "where c.training is set, and write what takes its place else."
            )
        updated = shared.updates.get(path)
        if updated is not None and np.shape(updated) == tuple(shape):
            return updated
        return self._value("state", shared.states, name, shape, initializer, dtype)

    def update(self, name: str, value: Values) -> None:
        """Give a state another value; outside training this does nothing."""
        path = (*self._path, name)
        state = self._pass.states.get(path)
        if state is None:
            raise ArgumentError(f"there is no state {name!r} to update: ask for it with c.state({name!r}, shape) first.")
        value = value if hasattr(value, "dtype") else np.asarray(value)
        if not np.can_cast(value.dtype, state.dtype, "same_kind"):
            raise ArgumentError(
                f"the state {name!r} is {state.dtype}, and its update {value.dtype}: convert it with .astype({state.dtype.name!r})."
            )
        if np.shape(value) != np.shape(state):
            raise ShapeError(f"the state {name!r} has the shape {np.shape(state)}, and its update {np.shape(value)}.")
        if self.training:
            self._pass.updates[path] = value if value.dtype == state.dtype else value.astype(state.dtype)

    def _value(self, what: str, values: dict[Path, Values], name: str, shape: Sequence[int], initializer: Any, dtype: Any) -> Values:
        """The value of this name."""
        path, shared = (*self._path, checked_name(what, name)), self._pass
        if not isinstance(shape, tuple | list) or not all(is_whole(n) and n >= 0 for n in shape):
            raise ArgumentError(f"the shape of the {what} {name!r} is a tuple of whole numbers, as in x.shape[-1:] or (8,), got {shape!r}.")
        shape = tuple(map(int, shape))
        if path in (shared.states if what == "parameter" else shared.parameters):
            raise ArgumentError(f"{name!r} is the name of a parameter and of a state: give one of them another name.")
        if name in self._asked and what == "parameter":
            raise ArgumentError(f"{what} {name!r} is asked for twice in one call: keep the first in a variable, or use two names.")
        self._asked.add(name)
        first = path not in shared.asked
        shared.asked.add(path)
        value = values.get(path)
        if value is None:
            if shared.make is None:
                like = [p for p, other in values.items() if p not in shared.asked and p[-1] == name and np.shape(other) == shape]
                why = f"init runs forward with c.training set, so a {what} that is asked for outside training alone does not exist"
                if like and not self.training:
                    why = f"init made {'.'.join(like[0])!r}: if it is that of a layer used there too, whose first call names it, then "
                    why += "make the first call outside `if c.training`"
                raise ArgumentError(f"the {what}s lack {name!r}: make them with this model's own init(key, ...). {why}.")
            wide = self.dtype if dtype is None else np.dtype(dtype)
            value = values[path] = shared.make(".".join(path), shape, wide, initializers.find(initializer))
        elif np.shape(value) != shape:
            raise ShapeError(f"the {what} {name!r} has the shape {np.shape(value)}, but for these inputs the layer asks for {shape}.")
        if first and self._call is not None:
            (self._call.parameters if what == "parameter" else self._call.states).append(value)
        elif self._call is not None:
            self._call.shares = True
        return value

    # ---- random numbers, losses, outputs

    def key(self) -> Values:
        """A key for random numbers, another one for each call: a function of the pass's key, the layer's path and the number of calls."""
        if self._pass.key is None:
            raise ArgumentError(
                f"{type(self._layer).__name__} needs a key in training: apply(..., key=dagtrain.key(seed), training=True)."
                if self.training
                else f"{type(self._layer).__name__} asks for a key outside training: it has none there, since evaluation is not random."
            )
        number = self._pass.keys[self._path]
        self._pass.keys[self._path] += 1
        child = fold_in if isinstance(self._pass.key, Tensor) else derive
        return child(child(self._pass.key, number_of(self._path)), number)

    def add_loss(self, name: str, value: Values) -> None:
        """Add a value to the loss: one number for the batch, or one for each sample, whose mean is added.

        Parameters
        ----------
        name
            Its name in the layer.
        value
            The number or numbers; multiply them by a factor of your own.
        """
        if checked_name("loss", name) in self._added:
            raise ArgumentError(f"the loss {name!r} was added already in this call: give it another name.")
        self._added.add(name)
        if not (hasattr(value, "dtype") or is_number(value)):
            raise ArgumentError(f"the loss {name!r} that a layer adds is one number, or one for each sample, got {value!r}.")
        dotted = ".".join((*self._path, name))
        # A layer that is called twice adds what depends on its inputs twice, and what depends on its parameters alone once.
        if any(value is other for other in self._pass.losses.values()):
            return
        calls = sum(1 for key in self._pass.losses if key.partition("#")[0] == dotted)
        self._pass.losses[f"{dotted}#{calls + 1}" if calls else dotted] = value

    def auxiliary(self, name: str, value: Values) -> None:
        """Give the model an output that exists in training alone, for a loss of this name; only the outermost layer has such outputs."""
        if self.training and self.outermost:
            self._pass.auxiliary[name] = value

    def share_targets(self, parts: Values) -> None:
        """Say that in training outputs stand only in part for their row's targets, and for the rest for those of the next row.

        Parameters
        ----------
        parts
            For each row of the shard a number from 0 to 1; after the last row comes the first. The loss of a target is then that of its own
            row's outputs times their part, and of the row's before times the rest of theirs.
        """
        if self._pass.parts is not None:
            raise ArgumentError("the model mixes samples twice, and targets are shared once: leave one of the two layers out.")
        if self.training:
            self._pass.parts = parts

    # ---- layers

    def __call__(self, layer: Layer, *inputs: Any, method: str = "forward", name: str | None = None) -> Any:
        """The outputs of another layer for these inputs.

        Parameters
        ----------
        layer
            Its name is `name`, else its own, else that of the field that holds it; in a field that is a list, class and number.
        *inputs
            Its inputs: arrays or tensors, or one list of them.
        method
            The method to call in the layer's place, as in ``c(self.embedding, h, method="logits")``: it shares the layer's parameters.
        name
            The layer's name.
        """
        if layer is self._layer and method == self._method:
            raise ArgumentError(f"{type(self._layer).__name__}.{method} calls itself: that has no end.")
        if isinstance(layer, type) or not callable(getattr(layer, "forward", None)):
            cure = "write c(self.field, x); of a list, for each layer in it"
            raise ArgumentError(f"{type(self._layer).__name__} calls {layer!r}, which is no layer: {cure}.")
        path = self._pass.place(layer, lambda: (*self._path, *self._names(layer, name)))
        within = path[: len(self._path)] == self._path
        with inside(path[len(self._path) :] if within else path[-1:]):
            call = Context(self._pass, layer, path, self._trainable and layer.trainable).enter(spread(inputs), method)
        if self._call is not None:
            self._call.calls.append(call)
        return call.outputs

    def _names(self, layer: Layer, name: str | None) -> Path:
        if name is not None or layer.name is not None:
            return (checked_name("layer", name or layer.name),)
        places = self._pass.fields.setdefault(id(self._layer), {})
        if not places:
            places |= places_in(self._layer)
        if id(layer) in places:
            return places[id(layer)]
        raise ArgumentError(
            f"the layer {layer!r} is in no field of {type(self._layer).__name__} and has no name: give it one with name=, "
            "or make it once, in a field."
        )

    def enter(self, inputs: tuple[Any, ...], method: str) -> Call:
        """Call a method of the layer that this context is for."""
        layer, function = self._layer, getattr(self._layer, method, None)
        kind = type(layer).__name__
        if not callable(function) or method.startswith("_") or method in RESERVED:
            raise ArgumentError(f"{kind} has no method {method!r} of inputs.")
        signature = signature_of(function)
        try:
            signature.bind(self, *inputs)
        except TypeError:
            first, *names = [*signature.parameters, ""]
            order = "" if first == "c" else f" Its arguments are self, the context and the inputs: {method}(self, c, x)."
            raise ArgumentError(f"{kind} takes the inputs ({', '.join(names[:-1])}), got {len(inputs)} of them.{order}") from None
        number = self._pass.calls[self._path]
        self._pass.calls[self._path] += 1
        if self._pass.calls.total() > self._pass.most:
            raise ArgumentError(f"the model calls its layers more than {self._pass.most:,} times.")
        self._method = method
        call = self._call = Call(layer, self._path, inputs, number, self.trainable)
        try:
            call.outputs = function(self, *inputs)
        except (DagtrainError, RecursionError):
            raise
        except Exception as error:
            raise ArgumentError(f"{kind}.{method} raised {type(error).__name__}{raised_at(error)}: {error}") from error
        if call.outputs is None or (isinstance(call.outputs, dict | list | tuple) and not call.outputs):
            raise ArgumentError(f"{kind}.{method} returned {call.outputs!r}: it must return its outputs.")
        if self._pass.make is not None and method == "forward":
            check_samples(kind, inputs, call.outputs)
        return call

    @contextmanager
    def scope(self, name: str) -> Iterator[Context]:
        """A context for a part of the layer: its names begin with this one, and pictures show it as a box."""
        path = (*self._path, checked_name("scope", name))
        if self._pass.paths.setdefault(path, self._layer) is not self._layer:
            raise ArgumentError(f"{name!r} is the name of a scope and of a layer: give one of them another name.")
        part = Context(self._pass, self._layer, path, self._trainable)
        part._call, part._asked, part._added = self._call, self._scopes.setdefault(name, set()), self._added
        with scope(name):
            yield part


def run_pass(shared: Pass, layer: Layer, inputs: tuple[Any, ...], method: str = "forward") -> Call:
    """The call of the outermost layer, and in it all others."""
    shared.place(layer, lambda: ())
    try:
        return Context(shared, layer, (), layer.trainable).enter(inputs, method)
    except RecursionError:
        raise ArgumentError(f"{type(layer).__name__}: its layers are nested too deeply, or one calls itself.") from None
