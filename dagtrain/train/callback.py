"""`Callback`: the user's methods that training calls, under Keras's names.

fit ── on_train_begin ──┬── on_epoch_begin ──┬── on_train_batch_end ──┬── on_epoch_end ──┬── on_train_end
│                    └─────── each step ──────┘                  │
└────────────────────────── each epoch ──────────────────────────┘        on_event at any time
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from dagtrain.arguments import not_negative, one_of
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.graph import Array
from dagtrain.hinting import Hinted, no_attribute
from dagtrain.report.records import Event
from dagtrain.step.program import Program
from dagtrain.train import hints

__all__ = ["MOMENTS", "Callback", "Callbacks", "LazyLogs", "Monitor"]

Logs = Mapping[str, float]
Mode = Literal["auto", "min", "max"]


class LazyLogs(Mapping[str, float]):
    """Loss and metrics of a step, computed when the first of them is read."""

    def __init__(self, program: Program, sums: Array) -> None:
        self._program, self._sums = program, sums

    @cached_property
    def _values(self) -> Mapping[str, float]:
        return self._program.numbers(self._program.values(self._sums))

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


class Callback(Hinted):
    """Base class of ``fit(callbacks=[...])``: override the methods of the moments that matter.

    Epochs and batches are counted from 0. A callback changes the run only through the trainer: it may stop it, save it, set
    `Trainer.learning_rate_scale` and restore weights. That takes effect right there, between the steps that the callback has seen and the
    next one: what an engine has computed ahead is dropped. An exception in a callback ends training like a stop, and is then raised.

    Attributes
    ----------
    trainer
        The trainer, from `on_train_begin` on; its `history` has the epochs so far.
    quantities
        Names to monitor (``loss``, metrics, and the same with ``val_``), each with whether higher is better.
    params
        "epochs" of the fit, "epoch" that it begins with, "steps" of an epoch (None where that is unknown), "dashboard" (its address).

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> class Patient(dt.callbacks.Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         if epoch == 1:
    ...             self.trainer.stop("two epochs are enough")
    >>> trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy")
    >>> history = trainer.fit(np.eye(4, dtype="f4"), np.array([0, 1, 0, 1]), epochs=9, callbacks=[Patient()], verbose=0)
    >>> history
    <History: 2 epochs; ...; stopped: two epochs are enough>
    """

    trainer: Any = None
    quantities: Mapping[str, bool] = {}
    params: Mapping[str, Any] = {}

    @property
    def model(self) -> Any:
        """The trainer's model."""
        return self.trainer.model

    def on_train_begin(self) -> None:
        """Before the first step of a fit; after a resume, `trainer.history` has the earlier epochs."""

    def on_train_end(self) -> None:
        """After the last step, unless training ended by an error."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch, or before its remaining steps after a resume."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch: its loss and metrics, those on validation data (``val_…``), ``seconds`` and ``samples_per_second``."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a step: the loss and metrics of its batch. On a cluster the calls of several steps come together, when they are done."""

    def on_event(self, event: Event) -> None:
        """After something else happened: a worker lost, a resume, a stop; see `Event`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise no_attribute(f"attribute of {type(self).__name__}", name, dir(type(self)), hints.CALLBACK)

    def tell(self, text: str) -> None:
        """Write a line to the log and to `History.events`."""
        self.trainer._tell(text, "callback")

    def known(self, monitor: str) -> str:
        """The name, if it is that of a quantity; else raise UnknownNameError, which lists them."""
        return one_of(f"monitor of {type(self).__name__}", monitor, self.quantities)


MOMENTS = [name for name in vars(Callback) if name.startswith("on_")]
"""Names of the methods that training calls."""


class Monitor(Callback):
    """Base class of callbacks that monitor one quantity and compare its values.

    Parameters
    ----------
    monitor
        Name of the quantity.
    mode
        "min", "max", or "auto": by the metric.
    min_delta
        Least improvement that counts.
    patience
        Epochs that may pass without an improvement.
    """

    def __init__(self, monitor: str, mode: Mode = "auto", min_delta: float = 0.0, patience: int = 0) -> None:
        name = type(self).__name__
        one_of(f"mode of {name}", mode, ("auto", "min", "max"))
        for what, value in (("min_delta", min_delta), ("patience", patience)):
            not_negative(f"{name}: {what}", value, infinite=True)
        self.monitor, self.mode, self.min_delta, self.patience = monitor, mode, min_delta, patience
        self.best: float | None = None
        self.wait = 0

    @property
    def higher_is_better(self) -> bool:
        """Whether higher values of the quantity are better."""
        return self.quantities[self.known(self.monitor)] if self.mode == "auto" else self.mode == "max"

    def reaches(self, value: float, target: float) -> bool:
        """Whether a value is at least as good as the target."""
        return value >= target if self.higher_is_better else value <= target

    def beats(self, value: float, other: float | None) -> bool:
        """Whether a value is better than another by more than `min_delta`; any number is better than none."""
        if math.isnan(value):
            return False
        if other is None:
            return True
        return value - self.min_delta > other if self.higher_is_better else value + self.min_delta < other

    def improves(self, value: float) -> bool:
        """Whether a value is the best so far; if so, it becomes `best`."""
        better = self.beats(value, self.best)
        self.best = value if better else self.best
        return better

    def value(self, logs: Logs) -> float:
        """The quantity in an epoch's logs."""
        return logs[self.known(self.monitor)]

    def before(self) -> Iterator[tuple[int, float]]:
        """Reset, and return the earlier epochs of a resumed history, with the quantity in each."""
        self.best, self.wait = None, 0
        return enumerate(self.trainer.history.history.get(self.known(self.monitor), ()))


class Callbacks:
    """Several callbacks as one: each call goes to all, in their order; the first exception is kept and requests a stop.

    Parameters
    ----------
    callbacks
        In the order in which they are called.
    stop
        Called with a reason when a callback fails.
    last
        Called after them.
    """

    def __init__(self, callbacks: Sequence[Callback], stop: Callable[[str], object], *last: Callback) -> None:
        if isinstance(callbacks, Callback) or not all(isinstance(c, Callback) for c in callbacks):
            raise ArgumentError("callbacks is a list of dt.callbacks.Callback objects, as in callbacks=[dt.callbacks.EarlyStopping()].")
        for callback in callbacks:
            for name in dir(type(callback)):
                if name.startswith("on_") and name not in MOMENTS:
                    raise UnknownNameError.of(f"moment of {type(callback).__name__}", name, MOMENTS, hints.MOMENTS)
        self._callbacks, self._stop = [*callbacks, *last], stop
        self._each_batch = [
            c for c in self._callbacks if getattr(c.on_train_batch_end, "__func__", None) is not Callback.on_train_batch_end
        ]
        self.error: Exception | None = None

    def bind(self, trainer: Any, quantities: Mapping[str, bool], params: Mapping[str, Any]) -> None:
        """Set the trainer, the quantities and the parameters of all callbacks."""
        for callback in self._callbacks:
            callback.trainer, callback.quantities, callback.params = trainer, quantities, params

    @property
    def see_batches(self) -> bool:
        """Whether any callback has `on_train_batch_end`."""
        return bool(self._each_batch)

    def call(self, moment: str, *args: Any) -> None:
        """Call the method of this moment of every callback."""
        for callback in self._each_batch if moment == "on_train_batch_end" else self._callbacks:
            if self.error is not None:
                return
            try:
                getattr(callback, moment)(*args)
            except Exception as error:
                error.add_note(f"Raised by {type(callback).__name__}.{moment}; the trainer keeps the weights of that moment.")
                self.error = error
                self._stop(f"{type(callback).__name__} failed: {type(error).__name__}")
