"""The record of a training run: a value of every quantity for each epoch, the events, and the fingerprint of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Event", "History"]


class Event(str):
    """Something that happened besides the steps: a text with its time.

    Attributes
    ----------
    seconds
        Seconds since `fit` began.
    step
        Updates made since the beginning of training, as far as known.
    kind
        "resume", "cluster", "stop", "callback".

    Examples
    --------
    >>> event = Event("a worker was lost", seconds=1.25, step=40, kind="cluster")
    >>> event, event.line
    ('a worker was lost', '1.2 s, step 40: a worker was lost')
    """

    seconds: float
    step: int
    kind: str

    def __new__(cls, text: str, seconds: float = 0.0, step: int = 0, kind: str = "cluster") -> Event:
        """Make an event."""
        event = super().__new__(cls, text)
        event.seconds, event.step, event.kind = seconds, step, kind
        return event

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.seconds, self.step, self.kind

    @property
    def line(self) -> str:
        """The event with its time and step, as a line of a log."""
        return f"{self.seconds:.1f} s, step {self.step}: {self}"


@dataclass
class History:
    """Record of one call of `Trainer.fit`.

    Attributes
    ----------
    history
        Name → one value for each epoch: ``loss``, the metrics, ``val_…``, ``seconds``, ``samples_per_second``.
    fingerprint
        SHA-256 of the weights at the end; equal fingerprints mean equal bits.
    events
        What else happened: a worker lost, a segment repeated, a stop; see `Event`.
    stopped
        Why training ended before its epochs were done; None if they were done.
    info
        Engine, workers, shards and versions of the run.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    fingerprint: str = ""
    events: list[Event] = field(default_factory=list)
    stopped: str | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def add(self, row: dict[str, float]) -> None:
        """Append one epoch's values."""
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    def copy(self) -> History:
        """A copy of the values alone."""
        return History({name: list(values) for name, values in self.history.items()})

    @property
    def epochs(self) -> int:
        """Number of epochs recorded."""
        return len(self.history.get("loss", ()))

    def __repr__(self) -> str:
        last = ", ".join(f"{k}={v[-1]:.4g}" for k, v in self.history.items() if v)
        stopped = f"; stopped: {self.stopped}" if self.stopped else ""
        return f"<History: {self.epochs} epochs; {last}; fingerprint {self.fingerprint[:16]}{stopped}>"
