"""One step of a model that predicts the next token, compiled once, with its state kept.

    begin(tokens, *inputs)   →  state                      such as a row of h and c for each LSTM, the outputs of an encoder
    step(tokens, state)      →  logits, state              of one token for each row
    forward(tokens)          →  logits at all positions    of a model without state, such as a Transformer: the window grows

A model with the methods ``begin(c, tokens, *inputs)`` and ``step(c, tokens, state)`` keeps its state, any nest of arrays with a row for
each row of tokens. Of another model the tokens so far are the state: they stand at the beginning of a window of one length, so the step is
compiled once too. What such a model says of a position may depend on that position and those before it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError, DataError, ShapeError
from dagtrain.functional import compile as compiled
from dagtrain.graph import Array
from dagtrain.nn.checks import array_nest
from dagtrain.nn.context import run_pass
from dagtrain.nn.layer import Layer
from dagtrain.nn.naming import Nest
from dagtrain.nn.passes import Pass
from dagtrain.text.padding import pad
from dagtrain.trace.tree import flatten, map_leaves, unflatten

__all__ = ["Ahead", "Stepping", "rows_of"]


class Ahead(NamedTuple):
    """What a model says of the next token of each row.

    Attributes
    ----------
    logits
        Of shape (rows, tokens).
    state
        A nest of arrays with these rows.
    """

    logits: Array
    state: Any


class Stepping:
    """A model as a function of one token and a state.

    Parameters
    ----------
    model
        A layer.
    params, state
        Its weights, as `Layer.init` gives them.
    window
        Positions of a model without state.
    """

    def __init__(self, model: Layer, params: Nest, state: Nest, window: int | None = None) -> None:
        self.model, self.window = model, window
        in_order = partial(np.asarray, order="C")  # others would be copied in each step
        self._weights = map_leaves(in_order, params), map_leaves(in_order, state)
        self.has_state = callable(getattr(type(model), "step", None)) and callable(getattr(type(model), "begin", None))
        if window is not None and self.has_state:
            raise ArgumentError(f"{type(model).__name__} keeps a state, so it has no window: leave out window=.")
        self._begin = compiled(self._called("begin"))
        self._step = compiled(self._called("step") if self.has_state else self._in_window(self._called("forward")))

    def __reduce__(self) -> tuple[Any, ...]:
        """The model and its weights; the copy compiles anew."""
        return Stepping, (self.model, *self._weights, self.window)

    def _called(self, method: str) -> Callable[..., Any]:
        """A method of the model as a function of weights and inputs."""

        def call(params: Nest, state: Nest, *inputs: Any) -> Any:
            parameters, states = array_nest("parameters", params), array_nest("states", state)
            dtype = next((p.dtype for p in parameters.values() if p.dtype.kind == "f"), np.dtype(np.float32))
            return run_pass(Pass(False, dtype, None, parameters, states), self.model, inputs, method).outputs

        call.__name__ = method
        return call

    def _in_window(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The step of a model without state: one token is written behind those before, or, in a full window, behind all but the first."""

        def step(params: Nest, states: Nest, tokens: Any, state: Any) -> Any:
            before, position = state["tokens"], state["position"]
            length = before.shape[1]
            token = tokens[:, None].astype(before.dtype)
            written = np.where(np.arange(length) == position[:, None], token, before)
            full = position[:, None] >= length
            window = np.where(full, np.concatenate([before[:, 1:], token], axis=1), written)
            outputs = forward(params, states, window)
            if getattr(outputs, "ndim", 0) != 3 or tuple(outputs.shape[:2]) != (before.shape[0], length):
                raise ShapeError(
                    f"{type(self.model).__name__} gives {getattr(outputs, 'shape', type(outputs).__name__)} for tokens of shape "
                    f"{tuple(before.shape)}: for decoding it gives logits of shape (rows, positions, tokens)."
                )
            last = np.minimum(position, length - 1)
            logits = np.take_along_axis(outputs, last[:, None, None], axis=1)[:, 0]
            return logits, {"tokens": window, "position": last + 1}

        return step

    def begin(self, tokens: Array, inputs: Sequence[Any], positions: int) -> Any:
        """The state before the first tokens.

        Parameters
        ----------
        tokens
            Those tokens, one for each row.
        inputs
            Of the model besides the tokens, with a row for each.
        positions
            So many tokens are decoded at most.
        """
        most = getattr(self.model, "max_length", None)
        if most is not None and (positions if self.window is None else self.window) - 1 > most:
            raise ArgumentError(
                f"prompts and results of {positions - 1:,} tokens are longer than the model's max_length={most:,}: give a smaller length=, "
                f"shorter prompts{'' if self.has_state else ', or window='}."
            )
        if self.has_state:
            state = self._begin(*self._weights, tokens, *inputs)
            rows = {name: np.shape(leaf)[:1] for name, leaf in flatten(state, "state")[0].items()}
            wrong = next((name for name, shape in rows.items() if shape != (len(tokens),)), None)
            if wrong is not None:
                raise ShapeError(
                    f"{type(self.model).__name__}.begin: {wrong} has {rows[wrong]} rows for {len(tokens)} rows of tokens: the first axis "
                    "of each array of the state is that of the rows."
                )
            return state
        if inputs:
            raise ArgumentError(f"{type(self.model).__name__} has no method begin(c, tokens, ...) that takes inputs besides the tokens.")
        window = positions if self.window is None else self.window
        return {"tokens": np.zeros((len(tokens), window), np.int32), "position": np.zeros(len(tokens), np.int32)}

    def step(self, tokens: Array, state: Any) -> Ahead:
        """The logits of the next token behind these, and the state with them."""
        logits, after = self._step(*self._weights, tokens, state)
        if np.ndim(logits) != 2 or len(logits) != len(tokens):
            raise ShapeError(f"{type(self.model).__name__}.step gives logits of shape {np.shape(logits)}, not ({len(tokens)}, tokens).")
        return Ahead(logits, after)

    def read(self, prompts: Sequence[Array], inputs: Sequence[Any], length: int) -> Ahead:
        """What follows prompts of one or more tokens, each read to its own end."""
        tokens, lengths = pad(prompts)
        if not lengths.min():
            raise DataError(f"prompt {int(lengths.argmin())} is empty: it has one token at least, such as the start token.")
        state = self.begin(tokens[:, 0], inputs, tokens.shape[1] + length)
        ahead = self.step(tokens[:, 0], state)
        for i in range(1, tokens.shape[1]):
            after = self.step(tokens[:, i], ahead.state)
            ahead = after if (lengths > i).all() else _where(lengths > i, after, ahead)
        return ahead


def _where(rows: Array, one: Any, other: Any) -> Ahead:
    """The rows of one where the condition holds, else of the other."""

    def choose(a: Any, b: Any) -> Array:
        chosen: Array = np.where(rows.reshape(-1, *[1] * (np.ndim(a) - 1)), a, b)
        return chosen

    leaves, structure = flatten(tuple(one), "ahead")
    others = flatten(tuple(other), "ahead")[0]
    return Ahead(*unflatten(structure, [choose(leaves[name], others[name]) for name in leaves]))


def rows_of(nest: Any, rows: Array) -> Any:
    """These rows of each array of a nest."""
    leaves, structure = flatten(nest, "state")
    return unflatten(structure, [np.take(leaf, rows, axis=0) for leaf in leaves.values()])
