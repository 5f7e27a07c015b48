"""Captions of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, whole
from dagtrain.errors import ArgumentError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers import Dense, Embedding
from dagtrain.nn.models.cells import checked_units, count_of, make, run, set_fields, start
from dagtrain.nn.values import Values

__all__ = ["Captioner"]


@dataclass(frozen=True)
class Captioner(Layer):
    """A network sees a picture, and a recurrent one says a sentence about it.

        picture ─▶ encoder ─▶ features ─┐
        tokens ─▶ embedding ────────────┴▶ cells ─▶ output ─▶ logits of the next token

    The features are an input of every step. Train it on the inputs ``(pictures, tokens[:, :-1])`` and ``y = tokens[:, 1:]``; a mask as
    `sample_weight` leaves out padding.

    Source: Vinyals, Toshev, Bengio and Erhan, "Show and tell", arXiv:1411.4555; in which the picture is the first input alone.

    Parameters
    ----------
    encoder
        A layer that makes features, of shape (samples, features), of a picture.
    vocabulary
        A vocabulary (see `dagtrain.text`), which is saved with the model, or the number of tokens.
    units
        Of each recurrent layer.
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
    >>> from dagtrain import nn
    >>> model = Captioner(nn.Sequential([nn.Flatten(), nn.Dense(16, "relu")]), 20, (32,), 8)
    >>> model.output_spec(np.ones((2, 6, 6, 3), "f4"), np.ones((2, 5), "i4")).shape
    (2, 5, 20)
    """

    encoder: Layer
    vocabulary: Any
    units: tuple[int, ...] = (128,)
    embedding: int = 32
    cell: str = "lstm"
    dropout: float = 0.0
    name: str | None = None
    trainable: bool = True
    rows: Embedding = field(init=False, repr=False)
    cells: tuple[Layer, ...] = field(init=False, repr=False)
    output: Dense = field(init=False, repr=False)

    def __post_init__(self) -> None:
        title = self.name or "Captioner"
        if not isinstance(self.encoder, Layer):
            raise ArgumentError(f"{title}: encoder is a layer, such as a Sequential of convolutions, got {self.encoder!r}.")
        count, units = count_of(title, self.vocabulary), checked_units(title, self.units)
        rows = Embedding(count, whole(f"{title}: embedding", self.embedding))
        fraction(f"{title}: dropout", self.dropout)
        stack = make(title, self.cell, units, self.dropout)
        set_fields(self, units=units, rows=rows, cells=stack, output=Dense(count))

    def forward(self, c: Context, picture: Values, tokens: Values) -> Values:
        """The logits behind each token, of shape (samples, steps, tokens)."""
        y, _ = run(c, self.cells, self._inputs(c, c(self.encoder, picture), tokens))
        return c(self.output, y)

    def begin(self, c: Context, tokens: Values, picture: Values) -> dict[str, Any]:
        """The features, and the states before the first token."""
        return {"features": c(self.encoder, picture), "cells": start(self.cells, tokens.shape[0], c.dtype)}

    def step(self, c: Context, tokens: Values, state: dict[str, Any]) -> tuple[Values, dict[str, Any]]:
        """The logits behind one more token of each row, and the states."""
        y, after = run(c, self.cells, self._inputs(c, state["features"], tokens[:, None]), state["cells"])
        return c(self.output, y[:, 0]), {**state, "cells": after}

    def _inputs(self, c: Context, features: Values, tokens: Values) -> Values:
        """The vector of each token with the features beside it."""
        if features.ndim != 2:
            raise ArgumentError(f"Captioner: the encoder makes one row of features for each picture, got shape {tuple(features.shape)}.")
        along = np.broadcast_to(features[:, None, :], (*tokens.shape, features.shape[1]))
        return np.concatenate([c(self.rows, tokens), along], axis=-1)
