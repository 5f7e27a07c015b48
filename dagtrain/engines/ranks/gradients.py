"""The gradients of a rank's shards, by one thread or several, into the sums of its subtrees.

Ranks of one host run shard after shard. Where ranks are far from each other, a step begins while parameters are still coming, and partial
sums leave while the rest is computed. So that there is more to do meanwhile, shards go through the network side by side, in *stages*:

    stage        1             2             3               4             5
    shard 0      first layer   second layer  and back again  its gradient  first layer's gradient
    shard 1      first layer   second layer  and back again  its gradient  first layer's gradient
                 ▲             ▲                                           ▼ bucket 0 is final             ▼ bucket 1 is final
                 wait for the parameters of this layer                       add it up, tell it

Additions go by parts of the vectors then, but each is one of the fixed tree's: the bits are the same. Nothing that others read is written
before all parameters have come.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from dagtrain.engines.inline import each_thread
from dagtrain.engines.ranks.assignment import runs
from dagtrain.engines.ranks.placement import Placement, StepShape
from dagtrain.engines.ranks.subtrees import Buffer, shard_order, under
from dagtrain.graph import Array
from dagtrain.step.program import ShardRunner, StepParts

__all__ = ["BUCKET_BYTES", "SPACE", "Final", "Gradients", "Needs", "Rows", "Stage", "buckets_of", "shape_of", "stages_of"]

Final = Callable[[int], Any]
"""Told how many parts of what others get are final; see `Placement.parts`."""
Needs = Callable[[int], Any]
"""Called when so many parts of the parameters must have come; it waits until they have."""
Contribution = tuple[Array, Array]
"""Memory of a vector, and of what is summed beside."""
Pairs = Sequence[tuple[Contribution, Contribution]]
"""Contributions of which the first take in the second."""

BUCKET_BYTES, _MOST = 1 << 18, 16
"""Least bytes of a bucket, but for the last one, and most buckets: each is a call or two of the kernel."""
SPACE = 1 << 28
"""Bytes of work space up to which the shards of a rank go side by side."""


class Rows(NamedTuple):
    """The rows of one shard."""

    x: Array
    y: Array | None


class Stage(NamedTuple):
    """A stretch of a shard's plan.

    Attributes
    ----------
    needs
        Parts of the parameters that must be there before it begins.
    yield_points
        How many of the plan's yield_points it goes on to; the last stage goes to the end.
    written
        Parts of a contribution's vector that are final after it.
    sums
        Whether what is summed beside is final after it.
    buckets
        Buckets of blocks that are final after it and the stages before.
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
    ends = [0, *accumulate(layout.sizes)]
    final = [max((when[k] for k, (a, b) in enumerate(pairwise(ends)) if a < block.stop and block.start < b), default=0) for block in blocks]
    size = np.dtype(layout.dtype).itemsize
    least = max(bucket_bytes, layout.size * size // _MOST)
    found: list[list[int]] = []
    held = 0
    for i in sorted(range(len(blocks)), key=lambda i: (final[i], i)):
        if not found or (held >= least and final[i] != final[found[-1][-1]]):
            found.append([])
            held = 0
        found[-1].append(i)
        held += (blocks[i].stop - blocks[i].start) * size
    return tuple(tuple(sorted(bucket)) for bucket in found)


def shape_of(parts: StepParts, shards: int, bucket_bytes: int = BUCKET_BYTES) -> StepShape:
    """What a placement must know of a compiled step."""
    update = parts.update
    return StepShape(
        shards,
        tuple(b.stop - b.start for b in update.blocks),
        parts.statistics_layout.size,
        parts.sums,
        update.slots,
        update.norm_count,
        np.dtype(parts.layout.dtype).str,
        buckets_of(parts, bucket_bytes),
    )


def stages_of(parts: StepParts, rows: int, placement: Placement) -> list[Stage]:
    """How shards of so many rows go through the network side by side; from the yield_points of their plan."""
    ends = [0, *accumulate((*parts.layout.sizes, *parts.statistics_layout.sizes))]
    leaves = [slice(a, b) for a, b in pairwise(ends)]
    parameters = len(parts.layout.sizes)
    starts = placement.starts
    buckets = [[slice(starts[run.start], starts[run.stop]) for run in runs(bucket)] for bucket in placement.buckets]
    of = [[g for g, some in enumerate(buckets) if any(a.start < b.stop and b.start < a.stop for b in some)] for a in leaves[:parameters]]
    wanted = [sum(g in own for own in of) for g in range(len(buckets))]
    found: list[Stage] = []
    needs = asked = yield_points = done = 0
    written: list[slice] = []
    sums = False

    def end() -> None:
        nonlocal needs, yield_points, written, sums
        found.append(Stage(needs, yield_points, tuple(written), sums, done))
        needs, yield_points, written, sums = asked, 0, [], False

    for what, *numbers in parts.plans[rows].yield_points:
        yield_points += 1
        if what == "reads":
            # Parts come from the last bucket to the first; statistics with the first part, rows are there.
            wants = max((len(buckets) - min(of[k], default=len(buckets)) if k < parameters else int(k < len(leaves))) for k in numbers)
            if wants > asked:
                asked = wants
                end()
            continue
        for k in numbers:
            if k == len(leaves):
                sums = True
                continue
            written.append(leaves[k])
            for bucket in of[k] if k < parameters else ():
                wanted[bucket] -= 1
        before = done
        while done < len(wanted) and not wanted[done]:
            done += 1
        if done > before:
            end()
    end()
    return found


class _Work(NamedTuple):
    """A shard, what computes it, and what is added after it."""

    shard: int
    runner: ShardRunner
    adds: Pairs


class _Prepared(NamedTuple):
    """For each thread its shards in waves, those of a wave side by side; and what is added once all threads are done."""

    waves: list[list[list[_Work]]]
    joins: Pairs


class Gradients:
    """Computes a rank's partial sums.

    Parameters
    ----------
    parts
        Compiled plans.
    placement, rank
        Which part.
    window
        The rank's own memory by region; see `Placement.regions`.
    in_stages
        Whether shards go side by side, for the sake of somebody who sends and receives meanwhile.
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
        # By thread and place in a wave too, for the sake of its work space: where shards are empty, others fill the same memory.
        self._runners: dict[tuple[int, int, Buffer], ShardRunner] = {}
        self._spaces: dict[tuple[int, int], dict[int, list[Array]]] = {}
        self._prepared: dict[tuple[int, ...], _Prepared] = {}
        self._pool = ThreadPoolExecutor(self.threads, "dagtrain-rank", np.seterr, ("ignore",)) if self.threads > 1 else None
        self._stages: dict[int, list[Stage]] = {}
        self._side_by_side = 1
        if in_stages:
            self._stages = {rows: stages_of(parts, rows, placement) for rows in parts.plans}
            one = sum(plan.space for plan in parts.plans.values()) * self.threads
            self._side_by_side = max(1, space // max(1, one))

    def run(
        self,
        parameters: Sequence[Array],
        statistics: Sequence[Array],
        rows: Mapping[int, Rows],
        counts: Sequence[int],
        step: int,
        final: Final | None = None,
        needs: Needs | None = None,
    ) -> None:
        """All shards, and all additions within the rank; see `RankRunner.compute`."""
        samples = sum(counts)
        present = tuple(rows)
        todo = self._prepared.get(present)
        if todo is None:
            todo = self._prepared[present] = self._prepare(present)
        kinds = [self._stages[n] for n in {len(rows[s].x) for s in present}] if self._stages else []
        stages = kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else None
        if stages is None and needs is not None:
            needs(len(self.placement.buckets))
        course = None if stages is None else _Course(stages, todo, final, needs)

        def work(thread: int) -> None:
            for wave in todo.waves[thread]:
                iterators = []
                for shard, runner, adds in wave:
                    x, y = rows[shard]
                    given = parameters, statistics, x, y, len(x) / samples, step, shard
                    if course is None:
                        runner.run(*given)
                        _add(adds)
                    else:
                        iterators.append(runner.steps(*given))
                if course is not None:
                    course.go(thread, wave, iterators)

        each_thread(self._pool, self.threads, work, None if course is None else course.end)
        if course is None:
            _add(todo.joins)
        else:
            course.settle()

    def _prepare(self, present: tuple[int, ...]) -> _Prepared:
        subtrees = {root: [s for s in shards if s in present] for root, shards in self._under.items()}
        made = shard_order(subtrees, self.count, self.threads)
        waves = []
        for thread, chain in enumerate(made.threads):
            many = max(1, -(-len(chain) // self._side_by_side))
            length = max(1, -(-len(chain) // many))
            runners = [self._runner(link.buffer, thread, i % length) for i, link in enumerate(chain)]
            works = [_Work(link.shard, runner, self._pairs(link.adds)) for link, runner in zip(chain, runners, strict=True)]
            waves.append([works[i : i + length] for i in range(0, len(works), length)])
        return _Prepared(waves, self._pairs(made.joins))

    def _runner(self, buffer: Buffer, thread: int, place: int) -> ShardRunner:
        made = self._runners.get((thread, place, buffer))
        if made is None:
            if buffer not in self._memory:
                kind, root, _ = buffer
                of_others = kind == "partial"
                out = self._window[f"partial.{root}"] if of_others else np.empty(self.parts.width, self.parts.layout.dtype)
                self._memory[buffer] = out, self._window[f"sums.{root}"] if of_others else np.zeros(self.parts.sums)
            out, sums = self._memory[buffer]
            made = self._runners[thread, place, buffer] = ShardRunner(self.parts, out, self._spaces.setdefault((thread, place), {}))
            made.sums = sums
        return made

    def _pairs(self, adds: Sequence[tuple[Buffer, Buffer]]) -> Pairs:
        return [(self._memory[left], self._memory[right]) for left, right in adds]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class _Course:
    """A step in stages.

    Parameters
    ----------
    stages
        Of all shards.
    todo
        What the threads do.
    final, needs
        Of whoever sends and receives; called by thread 0 alone, and the others wait for it.
    """

    def __init__(self, stages: list[Stage], todo: _Prepared, final: Final | None, needs: Needs | None) -> None:
        self._stages, self._joins, self._final, self._needs = stages, todo.joins, final, needs
        self._left = [len(waves) for waves in todo.waves]
        self._done = [0 if waves else len(stages) for waves in todo.waves]
        """For each thread, stages of its last wave that are done: written by that thread, read by the first."""
        self._settled = 0
        self._there = 0
        self._turn = threading.Condition() if len(todo.waves) > 1 else None
        self._over = False

    def go(self, thread: int, wave: Sequence[_Work], iterators: Sequence[Iterator[Any]]) -> None:
        """A wave of shards, side by side."""
        self._left[thread] -= 1
        last = not self._left[thread]
        for i, stage in enumerate(self._stages):
            if stage.needs > self._there and self._needs is not None:
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
                    self.settle()

    def settle(self) -> None:
        """Add up what all threads have."""
        upto = min(self._done)
        while self._settled < upto:
            stage = self._stages[self._settled]
            _add_stage(self._joins, stage)
            before = self._stages[self._settled - 1].buckets if self._settled else 0
            self._settled += 1
            if self._final is not None and stage.buckets > before:
                self._final(stage.buckets)

    def _wait(self, thread: int, parts: int) -> None:
        """Go on when so many parts of the parameters are there."""
        assert self._needs is not None
        if thread == 0:
            self._needs(parts)
        if self._turn is None:
            self._there = parts
            return
        with self._turn:
            if thread == 0:
                self._there = parts
                self._turn.notify_all()
            else:
                self._turn.wait_for(lambda: self._there >= parts or self._over)  # the first thread has a deadline
                if self._there < parts:
                    raise RuntimeError("the first thread of the rank has failed")  # it says why

    def end(self) -> None:
        """The first thread is done, or has failed."""
        if self._turn is not None:
            with self._turn:
                self._over = True
                self._turn.notify_all()


def _add(pairs: Pairs) -> None:
    for left, right in pairs:
        for into, other in zip(left, right, strict=True):
            np.add(into, other, out=into)


def _add_stage(pairs: Pairs, stage: Stage) -> None:
    """Add what a stage has written."""
    for left, right in pairs:
        for part in stage.written:
            np.add(left[0][part], right[0][part], out=left[0][part])
        if stage.sums:
            np.add(left[1], right[1], out=left[1])
