"""How far training is: a fit advances it, and the next fit continues from it to the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import NamedTuple

import numpy as np

from dagtrain.checkpoint.runs import Place
from dagtrain.checkpoint.store import Checkpoint
from dagtrain.data import BatchPlan
from dagtrain.data.ledger import Ledger, Pages
from dagtrain.data.rounds import BatchStream
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.step.program import Program
from dagtrain.step.state import EpochProgress, State
from dagtrain.train.history import History

__all__ = ["Anchor", "Progress"]


class Anchor(NamedTuple):
    """A boundary whose state is in this process: training can go back to it."""

    state: State
    epochs: int
    begun: EpochProgress | None
    records: tuple[dict[str, int], ...]
    """For each history, the number of values of every quantity."""
    pages: Pages

    @property
    def place(self) -> Place:
        """Epochs done, and steps done of the next one."""
        return self.epochs, 0 if self.begun is None else self.begun.steps


@dataclass
class Progress:
    """A boundary of training; the trainer holds it, and the loop advances it.

    Attributes
    ----------
    program
        The compiled step; None before the first fit.
    epochs
        Epochs done.
    begun
        How far the next epoch is, if it has begun.
    record
        Values of each epoch done, over all fits.
    ledger
        How often each sample was used.
    changed, replaced
        Whether somebody has set the state or the rate, or the state, since the loop last looked.
    anchor
        During a fit, the last boundary whose state is here.
    """

    program: Program | None = None
    epochs: int = 0
    begun: EpochProgress | None = None
    record: History = field(default_factory=History)
    ledger: Ledger = field(default_factory=Ledger)
    changed: bool = False
    replaced: bool = False
    anchor: Anchor | None = None
    _state: State | None = None
    _scale: float = 1.0
    _bring: Callable[[], State] | None = None
    _thread: int = 0
    """The thread that alone brings the state here; 0 for any."""
    _histories: tuple[History, ...] = ()

    # ---- the state, which may be elsewhere

    @property
    def state(self) -> State | None:
        """Weights, the optimiser's vectors and the number of steps; None before the first step. It is brought here if it is elsewhere."""
        if self._state is None and self._bring is not None:
            if self._thread not in (0, get_ident()):
                return None if self.anchor is None else self.anchor.state
            self.arrive(self._bring())
        return self._state

    @state.setter
    def state(self, state: State | None) -> None:
        self._state, self.changed, self.replaced = state, True, True
        if state is not None:
            self._scale = state.learning_rate_scale
            if self._bring is not None:
                self.drop_anchor()

    @property
    def learning_rate_scale(self) -> float:
        """Factor of the optimiser's learning rate."""
        return self._scale

    @learning_rate_scale.setter
    def learning_rate_scale(self, scale: float) -> None:
        if scale != self._scale and self.state is not None:
            self._scale, self.changed = scale, True
            self._state = replace(self.state, learning_rate_scale=scale)
            if self._bring is not None:
                self.drop_anchor()  # the steps before had another rate

    @property
    def is_begun(self) -> bool:
        """Whether there is a state, wherever it is."""
        return self._state is not None or self._bring is not None

    @property
    def is_here(self) -> bool:
        """Whether the state is in this process."""
        return self._state is not None

    def follow(self, bring: Callable[[], State], histories: tuple[History, ...]) -> None:
        """Begin a fit, in this thread: from now on `bring` fetches the state of a boundary."""
        self._bring, self._thread, self._histories = bring, get_ident(), histories
        self.drop_anchor()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only this thread brings the state here until the end of the block, and then any: others see that of the last boundary here."""
        self._thread = get_ident()
        try:
            yield
        finally:
            self._thread = 0

    def move(self) -> None:
        """Note that a step was done: the state of the new boundary is elsewhere."""
        self._state = None

    def drop_anchor(self) -> None:
        """Remember this boundary, whose state is here."""
        assert self._state is not None, "the state is here"
        records = tuple({name: len(values) for name, values in history.history.items()} for history in self._histories)
        self.anchor = Anchor(self._state, self.epochs, self.begun, records, self.ledger.pages())

    def arrive(self, state: State) -> None:
        """Take the state of this boundary, which was elsewhere."""
        self._state = replace(state, learning_rate_scale=self._scale)
        self.drop_anchor()

    def leave(self) -> None:
        """End a fit."""
        self._bring, self.anchor, self._histories = None, None, ()

    def go_back(self) -> None:
        """Go back to the last boundary whose state is here."""
        anchor = self.anchor
        if anchor is None or self._state is not None:
            return
        self._state, self._scale, self.epochs, self.begun = anchor.state, anchor.state.learning_rate_scale, anchor.epochs, anchor.begun
        for history, lengths in zip(self._histories, anchor.records, strict=True):
            for name in list(history.history):
                del history.history[name][lengths.get(name, 0) :]
                if not history.history[name]:
                    del history.history[name]
        self.ledger.go_back(anchor.pages)

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
