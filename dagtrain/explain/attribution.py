"""What each number of a row does for an output of a model: the size of its derivative, or its share of the output by integrated gradients.

    baseline ─── 0.02 ─── 0.12 ─── … ─── 0.98 ─── row         points on the line between, at the entrances of the columns
                  │        │              │
                  ▼        ▼              ▼
              gradients of the score there, summed with weights, times (row - baseline) = shares of score(row) - score(baseline)

Whole numbers have no derivative: theirs are taken where they become real numbers, such as at the output of an embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dagtrain.arguments import whole
from dagtrain.backends.blas import one_blas_thread
from dagtrain.errors import ArgumentError
from dagtrain.explain.scored import Scored
from dagtrain.graph import Array
from dagtrain.hinting import hinted
from dagtrain.trace.tree import flatten

if TYPE_CHECKING:
    from dagtrain.train import Trainer

__all__ = ["Attributions", "integrated_gradients", "saliency"]


class Attributions(NamedTuple):
    """The shares of the columns in the scores of rows.

    Attributes
    ----------
    values
        Float64 arrays of the shapes of x, nested as x; None for a column that was held.
    scores, baseline_scores
        The score of each row, and that of its baseline (or the mean over several).
    """

    values: Any
    scores: Array
    baseline_scores: Array

    @property
    def gap(self) -> Array:
        """For each row, how far the sum of all shares is from ``scores - baseline_scores``, which it is in the limit of many steps."""
        arrays = flatten(self.values)[0].values()
        total = sum(np.asarray(array).reshape(len(self.scores), -1).sum(axis=1) for array in arrays)
        return np.asarray(total - (self.scores - self.baseline_scores))


@hinted
def saliency(trainer: Trainer, x: Any, target: Any = None, output: str | None = None, logits: bool = True, batch_size: int = 256) -> Any:
    """How much a small change of each number would change the score of its row: the size of the derivative.

    Source: Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", arXiv:1312.6034, section 3.

    Parameters
    ----------
    trainer, x, target, output, logits, batch_size
        As for `integrated_gradients`.

    Returns
    -------
    ndarray, or a nest of them
        Of the shapes of x. A whole number has the length of the derivative by its vector. None for a column that leads to the score
        through comparisons alone, as masks and lengths do.

    Examples
    --------
    >>> import dagtrain as dt
    >>> model = dt.nn.Sequential([dt.nn.Lambda(lambda x: x[:, :1] * x[:, 1:2])], input_shape=(3,))
    >>> saliency(dt.Trainer(model, loss="mean_squared_error"), [[2.0, -5.0, 1.0]])
    array([[5., 2., 0.]])
    """
    scored = Scored(trainer, x, target, output, logits, batch_size)
    held = scored.without_entrance()
    parts = []
    with one_blas_thread():
        for batch in scored.batches():
            points = batch.points(batch.columns)
            gradients = batch.gradients(points)[1]
            lengths = [
                np.sqrt((g.astype(np.float64).reshape(*g.shape[: g.ndim - width], -1) ** 2).sum(axis=-1))
                for g, width in zip(gradients, batch.compiled.widths, strict=True)
            ]
            parts.append(batch.to_columns(lengths, scored.columns))
    return scored.nest([np.concatenate(arrays) for arrays in zip(*parts, strict=True)], held)


@hinted
def integrated_gradients(
    trainer: Trainer,
    x: Any,
    baseline: Any = 0.0,
    target: Any = None,
    output: str | None = None,
    steps: int = 50,
    logits: bool = True,
    batch_size: int = 256,
) -> Attributions:
    """The share of each number of a row in the difference between the row's score and that of a baseline.

    Source: Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", arXiv:1703.01365, equation 1, with the integral by the
    Gauss-Legendre rule. The shares of a row sum to the difference of the scores up to `Attributions.gap`, which falls with `steps`.

    Parameters
    ----------
    trainer
        Of a model; before a fit with its first weights, if it knows its input.
    x
        Rows as `Trainer.predict` takes them, in this process: an array, a table, a tuple or a dict.
    baseline
        What the rows are compared with: one number for all, or for each column of x a number, a row or several rows, over which the shares
        are averaged; nested as x. None holds a column: it stays as in the row. Of whole numbers it is a whole number, such as that of
        padding; of a table, a table of one row or several.
    target
        Which number of an output of several is the score: its place, one for all rows or one for each; by default the place of the
        highest, as of the class that is predicted.
    output
        Name of the output, of a model with several.
    steps
        Points on the way from the baseline to the row.
    logits
        Of an output that is a sigmoid or a softmax of the model's own, take what goes into it: near 0 and 1 a sigmoid is so flat that
        every share vanishes. False takes the outputs as they are.
    batch_size
        Rows computed at once.

    Returns
    -------
    Attributions
        A column that leads to the score through comparisons alone, as masks and lengths do, is held.

    Raises
    ------
    ArgumentError
        If no share can be told, or the score of the baseline is not finite.

    Examples
    --------
    >>> import dagtrain as dt
    >>> model = dt.nn.Sequential([dt.nn.Lambda(lambda x: x[:, :1] * x[:, 1:2])], input_shape=(3,))
    >>> shares = integrated_gradients(dt.Trainer(model, loss="mean_squared_error"), [[2.0, -5.0, 1.0]])
    >>> shares.values.round(6), shares.scores, float(abs(shares.gap).max()) < 1e-6
    (array([[-5., -5.,  0.]]), array([-10.]), True)
    """
    nodes, weights = np.polynomial.legendre.leggauss(whole("integrated_gradients: steps", steps))
    scored = Scored(trainer, x, target, output, logits, batch_size)
    compared, held = scored.baselines(baseline)
    parts, scores, before = [], [], []
    with one_blas_thread(), np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # the baseline is checked
        for batch in scored.batches():
            ends = batch.points(batch.columns)
            scores.append(batch.gradients(ends)[0])
            shares: list[Array] = [np.zeros(()) for _ in scored.columns]
            below = np.zeros(len(scores[-1]))
            for row in compared:
                base = [
                    column if value is None else np.broadcast_to(value, column.shape)
                    for column, value in zip(batch.columns, row, strict=True)
                ]
                starts = batch.points(base)
                below += _finite(batch.gradients(starts)[0])
                sums = [np.zeros(point.shape) for point in ends]
                for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
                    points = [(a + node * (b.astype(np.float64) - a)).astype(b.dtype) for a, b in zip(starts, ends, strict=True)]
                    for total, g in zip(sums, batch.gradients(points)[1], strict=True):
                        total += weight * g
                spread = [
                    (total * (b.astype(np.float64) - a)).reshape(*b.shape[: b.ndim - width], -1).sum(axis=-1)
                    for total, a, b, width in zip(sums, starts, ends, batch.compiled.widths, strict=True)
                ]
                shares = [a + b for a, b in zip(shares, batch.to_columns(spread, scored.columns), strict=True)]
            parts.append([share / len(compared) for share in shares])
            before.append(below / len(compared))
    values = scored.nest([np.concatenate(arrays) for arrays in zip(*parts, strict=True)], held)
    return Attributions(values, np.concatenate(scores), np.concatenate(before))


def _finite(scores: Array) -> Array:
    if not np.isfinite(scores).all():
        raise ArgumentError(
            "the score of the baseline is not finite, as where a model divides by a column: give each column a baseline of its own, or "
            "None to hold it."
        )
    return scores
