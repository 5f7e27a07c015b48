"""What a step costs one thread of this machine, by doing its parts: compute of a shard, additions, the update."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.cluster.lanes.scale import Work
from dagtrain.graph import Spec
from dagtrain.plan.blas import one_blas_thread
from dagtrain.train.step import Program, ShardRunner

__all__ = ["measure_work"]

Array = np.ndarray[Any, Any]
STEP = 6e-5
"""Seconds of a lane's step besides compute and exchange: instructions, rows and reports (measured with a network of a few parameters)."""


def measure_work(program: Program, batch: int, shards: int, seconds: float = 0.3, step: float = STEP) -> Work:
    """Time the parts of a step.

    Parameters
    ----------
    program
        Compiled step.
    batch, shards
        Samples of a step, and in how many parts.
    seconds
        How long each part is repeated.
    step
        What a lane does besides, in seconds.
    """
    rows = -(-batch // shards)
    parts, state, dtype = program.for_workers([rows]), program.first_state(), np.dtype(program.layout.dtype)
    runner = ShardRunner(parts, np.zeros(parts.width, dtype))
    parameters, running = parts.layout.views(state.parameters), parts.statistics_layout.views(state.statistics)
    x = _like(program.x, rows)
    y = None if program.y is None else _like(program.y, rows)
    gradient, other = np.full(parts.layout.size, 1e-3, dtype), np.zeros(parts.layout.size, dtype)
    bound = parts.update.bind(state, gradient)
    scalars = parts.update.scalar_values(0, [dtype.type(1)] * parts.update.norm_count)

    def update() -> None:
        for i in range(len(parts.update.blocks)):
            bound.block(i, scalars)

    with one_blas_thread(), np.errstate(all="ignore"):
        shard, spread = _timed(lambda: runner.run(parameters, running, x, y, 1 / shards, 0, 0), seconds)
        added, _ = _timed(lambda: np.add(gradient, other, out=other), seconds / 3)
        updated, _ = _timed(update, seconds / 3)
    size = max(parts.layout.size, 1)
    slots, norms = len(parts.update.slots), parts.update.norm_count
    return Work(
        parts.layout.size,
        batch,
        shards,
        sample=shard / rows,
        add=added / size,
        update=updated / size,
        step=step,
        jitter=spread,
        slots=slots,
        norms=norms,
        sums=parts.sums,
        itemsize=dtype.itemsize,
    )


def _like(spec: Spec, rows: int) -> Array:
    """Rows of this kind: normal numbers, or zeros where they are labels."""
    shape = (rows, *spec.shape)
    if np.dtype(spec.dtype).kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)
    return np.zeros(shape, spec.dtype)


def _timed(work: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """The median, and how far the upper quartile lies above it, as a standard deviation and a part of the median."""
    work()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 7 or (time.perf_counter() < until and len(times) < 10_000):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    middle, upper = statistics.quantiles(times, n=4)[1:]
    return middle, (upper - middle) / 0.6745 / middle
