"""`calibrate`: the temperature that makes the probabilities of a trained model true, fitted on held-out data.

logits of held-out rows, labels ──▶ cross-entropy of logits / temperature + offset ──least──▶ state of the layer `Temperature`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dagtrain.data.compute import computed_by
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array
from dagtrain.hinting import hinted
from dagtrain.step.model import ModelObjective
from dagtrain.trace.tree import leaves
from dagtrain.train.predict import Predictor
from dagtrain.train.rows import open_evaluation
from dagtrain.train.weights import with_weights

if TYPE_CHECKING:
    from dagtrain.train.trainer import Trainer

__all__ = ["Calibration", "calibrate"]

_LARGEST, _STEPS = 1e4, 100
_LEAST = 1e-12
"""A loss below that of one mistake among all rows."""
_TRIED = 256
"""Rows on which the place of the layer is judged."""


class Calibration(NamedTuple):
    """What was fitted.

    Attributes
    ----------
    temperature, offset
        Calibrated logits are ``logits / temperature + offset``.
    loss_before, loss
        The cross-entropy of the held-out data before and after.
    """

    temperature: float
    offset: float
    loss_before: float
    loss: float


@hinted
def calibrate(trainer: Trainer, x: Any, y: Any = None, sample_weight: Any = None) -> Calibration:
    """Fit the layer `dagtrain.nn.Temperature`, with which a model ends, on data that was held out of training.

    The weights stay. `predict` and `evaluate` then give calibrated outputs, also after `dagtrain.load`.

    Parameters
    ----------
    trainer
        Of a model with one output, whose loss makes probabilities of logits.
    x, y, sample_weight
        Rows, labels and weights, as `Trainer.evaluate` takes them: a row of weight 2 counts as two.

    Raises
    ------
    ArgumentError
        If the model does not end with such a layer, or its loss is none of probabilities.
    DataError
        If the logits do not tell the labels apart better than chance, or without any error: then no temperature is best.

    Examples
    --------
    >>> import dagtrain as dt
    >>> x = np.linspace(-1, 1, 64, dtype="f4")[:, None]
    >>> y = np.arange(64) % 8 < 4 * (1 + x[:, 0])  # the larger x, the more often
    >>> model = dt.nn.Sequential([dt.nn.Dense(1), dt.nn.Temperature()], input_shape=(1,))
    >>> trainer = dt.Trainer(model, loss="binary_cross_entropy")
    >>> _ = trainer.load_weights({"dense_1.kernel": np.array([[20.0]])}, strict=False)  # far too sure
    >>> fitted = calibrate(trainer, x, y)
    >>> round(fitted.temperature, 1), fitted.loss < fitted.loss_before
    (8.5, True)
    """
    if not hasattr(trainer, "_objective"):
        raise ArgumentError(f"calibrate takes a trainer, dt.Trainer(model, loss=...) once it is fitted, got a {type(trainer).__name__}.")
    objective = trainer._objective
    program, state = trainer._ready("be calibrated", targets=True)
    names = [name for name in program.statistics_layout.names if name.rpartition(".")[2] == "temperature"]
    if not isinstance(objective, ModelObjective) or len(names) != 1 or len(objective.heads) != 1:
        raise ArgumentError(
            "calibrate is for a model with one output that ends with nn.Temperature(), as in nn.Sequential([…, nn.Dense(1), "
            f"nn.Temperature()]); this one has {len(names)} such layers."
        )
    loss, offset = objective.heads[0].loss, names[0].removesuffix("temperature") + "offset"
    shifts = offset in program.statistics_layout.names
    if loss.link not in ("sigmoid", "softmax"):
        raise ArgumentError(f"calibrate is for losses of logits, and {loss.name!r} makes no probabilities of outputs.")
    if shifts and loss.link == "softmax":
        raise ArgumentError("Temperature(offset=True) is for two classes by one logit, and this loss takes a logit for each class.")
    layouts = program.layout, program.statistics_layout
    plain, half = (
        Predictor(
            program, with_weights(*layouts, state, {names[0]: np.asarray(number), **({offset: np.zeros(())} if shifts else {})}), None
        )
        for number in (1.0, 2.0)
    )
    with computed_by(trainer._client):
        source = open_evaluation(objective, x, y, sample_weight, columns=program.columns, fitted=trainer._columns is not None)
        columns = source.local()
    inputs = len(source.columns.of_x.names)
    logits = leaves(plain.compute(*columns[:inputs]))[0].astype(np.float64)
    few = [column[:_TRIED] for column in columns[:inputs]]
    if not np.allclose(2 * leaves(half.compute(*few))[0], logits[:_TRIED], rtol=1e-4, atol=1e-6):
        raise ArgumentError(
            "nn.Temperature() is the last layer of a model that is calibrated, and here layers follow it: put it at the end."
        )
    labels = columns[inputs]
    rows, counted = labels.reshape(len(labels), -1), columns[inputs + 1 :]
    weights = np.broadcast_to(counted[0].reshape(len(labels), -1), rows.shape).astype(np.float64).ravel() if counted else np.ones(rows.size)
    if not weights.any():
        raise DataError("all weights are 0, so no row counts.")
    if loss.link == "sigmoid":
        fit = _two_classes(logits.ravel(), labels.ravel().astype(np.float64), weights, shifts)
    else:
        fit = _classes(logits, labels, weights)
    fitted: dict[str, Any] = {names[0]: np.float64(fit.temperature), **({offset: np.float64(fit.offset)} if shifts else {})}
    trainer.load_weights(fitted, strict=False)
    return fit


def _two_classes(logits: Array, labels: Array, counts: Array, shifts: bool) -> Calibration:
    """Of one logit for each label of 0 or 1."""
    rows, total = np.stack([logits, np.ones_like(logits)], axis=1)[:, : 1 + shifts], counts.sum()

    def at(weights: Array) -> tuple[float, Array, Array]:
        z = rows @ weights
        p = np.exp(-np.logaddexp(0, -z))
        loss = float(np.sum((np.logaddexp(0, z) - labels * z) * counts) / total)
        return loss, rows.T @ ((p - labels) * counts) / total, (rows * (p * (1 - p) * counts)[:, None]).T @ rows / total

    weights, before, loss = _least(at, np.array([1.0, 0.0])[: 1 + shifts])
    return Calibration(1 / float(weights[0]), float(weights[1]) if shifts else 0.0, before, loss)


def _classes(logits: Array, labels: Array, counts: Array) -> Calibration:
    """Of a logit for each class, along the last axis."""
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.ravel()
    chosen, whole = logits[np.arange(len(labels)), labels], counts.sum()

    def at(weights: Array) -> tuple[float, Array, Array]:
        z = logits * weights[0]
        total = np.logaddexp.reduce(z, axis=1)
        p = np.exp(z - total[:, None])
        mean = (p * logits).sum(axis=1)
        variance = (p * (logits - mean[:, None]) ** 2).sum(axis=1)
        first, second = np.sum((mean - chosen) * counts) / whole, np.sum(variance * counts) / whole
        return float(np.sum((total - weights[0] * chosen) * counts) / whole), np.array([first]), np.array([[second]])

    weights, before, loss = _least(at, np.ones(1))
    return Calibration(1 / float(weights[0]), 0.0, before, loss)


def _least(at: Callable[[Array], tuple[float, Array, Array]], weights: Array) -> tuple[Array, float, float]:
    """The weights of least loss by Newton's method with shorter steps where the loss would rise, and the loss before and after."""
    loss, gradient, hessian = at(weights)
    before = loss
    for _ in range(_STEPS):
        step = np.linalg.lstsq(hessian, -gradient)[0]
        length = 1.0
        while length > 1e-9 and at(weights + length * step)[0] > loss:
            length /= 2
        weights, last = weights + length * step, loss
        loss, gradient, hessian = at(weights)
        if last - loss < 1e-14 * abs(last):
            break
    if not 1 / _LARGEST < weights[0] < _LARGEST or loss < _LEAST:
        why = "tell the labels apart without any error" if weights[0] > 1 / _LARGEST else "do not tell the labels apart better than chance"
        raise DataError(f"the logits of these rows {why}, so no temperature is best. Hold out other rows, or more of them.")
    return weights, before, loss
