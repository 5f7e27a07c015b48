"""`Stepper`: a trainer that takes step by step what the caller hands it."""

from __future__ import annotations

from typing import Any, Self

from dagtrain.errors import ArgumentError
from dagtrain.step.state import State
from dagtrain.train.loading import load
from dagtrain.train.steps import Steps
from dagtrain.train.trainer import Trainer

__all__ = ["Stepper"]


class Stepper(Steps):
    """Trains step by step on what the caller hands it: batches that came just now, or rows of a memory.

    All else is as in `Trainer`, whose arguments it takes, and with which it shares its progress: ``stepper.trainer`` predicts, evaluates,
    sets the rate, loads weights. Steps are pure functions of the state and of their rows, so they give the same bits on any engine and any
    number of workers. Epochs, history and ledger belong to `Trainer.fit`; a step only counts as an update.

    On a cluster the ranks stay at work between the calls: `close` ends them, as does the ``with`` statement.

    Parameters
    ----------
    model, loss, optimizer, options
        As for `Trainer`; instead of a model, a trainer, with which it goes on. With ``shards="auto"`` the first step decides the number
        of shards.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> draw = np.random.default_rng(0)
    >>> with dt.Stepper(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", optimizer=dt.optim.adam(0.1), engine="inline") as stepper:
    ...     for _ in range(50):
    ...         x = draw.normal(size=(32, 3))
    ...         logs = stepper.step(x, (x.sum(axis=1) > 0).astype("i8"))
    >>> logs["loss"] < 0.4
    True
    >>> stepper.state.step
    50
    """

    def __init__(self, model: Any, loss: Any = None, optimizer: Any = "adam", **options: Any) -> None:
        if isinstance(model, Trainer):
            if loss is not None or options or optimizer != "adam":
                raise ArgumentError("a Stepper that goes on with a trainer takes its settings from it: give the trainer alone.")
            super().__init__(model)
        else:
            super().__init__(Trainer(model, loss, optimizer, **options))

    @classmethod
    def load(cls, path: Any, **options: Any) -> Self:
        """The stepper of a checkpoint; see `dagtrain.load`."""
        return cls(load(path, **options))

    @property
    def state(self) -> State:
        """Weights, the optimiser's vectors and the number of steps, to read and keep; never change it."""
        return self.trainer.state

    def save(self, path: Any) -> None:
        """Write a checkpoint; see `Trainer.save`, `load`."""
        self.trainer.save(path)
