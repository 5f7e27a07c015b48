"""What a training run tells afterwards: a value of every quantity for each epoch, and the fingerprint of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["History"]


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
        What happened besides: a worker lost, a segment repeated, ….
    info
        Engine, workers, shards, versions: what the run was made with.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    fingerprint: str = ""
    events: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    def add(self, row: dict[str, float]) -> None:
        """One epoch's values."""
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    @property
    def epochs(self) -> int:
        """Number of epochs recorded."""
        return len(self.history.get("loss", ()))

    def __repr__(self) -> str:
        last = ", ".join(f"{k}={v[-1]:.4g}" for k, v in self.history.items() if v)
        return f"<History: {self.epochs} epochs; {last}; fingerprint {self.fingerprint[:16]}>"
