"""Attention layers: each position of a sequence looks at the positions of the same sequence, or of another one.

query ─▶ query.kernel ─▶ q ─┐
key   ─▶ key.kernel   ─▶ k ─┼─▶ softmax(q @ k / sqrt(key_dim)) @ v of each head ─▶ output.kernel ─▶ y
value ─▶ value.kernel ─▶ v ─┘
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, is_whole, whole
from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.nn import activations, initializers
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers.noise import Dropout
from dagtrain.nn.layers.positions import rotated
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["MultiHeadAttention"]

_LOWEST = -1e30
"""A score out of sight: far below all others, and finite, so that a row without keys has no NaN."""


def projected(c: Context, name: str, x: Values, units: int, use_bias: bool, kernel: str | Initializer, bias: str | Initializer) -> Values:
    """``x @ kernel + bias`` by parameters of this scope."""
    with c.scope(name) as part:
        weights = part.parameter("kernel", (x.shape[-1], units), kernel)
        y = (x if x.dtype == weights.dtype else x.astype(weights.dtype)) @ weights
        return y + part.parameter("bias", (units,), bias) if use_bias else y


@dataclass(frozen=True)
class MultiHeadAttention(Layer):
    """Each position of the query gets means of values, weighted by how well its query fits the keys, in several heads.

    Called as ``layer(query)`` on one sequence (self-attention), or as ``layer(query, value)`` and ``layer(query, value, key)``; the last
    input may be a mask of the keys: booleans of shape (samples, keys), (samples, queries, keys) or (samples, heads, queries, keys), or the
    length of each sequence of keys. A position that sees no key gets the bias of the output alone, and no NaN.

    Source: Vaswani et al., "Attention is all you need", arXiv:1706.03762, section 3.2.2.

    Parameters
    ----------
    num_heads
        Number of heads.
    key_dim
        Features of a head's queries and keys; by default the features of the query over the heads.
    value_dim
        Features of a head's values; by default `key_dim`.
    dropout
        Rate of dropout of the weights in training; it needs a table of all queries and keys.
    use_bias
        Whether query, key, value and output have a bias.
    output_shape
        Features of the output; by default those of the query.
    use_causal_mask
        Whether a position sees only those up to its own.
    rotary
        Whether queries and keys are turned by their positions (Su et al., arXiv:2104.09864), so that weights depend on distances.
    return_attention_scores
        Whether the weights of all heads, (samples, heads, queries, keys), are a second output.
    kernel_initializer, bias_initializer
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Raises
    ------
    ArgumentError
        If an argument is wrong.
    ShapeError
        If inputs are not (samples, positions, features) of the same samples, or a mask does not fit them.

    Examples
    --------
    >>> layer = MultiHeadAttention(num_heads=2, key_dim=4)
    >>> layer.output_spec((8, 5, 6)).shape, layer.output_spec((8, 5, 6), (8, 3, 7)).shape
    ((8, 5, 6), (8, 5, 6))
    """

    num_heads: int
    key_dim: int | None = None
    value_dim: int | None = None
    dropout: float = 0.0
    use_bias: bool = True
    output_shape: int | None = None
    use_causal_mask: bool = False
    rotary: bool = False
    return_attention_scores: bool = False
    kernel_initializer: str | Initializer = "glorot_uniform"
    bias_initializer: str | Initializer = "zeros"
    name: str | None = None
    trainable: bool = True
    drop: Dropout = field(init=False, repr=False)

    def __post_init__(self) -> None:
        title = self.title
        whole(f"{title}: num_heads", self.num_heads)
        for argument in ("key_dim", "value_dim", "output_shape"):
            if getattr(self, argument) is not None:
                whole(f"{title}: {argument}", getattr(self, argument))
        fraction(f"{title}: dropout", self.dropout)
        object.__setattr__(self, "drop", Dropout(self.dropout))
        initializers.find(self.kernel_initializer)
        initializers.find(self.bias_initializer)

    @property
    def title(self) -> str:
        """What errors call the layer."""
        return self.name or type(self).__name__

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"{self.num_heads} heads{', causal' if self.use_causal_mask else ''}"

    def forward(self, c: Context, query: Values, value: Values | None = None, key: Values | None = None, mask: Values | None = None) -> Any:
        """The output, of the positions of the query; with `return_attention_scores` also the weights."""
        inputs = [x for x in (value, key, mask) if x is not None]
        mask = inputs.pop() if inputs and inputs[-1].dtype.kind in "biu" else None  # symbolic values have no None
        value, key = (inputs[0], inputs[-1]) if inputs else (query, query)
        for x in (query, value, key):
            if x.ndim != 3 or x.shape[0] != query.shape[0] or x.dtype.kind in "biu":
                shapes = ", ".join(f"{a.dtype}{tuple(a.shape)}" for a in (query, value, key))
                cure = " A mask is of booleans: mask.astype(bool)." if x.ndim != 3 and x.dtype.kind == "f" and x is not query else ""
                raise ShapeError(f"{self.title} takes floats of (samples, positions, features) with the same samples, got {shapes}.{cure}")
        if key.shape[1] != value.shape[1]:
            raise ShapeError(f"{self.title}: key has {key.shape[1]} positions, value {value.shape[1]}: each key belongs to a value.")
        q, k = (self.heads(c, name, x, self._key_dim(query)) for name, x in (("query", query), ("key", key)))
        v = self.heads(c, "value", value, self.value_dim or self._key_dim(query))
        if self.rotary:
            q, k = (rotated(a, np.arange(a.shape[1])) for a in (q, k))
        mask = None if mask is None else self._of_scores(mask, query.shape[1], key.shape[1], query.shape[0])
        if self.return_attention_scores or (c.training and self.dropout):
            y, weights = self._by_table(c, q, k, v, mask)
        else:
            y = self._attended(q, k, v, mask, self.use_causal_mask)
        output = self._output(c, y, query)
        return (output, weights) if self.return_attention_scores else output

    def _key_dim(self, query: Values) -> int:
        if self.key_dim is None and query.shape[-1] % self.num_heads:
            raise ShapeError(f"{self.title}: {query.shape[-1]} features do not divide into {self.num_heads} heads: give key_dim=.")
        size = self.key_dim or query.shape[-1] // self.num_heads
        if self.rotary and size % 2:
            raise ShapeError(f"{self.title}: with rotary=True a head has an even number of features, got {size}.")
        return int(size)

    def heads(self, c: Context, name: str, x: Values, size: int) -> Values:
        """A projection of x, (samples, positions, heads, size)."""
        y = projected(c, name, x, self.num_heads * size, self.use_bias, self.kernel_initializer, self.bias_initializer)
        return y.reshape((*x.shape[:2], self.num_heads, size))

    def _output(self, c: Context, y: Values, query: Values) -> Values:
        flat = y.reshape((*y.shape[:2], y.shape[2] * y.shape[3]))
        units = self.output_shape or query.shape[-1]
        return projected(c, "output", flat, units, self.use_bias, self.kernel_initializer, self.bias_initializer)

    def _of_scores(self, mask: Values, queries: int, keys: int, samples: int) -> Values:
        """A mask for (samples, heads, queries, keys)."""
        if mask.ndim == 1 and mask.dtype != bool:
            mask = np.arange(keys) < mask[:, None]
        fits = {2: (samples, keys), 3: (samples, queries, keys), 4: (samples, self.num_heads, queries, keys)}.get(mask.ndim)
        if fits is None or any(m not in (1, n) for m, n in zip(mask.shape, fits, strict=True)):
            raise ShapeError(
                f"{self.title}: a mask has the shape (samples, keys), (samples, queries, keys) or (samples, heads, queries, keys), here "
                f"{(samples, self.num_heads, queries, keys)}; got {tuple(mask.shape)}."
            )
        mask = mask if mask.dtype == bool else mask != 0
        return mask[:, None, None, :] if mask.ndim == 2 else mask[:, None] if mask.ndim == 3 else mask

    def _attended(self, q: Values, k: Values, v: Values, mask: Values | None, causal: bool) -> Values:
        options = {"scale": 1 / math.sqrt(q.shape[-1]), "causal": causal, "fill": None, "empty": "zero", "time": -3}
        return apply_op(find_op("attention"), q, k, v, *(() if mask is None else (mask,)), **options)

    def _by_table(self, c: Context, q: Values, k: Values, v: Values, mask: Values | None) -> tuple[Values, Values]:
        """The same by a table of weights, some of which are dropped in training."""
        q, k, v = (np.swapaxes(a, 1, 2) for a in (q, k, v))
        scores = (q * q.dtype.type(1 / math.sqrt(q.shape[-1]))) @ np.swapaxes(k, 2, 3)
        causal = np.tri(*scores.shape[2:]) > 0 if self.use_causal_mask else None
        seen = causal if mask is None else mask if causal is None else mask & causal
        weights = activations.softmax(scores if seen is None else np.where(seen, scores, _LOWEST))
        weights = weights if seen is None else np.where(seen, weights, 0)
        dropped = c(self.drop, weights)
        return np.swapaxes(dropped @ v, 1, 2), weights

    # ---- one position at a time

    def step(self, c: Context, x: Values, keys: Values, values: Values, position: Values) -> tuple[Values, Values, Values]:
        """The output for one more position of each row, which sees itself and those before; and the keys and values with it.

        Parameters
        ----------
        x
            Of shape (rows, 1, features).
        keys, values
            Of shape (rows, positions, heads, size), those behind a row's position without meaning.
        position
            Of each row, from 0.
        """
        if not is_whole(x.shape[1]) or x.shape[1] != 1 or self.return_attention_scores:
            raise ArgumentError(f"{self.title}.step takes one position and returns no scores.")
        if position.dtype.kind not in "iu":
            raise DTypeError(f"{self.title}.step: a position is a whole number, got {position.dtype}.")
        q, k = (self.heads(c, name, x, self._key_dim(x)) for name in ("query", "key"))
        v = self.heads(c, "value", x, self.value_dim or self._key_dim(x))
        if self.rotary:
            q, k = (rotated(a, position[:, None]) for a in (q, k))
        places = np.arange(keys.shape[1])
        here = (places == position[:, None])[:, :, None, None]
        keys, values = np.where(here, k, keys), np.where(here, v, values)
        y = self._attended(q, keys, values, (places <= position[:, None])[:, None, None, :], causal=False)
        return self._output(c, y, x), keys, values
