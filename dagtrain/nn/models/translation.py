"""Sequence to sequence with attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagtrain.nn.activations import softmax
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers import Dense, Embedding
from dagtrain.nn.models.cells import Kept, checked, count_of, make, run, set_fields
from dagtrain.nn.values import Values

__all__ = ["SequenceToSequence"]


@dataclass(frozen=True)
class SequenceToSequence(Layer):
    """An encoder reads one sequence, and a decoder that looks at all of it writes another.

        source ─▶ encoder ─▶ memory ──────────┐
                    └─ state ─▶ decoder ─▶ attention ─▶ logits of the next token
                    tokens ──────┘

    The decoder's output asks for a part of the memory: its products with all positions, in a softmax, weigh them. Train it on the inputs
    ``(source, tokens[:, :-1])`` and ``y = tokens[:, 1:]``; a mask as `sample_weight` leaves out padding. Number 0 is padding in the source.

    Source: Luong, Pham and Manning, "Effective approaches to attention-based neural machine translation", arXiv:1508.04025, section 3.1
    (global attention, general score).

    Parameters
    ----------
    source
        Vocabulary of what is read, or its number of tokens.
    vocabulary
        The same of what is written.
    units
        Of each recurrent layer, of the encoder and of the decoder.
    embedding
        The length of the vector of a token.
    cell
        "lstm" or "gru".
    dropout
        Rate of dropout of the inputs of each recurrent layer.

    Raises
    ------
    ArgumentError
        If an argument is wrong.

    Examples
    --------
    >>> model = SequenceToSequence(30, 20, (16,), 8)
    >>> model.output_spec(np.ones((2, 7), "i4"), np.ones((2, 5), "i4")).shape
    (2, 5, 20)
    """

    source: Any
    vocabulary: Any
    units: tuple[int, ...] = (128,)
    embedding: int = 64
    cell: str = "lstm"
    dropout: float = 0.0
    name: str | None = None
    trainable: bool = True
    source_rows: Embedding = field(init=False, repr=False)
    rows: Embedding = field(init=False, repr=False)
    encoder: tuple[Layer, ...] = field(init=False, repr=False)
    decoder: tuple[Layer, ...] = field(init=False, repr=False)
    query: Dense = field(init=False, repr=False)
    joined: Dense = field(init=False, repr=False)
    output: Dense = field(init=False, repr=False)

    def __post_init__(self) -> None:
        title, count, units = checked(self)
        source_rows, rows = (Embedding(n, self.embedding) for n in (count_of(title, self.source), count))
        encoder, decoder = (make(title, self.cell, units, self.dropout) for _ in range(2))
        set_fields(self, units=units, source_rows=source_rows, rows=rows, encoder=encoder, decoder=decoder)
        set_fields(self, query=Dense(units[-1], use_bias=False), joined=Dense(units[-1], "tanh"), output=Dense(count))

    def forward(self, c: Context, source: Values, tokens: Values) -> Values:
        """The logits behind each token, of shape (samples, steps, tokens)."""
        memory, state, mask = self._read(c, source)
        y, _ = run(c, self.decoder, c(self.rows, tokens), state)
        return self._logits(c, y, memory, mask)

    def begin(self, c: Context, tokens: Values, source: Values) -> dict[str, Any]:
        """The memory, and the states before the first token."""
        memory, state, mask = self._read(c, source)
        return {"memory": memory, "mask": mask, "cells": state}

    def step(self, c: Context, tokens: Values, state: dict[str, Any]) -> tuple[Values, dict[str, Any]]:
        """The logits behind one more token of each row, and the states."""
        y, after = run(c, self.decoder, c(self.rows, tokens[:, None]), state["cells"])
        return self._logits(c, y, state["memory"], state["mask"])[:, 0], {**state, "cells": after}

    def _read(self, c: Context, source: Values) -> tuple[Values, Kept, Values]:
        """The encoder's outputs, its last states, and which positions are there."""
        mask = source != 0
        memory, state = run(c, self.encoder, c(self.source_rows, source), mask=mask)
        return memory, state, mask

    def _logits(self, c: Context, y: Values, memory: Values, mask: Values) -> Values:
        scores = c(self.query, y) @ np.swapaxes(memory, 1, 2)
        weights = softmax(np.where(mask[:, None, :], scores, np.asarray(-1e9, scores.dtype)))
        joined = np.concatenate([y, weights @ memory], axis=-1)
        return c(self.output, c(self.joined, joined))
