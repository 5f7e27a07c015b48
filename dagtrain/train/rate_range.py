"""The test of learning rates: a short training whose rate rises from step to step, to see where the loss falls and where it explodes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain import optim
from dagtrain.arguments import is_number, positive, whole
from dagtrain.errors import ArgumentError, NotFiniteError
from dagtrain.graph import Array
from dagtrain.train.callback import Callback
from dagtrain.train.trained import Trained
from dagtrain.train.trainer import Trainer

__all__ = ["RateRange", "learning_rate_range"]

_SMOOTHING = 0.9
"""Decay of the mean of losses."""
_EXPLODED = 4.0
"""The test ends at a mean of losses this many times the least one."""
_FEW = 10
"""The means over fewer losses than these are too noisy to compare."""


@dataclass(frozen=True)
class RateRange:
    """The losses of steps of rising learning rates.

    Attributes
    ----------
    rates
        The learning rate of each step.
    losses
        The loss of each step's batch, before its update.
    """

    rates: Array
    losses: Array

    @property
    def smoothed(self) -> Array:
        """The mean of the losses up to each step, where older ones count less."""
        return _smoothed(self.losses)

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the least smoothed loss: still falling, and far enough from where it rises."""
        first = min(_FEW, len(self.rates)) - 1
        return float(self.rates[first + np.argmin(self.smoothed[first:])]) / 10

    def __repr__(self) -> str:
        return f"<RateRange: {len(self.rates)} steps from {self.rates[0]:.3g} to {self.rates[-1]:.3g}; suggestion {self.suggestion:.2g}>"


def _smoothed(losses: Sequence[float] | Array) -> Array:
    means, total, weight = [], 0.0, 0.0
    for loss in losses:
        total, weight = _SMOOTHING * total + loss, _SMOOTHING * weight + 1
        means.append(total / weight)
    return np.array(means)


class _Losses(Callback):
    """The losses up to the last rate, or to the first that exploded; engines may run ahead of a stop."""

    def __init__(self, steps: int) -> None:
        self.steps, self.losses = steps, list[float]()

    @property
    def at_end(self) -> bool:
        """Whether no more losses count."""
        if len(self.losses) in (0, self.steps):
            return len(self.losses) == self.steps
        means = _smoothed(self.losses)[min(_FEW, len(self.losses)) - 1 :]
        return bool(means[-1] > _EXPLODED * means.min() or self.losses[-1] > _EXPLODED**3 * means.min())

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        if not self.at_end:
            self.losses.append(logs["loss"])
        if self.at_end:
            self.trainer.stop("the end of the rates")


def learning_rate_range(
    trainer: Trainer,
    x: Any,
    y: Any = None,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    batch_size: int | None = None,
    sample_weight: Any = None,
) -> RateRange:
    """Train a copy of a trainer with rates that rise from `lowest` to `highest`, by one factor from step to step.

    The trainer itself does not change. The test ends before `highest` where the loss explodes.

    Parameters
    ----------
    trainer
        Its model begins with its present weights, its optimiser anew.
    x, y, batch_size, sample_weight
        As for `Trainer.fit`.
    lowest, highest
        The rates of the first and the last step.
    steps
        Number of rates.

    Raises
    ------
    ArgumentError
        If the rates do not rise, or the optimiser's rate is no number above 0 that they could replace.

    Notes
    -----
    Smith, "Cyclical learning rates for training neural networks", arXiv:1506.01186, section 3.3.

    Examples
    --------
    >>> import dagtrain as dt
    >>> model = dt.nn.Sequential([dt.nn.Dense(1)])
    >>> x = np.linspace(-1, 1, 64).reshape(64, 1)
    >>> rates = learning_rate_range(dt.Trainer(model, loss="mse", optimizer="sgd"), x, 3 * x, steps=50)
    >>> 0.01 < rates.suggestion < 1
    True
    """
    positive("learning_rate_range: lowest", lowest)
    if positive("learning_rate_range: highest", highest) <= lowest:
        raise ArgumentError(f"learning_rate_range: highest ({highest}) must be above lowest ({lowest}).")
    steps = whole("learning_rate_range: steps", steps, 2)
    rate = _rate(trainer.optimizer)
    factor = (highest / lowest) ** (1 / (steps - 1))
    other, losses = copy.copy(trainer), _Losses(steps)
    Trained.__init__(other)
    other._first = trainer._first[0] if not trainer.progress.is_begun else trainer.weights(), 1.0
    other._optimizer = optim.scaled(trainer.optimizer, optim.exponential_decay(lowest / rate, factor))
    try:
        other.fit(x, y, sample_weight=sample_weight, epochs=steps, batch_size=batch_size, verbose=0, callbacks=[losses])
    except NotFiniteError:
        if not losses.losses:
            raise
    seen = np.array(losses.losses)
    return RateRange(lowest * factor ** np.arange(len(seen)), seen)


def _rate(optimizer: optim.Optimizer) -> float:
    """The only learning rate of an optimiser."""
    rate: Any = optimizer.learning_rate
    if not is_number(rate) or rate == 0:
        raise ArgumentError(
            f"learning_rate_range puts rates in place of one number above 0, and the optimizer is {optimizer!r}: give the trainer one with "
            "such a rate, for all parameters."
        )
    return float(rate)
