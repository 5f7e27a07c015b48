"""Steps done again, for a state that is nowhere any more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from dagtrain.data.schedule import Schedule
from dagtrain.engines.commits import Commit, StateLostError, StateRef
from dagtrain.engines.engine import Session
from dagtrain.errors import ClusterError
from dagtrain.report.records import Event
from dagtrain.step.state import State

__all__ = ["lost", "repeated"]

_REPEATS = 8
"""Most repetitions of steps whose state is lost each time."""


def lost(error: StateLostError, start: State) -> Event:
    """The event that the steps from a state on are repeated."""
    return Event("repeated", str(error), start.step)


def repeated(session: Session, start: State, steps: Schedule, tell: Callable[[Event], object]) -> tuple[State, StateRef]:
    """The state after these steps, and where it lies; `tell` takes what happens meanwhile."""
    why = ""
    for _ in range(_REPEATS):
        ref: StateRef | None = None
        with closing(session.run(start, steps)) as stream:  # type: ignore[type-var]  # it is a generator
            for item in stream:
                if isinstance(item, Commit):
                    ref = item.state
                elif isinstance(item, Event):
                    tell(item)
            assert ref is not None, "steps were committed"
            try:
                return ref.get(), ref
            except StateLostError as error:
                why = str(error)
                tell(lost(error, start))
    raise ClusterError(
        f"the state of step {start.step + len(steps)} was computed {_REPEATS} times and no worker has it; the last time: {why} Look at "
        "the workers' logs; go on from the last checkpoint with fit(..., checkpoint=..., resume=True)."
    )
