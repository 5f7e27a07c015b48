"""The record of a training run: a value of every quantity for each epoch, the events, and the fingerprint of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dagtrain.data import BatchPlan
from dagtrain.report.records import Event
from dagtrain.step.program import Program
from dagtrain.step.software import software

__all__ = ["History", "describe_fit", "epochs_of"]


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


def epochs_of(history: History) -> list[dict[str, Any]]:
    """The epochs of a history as rows; a quantity that was not measured at first is absent there.

    Examples
    --------
    >>> epochs_of(History({"loss": [0.3, 0.2], "val_loss": [0.4]}))
    [{'epoch': 0, 'loss': 0.3}, {'epoch': 1, 'loss': 0.2, 'val_loss': 0.4}]
    """
    rows: list[dict[str, Any]] = [{"epoch": epoch} for epoch in range(history.epochs)]
    for name, values in history.history.items():
        for row, value in zip(rows[history.epochs - len(values) :], values, strict=True):
            row[name] = value
    return rows


def describe_fit(engine: Any, program: Program, plan: BatchPlan, streams: bool, seed: int) -> dict[str, Any]:
    """Engine, workers, shards and versions of a run."""
    return {
        "engine": engine.name,
        "workers": engine.workers or None,
        "shards": plan.shards,
        "parameters": program.layout.size,
        "samples": None if streams else plan.samples,
        "seed": seed,
        "dtype": program.objective.dtype.name,
        "approximate": program.objective.approximate,
        **software(),
    }
