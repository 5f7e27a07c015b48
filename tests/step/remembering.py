"""A layer with a state by each reduction, and what its states are, written in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import dagtrain as dt

BINS = 4


@dataclass(frozen=True)
class Remembers(dt.nn.Layer):
    """Keeps something of its inputs by each reduction; in training its outputs depend on all of it."""

    def forward(self, c: dt.nn.Context, x: Any) -> Any:
        n = x.shape[-1:]
        mean, total = c.state("mean", n), c.state("total", n, reduce="sum")
        largest, kept = c.state("largest", n, reduce="max"), c.state("kept", n, reduce="first")
        steps, bins = c.state("steps", (), reduce="first", dtype="int64"), c.state("bins", (BINS,), reduce="sum", dtype="int64")
        high = c.state("high", n, reduce="max", dtype="bool")
        if not c.training:
            return x - mean
        memory, rows = c.state("memory", n, reduce="shard"), c.state("rows", (), reduce="shard", dtype="int32")
        c.update("mean", 0.5 * mean + 0.5 * x.mean(axis=0))
        c.update("total", total + x.sum(axis=0))
        c.update("largest", np.maximum(largest, x.max(axis=0)))
        c.update("kept", x[0])
        c.update("steps", steps + 1)
        c.update("bins", bins + np.stack([np.sum((np.floor(x) == i).astype("i8")) for i in range(BINS)]))
        c.update("high", np.logical_or(high, (x > 2.5).any(axis=0)))
        c.update("memory", 0.5 * memory + x.sum(axis=0))
        c.update("rows", rows + x.shape[0])
        scale = (steps + np.sum(bins) + rows).astype(x.dtype)
        return x + 0.1 * (memory + largest + kept) + 1e-3 * (total + mean) * high + 1e-3 * scale


def remembered(batches: Sequence[Sequence[Any]], features: int) -> dict[str, Any]:
    """The states after these batches, of shards of rows; those that are sums of floats in float64."""
    shards = len(batches[0])
    zeros = np.zeros(features)
    states: dict[str, Any] = {"mean": zeros, "total": zeros, "largest": zeros, "kept": zeros, "steps": 0, "bins": np.zeros(BINS, "i8")}
    states |= {"high": zeros > 0, "memory": np.zeros((shards, features)), "rows": np.zeros(shards, "i4")}
    for batch in batches:
        present = [(s, x.astype("f8")) for s, x in enumerate(batch) if len(x)]
        samples = sum(len(x) for _, x in present)
        states["mean"] = sum(len(x) / samples * (0.5 * states["mean"] + 0.5 * x.mean(axis=0)) for _, x in present)
        states["total"] = states["total"] + sum(x.sum(axis=0) for _, x in present)
        states["largest"] = np.max([states["largest"], *(x.max(axis=0) for _, x in present)], axis=0)
        states["kept"] = present[0][1][0]
        states["steps"] += 1
        states["bins"] = states["bins"] + [sum(int((np.floor(x) == i).sum()) for _, x in present) for i in range(BINS)]
        states["high"] = states["high"] | np.any([(x > 2.5).any(axis=0) for _, x in present], axis=0)
        for s, x in present:
            states["memory"][s] = 0.5 * states["memory"][s] + x.sum(axis=0)
            states["rows"][s] += len(x)
    return states
