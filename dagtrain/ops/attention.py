"""Scaled dot-product attention: each query gets the mean of the values, weighted by the softmax of its products with the keys.

    y          = attention(q, k, v[, mask])                 weights = softmax(scale * q @ keys),   y = weights @ v
    dq, dk, dv = attention_gradient(g, q, k, v[, mask])     computes the weights again, so that no table of them is kept

Arrays are (..., positions, features), or with ``time=-3`` (..., positions, heads, features). A mask fits (..., queries, keys) and is true
where a query may look; where it may not, the score is `fill`, or with ``fill=None`` the key is left out. With `causal` the keys after a
query's own position are left out. A query that may look at no key gets zeros, or NaN if `empty` says so.

Source: Vaswani et al., "Attention is all you need", arXiv:1706.03762, section 3.2.1; in blocks as by Dao et al., arXiv:2205.14135.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.attention_kernels import Geometry, attend, attend_back, geometry_of, scratch_of
from dagtrain.ops.bodies import several
from dagtrain.ops.elementwise import exp, where
from dagtrain.ops.layer_norm import parts_in_single
from dagtrain.ops.linalg import matmul
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, parts
from dagtrain.ops.reduce import in_single, is_half, reduce_max, reduce_sum
from dagtrain.ops.shape import swapaxes, transpose

__all__ = ["attention", "attention_gradient"]


def _geometry(q: Any, k: Any, v: Any, mask: Sequence[Any], time: int) -> Geometry:
    return geometry_of(tuple(q.shape), tuple(k.shape), tuple(v.shape), tuple(mask[0].shape) if mask else None, time)


def _kernel(q: Any, k: Any, v: Any, *mask: Any, out: Any = None, scratch: Any = None, time: int, **options: Any) -> Any:
    if q.itemsize == 2 and is_half(q):
        return in_single(_kernel, (q, k, v, *mask), out, time=time, **options)
    s = _geometry(q, k, v, mask, time)
    out = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype) if out is None else out
    attend(q, k, v, mask[0] if mask else None, out, scratch, s, time=time, **options)
    return out


def _spec(q: Spec, k: Spec, v: Spec, *mask: Spec, time: int, **_: Any) -> Spec:
    if not (q.dtype.kind == "f" and q.dtype == k.dtype == v.dtype):
        raise DTypeError(f"attention takes queries, keys and values of one real dtype, got {q.dtype}, {k.dtype} and {v.dtype}.")
    if mask and mask[0].dtype != np.bool_:
        raise DTypeError(f"attention takes a mask of truth values, got {mask[0].dtype}. Write mask > 0, or mask.astype(bool).")
    _geometry(q, k, v, mask, time)
    return Spec((*q.shape[:-1], v.shape[-1]), q.dtype)


def _gradient(g: Tensor, y: Tensor, *inputs: Tensor, **options: Any) -> tuple[Tensor | None, ...]:
    return *parts(attention_gradient(g, *inputs, **options)), *(None for _ in inputs[3:])


_PLAIN: dict[str, Any] = {"scale": 0.5, "causal": False, "fill": None, "empty": "zero", "time": -2}
_Q, _K, _V = Draw((2, 3, 4)), Draw((2, 5, 4)), Draw((2, 5, 2))
_SAMPLES = (
    Sample((_Q, _K, _V), _PLAIN),
    Sample((_Q, _K, _V, Draw((3, 5), dtype="?")), _PLAIN | {"fill": -3.0}),
    Sample((_Q, _K, _V, Draw((2, 1, 5), dtype="?")), _PLAIN | {"causal": True}),
    Sample((Draw((2, 4, 3, 2)), Draw((2, 4, 3, 2)), Draw((2, 4, 3, 2))), _PLAIN | {"causal": True, "time": -3}),
)


def _macs(q: Spec, k: Spec, v: Spec, time: int, products: tuple[int, int]) -> float:
    """Products over the features of the queries and over those of the values."""
    s = geometry_of(q.shape, k.shape, v.shape, None, time)
    return float(s.samples * s.heads * s.rows * s.keys * (products[0] * s.features + products[1] * s.values))


def _scratch(q: Spec, k: Spec, v: Spec, *mask: Spec, time: int, causal: bool, back: bool = False, **_: Any) -> tuple[Spec, ...]:
    return scratch_of(_geometry(q, k, v, mask, time), q.dtype, bool(mask), causal, back)


attention: Op = Op(
    "attention",
    Kernel(_kernel, scratch=_scratch),
    _spec,
    _gradient,
    _SAMPLES,
    macs=lambda spec, q, k, v, *_, time, **__: _macs(q, k, v, time, (1, 1)),
    drawn=lambda node: Drawn("causal attention" if node.attribute("causal") else "attention"),
)

# ---- the gradient


def _gradient_kernel(
    g: Any, q: Any, k: Any, v: Any, *mask: Any, out: Any = None, scratch: Any = None, time: int, **options: Any
) -> tuple[Any, ...]:  # fmt: skip
    if q.itemsize == 2 and is_half(q):
        return parts_in_single(_gradient_kernel, (g, q, k, v, *mask), out, 3, time=time, **options)
    s = _geometry(q, k, v, mask, time)
    results = [np.empty(a.shape, q.dtype) for a in (q, k, v)] if out is None else out
    attend_back(g, q, k, v, mask[0] if mask else None, results, scratch, s, time=time, **options)
    return tuple(results)


def _in_order(a: Tensor, time: int) -> Tensor:
    """An array with the axis of positions before the features; of one in that order, with that axis at `time`."""
    axes = list(range(a.ndim))
    axes[time], axes[-2] = axes[-2], axes[time]
    return a if time == -2 else transpose(a, tuple(axes))


def _gradient_expanded(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, *mask: Tensor, scale: float, causal: bool, fill: float | None, empty: str, time: int
) -> list[Tensor]:  # fmt: skip
    g, q, k, v = (_in_order(a, time) for a in (g, q, k, v))
    last, seen = (q.ndim - 1,), np.tri(q.shape[-2], k.shape[-2]) > 0 if causal else None

    def masked(table: Any, elsewhere: float) -> Any:
        table = where(mask[0], table, elsewhere) if mask else table
        return table if seen is None else where(seen, table, elsewhere if elsewhere == 0 else -np.inf)

    scores = masked(matmul(q, swapaxes(k, -1, -2)) * scale, -np.inf if fill is None else fill)
    top = reduce_max(scores, last, True)
    exponentials = exp(scores - where(top > -np.inf, top, 0 if empty == "zero" else top))
    total = reduce_sum(exponentials, last, True)
    weights: Any = exponentials / (where(total > 0, total, 1) if empty == "zero" else total)
    slopes = matmul(g, swapaxes(v, -1, -2))
    by_scores = masked(weights * (slopes - reduce_sum(weights * slopes, last, True)), 0) * scale
    results = matmul(by_scores, k), matmul(swapaxes(by_scores, -1, -2), q), matmul(swapaxes(weights, -1, -2), g)
    return [_in_order(a, time) for a in results]


attention_gradient: Op = Op(
    "attention_gradient",
    Kernel(_gradient_kernel, scratch=lambda g, *inputs, **options: _scratch(*inputs, back=True, **options)),
    lambda g, q, k, v, *_, **__: several((q, k, v)),
    None,
    tuple(Sample((Draw((*s.draws[0].shape[:-1], s.draws[2].shape[-1])), *s.draws), s.attributes) for s in _SAMPLES),
    macs=lambda spec, g, q, k, v, *_, time, **__: _macs(q, k, v, time, (3, 2)),
    expand=_gradient_expanded,
    drawn=lambda node: Drawn("gradient of attention", ("by queries", "by keys", "by values")),
)
