"""Losses of whole sequences: labels in an order, without the steps at which they stand."""

from __future__ import annotations

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.nn.activations import log_softmax
from dagtrain.nn.losses.loss import expect_logits, named
from dagtrain.nn.values import Values, applied
from dagtrain.ops import find as find_op

__all__ = ["ctc"]


@named("any", "softmax")
def ctc(outputs: Values, targets: Values, *, blank: int = 0, lengths: Values | None = None) -> Values:
    """Mean of minus the logarithm of the probability that steps read as the labels: connectionist temporal classification.

    A path has a class for each step; it reads as its classes without repetitions, and then without blanks. So there are at least as many
    steps as labels, and one more for each label that follows an equal one: for other rows the loss is infinite.

    Source: Graves, Fernández, Gomez and Schmidhuber, "Connectionist temporal classification" (ICML 2006).

    Parameters
    ----------
    outputs
        Logits (samples, steps, classes).
    targets
        Labels (samples, labels) in whole numbers; a row ends at its first blank or negative number.
    blank
        The class that is no label.
    lengths
        The steps of each sample; by default all. In a model, `dagtrain.nn.Blank` makes the others blanks for certain, which is the same.

    Examples
    --------
    >>> outputs = np.log(np.array([[[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]]) + 1e-30)
    >>> round(float(np.exp(-ctc(outputs, np.array([[1, -1]])))), 6)
    0.75
    """
    if outputs.ndim != 3 or targets.ndim != 2 or targets.shape[0] != outputs.shape[0]:
        raise ShapeError(
            f"ctc takes outputs (samples, steps, classes) and labels (samples, labels), got {tuple(outputs.shape)} and "
            f"{tuple(targets.shape)}."
        )
    if targets.dtype.kind not in "iu":
        raise DTypeError(
            f"ctc needs labels in whole numbers, got {targets.dtype}: cast with y.astype(np.int64), and end short rows with -1."
        )
    expect_logits("ctc", outputs, "softmax")
    rows, steps, _ = outputs.shape
    labels = targets.astype(np.int64)
    is_label = np.cumsum(((labels < 0) | (labels == blank)).astype(np.int64), 1) == 0
    lengths = np.full(rows, steps) if lengths is None else lengths
    values = applied(find_op("ctc"), log_softmax(outputs), labels, lengths, np.sum(is_label.astype(np.int64), 1), blank=blank)
    return values[0]
