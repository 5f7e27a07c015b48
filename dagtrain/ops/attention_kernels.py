"""Kernels of scaled dot-product attention: blocks of heads and rows, so that no table of all rows and keys is made.

    one block (some samples, some heads, some rows):   scores = scale * q @ keys    ─▶   weights = exp(scores - level)   ─▶   weights @ v

A block is as large as fits in the cache. The blocks of rows follow one another in order, so that sums over rows have a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.graph import Spec

__all__ = ["Geometry", "attend", "attend_back", "geometry_of", "scratch_of"]

_BLOCK = 65536
"""Scores of one block."""


@dataclass(frozen=True)
class Geometry:
    """Lengths of an attention, and of its blocks of samples, heads and rows.

    All arrays are seen as (samples, heads, positions, features); missing axes have the length 1, further ones count as samples.
    """

    samples: int
    heads: int
    rows: int
    keys: int
    features: int
    values: int
    block: tuple[int, int, int]

    @property
    def alone(self) -> bool:
        """Whether a block has all rows of its samples and heads."""
        return self.block[2] >= self.rows

    def blocks(self, causal: bool) -> Iterator[tuple[slice, slice, slice, int]]:
        """Samples, heads and rows of each block, and how many keys it may see."""
        samples, heads, rows = self.block
        for i in range(0, self.rows, rows):
            stop = min(i + rows, self.rows)
            seen = min(stop, self.keys) if causal else self.keys
            for j in range(0, self.samples, samples):
                for k in range(0, self.heads, heads):
                    yield (slice(j, min(j + samples, self.samples)), slice(k, min(k + heads, self.heads)), slice(i, stop), seen)


def in_order(shape: tuple[int, ...], time: int) -> tuple[int, ...]:
    """A shape whose axis of positions stands at `time`, with that axis before the features."""
    rest = list(shape)
    length = rest.pop(len(shape) + time)
    return (*rest[:-1], length, rest[-1])


@lru_cache(maxsize=256)
def geometry_of(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], mask: tuple[int, ...] | None, time: int) -> Geometry:
    """The geometry of inputs of these shapes."""
    if not len(q) == len(k) == len(v) >= -time:
        raise ShapeError(f"attention takes queries, keys and values with as many axes each, at least {-time}, got {q}, {k} and {v}.")
    (*batch, rows, features), (*of_k, keys, of_keys), (*of_v, others, values) = (in_order(shape, time) for shape in (q, k, v))
    if features != of_keys or keys != others or not batch == of_k == of_v:
        raise ShapeError(
            f"attention of queries {q}, keys {k} and values {v}: queries and keys need as many features, keys and values as many "
            "positions, and all the same samples and heads."
        )
    scores = (*batch, rows, keys)
    fits = mask is None or (len(mask) <= len(scores) and all(m in (1, n) for m, n in zip(mask[::-1], scores[::-1], strict=False)))
    if not fits:
        raise ShapeError(f"attention: a mask of shape {mask} does not fit scores of shape {scores} (samples, heads, queries, keys).")
    heads = batch[-1] if batch else 1
    samples = math.prod(batch[:-1])
    one = rows * keys
    several = max(1, _BLOCK // max(one, 1))
    at_once = (max(1, min(samples, several // heads)), heads) if several >= heads > 0 else (1, several)
    return Geometry(samples, heads, rows, keys, features, values, (*at_once, max(1, min(rows, _BLOCK // max(keys, 1)))))


def _seen(a: Any, time: int) -> Any:
    """An array as (samples, heads, positions, features); a view unless it has more axes of samples, in another order."""
    a = np.moveaxis(a, time, -2)
    return a.reshape((1,) * (4 - a.ndim) + a.shape if a.ndim < 4 else (-1, *a.shape[-3:]))


def _mask_seen(mask: Any, scores: tuple[int, ...]) -> Any:
    """A mask as (samples, heads, rows, keys), whose lengths may be 1."""
    if len(scores) > 4:
        mask = np.broadcast_to(mask, scores).reshape(-1, *scores[-3:])
    return mask.reshape((1,) * (4 - mask.ndim) + mask.shape)


def scratch_of(s: Geometry, dtype: Any, mask: bool, causal: bool, back: bool) -> tuple[Spec, ...]:
    """Specs of the work space of `attend`, or of `attend_back`."""
    samples, heads, rows = s.block
    lines, scores = samples * heads * rows, samples * heads * rows * s.keys
    sizes = [scores, lines * s.features, lines, lines, s.keys, rows * s.keys if causal else 0]
    if back:
        sizes += [scores, lines * s.values, lines, 0 if s.alone else samples * heads * s.keys * max(s.features, s.values)]
    return Spec((scores if mask else 0,), np.dtype(bool)), *(Spec((n,), np.dtype(dtype)) for n in sizes)


class _Blocks:
    """The exponentials of the scores of one block after the other, in memory that each overwrites."""

    def __init__(self, s: Geometry, dtype: Any, scratch: Any, q: Any, k: Any, mask: Any, options: dict[str, Any], back: bool) -> None:
        if scratch is None:
            scratch = [np.empty(spec.shape, spec.dtype) for spec in scratch_of(s, dtype, mask is not None, options["causal"], back)]
        self.hidden, self.scores, self.scaled, self.top, self.total, self.ones, self.triangle, *rest = scratch
        if back:
            self.slopes, self.by_y, self.means, self.product = rest
        self.q, self.k, self.mask = q, k, mask
        self.scale, self.causal, self.fill = dtype.type(options["scale"]), options["causal"], options["fill"]
        self.lowest = np.finfo(dtype).min if options["empty"] == "zero" else None
        self.ones[...] = 1
        self.drawn: Any = None

    def compute(self, block: tuple[slice, slice, slice, int]) -> tuple[Any, Any, Any]:
        """The exponentials of a block's scores, less the greatest of each row; their sums; and the queries times the scale."""
        samples, heads, rows, seen = block
        q, keys = self.q[samples, heads, rows], self.k[samples, heads, :seen]
        scaled = np.multiply(q, self.scale, out=self.shaped(self.scaled, q.shape))
        scores = np.matmul(scaled, keys.swapaxes(-1, -2), out=self.shaped(self.scores, (*q.shape[:-1], seen)))
        hidden = self.hidden_in(block)
        if hidden is not None:
            np.copyto(scores, -np.inf if self.fill is None else self.fill, where=hidden)
        if self.causal:
            np.add(scores, self.above(rows, seen), out=scores)
        top = np.maximum.reduce(scores, -1, None, self.shaped(self.top, scores.shape[:-1]))
        if self.lowest is not None:
            np.maximum(top, self.lowest, out=top)  # where all scores are minus infinity, so that no exponential is NaN
        np.subtract(scores, top[..., None], out=scores)
        np.exp(scores, out=scores)
        total = self.sums(scores, self.total)
        if self.lowest is not None:
            np.copyto(total, 1, where=total == 0)
        return scores, total, scaled

    def sums(self, table: Any, memory: Any) -> Any:
        """The sum of each row of a table."""
        flat = self.shaped(memory, (math.prod(table.shape[:-1]),))
        np.dot(table.reshape(-1, table.shape[-1]), self.ones[: table.shape[-1]], out=flat)
        return flat.reshape(table.shape[:-1])

    def shaped(self, memory: Any, shape: tuple[int, ...]) -> Any:
        """The first part of a piece of memory, in this shape."""
        return memory[: math.prod(shape)].reshape(shape)

    def hidden_in(self, block: tuple[slice, slice, slice, int]) -> Any:
        """Where the mask of a block is off; None without a mask."""
        if self.mask is None:
            return None
        places = (*block[:3], slice(0, block[3]))
        mask = self.mask[tuple(p if n > 1 else slice(0, 1) for p, n in zip(places, self.mask.shape, strict=True))]
        return np.logical_not(mask, out=self.shaped(self.hidden, mask.shape))

    def above(self, rows: slice, seen: int) -> Any:
        """Minus infinity for the keys after each row, else 0."""
        table = self.shaped(self.triangle, (rows.stop - rows.start, seen))
        if self.drawn != (rows, seen):
            table[...] = 0
            for i, row in enumerate(range(rows.start, rows.stop)):
                table[i, row + 1 :] = -np.inf
            self.drawn = rows, seen
        return table

    def add_product(self, table: Any, values: Any, total: Any) -> None:
        """Add the values of the rows, weighted by this table of rows and keys, to a total of the keys."""
        alone = len(self.product) == 0  # then this is the only block that adds to it
        product = np.matmul(table.swapaxes(-1, -2), values, out=total if alone else self.shaped(self.product, total.shape))
        if not alone:
            np.add(total, product, out=total)


def attend(q: Any, k: Any, v: Any, mask: Any, out: Any, scratch: Any, s: Geometry, *, time: int, **options: Any) -> None:
    """Write the outputs."""
    mask = None if mask is None else _mask_seen(mask, (*in_order(q.shape, time)[:-1], s.keys))
    q, k, v, y = (_seen(a, time) for a in (q, k, v, out))
    if not s.keys:
        y[...] = 0 if options["empty"] == "zero" else np.nan
        return
    blocks = _Blocks(s, q.dtype, scratch, q, k, mask, options, back=False)
    for block in s.blocks(options["causal"]):
        samples, heads, rows, seen = block
        exponentials, total, _ = blocks.compute(block)
        result = np.matmul(exponentials, v[samples, heads, :seen], out=y[samples, heads, rows])
        np.divide(result, total[..., None], out=result)


def attend_back(g: Any, q: Any, k: Any, v: Any, mask: Any, out: Any, scratch: Any, s: Geometry, *, time: int, **options: Any) -> None:
    """Write the gradients by queries, keys and values."""
    mask = None if mask is None else _mask_seen(mask, (*in_order(q.shape, time)[:-1], s.keys))
    g, q, k, v = (_seen(a, time) for a in (g, q, k, v))
    dq, dk, dv = (None if a is None else _seen(a, time) for a in out)
    for total in (dq, dk, dv):
        if total is not None:
            total[...] = 0
    if not s.keys:
        return
    blocks = _Blocks(s, q.dtype, scratch, q, k, mask, options, back=True)
    for block in s.blocks(options["causal"]):
        samples, heads, rows, seen = block
        keys = samples, heads, slice(0, seen)
        exponentials, total, scaled = blocks.compute(block)
        np.reciprocal(total, out=total)
        by_y = np.multiply(g[samples, heads, rows], total[..., None], out=blocks.shaped(blocks.by_y, (*total.shape, s.values)))
        if dv is not None:
            blocks.add_product(exponentials, by_y, dv[keys])
        if dq is None and dk is None:
            continue
        # By the scores: weights * (slopes - sum of weights * slopes), where weights are exponentials over their total.
        slopes = np.matmul(by_y, v[keys].swapaxes(-1, -2), out=blocks.shaped(blocks.slopes, exponentials.shape))
        np.multiply(slopes, exponentials, out=slopes)
        np.multiply(blocks.sums(slopes, blocks.means), total, out=total)
        np.subtract(slopes, np.multiply(exponentials, total[..., None], out=exponentials), out=slopes)
        if options["fill"] is not None and mask is not None:
            np.copyto(slopes, 0, where=blocks.hidden_in(block))
        if dq is not None:
            result = np.matmul(slopes, k[keys], out=dq[samples, heads, rows])
            np.multiply(result, blocks.scale, out=result)
        if dk is not None:
            blocks.add_product(slopes, scaled, dk[keys])
