"""Snapshots of a rank's state: results of tasks, which Dask stores, moves and spills to disk as plain memory.

By default Dask pickles a result together with its arrays. For a few megabytes that stalls the rank for 10 ms, so states have a serializer
of their own.
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
"""Snapshots alive at once: that of the last committed segment, and those of the segments after it."""


@dataclass
class Snapshot(State):
    """A state as the result of a task. Dask imports this module by the class's name, which registers the deserializer."""


@dask_serialize.register(Snapshot)  # type: ignore[untyped-decorator]  # distributed is not typed
def _frames_of(state: Snapshot, context: Any = None) -> tuple[dict[str, Any], list[memoryview]]:
    vectors = [state.parameters, state.statistics, *state.slots.values()]
    header = {
        "vectors": [(v.dtype.str, v.size) for v in vectors],
        "slots": list(state.slots),
        "step": int(state.step),
        "learning_rate_scale": float(state.learning_rate_scale),
        "starts": dict(state.starts),
        "order": list(state.order),
    }
    return header, [v.view(np.uint8).data for v in vectors if v.size]


@dask_deserialize.register(Snapshot)  # type: ignore[untyped-decorator]  # distributed is not typed
def _of_frames(header: dict[str, Any], frames: Sequence[Any]) -> Snapshot:
    buffers = iter(frames)
    vectors = [np.frombuffer(next(buffers), dtype) if size else np.empty(0, dtype) for dtype, size in header["vectors"]]
    slots = dict(zip(header["slots"], vectors[2:], strict=True))
    return Snapshot(vectors[0], vectors[1], slots, header["step"], header["learning_rate_scale"], header["starts"], tuple(header["order"]))


class SnapshotPool:
    """Makes snapshots in the memory of earlier ones: allocating new memory costs more than the copy.

    A snapshot's memory is reused once reference counts show that no one else holds its arrays, or views or buffers of them; without
    reference counts all memory is new. The state object is a new one each time, because Dask finds values it has spilled by weak reference.
    """

    def __init__(self) -> None:
        self._memory: list[Snapshot] = []
        self._unused: list[int] = []

    def of(self, state: State) -> Snapshot:
        """A snapshot of this state."""
        for memory, unused in zip(self._memory, self._unused, strict=True):
            if _references(memory) == unused:
                memory.assign(state)
                return replace(memory, slots=dict(memory.slots))
        copy = state.copy()
        snapshot = Snapshot(copy.parameters, copy.statistics, copy.slots, copy.step, copy.learning_rate_scale, copy.starts, copy.order)
        del copy  # its references must not count
        if len(self._memory) < _COPIES and hasattr(sys, "getrefcount"):
            self._memory.append(snapshot)
            self._unused.append(_references(snapshot))
            return replace(snapshot, slots=dict(snapshot.slots))
        return snapshot


def _references(state: State) -> int:
    """Number of references to the state's arrays."""
    return sum(map(sys.getrefcount, (state.parameters, state.statistics, *state.slots.values())))
