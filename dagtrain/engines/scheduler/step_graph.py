"""Training steps as a Dask graph, to be submitted by the engine *scheduler*, drawn, or computed by the user.

    state[t] ─┬─▶ gradient[t, 0] ─┐
              ├─▶ gradient[t, 1] ─┼─▶ total[t, 0] ─┐
    data ─────┼─▶ …               │                ├─▶ update[t] = state[t+1]
              └─▶ gradient[t, 7] ─┴─▶ total[t, 4] ─┘

Where losses have different weights, each gradient also needs those of the whole batch:

    data ──▶ weight[t, 0] … weight[t, 7] ──▶ scales[t] ──▶ gradient[t, 0] … gradient[t, 7]

A ``total`` task adds an aligned group of shards, and ``update`` adds the groups: together exactly the fixed tree of
`dagtrain.step.sum_tree.add_tree`. No task changes its inputs, so each can be computed again after a loss.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from dask.optimization import cull
from dask.task_spec import DataNode, Task, TaskRef

from dagtrain.backends.blas import guard
from dagtrain.data.columns import Rows
from dagtrain.data.pick import Gathered, assemble, gather_plan, samples_of
from dagtrain.draw import Diagram, TaskRecord, diagram_of
from dagtrain.engines.client import current_client
from dagtrain.engines.scheduler.measure import measure_here, measure_on
from dagtrain.graph import Array, Drawable
from dagtrain.step.heads import scales_of
from dagtrain.step.parts import ShardInputs, ShardOutputs, ShardRunner, StepParts, next_state
from dagtrain.step.state import State
from dagtrain.step.statistics import state_leaves
from dagtrain.step.sum_tree import add_tree

__all__ = ["ShardResult", "StepGraph", "Stepped", "step_tasks"]

GROUP = 4
"""Shards that one ``total`` task adds: fewer tasks than with one for each addition, but enough for two workers."""


class ShardResult(NamedTuple):
    """A contribution, and the samples of each shard in it."""

    outputs: ShardOutputs
    used: tuple[tuple[int, Array], ...] = ()


class Stepped(NamedTuple):
    """The state after a number of steps, and for each step the parts of loss and metrics, and the samples in each shard."""

    state: State
    sums: tuple[Array, ...]
    used: tuple[tuple[tuple[int, Array], ...], ...] = ()


_local = threading.local()


def _runner(parts: StepParts) -> ShardRunner:
    """The calling thread's runner; it outlives the task, so that plans are bound once."""
    runners: dict[str, ShardRunner] = _local.__dict__.setdefault("runners", {})
    if parts.key not in runners:
        while len(runners) >= 4:
            del runners[next(iter(runners))]
        runners[parts.key] = ShardRunner(parts, parts.outputs())
    return runners[parts.key]


def weight_task(parts: StepParts, picks: Sequence[Gathered], *partitions: Rows) -> Array:
    """The weights of the losses in one shard."""
    with guard():
        return parts.weights(assemble(picks, partitions))


def scales_task(places: Sequence[int], shards: int, rows: int, *weights: Array) -> Array:
    """The scales of a batch, from the weights of the shards at these places."""
    by_shard = dict(zip(places, weights, strict=True))
    return scales_of([by_shard.get(s) for s in range(shards)], rows)


def gradient_task(
    parts: StepParts,
    before: Stepped,
    part: float,
    step: int,
    shard: int,
    picks: Sequence[Gathered],
    scales: Array | None,
    *partitions: Rows,
) -> ShardResult:
    """One shard's contribution; `picks` maps rows of each partition to places of the shard."""
    columns = assemble(picks, partitions)
    state = before.state
    leaves, parameters = state_leaves(parts.layout, parts.statistics_layout, state, shard), len(parts.layout.names)
    with guard():
        out = _runner(parts).run(ShardInputs(leaves[:parameters], leaves[parameters:], columns, part, step, shard, scales))
    states = out.statistics[: parts.statistics_layout.reduced]
    outputs = ShardOutputs(out.gradient.copy(), out.sums.copy(), states.copy(), out.rows[shard : shard + 1].copy())
    samples = samples_of(picks)
    samples = samples.astype(np.min_scalar_type(samples.max()))  # few bytes to send
    return ShardResult(outputs, ((shard, samples),))


def total_task(parts: StepParts, places: Sequence[int], *contributions: ShardResult) -> ShardResult:
    """The sum of an aligned group of shards, at these places of the group."""
    return _add_at(parts, places, GROUP, contributions)


def update_task(parts: StepParts, before: Stepped, places: Sequence[int], shards: int, *subtotals: ShardResult) -> Stepped:
    """The next state from the last one and the sums of the groups, at these places of the tree."""
    total, used = _add_at(parts, places, shards, subtotals)
    with np.errstate(all="ignore"):
        after = next_state(parts, before.state, total, [shard for shard, _ in used])
        return Stepped(after, (*before.sums, total.sums), (*before.used, used))


def _add_at(parts: StepParts, places: Sequence[int], width: int, results: Sequence[ShardResult]) -> ShardResult:
    """The sum by the fixed tree of this width; empty places add nothing."""
    by_place = dict(zip(places, (result.outputs for result in results), strict=True))
    gradients, sums, statistics, _ = zip(*(by_place.get(place, (None,) * 4) for place in range(width)), strict=True)
    gradient, measured = add_tree(gradients), add_tree(sums)
    assert gradient is not None, "a group has at least one shard"
    assert measured is not None, "a group has at least one shard"
    rows = np.concatenate([result.outputs.rows for result in results])
    total = ShardOutputs(gradient, measured, parts.statistics_layout.combine(statistics), rows)
    return ShardResult(total, tuple(one for result in results for one in result.used))


def begin_task(before: Stepped) -> Stepped:
    """The same state alone, for a new submission to begin with."""
    return Stepped(before.state, ())


def step_tasks(
    token: str,
    parts: Any,
    state: Any,
    data: Sequence[Any],
    sizes: Sequence[int],
    batches: Sequence[Sequence[Array]],
    first_step: int,
    weighed: bool = False,
) -> tuple[dict[Any, Any], Any]:
    """Tasks of consecutive steps, and the key of the last state.

    Parameters
    ----------
    token
        Makes the keys unique.
    parts, state
        Keys of the `StepParts` and of the `Stepped` to begin with.
    data, sizes
        Keys of the partitions, and the rows of each.
    batches
        For each step, the rows of each shard.
    first_step
        Number of the first step.
    weighed
        Whether shards need the weights of the losses in the whole batch.
    """
    tasks: dict[Any, Any] = {}
    for t, batch in enumerate(batches, first_step):
        samples = sum(len(s) for s in batch)
        groups: dict[int, dict[int, Any]] = {}
        picks_of = {s: gather_plan(rows, sizes) for s, rows in enumerate(batch) if len(rows)}
        scales = None
        if weighed:
            weights = {s: (f"weight-{token}", t, s) for s in picks_of}
            for s, key in weights.items():
                picked = (TaskRef(data[p.partition]) for p in picks_of[s])
                tasks[key] = Task(key, weight_task, TaskRef(parts), DataNode(None, picks_of[s]), *picked)
            scales = (f"scales-{token}", t)
            places = DataNode(None, list(weights))
            tasks[scales] = Task(scales, scales_task, places, len(batch), samples, *(TaskRef(key) for key in weights.values()))
        for s, picks in picks_of.items():
            key = (f"gradient-{token}", t, s)
            tasks[key] = Task(
                key,
                gradient_task,
                TaskRef(parts),
                TaskRef(state),
                len(batch[s]) / samples,
                t,
                s,
                DataNode(None, picks),
                scales and TaskRef(scales),
                *(TaskRef(data[p.partition]) for p in picks),
            )
            groups.setdefault(s // GROUP * GROUP, {})[s] = key
        subtotals: dict[int, Any] = {}
        for place, members in groups.items():
            if len(groups) == 1 or len(members) == 1:
                subtotals |= members
                continue
            total = (f"total-{token}", t, place)
            places = DataNode(None, [s - place for s in members])
            tasks[total] = Task(total, total_task, TaskRef(parts), places, *(TaskRef(k) for k in members.values()))
            subtotals[place] = total
        update = (f"update-{token}", t)
        places = DataNode(None, list(subtotals))
        tasks[update] = Task(
            update, update_task, TaskRef(parts), TaskRef(state), places, len(batch), *(TaskRef(k) for k in subtotals.values())
        )
        state = update
    return tasks, state


class StepGraph(Drawable):
    """Training steps as a Dask collection: `compute`, `visualize`, `dask.compute` and other functions of Dask work on it.

    Computing it returns the `Stepped` after the steps; it does not change the trainer.
    """

    def __init__(self, tasks: dict[Any, Any], last: Any, groups: Sequence[str] = ()) -> None:
        self.tasks, self.last, self.groups = tasks, last, groups

    @classmethod
    def of(cls, program: Any, source: Any, state: State, batches: Sequence[Sequence[Array]]) -> StepGraph:
        """Graph of these steps from this state, with the data it needs."""
        parts = program.for_workers(len(s) for batch in batches for s in batch)
        data_tasks, data_keys = source.tasks()
        digest = hashlib.sha256(f"{parts.key}{state.fingerprint}{state.step}{state.starts or ''}{data_keys}".encode())
        for name, vector in state.slots.items():
            digest.update(name.encode() + vector.tobytes())
        for batch in batches:
            for rows in batch:
                digest.update(np.ascontiguousarray(rows).tobytes())
        token = digest.hexdigest()[:8]
        parts_key, state_key = f"program-{token}", f"state-{token}"
        tasks, last = step_tasks(token, parts_key, state_key, data_keys, source.sizes, batches, state.step, bool(parts.weight_plans))
        tasks[parts_key] = DataNode(parts_key, parts)
        tasks[state_key] = DataNode(state_key, Stepped(state.copy(), ()))
        used = {key for node in tasks.values() for key in node.dependencies} & set(data_keys)
        groups = [f"{group.name} ({group.place.stop - group.place.start:,})" for group in parts.update.groups if group.name]
        groups += [f"{group.name} follows {group.optimizer.settings['pattern']}" for group in program.groups if group.follows]
        return cls({**cull(data_tasks, used)[0], **tasks}, last, groups)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"<StepGraph: {len(self.tasks)} tasks, ends with {self.last}>"

    def compute(self, scheduler: Any = None, **kwargs: Any) -> Stepped:
        """The state after the steps, by the current Dask scheduler."""
        import dask

        return dask.compute(self, scheduler=scheduler, **kwargs)[0]  # type: ignore[no-any-return]  # dask is not typed

    def diagram(self, *, measure: bool = False, **options: Any) -> Diagram:
        """The picture of the task graph; with `measure`, run it first and show worker, time and bytes of each task."""
        if measure:
            options["overlay"] = self.measure()
        if self.groups:
            options.setdefault("title", f"each update by groups of parameters: {', '.join(self.groups)}")
        return diagram_of(self.tasks, **options)

    def measure(self) -> dict[Any, TaskRecord]:
        """Run the graph, by the current Dask client or in this process, and record where and when each task ran."""
        client = current_client()
        return measure_here(self.tasks) if client is None else measure_on(client, self.tasks)

    def __dask_graph__(self) -> dict[Any, Any]:
        return self.tasks

    def __dask_keys__(self) -> list[Any]:
        return [self.last]

    def __dask_postcompute__(self) -> tuple[Any, tuple[Any, ...]]:
        return _first, ()

    def __dask_postpersist__(self) -> tuple[Any, tuple[Any, ...]]:
        return _persisted, (self.last,)

    def __dask_tokenize__(self) -> Any:
        return self.last

    @staticmethod
    def __dask_optimize__(graph: Any, keys: Any, **kwargs: Any) -> Any:
        return graph

    @property
    def __dask_scheduler__(self) -> Any:
        from dask.threaded import get

        return get


def _first(results: Sequence[Any]) -> Any:
    return results[0]


def _persisted(graph: Any, last: Any, **kwargs: Any) -> StepGraph:
    return StepGraph(dict(graph), last)
