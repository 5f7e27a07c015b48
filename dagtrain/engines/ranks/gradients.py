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
from dagtrain.engines.ranks.placement import Placement
from dagtrain.engines.ranks.stages import Stage, stages_of
from dagtrain.engines.ranks.subtrees import Buffer, shard_order, under
from dagtrain.graph import Array
from dagtrain.step.parts import ShardInputs, ShardOutputs, ShardRunner, StepParts

__all__ = ["SPACE", "Final", "Gradients", "Needs"]

Final = Callable[[int], Any]
"""Called with the number of parts of a message that are final; see `Placement.parts`."""
Needs = Callable[[int], Any]
"""Called with a number of parts of the parameters; returns when they have arrived."""


class Addition(NamedTuple):
    """Two contributions, of which the right one is added to the left one.

    Attributes
    ----------
    left, right
        Their gradients.
    others
        How their sums and the regions of their states are combined, and both.
    """

    left: Array
    right: Array
    others: tuple[tuple[Callable[..., Array], Array, Array], ...]


SPACE = 1 << 28
"""Bytes of work space up to which the shards of a rank run together."""


class _Work(NamedTuple):
    """A shard, its runner, and the additions after it."""

    shard: int
    runner: ShardRunner
    adds: Sequence[Addition]


class _Prepared(NamedTuple):
    """For each thread its shards in waves, which run together; and the additions after all threads have finished."""

    waves: list[list[list[_Work]]]
    joins: Sequence[Addition]


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
        self._memory: dict[Buffer, ShardOutputs] = {}
        self._rows = window["rows"].reshape(self.count, placement.shape.row)
        # By thread and place in a wave too, because of the work space: if shards are empty, others fill the same buffer.
        self._runners: dict[tuple[int, int, Buffer], ShardRunner] = {}
        self._spaces: dict[tuple[int, int], dict[Any, list[Array]]] = {}
        self._prepared: dict[tuple[int, ...], _Prepared] = {}
        self._pool = ThreadPoolExecutor(self.threads, "dagtrain-rank", np.seterr, ("ignore",)) if self.threads > 1 else None
        self._stages: dict[Any, list[Stage]] = {}
        self._together = 1
        if in_stages:
            self._stages = {size: stages_of(parts, size, placement) for size in parts.plans}
            space_of_one = sum(plan.space for plan in parts.plans.values()) * self.threads
            self._together = max(1, space // max(1, space_of_one))

    def run(
        self,
        parameters: Sequence[Array],
        statistics: Mapping[int, Sequence[Array]],
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
        stages_by_size = [self._stages[n] for n in {self.parts.size(rows[s]) for s in present}] if self._stages else []
        stages = stages_by_size[0] if stages_by_size and all(each == stages_by_size[0] for each in stages_by_size) else None
        if stages is None and needs is not None:
            needs(len(self.placement.buckets))
        staged = None if stages is None else _StagedStep(stages, prepared, final, needs)

        def work(thread: int) -> None:
            for wave in prepared.waves[thread]:
                iterators = []
                for shard, runner, adds in wave:
                    columns = rows[shard]
                    inputs = ShardInputs(parameters, statistics[shard], columns, len(columns[0]) / samples, step, shard, scales)
                    if staged is None:
                        runner.run(inputs)
                        _add(adds)
                    else:
                        iterators.append(runner.steps(inputs))
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
            works = [_Work(each.shard, runner, self._additions(each.adds)) for each, runner in zip(chain, runners, strict=True)]
            waves.append([works[i : i + length] for i in range(0, len(works), length)])
        return _Prepared(waves, self._additions(order.joins))

    def _runner(self, buffer: Buffer, thread: int, place: int) -> ShardRunner:
        runner = self._runners.get((thread, place, buffer))
        if runner is None:
            if buffer not in self._memory:
                kind, root, _ = buffer
                contribution = self.parts.outputs(self._rows)
                if kind == "partial":
                    gradient, sums, states = (self._window[f"{name}.{root}"] for name in ("partial", "sums", "states"))
                    contribution = ShardOutputs(gradient, sums, states, self._rows)
                self._memory[buffer] = contribution
            space = self._spaces.setdefault((thread, place), {})
            runner = self._runners[thread, place, buffer] = ShardRunner(self.parts, self._memory[buffer], space, bool(self._stages))
        return runner

    def _additions(self, adds: Sequence[tuple[Buffer, Buffer]]) -> list[Addition]:
        layout, additions = self.parts.statistics_layout, []
        for pair in adds:
            left, right = (self._memory[buffer] for buffer in pair)
            states = zip(layout.regions, layout.parts(left.statistics), layout.parts(right.statistics), strict=True)
            others: list[tuple[Callable[..., Array], Array, Array]] = [(np.add, left.sums, right.sums)]
            others += [(region.rule.combine, a, b) for region, a, b in states]
            additions.append(Addition(left.gradient, right.gradient, tuple(others)))
        return additions

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
                if stage.last:
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


def _add(additions: Sequence[Addition]) -> None:
    for addition in additions:
        np.add(addition.left, addition.right, out=addition.left)
        for combine, left, right in addition.others:
            combine(left, right, out=left)


def _add_stage(additions: Sequence[Addition], stage: Stage) -> None:
    """Add what a stage has written."""
    for addition in additions:
        for part in stage.written:
            np.add(addition.left[part], addition.right[part], out=addition.left[part])
        if stage.last:
            for combine, left, right in addition.others:
                combine(left, right, out=left)
