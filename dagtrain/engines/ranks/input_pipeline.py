"""The client's side of a rank's input: how a segment's rows reach the ranks.

resident    every rank has all partitions: they are dependencies of a group's first segment
picked      the cluster holds the partitions: for each holder and each rank, a task picks the segment's rows there
streamed    the data exceeds the cluster's memory: likewise, but partitions are computed for the segment and released
sent        the data is in this process and exceeds the cluster's memory: a segment's rows travel with its tasks
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from dask.optimization import cull
from dask.task_spec import DataNode, Task, TaskRef

from dagtrain.data.pick import Gathered, gather_plan
from dagtrain.data.source import ArraySource
from dagtrain.engines.ranks.inputs import PickedRows, RankInput, batches_of_rank, pick_rows
from dagtrain.engines.ranks.placement import Placement
from dagtrain.graph import Array

__all__ = ["InputPipeline", "MemoryLimits", "RankDelivery"]


class MemoryLimits(NamedTuple):
    """Bytes of data in each place.

    Attributes
    ----------
    resident
        Data of which every rank has a copy; also the partitions from which one task picks rows.
    held
        Data that the cluster holds during training.
    segment
        Rows of one segment in one rank.
    """

    resident: int
    held: int
    segment: int

    @classmethod
    def of(cls, limits: Sequence[int]) -> MemoryLimits:
        """Limits for workers with these limits of memory.

        Examples
        --------
        >>> MemoryLimits.of([2**30, 2**30])
        MemoryLimits(resident=134217728, held=858993459, segment=33554432)
        """
        least = min(limits)
        return cls(min(least // 8, 1 << 30), sum(limits) * 2 // 5, max(min(least // 32, 256 << 20), 1 << 20))


class RankDelivery(NamedTuple):
    """A rank's input, and the keys of what it is made from."""

    input: RankInput
    keys: list[Any]


class InputPipeline:
    """Brings rows of a source to ranks.

    Parameters
    ----------
    source
        The data.
    memory_limits
        Bytes of data in each place.
    hold
        ``hold(source)``: the keys of its partitions, computed on the cluster once.
    locate
        ``locate(keys)``: the workers that hold each key.

    Attributes
    ----------
    generation
        The group that has had a segment of it.
    """

    generation = -1

    def __init__(self, source: Any, memory_limits: MemoryLimits, hold: Any, locate: Any) -> None:
        self.source, self.memory_limits, self._hold, self._locate = source, memory_limits, hold, locate
        self._columns = tuple((spec.shape, spec.dtype.str) for spec in source.columns.specs)
        if source.nbytes <= memory_limits.resident:
            self.kind = "resident"
        elif source.held_bytes <= memory_limits.held or source.resident:
            self.kind = "picked"
        else:
            self.kind = "sent" if isinstance(source, ArraySource) else "streamed"

    def most_steps(self, batch_rows: int, ranks: int) -> int | None:
        """Steps of the longest segment whose rows are within the limits; None for resident data, which has no such limit."""
        if self.kind == "resident":
            return None
        return max(1, self.memory_limits.segment * ranks // max(1, batch_rows * int(self.source.row_bytes)))

    def readings(self, batches: Sequence[Sequence[Array]], segment: int) -> float:
        """Mean number of times a partition is computed for these steps, in segments of this length."""
        if self.kind != "streamed":
            return 0.0
        rows = np.concatenate([shard for batch in batches[:segment] for shard in batch])
        touched = len(gather_plan(rows, self.source.sizes))
        return touched * -(-len(batches) // segment) / len(self.source.sizes)

    def row_bytes(self, batch: Sequence[Array]) -> float:
        """Bytes of a shard's rows in a step; 0 for resident data, which does not travel."""
        return 0.0 if self.kind == "resident" else float(max(map(len, batch)) * self.source.row_bytes)

    def near(self, batches: Sequence[Sequence[Array]], shards: int) -> dict[str, dict[int, int]]:
        """Worker → shard → bytes of the shard's rows in these steps that the worker holds."""
        nearby: dict[str, dict[int, int]] = {}
        holder = {p: worker for worker, members in self.held_by().items() for p in members}
        if not holder:
            return {}
        for shard in range(shards):
            rows = np.concatenate([batch[shard] for batch in batches])
            for partition, places, *_ in gather_plan(rows, self.source.sizes):
                if partition in holder:
                    mine = nearby.setdefault(holder[partition], {})
                    mine[shard] = mine.get(shard, 0) + len(places) * self.source.row_bytes
        return nearby

    def held_by(self) -> dict[str, list[int]]:
        """Worker → partitions that it holds, for picked data."""
        if self.kind != "picked":
            return {}
        keys = self._hold(self.source)
        partitions: dict[str, list[int]] = {}
        for i, workers in enumerate(self._locate(keys)):
            for worker in workers[:1]:
                partitions.setdefault(worker, []).append(i)
        return partitions

    def deliver(self, placement: Placement, batches: Sequence[Sequence[Array]], first: bool) -> tuple[dict[Any, Any], list[RankDelivery]]:
        """Tasks that bring the rows of these steps, and each rank's delivery; `first` marks a group's first segment of it."""
        if self.kind == "resident":
            keys = self._hold(self.source)
            name = str(keys[0][0])
            shares = [batches_of_rank(rank.shards, batches) for rank in placement.ranks]
            return {}, [RankDelivery(RankInput(share, self._columns, name), keys if first else []) for share in shares]
        token = uuid.uuid4().hex[:8]
        shares = [batches_of_rank(rank.shards, batches) for rank in placement.ranks]
        inputs = [RankInput(share, self._columns) for share in shares]
        graph: dict[Any, Any] = {}
        if self.kind == "sent":
            arrays = self.source.local()
            for number, share in enumerate(shares):
                rows = share.rows
                picked = PickedRows(np.arange(len(rows)), rows, tuple(column[rows] for column in arrays))
                graph[f"pick-{token}", number, 0] = DataNode((f"pick-{token}", number, 0), picked)
            return graph, [RankDelivery(rank_input, [key]) for rank_input, key in zip(inputs, graph, strict=True)]
        partitions, keys, groups = self._partitions()
        deliveries = []
        for number, (share, rank_input) in enumerate(zip(shares, inputs, strict=True)):
            by_group: dict[int, list[Gathered]] = {}
            for pick in gather_plan(share.rows, self.source.sizes):
                by_group.setdefault(groups.get(pick.partition, ~pick.partition), []).append(pick)
            made = []
            for group, picks in by_group.items():
                key = (f"pick-{token}", number, group)
                graph[key] = Task(key, pick_rows, DataNode(None, picks), *(TaskRef(keys[p.partition]) for p in picks))
                made.append(key)
            deliveries.append(RankDelivery(rank_input, made))
        if partitions:
            needed = {key for task in graph.values() for key in task.dependencies}
            graph |= cull(partitions, list(needed))[0]
        return graph, deliveries

    def is_local(self, batches: Sequence[Sequence[Array]]) -> bool:
        """Whether each shard takes its rows from partitions of its own in these steps."""
        rows = [np.concatenate([batch[shard] for batch in batches]) for shard in range(len(batches[0]))]
        taken = [pick.partition for some in rows for pick in gather_plan(some, self.source.sizes)]
        return len(taken) < len(set(taken)) + len(rows)  # two neighbouring shards may share a partition

    def _partitions(self) -> tuple[dict[Any, Any], list[Any], Mapping[int, int]]:
        """Tasks that compute partitions; the partitions' keys; partition → group of which one task picks."""
        if self.kind == "streamed":
            graph, keys = self.source.tasks()
            return graph, keys, {}
        return {}, self._hold(self.source), self.groups()

    def groups(self) -> dict[int, int]:
        """Partition → number of its group: one worker holds a group, which is within the limit `resident`.

        A worker may have spilled its partitions to disk; a task loads all that it picks from.
        """
        group_of: dict[int, int] = {}
        number = -1
        for _, members in sorted(self.held_by().items()):
            room = -1.0
            for partition in members:
                nbytes = self.source.sizes[partition] * self.source.row_bytes
                if nbytes > room:
                    number, room = number + 1, self.memory_limits.resident
                group_of[partition], room = number, room - nbytes
        return group_of
