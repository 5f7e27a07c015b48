"""Ops that multiply and sum: matrix product, Einstein summation, and other products made of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.elementwise import multiply
from dagtrain.ops.record import Draw, Kernel, Op, Sample, as_tensor, axis_of
from dagtrain.ops.reduce import in_single, is_half
from dagtrain.ops.shape import broadcast_to, expand_dims, reshape, swapaxes, transpose


def _matmul_spec(a: Spec, b: Spec) -> Spec:
    if not a.shape or not b.shape:
        raise ShapeError(f"matmul needs at least one axis on both sides, got shapes {a.shape} and {b.shape}: multiply by a number with *.")
    rows = a.shape[-1]
    columns = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if rows != columns:
        raise ShapeError(
            f"matmul of shapes {a.shape} and {b.shape}: the last axis of the first ({rows}) must be as long as the "
            f"{'second last' if b.ndim > 1 else 'only'} axis of the second ({columns})."
        )
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape}: the leading axes do not broadcast.") from None
    return Spec((*batch, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())), np.result_type(a.dtype, b.dtype))


def _matmul_kernel(a: Any, b: Any, out: Any = None) -> Any:
    """One product of all rows where the second is a matrix; NumPy makes one for each of the leading axes, each of a few rows."""
    if a.ndim > 2 and b.ndim == 2 and a.size and (out is None or out.flags.c_contiguous):
        rows = a.reshape(-1, a.shape[-1])
        if out is None:
            return np.matmul(rows, b).reshape(*a.shape[:-1], b.shape[1])
        np.matmul(rows, b, out.reshape(rows.shape[0], b.shape[1]))
        return out
    return np.matmul(a, b, out)


def _matmul_gradient(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    wide_a = expand_dims(a, 0) if a.ndim == 1 else a
    wide_b = expand_dims(b, 1) if b.ndim == 1 else b
    if a.ndim == 1:
        g = expand_dims(g, -1 if b.ndim == 1 else g.ndim - 1)
    if b.ndim == 1:
        g = expand_dims(g, g.ndim)
    by_a = g @ swapaxes(wide_b, -1, -2)
    if b.ndim == 2 and a.ndim > 2 and g.size and a.shape[-1]:  # a sum over all rows is one product, and not the sum of many
        by_b = swapaxes(reshape(a, (-1, a.shape[-1])), 0, 1) @ reshape(g, (-1, g.shape[-1]))
    else:
        by_b = swapaxes(wide_a, -1, -2) @ g
    if a.ndim == 1:
        by_a = reshape(by_a, (*by_a.shape[:-2], by_a.shape[-1]))
    if b.ndim == 1:
        by_b = reshape(by_b, by_b.shape[:-1])
    return by_a, by_b


matmul = Op(
    "matmul",
    Kernel(_matmul_kernel, positional=True),
    _matmul_spec,
    _matmul_gradient,
    (
        Sample((Draw((3, 4)), Draw((4, 2)))),
        Sample((Draw((4,)), Draw((4, 2)))),
        Sample((Draw((3, 4)), Draw((4,)))),
        Sample((Draw((4,)), Draw((4,)))),
        Sample((Draw((5, 3, 4)), Draw((4, 2)))),
        Sample((Draw((2, 1, 3, 4)), Draw((5, 4, 2)))),
    ),
    macs=lambda spec, a, b: float(spec.size * a.shape[-1]),
)


_LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _parse(subscripts: str, shapes: list[tuple[int, ...]]) -> tuple[list[str], str]:
    """Operand labels and output labels, the ellipsis written out with capital letters that are free."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ShapeError(f"einsum {subscripts!r} names {len(terms)} operands, got {len(shapes)}.")
    free = [c for c in _LABELS if c not in text]
    extra = max([len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True) if "..." in t], default=0)
    dots = "".join(free[:extra])
    expanded = []
    for term, shape in zip(terms, shapes, strict=True):
        dotted = len(shape) - len(term.replace("...", ""))
        expanded.append(term.replace("...", dots[len(dots) - dotted :] if dotted > 0 else ""))
    if not arrow:
        labels = "".join(expanded)
        right = dots + "".join(sorted(c for c in set(labels) if labels.count(c) == 1 and c not in dots))
    else:
        right = right.replace("...", dots)
    return expanded, right


def _einsum_spec(*specs: Spec, subscripts: str) -> Spec:
    terms, right = _parse(subscripts, [s.shape for s in specs])
    lengths: dict[str, int] = {}
    for term, spec in zip(terms, specs, strict=True):
        if len(term) != spec.ndim:
            raise ShapeError(f"einsum {subscripts!r}: {term!r} has {len(term)} labels for a tensor of shape {spec.shape}.")
        for label, n in zip(term, spec.shape, strict=True):
            if lengths.setdefault(label, n) != n:
                raise ShapeError(f"einsum {subscripts!r}: label {label!r} has lengths {lengths[label]} and {n}.")
    for label in right:
        if label not in lengths:
            raise ShapeError(f"einsum {subscripts!r}: the output label {label!r} is on no operand.")
    return Spec(tuple(lengths[c] for c in right), np.result_type(*(s.dtype for s in specs)))


def _einsum_gradient(g: Tensor, y: Tensor, *inputs: Tensor, subscripts: str) -> tuple[Tensor, ...]:
    left, _, right = subscripts.partition("->")
    terms = left.split(",")
    grads = []
    for i, (term, operand) in enumerate(zip(terms, inputs, strict=True)):
        others = [(t, x) for j, (t, x) in enumerate(zip(terms, inputs, strict=True)) if j != i]
        reach = set(right).union(*(t for t, _ in others))
        shared = "".join(c for c in dict.fromkeys(term) if c in reach)
        part = _einsum(g, *(x for _, x in others), subscripts=",".join([right, *(t for t, _ in others)]) + "->" + shared)
        # Labels that only this operand has were summed over: their gradient is spread evenly.
        distinct = list(dict.fromkeys(term))
        lengths = {c: operand.shape[term.index(c)] for c in distinct}
        part = reshape(part, [lengths[c] if c in shared else 1 for c in distinct])
        part = broadcast_to(part, [lengths[c] for c in distinct])
        if len(distinct) < len(term):
            # A repeated label takes the diagonal: its gradient is zero off the diagonal.
            fresh = iter(c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in subscripts)
            labels, masks = "", []
            for k, c in enumerate(term):
                label = next(fresh) if c in term[:k] else c
                masks += [c + label] if label != c else []
                labels += label
            eyes = [as_tensor(np.eye(lengths[mask[0]], dtype=g.dtype)) for mask in masks]
            part = _einsum(part, *eyes, subscripts=",".join(["".join(distinct), *masks]) + "->" + labels)
        grads.append(part)
    return tuple(grads)


def _einsum_kernel(*arrays: Any, out: Any = None, subscripts: str) -> Any:
    if all(map(is_half, arrays)):  # in some forms NumPy sums float16 in float16
        return in_single(_einsum_kernel, arrays, out, subscripts=subscripts)
    return np.einsum(subscripts, *arrays, out=out, optimize=len(arrays) > 1)


def _einsum_terms(specs: Sequence[Spec], subscripts: str) -> int:
    """Products that are summed."""
    terms = subscripts.partition("->")[0].split(",")
    return math.prod({c: n for t, s in zip(terms, specs, strict=True) for c, n in zip(t, s.shape, strict=True)}.values())


_einsum = Op(
    "einsum",
    _einsum_kernel,
    _einsum_spec,
    _einsum_gradient,
    (
        Sample((Draw((2, 3)), Draw((3, 4))), {"subscripts": "ij,jk->ik"}),
        Sample((Draw((2, 3)), Draw((3, 4)), Draw((4,))), {"subscripts": "ij,jk,k->i"}),
        Sample((Draw((3, 3)),), {"subscripts": "ii->i"}),
        Sample((Draw((3, 3)),), {"subscripts": "ii->"}),
        Sample((Draw((2, 3)),), {"subscripts": "ij->j"}),
        Sample((Draw((5, 2, 3)), Draw((5, 3, 4))), {"subscripts": "bij,bjk->bik"}),
    ),
    macs=lambda spec, *specs, subscripts: float((len(specs) - 1) * _einsum_terms(specs, subscripts)),
    flops=lambda spec, *specs, subscripts: float(len(specs) * _einsum_terms(specs, subscripts)),
)


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Einstein summation as numpy.einsum, with subscripts as text."""
    tensors = [as_tensor(x) for x in operands]
    terms, right = _parse(subscripts, [t.shape for t in tensors])
    long = {label for term, t in zip(terms, tensors, strict=True) for label, n in zip(term, t.shape, strict=False) if n != 1}
    for k, (term, tensor) in enumerate(zip(terms, tensors, strict=True)):
        # NumPy broadcasts axes of length 1 against longer ones of the same label: here they are taken away.
        if len(term) == tensor.ndim and any(n == 1 and label in long for label, n in zip(term, tensor.shape, strict=True)):
            kept = [i for i, (label, n) in enumerate(zip(term, tensor.shape, strict=True)) if n != 1 or label not in long]
            terms[k], tensors[k] = "".join(term[i] for i in kept), reshape(tensor, [tensor.shape[i] for i in kept])
    return _einsum(*tensors, subscripts=",".join(terms) + "->" + right)


def subscripts_of(arguments: Sequence[Any]) -> tuple[str, list[Any]]:
    """The text, and the operands, of einsum's other form: an operand, the numbers of its axes, ..., the numbers of the result."""
    operands, lists = list(arguments[:-1:2]), list(arguments[1::2])
    result = [arguments[-1]] if len(arguments) % 2 else []
    numbers = sorted({n for axes in (*lists, *result) for n in axes if n is not Ellipsis})
    letters = {n: _LABELS[n] if 0 <= n < len(_LABELS) else "" for n in numbers}
    if not all(letters.values()):
        raise ShapeError(f"einsum numbers axes from 0 to {len(_LABELS) - 1}, got {numbers}.")
    terms = ["".join("..." if n is Ellipsis else letters[n] for n in axes) for axes in lists]
    text = ",".join(terms)
    return (text + "->" + "".join("..." if n is Ellipsis else letters[n] for n in result[0]) if result else text), operands


def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """Sum of products over axes of both, as numpy.tensordot."""
    a, b = as_tensor(a), as_tensor(b)
    if isinstance(axes, int | np.integer):
        over_a, over_b = list(range(-int(axes), 0)), list(range(int(axes)))
    else:
        over_a, over_b = ([int(x)] if isinstance(x, int | np.integer) else list(x) for x in axes)
    over_a, over_b = [axis_of("tensordot", i, a.ndim) for i in over_a], [axis_of("tensordot", i, b.ndim) for i in over_b]
    if len(over_a) != len(over_b):
        raise ShapeError(f"tensordot sums over as many axes of the first as of the second: got {axes}.")
    for i, j in zip(over_a, over_b, strict=True):
        if a.shape[i] != b.shape[j]:
            raise ShapeError(f"tensordot of shapes {a.shape} and {b.shape}: axis {i} ({a.shape[i]}) against axis {j} ({b.shape[j]}).")
    rest_a = [i for i in range(a.ndim) if i not in over_a]
    rest_b = [j for j in range(b.ndim) if j not in over_b]
    inner = math.prod(a.shape[i] for i in over_a)
    left = reshape(transpose(a, [*rest_a, *over_a]) if a.ndim else a, (math.prod(a.shape[i] for i in rest_a), inner))
    right = reshape(transpose(b, [*over_b, *rest_b]) if b.ndim else b, (inner, math.prod(b.shape[j] for j in rest_b)))
    return reshape(matmul(left, right), [*(a.shape[i] for i in rest_a), *(b.shape[j] for j in rest_b)])


def dot(a: Any, b: Any) -> Tensor:
    """numpy.dot."""
    a, b = as_tensor(a), as_tensor(b)
    if not a.ndim or not b.ndim:
        return multiply(a, b)
    if a.ndim <= 2 and b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),)))


def inner(a: Any, b: Any) -> Tensor:
    """numpy.inner: over the last axes of both."""
    a, b = as_tensor(a), as_tensor(b)
    return multiply(a, b) if not a.ndim or not b.ndim else tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


def outer(a: Any, b: Any) -> Tensor:
    """numpy.outer: all products of the elements of two vectors."""
    return multiply(reshape(as_tensor(a), (-1, 1)), reshape(as_tensor(b), (1, -1)))
