"""How far training is: a fit advances it, and the next fit continues from it to the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dagtrain.checkpoint.runs import Place
from dagtrain.checkpoint.store import Checkpoint
from dagtrain.data import BatchPlan
from dagtrain.data.ledger import Ledger
from dagtrain.data.rounds import BatchStream
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.step.program import Program
from dagtrain.step.state import EpochProgress, State
from dagtrain.train.history import History

__all__ = ["Progress"]


@dataclass
class Progress:
    """A boundary of training; the trainer holds it, and the loop advances it.

    Attributes
    ----------
    program
        The compiled step; None before the first fit.
    state
        Weights, the optimiser's vectors and the number of steps; None before the first step.
    epochs
        Epochs done.
    begun
        How far the next epoch is, if it has begun.
    record
        Values of each epoch done, over all fits.
    ledger
        How often each sample was used.
    """

    program: Program | None = None
    state: State | None = None
    epochs: int = 0
    begun: EpochProgress | None = None
    record: History = field(default_factory=History)
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def place(self) -> Place:
        """Epochs done, and steps done of the next one."""
        return self.epochs, 0 if self.begun is None else self.begun.steps

    def trained(self, purpose: str, cure: str = "call fit(x, y) first") -> tuple[Program, State]:
        """The program and the state; before a fit, raise ArgumentError that names the purpose and the cure."""
        if self.program is None or self.state is None:
            raise ArgumentError(f"the trainer cannot {purpose} before it was fitted: {cure}.")
        return self.program, self.state

    def take(self, program: Program, checkpoint: Checkpoint, known: int | None = None) -> None:
        """Continue from a checkpoint. `known`: only so many sums of an epoch under way are of the same loss and metrics; None for all."""
        manifest = checkpoint.manifest
        self.program, self.state, self.epochs, self.begun = program, checkpoint.state, manifest.epochs, manifest.begun
        if self.begun is not None and known is not None:
            self.begun = self.begun._replace(sums=(*self.begun.sums[:known], *[np.nan] * (program.sums - known)))
        self.record = History(manifest.history).copy()
        self.ledger.restore(manifest.ledger)

    def rows_done(self, plan: BatchPlan | BatchStream) -> Iterator[Array]:
        """The samples of the steps done in the epoch under way, by the plan."""
        for i in range(self.place[1]):
            yield np.concatenate(plan.step(self.epochs, i))

    def restart_if_other(self, plan: BatchPlan | BatchStream) -> None:
        """Restart an epoch that was begun with other batches, which cannot continue."""
        if self.begun is not None and not plan.continues(*self.place, self.begun.batches):
            warnings.warn(
                f"{self.begun.steps} steps of epoch {self.epochs} were done with other batches: the epoch begins again with the new ones.",
                UserWarning,
                stacklevel=3,
            )
            self.begun = None
            self.ledger.open(self.epochs, plan.samples, again=True)
