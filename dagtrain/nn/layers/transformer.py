"""The block that transformers are stacks of."""

from __future__ import annotations

from dataclasses import dataclass, field

from dagtrain.arguments import fraction, whole
from dagtrain.errors import DTypeError
from dagtrain.nn import activations
from dagtrain.nn.activations import ActivationFunction
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers.attention import MultiHeadAttention, projected
from dagtrain.nn.layers.noise import Dropout
from dagtrain.nn.layers.normalization import LayerNorm
from dagtrain.nn.values import Values

__all__ = ["TransformerBlock"]


@dataclass(frozen=True)
class TransformerBlock(Layer):
    """Self-attention, and two dense layers at each position, both with a layer norm and around them the sum with what came in.

        normalize_first      x = x + attention(norm(x)),    y = x + dense(norm(x))
        otherwise            x = norm(x + attention(x)),    y = norm(x + dense(x))

    A second input is a mask of the positions that are seen, or the length of each sequence.

    Source: Vaswani et al., "Attention is all you need", arXiv:1706.03762, section 3.1; with the norm first: Xiong et al., arXiv:2002.04745.

    Parameters
    ----------
    num_heads
        Heads of the attention; the features of x divide into them, unless `key_dim` is given.
    intermediate_dim
        Units of the first dense layer; by default four times the features.
    key_dim
        Features of a head.
    dropout
        Rate of dropout of the weights of the attention, and of what is added to x.
    activation
        Of the first dense layer.
    use_causal_mask
        Whether a position sees only those up to its own.
    normalize_first
        Whether the layer norm comes before attention and dense layers, or after the sum.
    rotary
        As of `MultiHeadAttention`.
    epsilon
        Of the layer norms.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Raises
    ------
    ArgumentError
        If an argument is wrong.

    Examples
    --------
    >>> block = TransformerBlock(num_heads=4, use_causal_mask=True)
    >>> block.output_spec((2, 9, 32)).shape, block.summary((2, 9, 32)).parameters
    ((2, 9, 32), 12704)
    """

    num_heads: int
    intermediate_dim: int | None = None
    key_dim: int | None = None
    dropout: float = 0.0
    activation: str | ActivationFunction = "gelu_tanh"
    use_causal_mask: bool = False
    normalize_first: bool = True
    rotary: bool = False
    epsilon: float = 1e-5
    name: str | None = None
    trainable: bool = True
    attention: MultiHeadAttention = field(init=False, repr=False)
    attention_norm: LayerNorm = field(init=False, repr=False)
    dense_norm: LayerNorm = field(init=False, repr=False)
    drop: Dropout = field(init=False, repr=False)

    def __post_init__(self) -> None:
        title = self.name or "TransformerBlock"
        if self.intermediate_dim is not None:
            whole(f"{title}: intermediate_dim", self.intermediate_dim)
        activations.find(self.activation)
        fraction(f"{title}: dropout", self.dropout)
        attention = MultiHeadAttention(
            self.num_heads, self.key_dim, dropout=self.dropout, use_causal_mask=self.use_causal_mask, rotary=self.rotary
        )
        object.__setattr__(self, "attention", attention)
        for norm in ("attention_norm", "dense_norm"):
            object.__setattr__(self, norm, LayerNorm(self.epsilon))
        object.__setattr__(self, "drop", Dropout(self.dropout))

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return self.attention.detail

    def forward(self, c: Context, x: Values, mask: Values | None = None) -> Values:
        """The positions, of the shape of x."""
        if mask is not None and mask.dtype.kind == "f":  # the attention would take it for values
            raise DTypeError(f"{self.name or 'TransformerBlock'}: a mask is of booleans, got {mask.dtype}: mask.astype(bool).")
        before = c(self.attention_norm, x) if self.normalize_first else x
        return self._dense(c, x, c(self.attention, before, *(() if mask is None else (mask,))))

    def step(self, c: Context, x: Values, keys: Values, values: Values, position: Values) -> tuple[Values, Values, Values]:
        """One more position of each row, and the keys and values with it; see `MultiHeadAttention.step`."""
        before = c(self.attention_norm, x) if self.normalize_first else x
        attended, keys, values = c(self.attention, before, keys, values, position, method="step")
        return self._dense(c, x, attended), keys, values

    def _dense(self, c: Context, x: Values, attended: Values) -> Values:
        """What comes behind the attention."""
        x = x + c(self.drop, attended)
        x = x if self.normalize_first else c(self.attention_norm, x)
        before = c(self.dense_norm, x) if self.normalize_first else x
        features = x.shape[-1]
        inner = projected(c, "dense", before, self.intermediate_dim or 4 * features, True, "glorot_uniform", "zeros")
        y = projected(c, "output", activations.find(self.activation)(inner), features, True, "glorot_uniform", "zeros")
        y = x + c(self.drop, y)
        return y if self.normalize_first else c(self.dense_norm, y)
