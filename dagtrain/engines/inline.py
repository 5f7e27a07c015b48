"""Whole steps in this process: shards on a pool of threads, then the sum tree and the update by blocks.

Thread s mod T computes shard s, each contribution has memory of its own, and sums and update run over fixed blocks: so the bits are the
same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from dagtrain.data.columns import Rows
from dagtrain.data.windows import take_rows
from dagtrain.graph import Array
from dagtrain.step.parts import ShardInputs, ShardOutputs, ShardRunner, StepParts, weight_of
from dagtrain.step.state import State
from dagtrain.step.sum_tree import add_tree
from dagtrain.step.tracking import Following

__all__ = ["StepRunner", "each_thread"]

Batch = Sequence[Rows | None]


class StepRunner:
    """Runs whole steps in this process and updates one state in place.

    Parameters
    ----------
    parts
        Compiled step.
    state
        Updated by every call of `step`.
    shards
        Number of shards.
    threads
        Number of threads; 1 uses the caller's own.
    """

    def __init__(self, parts: StepParts, state: State, shards: int, threads: int = 1) -> None:
        self.parts, self.state, self.shards = parts, state, shards
        self.threads = max(1, min(threads, shards))
        spaces: list[dict[Any, list[Array]]] = [{} for _ in range(self.threads)]
        rows = parts.outputs().rows
        self.runners = [ShardRunner(parts, parts.outputs(rows), spaces[s % self.threads]) for s in range(shards)]
        self._parameters = parts.layout.views(state.parameters)
        self._statistics = [parts.statistics_layout.leaves(state.statistics, s) for s in range(shards)]
        self._gradient = self.runners[0].out.gradient if shards == 1 else np.empty(parts.layout.trained, parts.layout.dtype)
        self._bound = parts.update.bind(state, self._gradient, self.threads)
        self._buffers: dict[tuple[int, int], Rows] = {}
        """Memory for the rows of a shard, by shard and number of rows."""
        self._following = Following(parts.followed, state.parameters)
        self._pool = ThreadPoolExecutor(self.threads, "dagtrain", initializer=np.seterr, initargs=("ignore",)) if self.threads > 1 else None

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> StepRunner:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def contribute(self, batch: Batch) -> list[ShardOutputs | None]:
        """The contribution of each shard; None for one without samples."""
        samples = sum(len(b[0]) for b in batch if b is not None)
        return self._contribute(batch.__getitem__, samples, self.parts.scales(batch))

    def _contribute(self, rows_of: Callable[[int], Rows | None], samples: int, scales: Any) -> list[ShardOutputs | None]:
        contributions: list[ShardOutputs | None] = [None] * self.shards

        def work(thread: int) -> None:
            for s in range(thread, self.shards, self.threads):
                if (shard := rows_of(s)) is not None:
                    part = len(shard[0]) / samples
                    inputs = ShardInputs(self._parameters, self._statistics[s], shard, part, self.state.step, s, scales)
                    contributions[s] = self.runners[s].run(inputs)

        each_thread(self._pool, self.threads, work)
        return contributions

    def step_on(self, columns: Rows, batch: Sequence[Array]) -> Array:
        """Do one update on these rows of the columns, of which each thread takes those of its own shards."""
        samples = sum(map(len, batch))

        def take(s: int) -> Rows | None:
            return self._taken(columns, s, batch[s]) if len(batch[s]) else None

        if self.parts.weight_count:  # the scales need the rows of all shards
            return self.step([take(s) for s in range(self.shards)])
        return self._finish(self._contribute(take, samples, None))

    def _taken(self, columns: Rows, shard: int, rows: Array) -> Rows:
        """These rows, in memory that the next step overwrites."""
        buffer = self._buffers.get((shard, len(rows)))
        if buffer is None:
            buffer = tuple(np.empty((len(rows), *column.shape[1:]), column.dtype) for column in columns)
            self._buffers[shard, len(rows)] = buffer
        for target, column in zip(buffer, columns, strict=True):
            take_rows(column, rows, target)
        return buffer

    def step(self, batch: Batch) -> Array:
        """Do one update; return the parts of loss and metrics."""
        return self._finish(self.contribute(batch))

    def _finish(self, contributions: list[ShardOutputs | None]) -> Array:
        """Do the update by these contributions."""
        sums = add_tree([None if c is None else c.sums for c in contributions])
        assert sums is not None, "a step has at least one sample"
        if weight := weight_of(sums):
            self._update([None if c is None else c.gradient for c in contributions], weight)
        self._following.move(self.state.step)
        statistics = self.parts.statistics_layout
        if statistics.names:
            contributed = statistics.combine([None if c is None else c.statistics for c in contributions])
            present = [s for s, c in enumerate(contributions) if c is not None]
            statistics.advance(self.state.statistics, contributed, present, (self.runners[s].out.rows[s] for s in present))
        self.state.step += 1
        return sums

    def _update(self, gradients: Sequence[Array | None], weight: float) -> None:
        """Update the parameters by the tree's sum of the gradients."""
        update, blocks = self.parts.update, self.parts.update.blocks
        if self.shards > 1 and update.needs_norm:
            add_tree(gradients, self._gradient)
        norms = update.norms(self.state, self._gradient, weight) if update.needs_norm else []
        scalars = update.scalar_values(self.state, weight, norms)
        fused = self.shards > 1 and not update.needs_norm

        def work(thread: int) -> None:
            for i in range(thread, len(blocks), self.threads):
                if fused:
                    add_tree([None if g is None else g[blocks[i]] for g in gradients], self._gradient[blocks[i]])
                self._bound.block(i, scalars)

        each_thread(self._pool, self.threads, work)


def each_thread(
    pool: ThreadPoolExecutor | None, threads: int, work: Callable[[int], None], leaving: Callable[[], None] | None = None
) -> None:
    """Call ``work(thread)`` for each thread, 0 in the calling one; returns when all have, or raises the first error.

    `leaving` is called when ``work(0)`` has ended, also with an error.
    """
    if pool is None:
        work(0)
        return
    futures: list[Future[None]] = []
    try:
        futures += (pool.submit(work, thread) for thread in range(1, threads))
        work(0)
    finally:
        if leaving is not None:
            leaving()
        errors = [f.exception() for f in futures]
    for error in errors:
        if error is not None:
            raise error
