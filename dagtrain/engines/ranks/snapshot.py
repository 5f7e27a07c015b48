"""A rank's state as it leaves the rank: a copy, the result of a task, which Dask keeps, moves and writes to disk as plain memory.

Without more ado Dask pickles what goes to the scheduler in one span with its numbers, which for a few megabytes takes ten milliseconds,
in which the rank of that worker cannot go on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed.protocol import dask_deserialize, dask_serialize

from dagtrain.step.state import State

__all__ = ["Snapshot", "SnapshotPool"]

_COPIES = 3
"""Snapshots that are about at once: that of the last segment that is committed, and of those that are under way."""


@dataclass
class Snapshot(State):
    """A state that goes to others. Whoever reads the name of this class imports this file, and so can read the rest."""


@dask_serialize.register(Snapshot)  # type: ignore[untyped-decorator]  # distributed is not typed
def _frames_of(state: Snapshot, context: Any = None) -> tuple[dict[str, Any], list[memoryview]]:
    vectors = [state.parameters, state.statistics, *state.slots.values()]
    header = {
        "vectors": [(v.dtype.str, v.size) for v in vectors],
        "slots": list(state.slots),
        "step": int(state.step),
        "learning_rate_scale": float(state.learning_rate_scale),
    }
    return header, [v.view(np.uint8).data for v in vectors if v.size]


@dask_deserialize.register(Snapshot)  # type: ignore[untyped-decorator]  # distributed is not typed
def _of_frames(header: dict[str, Any], frames: Sequence[Any]) -> Snapshot:
    left = iter(frames)
    vectors = [np.frombuffer(next(left), dtype) if size else np.empty(0, dtype) for dtype, size in header["vectors"]]
    return Snapshot(
        vectors[0], vectors[1], dict(zip(header["slots"], vectors[2:], strict=True)), header["step"], header["learning_rate_scale"]
    )


class SnapshotPool:
    """Snapshots, in the memory of earlier ones that nobody has any more: memory that is new costs more than the copy.

    Who has an array of a copy, a span or a buffer of it, refers to the array, and Python counts that; without such counts all memory is
    new. The state around the arrays is a new one each time, since Dask finds again by a weak reference what it has written to disk.
    """

    def __init__(self) -> None:
        self._memory: list[Snapshot] = []
        self._unused: list[int] = []

    def of(self, state: State) -> Snapshot:
        """A copy."""
        for memory, unused in zip(self._memory, self._unused, strict=True):
            if _references(memory) == unused:
                memory.assign(state)
                return replace(memory, slots=dict(memory.slots))
        copy = state.copy()
        made = Snapshot(copy.parameters, copy.statistics, copy.slots, copy.step, copy.learning_rate_scale)
        del copy
        if len(self._memory) < _COPIES and hasattr(sys, "getrefcount"):
            self._memory.append(made)
            self._unused.append(_references(made))
            return replace(made, slots=dict(made.slots))
        return made


def _references(state: State) -> int:
    """To its arrays."""
    return sum(map(sys.getrefcount, (state.parameters, state.statistics, *state.slots.values())))
