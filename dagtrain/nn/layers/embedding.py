"""A vector for each whole number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.errors import DTypeError
from dagtrain.nn import initializers
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["Embedding"]


@dataclass(frozen=True)
class Embedding(Layer):
    """A row of the parameter `embeddings` for each whole number, such as the number of a token.

    A model that predicts tokens may use the same rows for its outputs: ``c(self.embedding, h, method="logits")`` is ``h @ embeddings.T``
    (Press and Wolf, "Using the output embedding to improve language models", arXiv:1608.05859).

    Parameters
    ----------
    input_dim
        How many numbers there are, from 0 up.
    output_dim
        The length of a row.
    embeddings_initializer
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    mask_zero
        Whether 0 is padding: then it also gives the mask of the other positions.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Raises
    ------
    DTypeError
        If its input is not of whole numbers.
    ExecutionError
        If a number is none of a row.

    Examples
    --------
    >>> Embedding(100, 8).output_spec(np.zeros((2, 5), "i4")).shape
    (2, 5, 8)
    """

    input_dim: int
    output_dim: int
    embeddings_initializer: str | Initializer = "uniform"
    mask_zero: bool = False
    name: str | None = None
    trainable: bool = True

    def __post_init__(self) -> None:
        title = self.name or "Embedding"
        whole(f"{title}: input_dim", self.input_dim)
        whole(f"{title}: output_dim", self.output_dim)
        initializers.find(self.embeddings_initializer)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"{self.input_dim:,} rows"

    def _embeddings(self, c: Context) -> Values:
        return c.parameter("embeddings", (self.input_dim, self.output_dim), self.embeddings_initializer)

    def forward(self, c: Context, x: Values) -> Any:
        """The rows, of shape (..., output_dim); with `mask_zero` also the mask."""
        if x.dtype.kind not in "iu":
            raise DTypeError(f"{self.name or 'Embedding'} takes whole numbers from 0 to {self.input_dim - 1:,}, got {x.dtype}.")
        rows = apply_op(find_op("gather"), self._embeddings(c), x, from_end=False)
        return (rows, x != 0) if self.mask_zero else rows

    def logits(self, c: Context, h: Values) -> Values:
        """The product of vectors with each row, of shape (..., input_dim)."""
        return h @ np.swapaxes(self._embeddings(c), 0, 1)
