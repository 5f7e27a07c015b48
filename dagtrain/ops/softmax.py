"""Softmax and its logarithm along one axis: the stable forms, with their own work space.

Many short rows (the classes of a batch) are transposed first: NumPy reduces a few long columns faster than many short rows. The shape alone
decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import DTypeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.elementwise import exp
from dagtrain.ops.record import Draw, Kernel, Op, Sample, as_tensor, axis_of
from dagtrain.ops.reduce import add_reduce, in_single, is_half, maximum_reduce, reduce_sum, reduced_shape

_SAMPLES = tuple(Sample((Draw((3, 4), 0.5, 2.0),), {"axis": axis}) for axis in (0, 1))


_NARROW = 64


def _is_narrow(shape: tuple[int, ...], axis: int) -> bool:
    """Whether many short rows are reduced."""
    return len(shape) == 2 and axis == 1 and shape[1] <= _NARROW and shape[0] >= 2 * shape[1]


def _narrow_log_softmax(a: Any, out: Any, scratch: Any) -> Any:
    shifted, exps, line = scratch if scratch is not None else (np.empty(a.shape[::-1], a.dtype), None, None)
    np.copyto(shifted, a.T)
    top = maximum_reduce(shifted.real if np.iscomplexobj(a) else shifted, 0, None, line, True)
    np.subtract(shifted, top, out=shifted)
    total = add_reduce(np.exp(shifted, out=exps), 0, None, line, True)
    np.subtract(shifted, np.log(total, out=total), out=shifted)
    result = np.empty(a.shape, a.dtype) if out is None else out
    np.copyto(result, shifted.T)
    return result


_BLOCK = 32768
"""Elements of the rows along the last axis that all passes are made over before the next ones are read."""


def _row_blocks(a: Any, axis: int) -> list[slice]:
    """Slices of the first axis, if the passes are made over blocks of it; else none. The shape alone decides."""
    if axis != a.ndim - 1 or a.ndim < 2 or a.shape[0] < 2 or a.size < 2 * _BLOCK:
        return []
    step = max(1, _BLOCK * a.shape[0] // a.size)
    return [slice(i, i + step) for i in range(0, a.shape[0], step)]


def _by_blocks(kernel: Any, a: Any, out: Any, scratch: Any, blocks: list[slice], axis: int) -> Any:
    result = np.empty(a.shape, a.dtype) if out is None else out
    for block in blocks:
        # The space of one block serves them all.
        kernel(a[block], result[block], None if scratch is None else tuple(s[: len(a[block])] for s in scratch), axis=axis)
    return result


def _log_softmax_kernel(a: Any, out: Any = None, scratch: Any = None, *, axis: int) -> Any:
    if a.itemsize == 2 and is_half(a):
        return in_single(_log_softmax_kernel, (a,), out, axis=axis)
    if _is_narrow(a.shape, axis):
        return _narrow_log_softmax(a, out, scratch)
    blocks = _row_blocks(a, axis)
    if blocks:
        return _by_blocks(_log_softmax_kernel, a, out, scratch, blocks, axis)
    exps, line = scratch if scratch is not None else (None, None)
    top = maximum_reduce(a.real if np.iscomplexobj(a) else a, axis, None, line, True)
    shifted = np.subtract(a, top, out=out)
    exps = np.exp(shifted, out=exps)
    total = add_reduce(exps, axis, None, line, True)
    return np.subtract(shifted, np.log(total, out=total), out=shifted)


def _softmax_kernel(a: Any, out: Any = None, scratch: Any = None, *, axis: int) -> Any:
    if a.itemsize == 2 and is_half(a):
        return in_single(_softmax_kernel, (a,), out, axis=axis)
    blocks = _row_blocks(a, axis)
    if blocks:
        return _by_blocks(_softmax_kernel, a, out, scratch, blocks, axis)
    line = scratch[0] if scratch is not None else None
    top = maximum_reduce(a.real if np.iscomplexobj(a) else a, axis, None, line, True)
    exps = np.subtract(a, top, out=out)
    np.exp(exps, out=exps)
    return np.divide(exps, add_reduce(exps, axis, None, line, True), out=exps)


def _line(a: Spec, axis: int) -> Spec:
    return Spec(reduced_shape(a.shape, (axis,), True), a.dtype)


def _floats(a: Spec, **_: Any) -> Spec:
    if a.dtype.kind not in "fc":
        raise DTypeError(f"softmax is defined for floats, not {a.dtype}. Cast with x.astype(np.float32) first.")
    return a


def _log_softmax_scratch(a: Spec, *, axis: int) -> tuple[Spec, ...]:
    if _is_narrow(a.shape, axis):
        transposed = Spec(a.shape[::-1], a.dtype)
        return transposed, transposed, Spec((1, a.shape[0]), a.dtype)
    blocks = _row_blocks(a, axis)
    part = Spec((blocks[0].stop, *a.shape[1:]), a.dtype) if blocks else a
    return part, _line(part, axis)


_log_softmax = Op(
    "log_softmax",
    Kernel(_log_softmax_kernel, scratch=_log_softmax_scratch),
    _floats,
    lambda g, y, a, *, axis: (g - exp(y) * reduce_sum(g, (axis,), True),),
    (*_SAMPLES, Sample((Draw((9, 4)),), {"axis": 1})),
    flops=lambda spec, a, **_: 14.0 * a.size,
)
_softmax = Op(
    "softmax",
    Kernel(_softmax_kernel, scratch=lambda a, *, axis: (_line(a, axis),)),
    _floats,
    lambda g, y, a, *, axis: (y * (g - reduce_sum(g * y, (axis,), True)),),
    _SAMPLES,
    flops=lambda spec, a, **_: 14.0 * a.size,
)


def log_softmax(a: Any, axis: int = -1) -> Tensor:
    """log(softmax(a)) without overflow or cancellation."""
    a = as_tensor(a)
    return _log_softmax(a, axis=axis_of("log_softmax", axis, a.ndim))


def softmax(a: Any, axis: int = -1) -> Tensor:
    """exp(a) / sum(exp(a)) along an axis, without overflow."""
    a = as_tensor(a)
    return _softmax(a, axis=axis_of("softmax", axis, a.ndim))
