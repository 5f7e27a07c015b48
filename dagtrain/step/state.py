"""The state of training, and the fingerprint of its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dagtrain.graph import Array

__all__ = ["EpochProgress", "State"]


class EpochProgress(NamedTuple):
    """Progress of the epoch under way: with the state, enough to continue in the middle of the epoch.

    Attributes
    ----------
    steps
        Steps done in the epoch.
    sums
        The parts of loss and metrics of these steps, added in order.
    seconds
        Duration of these steps.
    batches
        The settings of the batches: samples, batch size, shards and shuffling.
    """

    steps: int
    sums: tuple[float, ...] | Array
    seconds: float
    batches: dict[str, int | str]


@dataclass
class State:
    """Parameters, running statistics, the optimiser's vectors, and the number of updates made.

    Attributes
    ----------
    parameters, statistics
        Flat vectors.
    slots
        The optimiser's vectors, each as long as the parameters, or as those of its group.
    step
        Updates made since the beginning.
    learning_rate_scale
        Factor of the optimiser's learning rate; changes only between steps.
    starts
        Name of a group of parameters → updates made before its optimiser began, which counts from there; those from 0 are left out.
    order
        Of the parameters' arrays in the vector; see `dagtrain.step.layout.VectorLayout`.
    """

    parameters: Array
    statistics: Array
    slots: dict[str, Array] = field(default_factory=dict)
    step: int = 0
    learning_rate_scale: float = 1.0
    starts: dict[str, int] = field(default_factory=dict)
    order: tuple[int, ...] = ()

    def copy(self) -> State:
        """A copy in new memory."""
        return State(
            self.parameters.copy(),
            self.statistics.copy(),
            {k: v.copy() for k, v in self.slots.items()},
            self.step,
            self.learning_rate_scale,
            dict(self.starts),
            self.order,
        )

    def assign(self, other: State) -> None:
        """Copy another state of the same layout into this one's memory."""
        self.parameters[...], self.statistics[...] = other.parameters, other.statistics
        for name, vector in other.slots.items():
            self.slots[name][...] = vector
        self.step, self.learning_rate_scale = other.step, other.learning_rate_scale
        self.starts, self.order = dict(other.starts), other.order

    def __sizeof__(self) -> int:
        return self.nbytes  # what Dask counts when it decides where tasks go

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors."""
        return int(self.parameters.nbytes + self.statistics.nbytes + sum(v.nbytes for v in self.slots.values()))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights (parameters and running statistics): equal fingerprints mean equal bits."""
        digest = hashlib.sha256()
        for vector in (self.parameters, self.statistics):
            digest.update(np.ascontiguousarray(vector).tobytes())
        return digest.hexdigest()
