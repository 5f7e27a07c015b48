"""One batching rule an op: what the op does on rows of its inputs, as ops on all of them. The rows are the first axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.graph import Graph, Tensor, ancestors_of, topological
from dagtrain.graph import input as new_input
from dagtrain.ops import OPS, as_tensor, find
from dagtrain.ops.record import parts
from dagtrain.ops.scan import bare_scan
from dagtrain.ops.shape import broadcast_to, moveaxis, reshape, swapaxes
from dagtrain.transform.batching import RULES, Batch, Rule, batched, one_by_one

__all__ = ["WITHOUT"]

WITHOUT = frozenset({"part"})
"""Ops without a rule: a part is taken from its node's results."""


def _elementwise(b: Batch) -> Tensor:
    ndim = max(t.ndim for t in b.node.inputs)
    return b.op(*(b.wide(i, ndim) for i in range(len(b.inputs))), **b.attributes)


def _shifted(**change: Any) -> Rule:
    """The op on all rows, with those attributes changed that count axes."""

    def rule(b: Batch) -> Tensor:
        a = b.attributes
        return b.op(*(b.full(i) for i in range(len(b.inputs))), **{**a, **{name: how(a[name], b) for name, how in change.items()}})

    return rule


def _next(axis: Any, b: Batch) -> Any:
    return tuple(a + 1 for a in axis) if isinstance(axis, tuple) else axis + 1


def _longer(shape: tuple[int, ...], b: Batch) -> tuple[int, ...]:
    return (b.size, *shape)


def _with_all_rows(index: tuple[Any, ...], b: Batch) -> tuple[Any, ...]:
    return ((0, b.size, 1), *index)


def _broadcast_to(b: Batch) -> Tensor:
    shape = b.attributes["shape"]
    return broadcast_to(b.wide(0, len(shape)), (b.size, *shape))


def _matmul(b: Batch) -> Tensor:
    (m, n), (left, right) = (t.ndim for t in b.node.inputs), b.inputs
    matmul = OPS["matmul"]
    if m == 1 and n == 1:
        if all(b.rows):
            return matmul(left[:, None, :], right[:, :, None])[:, 0, 0]
        return matmul(left, right) if b.rows[0] else matmul(right, left)
    if m == 1:
        # One product for all rows where the matrix is the same for all.
        if n == 2 and not b.rows[1]:
            return matmul(left, right)
        return matmul(_insert(left, b.rows[0], n - 2, -1), right)[..., 0, :]
    if n == 1:
        if m == 2 and not b.rows[0]:
            return matmul(right, swapaxes(left, 0, 1))
        return matmul(left, _insert(right, b.rows[1], m - 2, right.ndim))[..., 0]
    ndim = max(m, n)
    return matmul(b.wide(0, ndim), b.wide(1, ndim))


def _insert(vector: Tensor, has_rows: bool, leading: int, place: int) -> Tensor:
    """A vector, or one for each row, as a matrix of one row or column, with leading axes of length 1 behind the rows."""
    matrix = (1, vector.shape[-1]) if place < 0 else (vector.shape[-1], 1)
    return reshape(vector, (vector.shape[0], *(1,) * leading, *matrix) if has_rows else matrix)


def _einsum(b: Batch) -> Tensor:
    subscripts = b.attributes["subscripts"]
    left, _, right = subscripts.partition("->")
    row = next(c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts)
    terms = [row + term if has else term for term, has in zip(left.split(","), b.rows, strict=True)]
    return b.op(*b.inputs, subscripts=",".join(terms) + "->" + row + right)


# ---- positions


def _rows(b: Batch, ndim: int) -> Tensor:
    """The number of each row, with axes of length 1 behind it."""
    return as_tensor(np.arange(b.size).reshape((b.size, *(1,) * ndim)))


def _take(b: Batch) -> Tensor:
    (a, indices), axis = b.inputs, b.attributes["axis"]
    if not b.rows[1]:
        return b.op(a, indices, axis=axis + 1)
    count = indices.ndim - 1
    if not b.rows[0]:
        return moveaxis(b.op(a, indices, axis=axis), axis, 0)
    taken = find("gather")(moveaxis(a, axis + 1, 1), _rows(b, count), indices)  # rows, positions, the other axes
    return moveaxis(taken, tuple(range(1, 1 + count)), tuple(range(1 + axis, 1 + axis + count)))


def _take_transpose(b: Batch) -> Tensor:
    (g, indices), axis, shape = b.inputs, b.attributes["axis"], b.attributes["shape"]
    if not b.rows[1]:
        return b.op(g, indices, axis=axis + 1, shape=(b.size, *shape))
    count = indices.ndim - 1
    g = moveaxis(b.full(0), tuple(range(1 + axis, 1 + axis + count)), tuple(range(1, 1 + count)))
    others = (*shape[:axis], *shape[axis + 1 :])
    return moveaxis(find("scatter_add")(g, _rows(b, count), indices, shape=(b.size, shape[axis], *others)), 1, axis + 1)


def _along(b: Batch) -> Tensor:
    indices = b.inputs[1] if b.rows[1] else reshape(b.inputs[1], (1, *b.inputs[1].shape))
    a = b.attributes
    changed = {**a, "axis": a["axis"] + 1} | ({"shape": (b.size, *a["shape"])} if "shape" in a else {})
    return b.op(b.full(0), indices, **changed)


def _positions(b: Batch) -> tuple[Tensor, ...]:
    ndim = max(t.ndim for t in b.node.inputs[1:])
    return tuple(b.wide(i, ndim) for i in range(1, len(b.inputs)))


def _gather(b: Batch) -> Tensor:
    places = _positions(b)
    if not b.rows[0]:
        return b.op(b.inputs[0], *places)
    return b.op(b.inputs[0], _rows(b, max(t.ndim for t in b.node.inputs[1:])), *places)


def _scatter(b: Batch) -> Tensor:
    ndim = max(t.ndim for t in b.node.inputs[1:])
    return b.op(b.full(0), _rows(b, ndim), *_positions(b), shape=(b.size, *b.attributes["shape"]))


def _scatter_into(b: Batch) -> Tensor:
    places = b.node.inputs[2:]
    ndim = max(t.ndim for t in places)
    return b.op(b.full(0), b.full(1), _rows(b, ndim), *(b.wide(i, ndim) for i in range(2, 2 + len(places))))


# ---- windows


def _more_samples(b: Batch) -> Tensor | list[Tensor]:
    """The rows as more samples."""
    inputs = [b.full(i) for i in range(len(b.inputs))]
    result = b.op(*(reshape(t, (b.size * t.shape[1], *t.shape[2:])) for t in inputs), **b.attributes)
    back = [reshape(t, (b.size, t.shape[0] // b.size, *t.shape[1:])) for t in (parts(result) if result.spec.parts else [result])]
    return back if result.spec.parts else back[0]


def _more_channels(t: Tensor) -> Tensor:
    """The rows side by side in the last axis."""
    return reshape(moveaxis(t, 0, -2), (*t.shape[1:-1], t.shape[0] * t.shape[-1]))


def _from_channels(t: Tensor, rows: int) -> Tensor:
    return moveaxis(reshape(t, (*t.shape[:-1], rows, t.shape[-1] // rows)), -2, 0)


def _conv(b: Batch) -> Tensor:
    """Where the kernel is the same for all rows, these are more samples; else each row is a group of channels."""
    op = find(b.node.op.removeprefix("tiled_"))
    if b.node.op != "conv_by_kernel" and not b.rows[1]:
        (x, kernel), size = b.inputs, b.size
        y = op(reshape(x, (size * x.shape[1], *x.shape[2:])), kernel, **b.attributes)
        return reshape(y, (size, y.shape[0] // size, *y.shape[1:]))
    left, right = (_more_channels(b.full(i)) for i in range(2))
    return _from_channels(op(left, right, **{**b.attributes, "groups": b.attributes["groups"] * b.size}), b.size)


# ---- coarse ops


def _attention(b: Batch) -> Tensor | list[Tensor]:
    count = 3 if b.node.op == "attention" else 4
    ndim = b.node.inputs[0].ndim
    result = b.op(*(b.full(i) for i in range(count)), *(b.wide(i, ndim) for i in range(count, len(b.inputs))), **b.attributes)
    return parts(result) if result.spec.parts else result


def _layer_norm(b: Batch) -> list[Tensor]:
    y, *rest = parts(b.op(b.full(0), 1, 0, **b.attributes))
    ndim = b.node.inputs[0].ndim
    return [y * b.wide(1, ndim) + b.wide(2, ndim), *rest]


def _layer_norm_gradient(b: Batch) -> list[Tensor]:
    g, x, mean, inverse = (b.full(i) for i in (0, 1, 3, 4))
    by_x = parts(b.op(g * b.wide(2, x.ndim - 1), x, 1, mean, inverse, **b.attributes))[0]
    z: Tensor = (x - mean if b.attributes["center"] else x) * inverse
    others = tuple(range(1, x.ndim - 1))
    return [by_x, *(OPS["sum"](t, axis=others, keepdims=False) if others else t for t in (g * z, g))]


def _batch_norm(b: Batch) -> list[Tensor]:
    """The rows as more features."""
    x, size = b.full(0), b.size
    y, *statistics = parts(b.op(_more_channels(x), 1, 0, **b.attributes))
    ndim = x.ndim - 1
    lines = (reshape(t, (size, x.shape[-1])) for t in statistics)
    return [_from_channels(y, size) * b.wide(1, ndim) + b.wide(2, ndim), *lines]


def _batch_norm_gradient(b: Batch) -> list[Tensor]:
    g, x, size = b.full(0), b.full(1), b.size
    inputs = g * b.wide(2, x.ndim - 1), x
    mean, variance = (reshape(b.full(i), (size * x.shape[-1],)) for i in (3, 4))
    by_x = parts(b.op(*map(_more_channels, inputs), 1, mean, variance, **b.attributes))[0]
    z: Any = (x - b.wide(3, x.ndim - 1)) / OPS["sqrt"](b.wide(4, x.ndim - 1) + b.attributes["epsilon"])
    return [_from_channels(by_x, size), *(OPS["sum"](t, axis=tuple(range(1, x.ndim - 1)), keepdims=False) for t in (g * z, g))]


# ---- bodies


def _with_rows(body: Graph, b: Batch, rows: Sequence[bool]) -> Graph:
    """A body whose inputs have rows where these flags say so, and whose outputs all have."""
    leaves = {t: new_input(str(t.name), (b.size, *t.shape), t.dtype) for t, has in zip(body.inputs.values(), rows, strict=True) if has}
    results = batched(list(body.outputs.values()), leaves, b.size)
    full = [t if has else broadcast_to(t, (b.size, *t.shape)) for t, has in results]
    return Graph({name: leaves.get(t, t) for name, t in body.inputs.items()}, dict(zip(body.outputs, full, strict=True)))


def _switch(b: Batch) -> Any:
    if b.rows[0]:
        return one_by_one(b)  # each row chooses a branch of its own
    return b.op(*b.inputs, branches=tuple(_with_rows(branch, b, b.rows[1:]) for branch in b.attributes["branches"]))


def _custom_gradient(b: Batch) -> Tensor:
    # An operand without rows is repeated, so that the cotangents of its rows are summed.
    body, outputs = b.attributes["body"], b.attributes["outputs"]
    return b.op(*(b.full(i) for i in range(len(b.inputs))), body=_with_rows(body, b, [True] * len(body.inputs)), outputs=outputs)


def _expanded(b: Batch) -> list[Tensor]:
    """All rows of the smaller ops that the op can be made of."""
    assert b.op.expand is not None
    leaves = [new_input(f"in{i}", t.shape, t.dtype) for i, t in enumerate(b.node.inputs)]
    wide = {t: new_input(f"rows{i}", b.inputs[i].shape, t.dtype) for i, t in enumerate(leaves) if b.rows[i]}
    results = batched(b.op.expand(*leaves, **b.attributes), wide, b.size)
    outputs = {f"out{i}": t if has else broadcast_to(t, (b.size, *t.shape)) for i, (t, has) in enumerate(results)}
    return list(Graph({f"in{i}": wide.get(t, t) for i, t in enumerate(leaves)}, outputs).apply(*b.inputs))


def _recompute(b: Batch) -> Tensor:
    outputs = b.attributes["outputs"]
    return b.op(*(b.full(i) for i in range(outputs)), *b.inputs[outputs:], outputs=outputs)


def _scan(b: Batch) -> list[Tensor]:
    a = b.attributes
    body: Graph = a["body"]
    carries, lines = a["carries"], range(a["carries"], a["carries"] + a["sequences"])
    ins, outs = list(body.inputs.values()), list(body.outputs.values())
    order, rows = topological(outs), list(b.rows)
    while True:  # a carry has rows if one step gives it any
        with_rows = ancestors_of([t for t, has in zip(ins, rows, strict=True) if has], order)
        more = [has or (i < carries and outs[i] in with_rows) for i, has in enumerate(rows)]
        if more == rows:
            break
        rows = more
    leaves = {t: new_input(f"{t.name}", (b.size, *t.shape), t.dtype) for t, has in zip(ins, rows, strict=True) if has}
    results = batched(outs, leaves, b.size)
    values = [t for t, _ in results]
    for i, (t, has) in enumerate(results[:carries]):
        if rows[i] and not has:
            values[i] = broadcast_to(t, (b.size, *t.shape))
    inputs = {name: leaves.get(t, t) for name, t in body.inputs.items()}
    inner = Graph(inputs, dict(zip(body.outputs, values, strict=True)))
    given = [b.full(i) if i < carries and rows[i] else t for i, t in enumerate(b.inputs)]
    given = [swapaxes(t, 0, 1) if i in lines and rows[i] else t for i, t in enumerate(given)]
    parts = bare_scan(inner, given[:carries], [given[i] for i in lines], given[lines.stop :], a["length"], a["reverse"])
    has_rows = [*rows[:carries], *(has for _, has in results[carries:]), *rows[:carries]]
    return [
        broadcast_to(t, (b.size, *t.shape)) if not has else t if i < carries else swapaxes(t, 0, 1)
        for i, (t, has) in enumerate(zip(parts, has_rows, strict=True))
    ]


RULES |= {name: _expanded for name, op in OPS.items() if op.expand is not None}
RULES |= {name: _elementwise for name, op in OPS.items() if op.ufunc is not None}
RULES |= dict.fromkeys(("where", "cast", "maximum_mask", "relu", "relu_gradient", "sigmoid", "softplus", "stop_gradient"), _elementwise)
RULES |= dict.fromkeys(("erf", "sinc", "one_minus_square", "real", "imag", "closed_over"), _elementwise)
RULES |= dict.fromkeys(("sum", "mean", "prod", "max", "min", "any", "all", "logsumexp", "norm"), _shifted(axis=_next))
RULES |= dict.fromkeys(("cumsum", "cumprod", "argmax", "argmin", "softmax", "log_softmax", "sort", "top_k"), _shifted(axis=_next))
RULES |= dict.fromkeys(("fft", "ifft", "rfft", "irfft"), _shifted(axis=_next))
RULES |= dict.fromkeys(("inv", "det", "slogdet"), _shifted())
RULES |= {
    "reshape": _shifted(shape=_longer),
    "transpose": _shifted(axes=lambda axes, b: (0, *(a + 1 for a in axes))),
    "broadcast_to": _broadcast_to,
    "slice": _shifted(index=_with_all_rows),
    "unslice": _shifted(index=_with_all_rows, shape=_longer),
    "flip": _shifted(axis=_next),
    "concatenate": _shifted(axis=_next),
    "pad": _shifted(width=lambda width, b: ((0, 0), *width)),
    "matmul": _matmul,
    "einsum": _einsum,
    "solve": lambda b: b.op(*(b.wide(i, max(t.ndim for t in b.node.inputs)) for i in range(2))),
    "take": _take,
    "take_transpose": _take_transpose,
    "take_along_axis": _along,
    "take_along_axis_transpose": _along,
    "gather": _gather,
    "scatter_add": _scatter,
    "one_hot": _shifted(),
    **dict.fromkeys(("conv", "conv_by_input", "conv_by_kernel", "tiled_conv", "tiled_conv_by_input"), _conv),
    **dict.fromkeys(("max_pool", "max_unpool", "max_pick", "sum_pool", "sum_unpool", "patches", "patches_transpose"), _more_samples),
    **dict.fromkeys(("attention", "attention_gradient"), _attention),
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "batch_norm_gradient": _batch_norm_gradient,
    "layer_norm_gradient": _layer_norm_gradient,
    "gelu": _elementwise,
    "gelu_gradient": _shifted(),
    **dict.fromkeys(("scatter_set", "scatter_multiply", "scatter_maximum", "scatter_minimum"), _scatter_into),
    "scan": _scan,
    "switch": _switch,
    "while": one_by_one,
    "custom_gradient": _custom_gradient,
    "recompute": _recompute,
    "barrier": lambda b: b.op(b.full(0), b.inputs[1]),
    **dict.fromkeys(("random_uniform", "random_normal", "fold_in"), one_by_one),
}
