"""Ready callbacks for ``fit(callbacks=[...])``, under Keras's names; derive your own from `Callback`.

    dt.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)

Their decisions are functions of the history alone, and they read the earlier epochs first: a resumed run decides like an undisturbed one.
Those that write logs are in `dagtrain.train.logs`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from dagtrain.arguments import is_number, not_negative, positive, whole
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.hinting import no_attribute
from dagtrain.report.table import plural
from dagtrain.step.state import State
from dagtrain.train import hints
from dagtrain.train.callback import MOMENTS, Callback, Logs, Mode, Monitor
from dagtrain.train.console import Console
from dagtrain.train.logs import CSVLogger, JSONLines, MLflow, TensorBoard

__all__ = [
    "CSVLogger",
    "Callback",
    "Console",
    "EarlyStopping",
    "JSONLines",
    "LambdaCallback",
    "LearningRateScheduler",
    "MLflow",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "Target",
    "TensorBoard",
    "TimeLimit",
]


def __getattr__(name: str) -> Any:
    raise no_attribute("name in dagtrain.callbacks", name, __all__, hints.CALLBACKS)


class EarlyStopping(Monitor):
    """Stop training when a quantity no longer improves.

    Parameters
    ----------
    monitor
        ``loss``, a metric, or one of them on validation data (``val_…``).
    min_delta
        Least improvement that counts.
    patience
        Epochs without improvement after which training ends.
    mode
        "min", "max", or "auto": by the metric.
    baseline
        Only values better than this one count.
    restore_best_weights
        Whether the trainer ends with the weights of the best epoch, not the last. It does not change checkpoints; if the best epoch was
        before a resume, its checkpoint must still exist (``fit(keep=...)``).

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x, y = np.eye(8, dtype="f4"), np.arange(8) % 2
    >>> trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", metrics=["accuracy"])
    >>> stopping = EarlyStopping("accuracy", patience=2)
    >>> history = trainer.fit(x, y, epochs=500, callbacks=[stopping], verbose=0)
    >>> history.epochs == stopping.best_epoch + 1 + 2
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: Mode = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta, patience)
        self.baseline, self.restore_best_weights = baseline, restore_best_weights
        self.best_epoch: int | None = None
        self._best_state: State | None = None
        self._ended = False

    def on_train_begin(self) -> None:
        """Read the earlier epochs."""
        self.best_epoch, self._best_state, self._ended = None, None, False
        for epoch, value in self.before():
            self._see(epoch, value)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Read the quantity."""
        if self._see(epoch, self.value(logs)) and self.restore_best_weights:
            self._best_state = self.trainer.state

    def _see(self, epoch: int, value: float) -> bool:
        """Whether the value is the best so far."""
        self.wait += 1
        if improves := self.improves(value):
            self.best_epoch, self._best_state = epoch, None
            if self.baseline is None or self.beats(value, self.baseline):
                self.wait = 0
        if self.wait >= max(1, self.patience):
            self._ended = True
            self.trainer.stop(f"EarlyStopping: {self.monitor} has not become better in {plural(self.wait, 'epoch')}")
        return improves

    def on_train_end(self) -> None:
        """Restore the best weights, unless something else stopped training, which may then continue."""
        if not self.restore_best_weights or self.best_epoch is None or not (self._ended or self.trainer.history.stopped is None):
            return
        best = self._best_state or self.trainer._checkpointed(self.best_epoch + 1)
        if best is None:
            self.tell(f"EarlyStopping: no checkpoint of epoch {self.best_epoch + 1}, the best, is kept: the weights are those of the last")
        else:
            self.trainer.restore_weights(best)


class ModelCheckpoint(Monitor):
    """Save the trainer after each epoch, or after the best ones so far; `dagtrain.load` reads it back.

    Use it for models to deploy; to resume training, use ``fit(checkpoint=...)``.

    Parameters
    ----------
    path
        Folder or fsspec address; may have ``{epoch}`` (counted from 1) and quantities in it, as in ``"best-{epoch:03d}-{val_loss:.2f}"``.
    monitor, mode
        Quantity that decides which epoch is best; see `EarlyStopping`. Used only with `save_best_only`.
    save_best_only
        Save only when the quantity is the best so far.
    period
        Number of epochs from one look to the next.
    """

    def __init__(
        self, path: str | os.PathLike[str], monitor: str = "val_loss", save_best_only: bool = False, period: int = 1, mode: Mode = "auto"
    ) -> None:
        super().__init__(monitor, mode)
        self.path, self.save_best_only, self.period = os.fspath(path), save_best_only, whole("ModelCheckpoint: period", period)

    def on_train_begin(self) -> None:
        """Read the earlier epochs."""
        for epoch, value in self.before() if self.save_best_only else ():
            if (epoch + 1) % self.period == 0:
                self.improves(value)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save, if it is time and the epoch is good enough."""
        if (epoch + 1) % self.period or (self.save_best_only and not self.improves(self.value(logs))):
            return
        try:
            path = self.path.format(epoch=epoch + 1, **logs)
        except (KeyError, IndexError, ValueError) as error:
            raise ArgumentError(
                f"ModelCheckpoint: the path {self.path!r} cannot be filled in ({type(error).__name__}: {error}). "
                f"It may have: epoch, {', '.join(logs)}."
            ) from error
        self.trainer.save(path)


class Target(Monitor):
    """Stop once a quantity is good enough.

    Parameters
    ----------
    monitor, mode
        See `EarlyStopping`.
    value
        Value of the quantity; training ends after the first epoch that reaches it.

    Attributes
    ----------
    reached
        Whether an epoch reached the value.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", metrics=["accuracy"], optimizer=dt.optim.adam(0.1))
    >>> history = trainer.fit(np.eye(8), np.arange(8) % 2, epochs=500, callbacks=[Target("accuracy", 1.0)], verbose=0)
    >>> history.stopped
    'Target: accuracy is 1'
    """

    def __init__(self, monitor: str, value: float, mode: Mode = "auto") -> None:
        super().__init__(monitor, mode)
        self.target, self.reached = value, False

    def on_train_begin(self) -> None:
        """Check that the value can be reached, and read the earlier epochs."""
        self.reached = False
        for metric in self.trainer.program.objective.metrics:
            if metric.name == self.monitor.removeprefix("val_") and self.higher_is_better and self.target > metric.most:
                raise ArgumentError(f"Target: {self.monitor} never exceeds {metric.most:g}, so it cannot reach {self.target:g}.")
        for _, value in self.before():
            self._see(value)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Read the quantity."""
        self._see(self.value(logs))

    def _see(self, value: float) -> None:
        if self.reaches(value, self.target):
            self.reached = True
            self.trainer.stop(f"Target: {self.monitor} is {value:.4g}")


class ReduceLROnPlateau(Monitor):
    """Lower the learning rate when a quantity no longer improves.

    It multiplies `Trainer.learning_rate_scale`, a factor of the optimiser's own rate or schedule.

    Parameters
    ----------
    monitor, mode, min_delta
        See `EarlyStopping`.
    factor
        Factor of the scale, between 0 and 1.
    patience
        Epochs without improvement after which the scale is multiplied.
    cooldown
        Epochs after that which do not count.
    min_scale
        Least scale.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_scale: float = 0.0,
        mode: Mode = "auto",
    ) -> None:
        super().__init__(monitor, mode, min_delta, patience)
        if not is_number(factor) or not 0 < factor < 1:
            raise ArgumentError(f"ReduceLROnPlateau: factor is a number between 0 and 1, got {factor!r}.")
        self.factor, self.cooldown, self.min_scale = factor, whole("ReduceLROnPlateau: cooldown", cooldown, 0), min_scale
        self._cooling = 0

    def on_train_begin(self) -> None:
        """Read the earlier epochs; the state already has the scale that followed from them."""
        self._cooling = 0
        for _, value in self.before():
            self._plateau(value)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Read the quantity."""
        before = self.trainer.learning_rate_scale
        after = max(before * self.factor, self.min_scale)
        if self._plateau(self.value(logs)) and after < before:
            self.trainer.learning_rate_scale = after
            self.tell(f"ReduceLROnPlateau: the learning rate is {after:.4g} of what it was at first")

    def _plateau(self, value: float) -> bool:
        cooling, self._cooling = self._cooling > 0, max(0, self._cooling - 1)
        self.wait = 0 if self.improves(value) or cooling else self.wait + 1
        if self.wait == 0 or self.wait < self.patience:
            return False
        self.wait, self._cooling = 0, self.cooldown
        return True


class LearningRateScheduler(Callback):
    """Set the learning rate of each epoch; for rates that depend on the step see the schedules of `dagtrain.optim`.

    It sets `Trainer.learning_rate_scale` to the quotient of this rate and the optimiser's own, which must be one number. For several groups
    of parameters, or together with a schedule, set that scale in a callback of your own.

    Parameters
    ----------
    schedule
        ``schedule(epoch)`` is the rate in that epoch. Resumed training gives the same bits only if it depends on the epoch alone.
    """

    def __init__(self, schedule: Callable[[int], float]) -> None:
        self.schedule = schedule

    def on_epoch_begin(self, epoch: int) -> None:
        """Set the rate."""
        rate = not_negative("LearningRateScheduler: the rate", self.schedule(epoch))
        self.trainer.learning_rate_scale = rate / self._own()

    def _own(self) -> float:
        """The rate of the optimiser."""
        optimizer = self.trainer.optimizer
        rates = {group.name: rate for group in self.trainer.program.groups if (rate := group.optimizer.learning_rate) is not None}
        if not rates:
            raise ArgumentError(f"LearningRateScheduler: the optimizer {optimizer!r} has no learning rate.")
        if len(rates) > 1:
            raise ArgumentError(
                f"LearningRateScheduler sets one rate, but these groups of parameters have one each: {', '.join(rates)}. Multiply them by "
                "trainer.learning_rate_scale in on_epoch_begin."
            )
        (rate,) = rates.values()
        if not is_number(rate) or rate == 0:
            raise ArgumentError(
                f"LearningRateScheduler sets a rate in place of a number above 0, but that of the optimizer is {rate!r}. Leave one of the "
                "two out, or multiply by trainer.learning_rate_scale in on_epoch_begin."
            )
        return float(rate)


class TimeLimit(Callback):
    """Stop at the next boundary after a time; training can continue from there exactly.

    Parameters
    ----------
    seconds
        Seconds from the beginning of fit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = positive("TimeLimit: seconds", seconds, infinite=True)
        self._end = 0.0

    def on_train_begin(self) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self.seconds

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Read the clock: validation takes time too."""
        self.on_train_batch_end(0, logs)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Read the clock."""
        if time.monotonic() >= self._end:
            self.trainer.stop(f"TimeLimit: {self.seconds:g} s are over")


class LambdaCallback(Callback):
    """A callback made of functions, each named after its moment.

    Parameters
    ----------
    on_train_begin, on_train_end, on_epoch_begin, on_epoch_end, on_train_batch_end
        Called with the arguments of `Callback`'s method of that name.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> epochs = []
    >>> noting = LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    >>> trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy")
    >>> _ = trainer.fit(np.eye(4), np.array([0, 1, 0, 1]), epochs=3, callbacks=[noting], verbose=0)
    >>> epochs
    [0, 1, 2]
    """

    def __init__(self, **functions: Callable[..., object]) -> None:
        for name, function in functions.items():
            if name not in MOMENTS:
                raise UnknownNameError.of("moment of LambdaCallback", name, MOMENTS, hints.MOMENTS)
            setattr(self, name, function)
