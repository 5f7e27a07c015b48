"""Captions of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.nn.activations import softmax
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers import Dense, Embedding
from dagtrain.nn.models.cells import checked, make, run, set_fields, start
from dagtrain.nn.values import Values

__all__ = ["Captioner"]


@dataclass(frozen=True)
class Captioner(Layer):
    """A network sees a picture, and a recurrent one says a sentence about it.

        picture ─▶ encoder ─▶ features ─┐                ┌▶ attention to places
        tokens ─▶ embedding ────────────┴▶ cells ────────┴▶ output ─▶ logits of the next token

    The features are an input of every step. If the encoder keeps the places of a picture, all of them together make the features, and each
    word also looks at the places: their products with the last layer, in a softmax, weigh them. Train it on the inputs
    ``(pictures, tokens[:, :-1])`` and ``y = tokens[:, 1:]``; a mask as `sample_weight` leaves out padding.

    Source: Vinyals, Toshev, Bengio and Erhan, "Show and tell", arXiv:1411.4555; Xu et al., "Show, attend and tell", arXiv:1502.03044. Here
    the picture is an input of every step, and the attention is that of `SequenceToSequence`.

    Parameters
    ----------
    encoder
        A layer that makes of a picture features of shape (samples, features), or places of shape (samples, height, width, channels).
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
    together: Dense = field(init=False, repr=False)
    joined: Dense = field(init=False, repr=False)
    output: Dense = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, Layer):
            raise ArgumentError(
                f"{self.name or 'Captioner'}: encoder is a layer, such as a Sequential of convolutions, got {self.encoder!r}."
            )
        title, count, units = checked(self)
        rows, stack = Embedding(count, self.embedding), make(title, self.cell, units, self.dropout)
        set_fields(self, units=units, rows=rows, cells=stack, output=Dense(count))
        set_fields(self, together=Dense(units[-1], "relu"), joined=Dense(units[-1], "tanh"))

    def forward(self, c: Context, picture: Values, tokens: Values) -> Values:
        """The logits behind each token, of shape (samples, steps, tokens)."""
        seen = self._see(c, picture)
        y, _ = run(c, self.cells, self._inputs(c, seen, tokens))
        return self._logits(c, y, seen)

    def begin(self, c: Context, tokens: Values, picture: Values) -> dict[str, Any]:
        """What is seen, and the states before the first token."""
        return {**self._see(c, picture), "cells": start(self.cells, tokens.shape[0], c.dtype)}

    def step(self, c: Context, tokens: Values, state: dict[str, Any]) -> tuple[Values, dict[str, Any]]:
        """The logits behind one more token of each row, and the states."""
        y, after = run(c, self.cells, self._inputs(c, state, tokens[:, None]), state["cells"])
        return self._logits(c, y, state)[:, 0], {**state, "cells": after}

    def _see(self, c: Context, picture: Values) -> dict[str, Values]:
        """The features of a picture, and the vectors of its places if the encoder keeps them."""
        seen = c(self.encoder, picture)
        if seen.ndim == 2:
            return {"features": seen}
        if seen.ndim != 4:
            raise ArgumentError(
                f"{self.name or 'Captioner'}: the encoder makes features (samples, features), or places (samples, height, width, "
                f"channels), got shape {tuple(seen.shape)}."
            )
        rows, height, width, channels = seen.shape
        places = seen.reshape(rows, height * width, channels) + c.parameter("places", (height * width, channels), "normal")
        return {"features": c(self.together, seen.reshape(rows, -1)), "places": places}

    def _inputs(self, c: Context, seen: dict[str, Values], tokens: Values) -> Values:
        """The vector of each token with the features beside it."""
        features = seen["features"]
        along = np.broadcast_to(features[:, None, :], (*tokens.shape, features.shape[1]))
        return np.concatenate([c(self.rows, tokens), along], axis=-1)

    def _logits(self, c: Context, y: Values, seen: dict[str, Values]) -> Values:
        if "places" in seen:
            places = seen["places"]
            query = y @ c.parameter("query", (y.shape[2], places.shape[2]))
            scores = query @ np.swapaxes(places, 1, 2) / math.sqrt(places.shape[2])
            y = c(self.joined, np.concatenate([y, softmax(scores) @ places], axis=-1))
        return c(self.output, y)
