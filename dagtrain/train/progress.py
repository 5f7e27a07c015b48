"""How far training is: what a fit brings forward, and from where the next one goes on to the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dagtrain.checkpoint.runs import Place
from dagtrain.checkpoint.store import Checkpoint, batches_of
from dagtrain.data import BatchPlan
from dagtrain.data.ledger import Ledger
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.step.program import Program
from dagtrain.step.state import EpochProgress, State
from dagtrain.train.history import History

__all__ = ["Progress"]


@dataclass
class Progress:
    """A boundary of training; the trainer has it, and the loop moves it.

    Attributes
    ----------
    program
        The compiled step; None before the first fit.
    state
        Weights, the optimiser's vectors and the number of steps; None as long as nothing is trained.
    epochs
        Epochs done.
    begun
        How far the next one is, where it was begun.
    record
        One value for each epoch done, over all fits.
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
        """Epochs done, and steps of the next one."""
        return self.epochs, 0 if self.begun is None else self.begun.steps

    def trained(self, purpose: str) -> tuple[Program, State]:
        """The program and the state, where there are any; else an error that says what they were needed for."""
        if self.program is None or self.state is None:
            raise ArgumentError(f"the trainer cannot {purpose} before it was fitted: call fit(x, y) first.")
        return self.program, self.state

    def take(self, program: Program, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        manifest, names = checkpoint.manifest, program.names
        self.program, self.state, self.epochs, self.begun = program, checkpoint.state, manifest.epochs, manifest.begun
        if self.begun is not None and len(self.begun.sums) != len(names):  # other metrics were given: those of this epoch are not known
            loss, *_ = self.begun.sums or (np.nan,)
            self.begun = self.begun._replace(sums=(loss, *[np.nan] * (len(names) - 1)))
        self.record = History(manifest.history).copy()
        self.ledger.restore(manifest.ledger)

    def rows_done(self, plan: BatchPlan) -> Iterator[Array]:
        """The samples that the steps done of the epoch under way had in the plan."""
        for i in range(self.place[1]):
            yield np.concatenate(plan.step(self.epochs, i))

    def begin_anew_if_other(self, plan: BatchPlan) -> None:
        """An epoch that was begun with other batches cannot be gone on with."""
        if self.begun is not None and self.begun.batches != batches_of(plan):
            warnings.warn(
                f"{self.begun.steps} steps of epoch {self.epochs} were done with other batches; it is begun anew with those given.",
                UserWarning,
                stacklevel=3,
            )
            self.begun = None
            self.ledger.open(self.epochs, plan.samples, again=True)
