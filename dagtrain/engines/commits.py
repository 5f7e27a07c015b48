"""What comes out of a session: commits of steps, references to the states after them, and what happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from dagtrain.errors import ClusterError
from dagtrain.graph import Array
from dagtrain.report.records import Event, StepTimes
from dagtrain.step.state import State

__all__ = ["Commit", "Idle", "Item", "Placed", "StateLostError", "StateRef"]


@dataclass(frozen=True, eq=False)
class StateRef:
    """The state after a commit, where it lies; it can be brought here until the stream goes on.

    Attributes
    ----------
    step
        Updates made.
    learning_rate_scale
        See `dagtrain.step.state.State`.
    bring
        Called with the reference; returns the state.
    is_here
        Whether the state is in this process already, and stays.
    """

    step: int
    learning_rate_scale: float
    bring: Callable[[StateRef], State]
    is_here: bool = False

    def get(self) -> State:
        """The state, in memory that nobody else changes.

        Raises
        ------
        StateLostError
            Nobody has it any more.
        """
        return replace(self.bring(self), learning_rate_scale=self.learning_rate_scale)

    def with_scale(self, scale: float) -> StateRef:
        """The same state with another factor of the learning rate."""
        return replace(self, learning_rate_scale=scale)


class StateLostError(ClusterError):
    """The state of a commit is lost: its steps are to be repeated from an earlier state."""


class Commit(NamedTuple):
    """Consecutive steps that count.

    Attributes
    ----------
    first
        Updates made before them.
    sums
        For each step the parts of loss and metrics; see `Program.values`.
    used
        For each step the shards that have rows, with the numbers of these rows, from the process that assembled them.
    state
        After the last of them.
    times
        How each rank spends the time of a step, if it was measured.
    """

    first: int
    sums: Sequence[Array]
    used: Sequence[Sequence[tuple[int, Array]]]
    state: StateRef
    times: Sequence[StepTimes] = ()


class Placed(NamedTuple):
    """Steps are placed on workers; `placement` has a method ``diagram``."""

    placement: object


class Idle(NamedTuple):
    """No news for a while: the stream may be closed here."""


Item = Commit | Event | Placed | Idle
