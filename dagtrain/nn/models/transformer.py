"""A model of the next token by attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagtrain.arguments import one_of, whole
from dagtrain.errors import ShapeError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers import Dense, Dropout, Embedding, LayerNorm, PositionEmbedding, SinePositionEncoding, TransformerBlock
from dagtrain.nn.models.cells import count_of, logits_of, set_fields
from dagtrain.nn.values import Values

__all__ = ["TransformerLM"]

POSITIONS = ("learned", "sine", "rotary")


@dataclass(frozen=True)
class TransformerLM(Layer):
    """A transformer that predicts the next token behind each token of a text.

        tokens ─▶ embedding, positions ─▶ blocks of causal attention ─▶ norm ─▶ logits of the next token

    Train it on ``x = tokens[:, :-1]`` and ``y = tokens[:, 1:]`` with ``loss="cross_entropy"``, and with a mask as `sample_weight` where
    texts are padded at their ends; no further mask is needed, since no position sees those behind it. `dagtrain.text.Decoder` writes texts
    with it: the keys and values of all positions are its state.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019, section 2.3.

    Parameters
    ----------
    vocabulary
        A vocabulary (see `dagtrain.text`), which is saved with the model, or the number of tokens.
    num_layers, num_heads
        Blocks, and heads of each.
    width
        Features of a position, which divide into the heads.
    max_length
        The most tokens of a text; a longer one is an error.
    intermediate_dim
        Units of the first dense layer of a block; by default four times `width`.
    positions
        "learned", "sine" or "rotary"; see `PositionEmbedding`, `SinePositionEncoding` and `MultiHeadAttention`.
    dropout
        Rate of dropout in the blocks and behind the embedding.
    tied
        Whether the vectors of the tokens are those of the outputs too.

    Raises
    ------
    ArgumentError
        If an argument is wrong.
    ShapeError
        If a text is longer than `max_length`.

    Examples
    --------
    >>> model = TransformerLM(65, num_layers=4, num_heads=4, width=128, max_length=64)
    >>> tokens = np.zeros((2, 64), "i4")
    >>> model.output_spec(tokens).shape, model.summary(tokens).parameters
    ((2, 64, 65), 809921)
    """

    vocabulary: Any
    num_layers: int = 4
    num_heads: int = 4
    width: int = 128
    max_length: int = 256
    intermediate_dim: int | None = None
    positions: str = "learned"
    dropout: float = 0.0
    tied: bool = True
    name: str | None = None
    trainable: bool = True
    rows: Embedding = field(init=False, repr=False)
    places: Layer | None = field(init=False, repr=False)
    drop: Dropout = field(init=False, repr=False)
    blocks: tuple[TransformerBlock, ...] = field(init=False, repr=False)
    norm: LayerNorm = field(init=False, repr=False)
    output: Dense | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        title = self.name or "TransformerLM"
        count = count_of(title, self.vocabulary)
        for argument in ("num_layers", "width", "max_length"):
            whole(f"{title}: {argument}", getattr(self, argument))
        one_of(f"positions of {title}", self.positions, POSITIONS)
        places = {"learned": PositionEmbedding(self.max_length), "sine": SinePositionEncoding(), "rotary": None}[self.positions]
        options: dict[str, Any] = {"dropout": self.dropout, "use_causal_mask": True, "rotary": self.positions == "rotary"}
        blocks = tuple(TransformerBlock(self.num_heads, self.intermediate_dim, **options) for _ in range(self.num_layers))
        output = None if self.tied else Dense(count)
        rows, drop = Embedding(count, self.width), Dropout(self.dropout)
        set_fields(self, rows=rows, places=places, drop=drop, blocks=blocks, norm=LayerNorm(), output=output)
        if self.width % whole(f"{title}: num_heads", self.num_heads):
            raise ShapeError(f"{title}: width={self.width} does not divide into num_heads={self.num_heads}.")

    def forward(self, c: Context, tokens: Values) -> Values:
        """The logits behind each token, of shape (samples, positions, tokens)."""
        if tokens.shape[1] > self.max_length:
            raise ShapeError(
                f"{self.name or 'TransformerLM'}: a text of {tokens.shape[1]:,} tokens is longer than max_length={self.max_length:,}: "
                "cut it, or make the model with a larger max_length."
            )
        x = c(self.rows, tokens)
        x = c(self.drop, x if self.places is None else c(self.places, x))
        for block in self.blocks:
            x = c(block, x)
        return self._logits(c, x)

    def begin(self, c: Context, tokens: Values) -> Any:
        """The state before the first token: no keys, no values, position 0."""
        shape = (tokens.shape[0], self.max_length, self.num_heads, self.width // self.num_heads)
        empty = [[np.zeros(shape, c.dtype) for _ in range(2)] for _ in self.blocks]
        return {"kept": empty, "position": np.zeros(tokens.shape[0], np.int32)}

    def step(self, c: Context, tokens: Values, state: Any) -> tuple[Values, Any]:
        """The logits behind one more token of each row, and the state with it."""
        position = state["position"]
        x = c(self.rows, tokens[:, None])
        x = x if self.places is None else c(self.places, x, position, method="at")
        kept = []
        for block, (keys, values) in zip(self.blocks, state["kept"], strict=True):
            x, *both = c(block, x, keys, values, position, method="step")
            kept.append(both)
        return self._logits(c, x)[:, 0], {"kept": kept, "position": position + 1}

    def _logits(self, c: Context, x: Values) -> Values:
        return logits_of(c, self.output, self.rows, c(self.norm, x))
