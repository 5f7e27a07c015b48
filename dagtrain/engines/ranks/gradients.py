"""The gradients of a rank's shards, by one thread or several, into the sums of its subtrees.

Ranks of one host run shard after shard. Between hosts, a step begins while parameters are still arriving, and partial sums are sent while
the rest is computed. To overlap more of it, the shards run through the network together, in *stages*:

    stage        1             2             3               4             5
    shard 0      first layer   second layer  and back again  its gradient  first layer's gradient
    shard 1      first layer   second layer  and back again  its gradient  first layer's gradient
                 ▲             ▲                                           ▼ bucket 0 is final             ▼ bucket 1 is final
                 wait for the parameters of this layer                       add it up, send it

Additions then run over parts of the vectors, but each is one of the fixed tree: the bits are the same. No memory that peers read is
written before all parameters have arrived.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from dagtrain.data.columns import Rows
from dagtrain.engines.inline import each_thread
from dagtrain.engines.ranks.assignment import runs
from dagtrain.engines.ranks.placement import GroupShape, Placement, StepShape
from dagtrain.engines.ranks.subtrees import Buffer, shard_order, under
from dagtrain.graph import Array
from dagtrain.step.program import ShardRunner, StepParts

__all__ = ["BUCKET_BYTES", "SPACE", "Final", "Gradients", "Needs", "Stage", "buckets_of", "shape_of", "stages_of"]

Final = Callable[[int], Any]
"""Called with the number of parts of a message that are final; see `Placement.parts`."""
Needs = Callable[[int], Any]
"""Called with a number of parts of the parameters; returns when they have arrived."""
Contribution = tuple[Array, Array]
"""Memory of a vector, and of the metrics."""
Pairs = Sequence[tuple[Contribution, Contribution]]
"""Contributions: the second of each pair is added to the first."""

BUCKET_BYTES, _MOST = 1 << 18, 16
"""Minimum bytes of a bucket, except the last one, and maximum number of buckets: each costs one or two system calls."""
SPACE = 1 << 28
"""Bytes of work space up to which the shards of a rank run together."""


class Stage(NamedTuple):
    """A section of a shard's plan.

    Attributes
    ----------
    needs
        Number of parts of the parameters that must have arrived before it begins.
    yield_points
        Number of the plan's yield points to run through; the last stage runs to the end.
    written
        Parts of a contribution's vector that are final after it.
    sums
        Whether the metrics are final after it.
    buckets
        Number of buckets that are final after it.
    """

    needs: int
    yield_points: int
    written: tuple[slice, ...]
    sums: bool
    buckets: int


def buckets_of(parts: StepParts, bucket_bytes: int = BUCKET_BYTES) -> tuple[tuple[int, ...], ...]:
    """The blocks of the parameter vector in buckets that become final together, in the order in which a shard's plan computes them.

    A bucket has at least `bucket_bytes` bytes. See `StepShape.buckets`.
    """
    layout, blocks = parts.layout, parts.update.blocks
    yield_points = parts.plans[max(parts.plans)].yield_points
    when = {output: i for i, (what, *outputs) in enumerate(yield_points) if what == "wrote" for output in outputs}
    arrays = [layout.slices[i] for i in layout.trained_arrays]
    final = [max((when[k] for k, a in enumerate(arrays) if a.start < block.stop and block.start < a.stop), default=0) for block in blocks]
    size = np.dtype(layout.dtype).itemsize
    least = max(bucket_bytes, layout.trained * size // _MOST)
    buckets: list[list[int]] = []
    nbytes = 0
    for i in sorted(range(len(blocks)), key=lambda i: (final[i], i)):
        if not buckets or (nbytes >= least and final[i] != final[buckets[-1][-1]]):
            buckets.append([])
            nbytes = 0
        buckets[-1].append(i)
        nbytes += (blocks[i].stop - blocks[i].start) * size
    return tuple(tuple(sorted(bucket)) for bucket in buckets)


def shape_of(parts: StepParts, shards: int, bucket_bytes: int = BUCKET_BYTES) -> StepShape:
    """The sizes of a compiled step that its placement depends on."""
    update = parts.update
    return StepShape(
        shards,
        tuple(b.stop - b.start for b in update.blocks),
        parts.statistics_layout.size,
        parts.sums,
        tuple(update.slots),
        update.norm_count,
        np.dtype(parts.layout.dtype).str,
        buckets_of(parts, bucket_bytes),
        parts.layout.size - parts.layout.trained,
        tuple(
            GroupShape(group.name, blocks, tuple(group.slots))
            for group, blocks in zip(update.groups, update.group_blocks, strict=True)
            if group.name
        ),
        parts.weight_count,
        tuple(update.squares_of),
    )


def stages_of(parts: StepParts, rows: int, placement: Placement) -> list[Stage]:
    """The stages of shards with `rows` rows, from the yield points of their plan."""
    layout, trained = parts.layout, parts.layout.trained
    statistics = [slice(trained + s.start, trained + s.stop) for s in parts.statistics_layout.slices]
    # The gradients are those of the trained parameters alone.
    leaves = [*(layout.slices[i] for i in layout.trained_arrays), *statistics]
    parameters, gradients = len(layout.names), len(layout.trained_arrays)
    inputs = parameters + len(statistics)
    starts = placement.starts
    buckets = [[slice(starts[run.start], starts[run.stop]) for run in runs(bucket)] for bucket in placement.buckets]
    buckets_of_parameter = [
        [g for g, slices in enumerate(buckets) if any(leaf.start < s.stop and s.start < leaf.stop for s in slices)]
        for leaf in layout.slices
    ]
    for pair in parts.followed:  # what follows others is there when all parameters are
        buckets_of_parameter[layout.slices.index(pair.target)] = list(range(len(buckets)))
    buckets_of_leaf = [buckets_of_parameter[i] for i in layout.trained_arrays]
    unwritten = [sum(g in of_leaf for of_leaf in buckets_of_leaf) for g in range(len(buckets))]
    stages: list[Stage] = []
    needs = next_needs = yield_points = done = 0
    written: list[slice] = []
    sums = False

    def end() -> None:
        nonlocal needs, yield_points, written, sums
        stages.append(Stage(needs, yield_points, tuple(written), sums, done))
        needs, yield_points, written, sums = next_needs, 0, [], False

    for what, *numbers in parts.plans[rows].yield_points:
        yield_points += 1
        if what == "reads":
            # Parts arrive from the last bucket to the first, statistics with the first part; rows are always present.
            parts_read = max(
                len(buckets) - min(buckets_of_parameter[k], default=len(buckets)) if k < parameters else int(k < inputs) for k in numbers
            )
            if parts_read > next_needs:
                next_needs = parts_read
                end()
            continue
        for k in numbers:
            if k == len(leaves):
                sums = True
                continue
            written.append(leaves[k])
            for bucket in buckets_of_leaf[k] if k < gradients else ():
                unwritten[bucket] -= 1
        before = done
        while done < len(unwritten) and not unwritten[done]:
            done += 1
        if done > before:
            end()
    end()
    return stages


class _Work(NamedTuple):
    """A shard, its runner, and the additions after it."""

    shard: int
    runner: ShardRunner
    adds: Pairs


class _Prepared(NamedTuple):
    """For each thread its shards in waves, which run together; and the additions after all threads have finished."""

    waves: list[list[list[_Work]]]
    joins: Pairs


class Gradients:
    """Computes a rank's partial sums.

    Parameters
    ----------
    parts
        Compiled plans.
    placement, rank
        The rank's part of the step.
    window
        The rank's own memory by region; see `Placement.regions`.
    in_stages
        Whether shards run together, so that messages are sent and received meanwhile.
    space
        Bytes of work space up to which they do.
    """

    def __init__(
        self, parts: StepParts, placement: Placement, rank: int, window: Mapping[str, Array], in_stages: bool = False, space: int = SPACE
    ) -> None:
        self.parts, self.placement, me = parts, placement, placement.ranks[rank]
        self.count, self.threads = placement.shape.shards, me.threads
        self._under = under(me.roots, me.shards, self.count)
        self._window = window
        self._memory: dict[Buffer, Contribution] = {}
        # By thread and place in a wave too, because of the work space: if shards are empty, others fill the same buffer.
        self._runners: dict[tuple[int, int, Buffer], ShardRunner] = {}
        self._spaces: dict[tuple[int, int], dict[int, list[Array]]] = {}
        self._prepared: dict[tuple[int, ...], _Prepared] = {}
        self._pool = ThreadPoolExecutor(self.threads, "dagtrain-rank", np.seterr, ("ignore",)) if self.threads > 1 else None
        self._stages: dict[int, list[Stage]] = {}
        self._together = 1
        if in_stages:
            self._stages = {rows: stages_of(parts, rows, placement) for rows in parts.plans}
            space_of_one = sum(plan.space for plan in parts.plans.values()) * self.threads
            self._together = max(1, space // max(1, space_of_one))

    def run(
        self,
        parameters: Sequence[Array],
        statistics: Sequence[Array],
        rows: Mapping[int, Rows],
        counts: Sequence[int],
        step: int,
        final: Final | None = None,
        needs: Needs | None = None,
        scales: Array | None = None,
    ) -> None:
        """Compute all shards, and do all additions within the rank; see `RankRunner.compute`."""
        samples = sum(counts)
        present = tuple(rows)
        prepared = self._prepared.get(present)
        if prepared is None:
            prepared = self._prepared[present] = self._prepare(present)
        stages_by_size = [self._stages[n] for n in {len(rows[s][0]) for s in present}] if self._stages else []
        stages = stages_by_size[0] if stages_by_size and all(each == stages_by_size[0] for each in stages_by_size) else None
        if stages is None and needs is not None:
            needs(len(self.placement.buckets))
        staged = None if stages is None else _StagedStep(stages, prepared, final, needs)

        def work(thread: int) -> None:
            for wave in prepared.waves[thread]:
                iterators = []
                for shard, runner, adds in wave:
                    columns = rows[shard]
                    arguments = parameters, statistics, columns, len(columns[0]) / samples, step, shard, scales
                    if staged is None:
                        runner.run(*arguments)
                        _add(adds)
                    else:
                        iterators.append(runner.steps(*arguments))
                if staged is not None:
                    staged.run(thread, wave, iterators)

        each_thread(self._pool, self.threads, work, None if staged is None else staged.end)
        if staged is None:
            _add(prepared.joins)
        else:
            staged.join()

    def _prepare(self, present: tuple[int, ...]) -> _Prepared:
        subtrees = {root: [s for s in shards if s in present] for root, shards in self._under.items()}
        order = shard_order(subtrees, self.count, self.threads)
        waves = []
        for thread, chain in enumerate(order.threads):
            many = max(1, -(-len(chain) // self._together))
            length = max(1, -(-len(chain) // many))
            runners = [self._runner(each.buffer, thread, i % length) for i, each in enumerate(chain)]
            works = [_Work(each.shard, runner, self._pairs(each.adds)) for each, runner in zip(chain, runners, strict=True)]
            waves.append([works[i : i + length] for i in range(0, len(works), length)])
        return _Prepared(waves, self._pairs(order.joins))

    def _runner(self, buffer: Buffer, thread: int, place: int) -> ShardRunner:
        runner = self._runners.get((thread, place, buffer))
        if runner is None:
            if buffer not in self._memory:
                kind, root, _ = buffer
                in_window = kind == "partial"
                out = self._window[f"partial.{root}"] if in_window else np.empty(self.parts.width, self.parts.layout.dtype)
                self._memory[buffer] = out, self._window[f"sums.{root}"] if in_window else np.zeros(self.parts.sums)
            out, sums = self._memory[buffer]
            runner = self._runners[thread, place, buffer] = ShardRunner(self.parts, out, self._spaces.setdefault((thread, place), {}))
            runner.sums = sums
        return runner

    def _pairs(self, adds: Sequence[tuple[Buffer, Buffer]]) -> Pairs:
        return [(self._memory[left], self._memory[right]) for left, right in adds]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class _StagedStep:
    """A step in stages.

    Parameters
    ----------
    stages
        Of all shards.
    prepared
        The work of the threads.
    final, needs
        Send and receive; called by thread 0 alone, and the other threads wait for it.
    """

    def __init__(self, stages: list[Stage], prepared: _Prepared, final: Final | None, needs: Needs | None) -> None:
        self._stages, self._joins, self._final, self._needs = stages, prepared.joins, final, needs
        self._waves_left = [len(waves) for waves in prepared.waves]
        self._done = [0 if waves else len(stages) for waves in prepared.waves]
        """For each thread, the number of finished stages of its last wave: written by that thread, read by thread 0."""
        self._joined = 0
        self._arrived = 0
        self._condition = threading.Condition() if len(prepared.waves) > 1 else None
        self._over = False

    def run(self, thread: int, wave: Sequence[_Work], iterators: Sequence[Iterator[Any]]) -> None:
        """Run the shards of a wave together, stage by stage."""
        self._waves_left[thread] -= 1
        last = not self._waves_left[thread]
        for i, stage in enumerate(self._stages):
            if stage.needs > self._arrived and self._needs is not None:
                self._wait(thread, stage.needs)
            for work, iterator in zip(wave, iterators, strict=True):
                if i == len(self._stages) - 1:
                    deque(iterator, 0)
                else:
                    for _ in range(stage.yield_points):
                        next(iterator)
                _add_stage(work.adds, stage)
            if last:
                self._done[thread] = i + 1
                if thread == 0:
                    self.join()

    def join(self) -> None:
        """Add the sums of different threads, for the stages that all threads have finished."""
        finished = min(self._done)
        while self._joined < finished:
            stage = self._stages[self._joined]
            _add_stage(self._joins, stage)
            before = self._stages[self._joined - 1].buckets if self._joined else 0
            self._joined += 1
            if self._final is not None and stage.buckets > before:
                self._final(stage.buckets)

    def _wait(self, thread: int, parts: int) -> None:
        """Return when this number of parts of the parameters has arrived."""
        assert self._needs is not None
        if thread == 0:
            self._needs(parts)
        if self._condition is None:
            self._arrived = parts
            return
        with self._condition:
            if thread == 0:
                self._arrived = parts
                self._condition.notify_all()
            else:
                self._condition.wait_for(lambda: self._arrived >= parts or self._over)  # thread 0 has a deadline
                if self._arrived < parts:
                    raise RuntimeError("the first thread of the rank has failed")  # that thread raises the cause

    def end(self) -> None:
        """Thread 0 has finished or failed."""
        if self._condition is not None:
            with self._condition:
                self._over = True
                self._condition.notify_all()


def _add(pairs: Pairs) -> None:
    for left, right in pairs:
        for target, source in zip(left, right, strict=True):
            np.add(target, source, out=target)


def _add_stage(pairs: Pairs, stage: Stage) -> None:
    """Add the parts of the vectors that a stage has written."""
    for left, right in pairs:
        for part in stage.written:
            np.add(left[0][part], right[0][part], out=left[0][part])
        if stage.sums:
            np.add(left[1], right[1], out=left[1])
