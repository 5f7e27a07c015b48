"""A model of the next token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dagtrain.errors import ArgumentError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers import Dense, Embedding
from dagtrain.nn.models.cells import Kept, checked, logits_of, make, run, set_fields, start
from dagtrain.nn.values import Values

__all__ = ["LanguageModel"]


@dataclass(frozen=True)
class LanguageModel(Layer):
    """A recurrent network that predicts the next token behind each token of a text.

        tokens ─▶ embedding ─▶ cells ─▶ output ─▶ logits of the next token

    Train it on ``x = tokens[:, :-1]`` and ``y = tokens[:, 1:]`` with ``loss="cross_entropy"``, and with a mask as `sample_weight` where
    texts are padded at their ends; no further mask is needed, since no position depends on those behind it. `dagtrain.text.Decoder` writes
    texts with it.

    Parameters
    ----------
    vocabulary
        A vocabulary (see `dagtrain.text`), which is saved with the model, or the number of tokens.
    units
        Of each recurrent layer.
    embedding
        The length of the vector of a token.
    cell
        "lstm" or "gru".
    tied
        Whether the vectors of the tokens are those of the outputs too: then the last recurrent layer is as wide as they are.
    dropout
        Rate of dropout of the inputs of each recurrent layer.

    Raises
    ------
    ArgumentError
        If an argument is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> model = LanguageModel(2000, (256, 256), 128)
    >>> tokens = np.zeros((2, 5), "i4")
    >>> model.output_spec(tokens).shape, model.summary(tokens).parameters
    ((2, 5, 2000), 1689552)
    """

    vocabulary: Any
    units: tuple[int, ...] = (256,)
    embedding: int = 128
    cell: str = "lstm"
    tied: bool = False
    dropout: float = 0.0
    name: str | None = None
    trainable: bool = True
    rows: Embedding = field(init=False, repr=False)
    cells: tuple[Layer, ...] = field(init=False, repr=False)
    output: Dense | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        (title, count, units), width = checked(self), self.embedding
        if self.tied and units[-1] != width:
            raise ArgumentError(
                f"{title}: with tied=True the last recurrent layer is as wide as the embedding: units[-1]={units[-1]}, embedding={width}."
            )
        stack = make(title, self.cell, units, self.dropout)
        output = None if self.tied else Dense(count)
        set_fields(self, units=units, rows=Embedding(count, width), cells=stack, output=output)

    def forward(self, c: Context, tokens: Values) -> Values:
        """The logits behind each token, of shape (samples, steps, tokens)."""
        y, _ = run(c, self.cells, c(self.rows, tokens))
        return logits_of(c, self.output, self.rows, y)

    def begin(self, c: Context, tokens: Values) -> Kept:
        """The states before the first token."""
        return start(self.cells, tokens.shape[0], c.dtype)

    def step(self, c: Context, tokens: Values, state: Kept) -> tuple[Values, Kept]:
        """The logits behind one more token of each row, and the states."""
        y, after = run(c, self.cells, c(self.rows, tokens[:, None]), state)
        return logits_of(c, self.output, self.rows, y[:, 0]), after
