"""What the models of text share: stacks of recurrent layers whose states can be kept, and the number of tokens of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, is_whole, one_of, whole
from dagtrain.errors import ArgumentError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers import GRU, LSTM, Dense, Embedding
from dagtrain.nn.values import Values

__all__ = ["CELLS", "Kept", "checked", "count_of", "logits_of", "make", "run", "set_fields", "start"]

CELLS = {"lstm": LSTM, "gru": GRU}

Kept = list[list[Values]]
"""The states of each layer of a stack."""


def checked(model: Any) -> tuple[str, int, tuple[int, ...]]:
    """Of a recurrent model whose settings are right: what errors call it, its number of tokens, and the units of each layer."""
    title, units = model.name or type(model).__name__, model.units
    count, each = count_of(title, model.vocabulary), (units,) if is_whole(units) else units
    if not isinstance(each, list | tuple) or not each:
        raise ArgumentError(f"{title}: units are those of each recurrent layer, as in (256, 256), got {units!r}.")
    each = tuple(whole(f"{title}: units", n) for n in each)
    whole(f"{title}: embedding", model.embedding)
    fraction(f"{title}: dropout", model.dropout)
    return title, count, each


def count_of(title: str, vocabulary: Any) -> int:
    """The number of tokens of a vocabulary, or the number itself."""
    if is_whole(vocabulary):
        return whole(f"{title}: vocabulary", vocabulary, 2)
    if not hasattr(vocabulary, "entries"):
        raise ArgumentError(f"{title}: vocabulary is one of dagtrain.text, such as Words.learn(texts), or a number, got {vocabulary!r}.")
    return len(vocabulary)


def make(title: str, cell: Any, units: Sequence[int], dropout: float) -> tuple[Layer, ...]:
    """The layers of a stack; dropout is that of the inputs of each."""
    kind = CELLS[one_of(f"cell of {title}", cell, CELLS)]
    return tuple(kind(n, dropout=dropout, return_sequences=True, return_state=True) for n in units)


def start(cells: Sequence[Any], rows: int, dtype: Any) -> Kept:
    """The states before the first step."""
    return [[np.zeros((rows, cell.units), dtype) for _ in cell.states] for cell in cells]


def run(c: Context, cells: Sequence[Layer], x: Values, states: Sequence[Sequence[Values]] | None = None, mask: Any = None) -> Any:
    """The outputs of the last layer at all steps, and the last states of all."""
    after: Kept = []
    for i, cell in enumerate(cells):
        first = () if states is None else states[i]
        before = [mask, *first] if mask is not None or first else []
        x, *state = c(cell, x, *before)
        after.append(state)
    return x, after


def logits_of(c: Context, output: Dense | None, rows: Embedding, y: Values) -> Values:
    """The logits of tokens; without a layer for them, by the products with the vectors of all tokens."""
    if output is not None:
        return c(output, y)
    return c(rows, y, method="logits") + c.parameter("bias", (rows.input_dim,), "zeros")


def set_fields(layer: Layer, **fields: Any) -> None:
    """Set fields that follow from the settings of a frozen layer."""
    for name, value in fields.items():
        object.__setattr__(layer, name, value)
