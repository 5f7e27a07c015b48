"""Layers that mix samples in training, and with them their targets: MixUp and CutMix.

    row i of the outputs   ◀── part[i] of sample i, and 1 - part[i] of sample i + 1 of the shard (after the last one the first)
    loss of target k       =   part[k] · loss(outputs[k], y[k]) + (1 - part[k - 1]) · loss(outputs[k - 1], y[k])

Targets stay the columns that they are: the objective compares each with the two rows of outputs that it has a part in. So the weights of
samples and classes count as they do without mixing, the weight of the loss depends on the data alone, and any loss with a value for each
sample goes with it. Partners are neighbours in a batch, whose order is drawn anew in each epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagtrain.arguments import positive
from dagtrain.nn import activations
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers.augmentation import Augmentation, box, spread
from dagtrain.nn.values import Values, apply_op, floating
from dagtrain.ops import find as find_op

__all__ = ["CutMix", "MixUp"]


def next_row(x: Values) -> Values:
    """For each row the one after it; after the last comes the first."""
    return np.roll(x, -1, axis=0)


def beta(c: Context, rows: int, alpha: float) -> Values:
    """For each row a number of the distribution Beta(alpha, alpha), in float32, without rejection.

    One of Beta(alpha + 1, alpha + 1) by Ulrich's formula (Devroye, "Non-uniform random variate generation", 1986, section IX.4.2). Its odds
    times ``(u / v) ** (1 / alpha)``, with u and v uniform, are those of Beta(alpha, alpha), since a variate of Gamma(alpha) is one of
    Gamma(alpha + 1) times ``u ** (1 / alpha)``.
    """
    u, v, w, t = (1 - apply_op(find_op("random_uniform"), c.key(), shape=(rows,), dtype="<f4") for _ in range(4))  # in (0, 1]
    above = 0.5 + 0.5 * np.cos(t * np.float32(2 * np.pi)) * np.sqrt(np.maximum(1 - w ** np.float32(2 / (2 * alpha + 1)), 0))
    above = np.clip(above, np.float32(1e-6), np.float32(1 - 1e-6))
    odds = (np.log(u) - np.log(v)) * np.float32(1 / alpha) + np.log(above) - np.log(1 - above)
    return activations.sigmoid(odds)


@dataclass(frozen=True)
class MixUp(Layer):
    """In training, mix each sample with the next one of the shard, ``part * x + (1 - part) * next``, and their targets alike.

    Stands before the layers that learn. Of several inputs all are mixed by the same parts. Sums of a shard's mixed samples depend on which
    samples share it, so the number of shards is part of the result.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", arXiv:1710.09412, equation 1, with a part of
    its own for each sample.

    Parameters
    ----------
    alpha
        Parts are of the distribution Beta(alpha, alpha): near 0 and 1 for small numbers, uniform for 1.
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If `alpha` is not above 0, or a model mixes twice.

    Examples
    --------
    >>> import dagtrain as dt
    >>> model = dt.nn.Sequential([MixUp(0.2), dt.nn.Dense(10)], input_shape=(64,))
    >>> trainer = dt.Trainer(model, loss="cross_entropy")
    """

    alpha: float = 0.2
    name: str | None = None
    detail = "mixes samples"

    def __post_init__(self) -> None:
        positive(f"{self.name or 'MixUp'}: alpha", self.alpha)

    def forward(self, c: Context, *inputs: Values) -> Values | tuple[Values, ...]:
        """The inputs in floats, in training mixed."""
        floats = tuple(floating(x, c.dtype) for x in inputs)
        if c.training:
            part = beta(c, floats[0].shape[0], self.alpha)
            c.share_targets(part)
            floats = tuple(next_row(x) + spread(part.astype(x.dtype), x.ndim) * (x - next_row(x)) for x in floats)
        return floats[0] if len(floats) == 1 else floats


@dataclass(frozen=True)
class CutMix(Augmentation):
    """In training, put a rectangle of the next picture of the shard into each, and mix their targets by the areas.

    Stands before the layers that learn. The number of shards is part of the result, as with `MixUp`.

    Source: Yun et al., "CutMix", arXiv:1905.04899, section 3.1, with a rectangle of its own for each picture.

    Parameters
    ----------
    alpha
        Parts are of the distribution Beta(alpha, alpha); then by the elements that the rectangle covers within the picture.
    name
        Name in errors and pictures.

    Raises
    ------
    ArgumentError
        If `alpha` is not above 0, or a model mixes twice.

    Examples
    --------
    >>> CutMix().output_spec((4, 8, 8, 1)).shape
    (4, 8, 8, 1)
    """

    alpha: float = 1.0
    name: str | None = None
    detail = "mixes pictures"

    def __post_init__(self) -> None:
        positive(f"{self.title}: alpha", self.alpha)

    def forward(self, c: Context, x: Values) -> Values:
        """`x`, in training with a rectangle of the next picture."""
        x = self.checked(x)
        if not c.training:
            return x
        rows, lengths = x.shape[0], x.shape[1:3]
        side = np.sqrt(1 - beta(c, rows, self.alpha)).astype(np.float64)
        middles = [apply_op(find_op("random_uniform"), c.key(), shape=(rows,), dtype="<f8") * n for n in lengths]
        starts = [np.rint(middle - side * (n / 2)) for middle, n in zip(middles, lengths, strict=True)]
        ends = [np.rint(middle + side * (n / 2)) for middle, n in zip(middles, lengths, strict=True)]
        covered = box(starts, ends, x.shape)
        c.share_targets(1 - np.mean(covered.astype(np.float32), axis=(1, 2, 3)))
        return np.where(covered, next_row(x), x)
