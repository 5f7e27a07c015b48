"""The cost of a step for one thread of this machine: runs one rank and times the parts of its steps."""

from __future__ import annotations

import statistics
import time
from itertools import cycle, pairwise

import numpy as np

from dagtrain.backends.blas import guard
from dagtrain.data.columns import Rows
from dagtrain.engines.ranks.arithmetic import RankRunner
from dagtrain.engines.ranks.placement import WorkerInfo, place
from dagtrain.engines.ranks.stages import BUCKET_BYTES, shape_of, stages_of
from dagtrain.graph import Array, Spec
from dagtrain.scaling.model import STEP, Work
from dagtrain.step.parts import ShardInputs, ShardRunner
from dagtrain.step.program import Program

__all__ = ["measure_work"]

_SHARDS = 8
"""Most shards that are timed: the shards of a step are alike."""
_REPEATS = 15
_POOL = 1 << 26
"""Bytes of rows, unless one shard has more."""


def measure_work(
    program: Program, batch: int, shards: int, seconds: float = 0.5, step: float = STEP, bucket_bytes: int = BUCKET_BYTES
) -> Work:
    """Time the parts of a step.

    Parameters
    ----------
    program
        Compiled step.
    batch, shards
        Samples of a step, and its number of shards.
    seconds
        How long to repeat steps; at least seven are timed.
    step
        Other work of a rank, in seconds a step.
    bucket_bytes
        Bytes of a bucket; see `LanesEngine`.
    """
    rows, timed = -(-batch // shards), min(shards, _SHARDS)
    parts, dtype = program.for_workers([rows]), np.dtype(program.layout.dtype)
    placement = place(shape_of(parts, timed), [WorkerInfo("here", "", 1)])
    window = {name: np.zeros(n, kind) for name, (kind, n) in placement.regions(0).items()}
    rank = RankRunner(parts, placement, 0, window, lambda peer, phase: ())
    rank.load(program.first_state())
    counts = (rows,) * timed
    pool = cycle(_pool(program, rows, 16 * timed))
    gradient, other = np.full(parts.layout.trained, 1e-3, dtype), np.zeros(parts.layout.trained, dtype)
    computed: list[float] = []
    updated: list[float] = []
    added: list[float] = []
    with guard():
        until = time.perf_counter() + seconds
        while len(computed) < 8 or (time.perf_counter() < until and len(computed) < 10_000):
            batch_rows = {shard: next(pool) for shard in range(timed)}
            moments = [time.perf_counter()]
            if parts.weight_count:
                rank.weigh(batch_rows)
            rank.compute(batch_rows, counts)
            moments.append(time.perf_counter())
            rank.reduce(counts)
            for k in range(placement.shape.norms):
                rank.squared_norms(k)
            rank.update()
            rank.advance()
            moments.append(time.perf_counter())
            np.add(gradient, other, out=other)
            moments.append(time.perf_counter())
            for times, (start, end) in zip((computed, updated, added), pairwise(moments), strict=True):
                times.append(end - start)
    gives, takes = _stages(program, rows, timed, bucket_bytes)
    middle, upper = statistics.quantiles(computed[1:], n=4)[1:]  # the first step allocates
    size, add = max(parts.layout.trained, 1), statistics.median(added[1:])
    return Work(
        parts.layout.trained,
        batch,
        shards,
        # Additions within a step hit the cache more often than the timed one: the shards get at least half.
        sample=max(middle - add * (timed - 1), middle / 2) / (timed * rows),
        add=add / size,
        update=statistics.median(updated[1:]) / size,
        step=step,
        jitter=(upper - middle) / 0.6745 / middle,
        slots=-(-sum(place.stop - place.start for place in parts.update.slots.values()) // size),
        norms=parts.update.norm_count,
        sums=parts.sums,
        itemsize=dtype.itemsize,
        gives=gives,
        takes=((1.0, 1.0),) if parts.weight_count else takes,  # the weights come first: nothing is computed while parameters arrive
        weights=parts.weight_count,
    )


def _stages(
    program: Program, rows: int, shards: int, bucket_bytes: int
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """The parts of a step that overlap with sending and with receiving: `gives` and `takes` of `Work`."""
    parts = program.for_workers([rows])
    placement = place(shape_of(parts, max(shards, 2), bucket_bytes), [WorkerInfo("here", "here"), WorkerInfo("there", "there")])
    stages = stages_of(parts, rows, placement)
    state, runner = program.first_state(), ShardRunner(parts, parts.outputs())
    views = parts.layout.views(state.parameters), parts.statistics_layout.leaves(state.statistics)
    shard = _pool(program, rows, 1)[0]
    times: list[list[float]] = []
    with guard():
        for _ in range(_REPEATS):
            iterator = runner.steps(ShardInputs(*views, shard, 1.0, 0, 0, parts.scales([shard])))
            moments = [time.perf_counter()]
            for stage in stages[:-1]:
                for _ in range(stage.yield_points):
                    next(iterator)
                moments.append(time.perf_counter())
            for _ in iterator:
                pass
            moments.append(time.perf_counter())
            times.append([end - start for start, end in pairwise(moments)])
    seconds = [statistics.median(column) for column in zip(*times, strict=True)]
    whole, size = sum(seconds), max(sum(placement.shape.blocks), 1)
    part = [sum(placement.shape.blocks[b] for b in bucket) / size for bucket in placement.buckets]
    done = [sum(seconds[: i + 1]) / whole for i in range(len(stages))]
    gives = [(part[g], next(d for d, stage in zip(done, stages, strict=True) if stage.buckets > g)) for g in range(len(part))]
    takes = [(p, sum(s for s, stage in zip(seconds, stages, strict=True) if stage.needs == n) / whole) for n, p in enumerate(part[::-1], 1)]
    return tuple(gives), tuple(takes)


def _pool(program: Program, rows: int, most: int) -> list[Rows]:
    """Shards of rows to run in turn: more than the processor's caches, at most 64 MiB or one shard."""
    x, *others = (_like(spec, rows) for spec in program.columns.specs)
    count = max(1, min(most, _POOL // max(x.nbytes, 1)))
    return [(x.copy(), *others) for _ in range(count)]


def _like(spec: Spec, rows: int) -> Array:
    """Rows of this spec: normal numbers for floats, zeros for labels."""
    shape = (rows, *spec.shape)
    if np.dtype(spec.dtype).kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)
    return np.zeros(shape, spec.dtype)
