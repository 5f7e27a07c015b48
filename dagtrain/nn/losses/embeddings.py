"""Losses of vectors: of their direction, and of the distances between the vectors of one sample.

Those of distances take the vectors of a sample one after the other along the last axis, as
``nn.Concatenate()([encoder(a), encoder(b)])`` puts them. They compare the vectors of one row alone, so they add up over rows; losses that
compare rows of a batch do not, and are functions of the user with ``Trainer(..., coupled=True)``.
"""

from __future__ import annotations

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.nn.activations import relu
from dagtrain.nn.losses.loss import named
from dagtrain.nn.shapes import aligned
from dagtrain.nn.values import Values, apply_op
from dagtrain.ops import find as find_op

__all__ = ["contrastive", "cosine_similarity", "triplet"]


def _direction(vectors: Values) -> Values:
    """Vectors of length 1 along the last axis; zeros stay. First they are scaled by their largest element, so no square overflows."""
    size = np.max(np.abs(vectors), axis=-1, keepdims=True)
    size = apply_op(find_op("stop_gradient"), np.where(size > 0, size, 1))  # the direction does not depend on it
    scaled = vectors / size
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / np.where(length > 0, length, 1)


@named("vectors")
def cosine_similarity(outputs: Values, targets: Values) -> Values:
    """Mean of the negative cosine of the angle between output and target, vectors along the last axis; 0 for a vector of zeros.

    Examples
    --------
    >>> float(cosine_similarity(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[6.0, 8.0], [0.0, 1.0]])))
    -0.5
    """
    outputs, targets = aligned("cosine_similarity", outputs, targets)
    return -np.sum(_direction(outputs) * _direction(targets), axis=-1)


def _parts(name: str, outputs: Values, count: int) -> list[Values]:
    """The vectors of each sample that lie one after the other along the last axis."""
    length = outputs.shape[-1] // count
    if outputs.ndim < 2 or length * count != outputs.shape[-1] or not length:
        raise ShapeError(
            f"{name} takes {count} vectors of one length for each sample, one after the other along the last axis, as in "
            f"nn.Concatenate()([{', '.join('abc'[:count])}]), got outputs of shape {outputs.shape}."
        )
    return [outputs[..., i * length : (i + 1) * length] for i in range(count)]


@named("pairs")
def contrastive(outputs: Values, targets: Values, *, margin: float = 1.0) -> Values:
    """Mean of ``d**2`` for pairs that belong together and of ``max(0, margin - d)**2`` for others, d being their distance.

    Source: Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping" (CVPR 2006), equation 4, without its
    factor 1/2.

    Parameters
    ----------
    outputs
        The two vectors of each pair, one after the other along the last axis.
    targets
        1 (together) or 0 for each pair.
    margin
        The distance from which other pairs count no more.

    Examples
    --------
    >>> float(contrastive(np.array([[0.0, 0.0, 0.6, 0.8], [0.0, 0.0, 0.3, 0.4]]), np.array([1, 0])))
    0.625
    """
    first, second = _parts("contrastive", outputs, 2)
    if targets.shape != outputs.shape[:-1]:
        raise ShapeError(f"contrastive: outputs of shape {outputs.shape} need targets of shape {outputs.shape[:-1]}, got {targets.shape}.")
    together = targets.astype(outputs.dtype)
    difference = first - second
    apart = np.square(relu(margin - np.linalg.norm(difference, axis=-1)))
    return together * np.sum(np.square(difference), axis=-1) + (1 - together) * apart


@named("none")
def triplet(outputs: Values, targets: None = None, *, margin: float = 1.0) -> Values:
    """Mean of ``max(0, margin + |anchor - positive| - |anchor - negative|)``; it takes no targets.

    Source: Schroff, Kalenichenko and Philbin, "FaceNet", arXiv:1503.03832, equation 1, with distances in place of their squares, as in
    PyTorch.

    Parameters
    ----------
    outputs
        The anchor, a vector that belongs to it and one that does not, one after the other along the last axis.
    targets
        None: ``trainer.fit(x)``.
    margin
        By how much the other vector shall be farther.

    Examples
    --------
    >>> float(triplet(np.array([[0.0, 0.0, 0.6, 0.8, 0.0, 0.5]])))
    1.5
    """
    anchor, positive, negative = _parts("triplet", outputs, 3)
    return relu(margin + np.linalg.norm(anchor - positive, axis=-1) - np.linalg.norm(anchor - negative, axis=-1))
