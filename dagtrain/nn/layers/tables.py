"""Rows of a table for a network: numbers as they are, and a vector for each category."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn import initializers
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Layer
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["FeatureEmbedding"]

_MOST = 16


@dataclass(frozen=True)
class FeatureEmbedding(Layer):
    """The first layer of a model of tables: the numbers of each row, and a vector for each of its categories.

    A trainer of such a model takes tables as they are, with text and gaps, and encodes them by these features; a checkpoint holds them.
    A category that was never seen in learning, or a gap where there was none, gets the mean of the vectors of the known categories.

    Parameters
    ----------
    features
        `dagtrain.data.Features`, learnt from a table.
    output_dim
        The length of the vectors of categories; by default half as long as there are categories in the column, 16 at most.
    embeddings_initializer
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the vectors.

    Raises
    ------
    ShapeError
        If its input does not have the columns of encoded rows.

    Examples
    --------
    >>> from dagtrain.data import Category, Features, Number
    >>> features = Features((Number("age", 44.0, 182.0, 44.0, True), Category("city", ("Bonn", "Köln", "Ulm"), False)))
    >>> FeatureEmbedding(features).output_spec((8, 3)).shape
    (8, 4)
    """

    features: Any
    output_dim: int | None = None
    embeddings_initializer: str | Initializer = "uniform"
    name: str | None = None
    trainable: bool = True

    def __post_init__(self) -> None:
        title = self.name or "FeatureEmbedding"
        if not hasattr(self.features, "encoded_names"):
            kind = type(self.features).__name__
            raise ArgumentError(f"{title} takes the features of a table: dt.data.Features.learn(table); got a {kind}.")
        if self.output_dim is not None:
            whole(f"{title}: output_dim", self.output_dim)
        initializers.find(self.embeddings_initializer)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"{len(self.features.numbers)} numbers, {len(self.features.categories)} categories"

    @property
    def encoders(self) -> Mapping[str, Any]:
        """The features, which encode the input."""
        return {"x": self.features}

    def _length(self, count: int) -> int:
        return min((count + 1) // 2, _MOST) if self.output_dim is None else self.output_dim

    def forward(self, c: Context, x: Values) -> Values:
        """The numbers, then the vectors, of shape (samples, outputs)."""
        names = self.features.encoded_names
        if x.ndim != 2 or x.shape[1] != len(names):
            raise ShapeError(
                f"{self.name or 'FeatureEmbedding'} takes rows of {len(names)} numbers, as its features encode them, got shape "
                f"{tuple(x.shape)}: give a trainer the table itself, or a layer features.encode(table)."
            )
        categories = self.features.categories
        parts = [x[:, : len(names) - len(categories)]]
        codes = x[:, len(names) - len(categories) :].astype(np.int32)
        for i, category in enumerate(categories):
            shape = (len(category.values) + category.gaps, self._length(len(category.values)))
            vectors = c.parameter(f"vectors_{i + 1}", shape, self.embeddings_initializer)
            known = vectors[int(category.gaps) :]
            unseen = np.mean(known, axis=0, keepdims=True)
            rows = np.concatenate([vectors[:1] if category.gaps else unseen, unseen, known])  # in the order of the codes
            parts.append(apply_op(find_op("gather"), rows, codes[:, i]))
        return np.concatenate(parts, axis=1)
