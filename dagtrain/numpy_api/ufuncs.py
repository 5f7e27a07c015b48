"""NumPy's ufuncs on tensors: each is the op that has it as its kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import UnsupportedError
from dagtrain.numpy_api.composed import matvec, vecdot, vecmat
from dagtrain.ops import OPS, Op, as_tensor, reduce
from dagtrain.ops.shape import reshape

UFUNCS: dict[np.ufunc, Op] = {op.kernel: op for op in OPS.values() if isinstance(op.kernel, np.ufunc)}
UFUNCS.update({np.degrees: OPS["rad2deg"], np.radians: OPS["deg2rad"]})  # NumPy has these under two names
_REDUCE = {
    np.add: reduce.reduce_sum,
    np.multiply: reduce.reduce_prod,
    np.maximum: reduce.reduce_max,
    np.minimum: reduce.reduce_min,
    np.logical_or: reduce.reduce_any,
    np.logical_and: reduce.reduce_all,
}
MADE = {np.vecdot: vecdot, **{getattr(np, f.__name__): f for f in (matvec, vecmat) if hasattr(np, f.__name__)}}  # the two since NumPy 2.2
_ACCUMULATE = {np.add: reduce.cumsum, np.multiply: reduce.cumprod}


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `Tensor.__array_ufunc__` does."""
    if kwargs.get("out") is not None:
        raise UnsupportedError(f"np.{ufunc.__name__}(..., out=...): tensors never change. Use the result instead, as in x = x + y.")
    given = {k: v for k, v in kwargs.items() if k != "out" and v is not None}
    if method == "__call__" and not given:
        if ufunc in UFUNCS:
            return UFUNCS[ufunc](*inputs)
        if ufunc in MADE:
            return MADE[ufunc](*inputs)
        if ufunc is np.divmod:
            return OPS["floor_divide"](*inputs), OPS["remainder"](*inputs)
        if ufunc is np.conjugate and all(not np.issubdtype(as_tensor(i).dtype, np.complexfloating) for i in inputs):
            return as_tensor(inputs[0])
    if method == "reduce" and ufunc in _REDUCE and set(given) <= {"axis", "keepdims"}:
        axis = kwargs.get("axis", 0)
        return _REDUCE[ufunc](as_tensor(inputs[0]), axis, bool(given.get("keepdims", False)))
    if method == "accumulate" and ufunc in _ACCUMULATE and set(given) <= {"axis"}:
        return _ACCUMULATE[ufunc](as_tensor(inputs[0]), given.get("axis", 0))
    if method == "outer" and not given and ufunc in UFUNCS:
        a, b = map(as_tensor, inputs)
        return UFUNCS[ufunc](reshape(a, (*a.shape, *(1,) * b.ndim)), b)
    what = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    extra = f" with {', '.join(sorted(given))}" if given else ""
    raise UnsupportedError(f"{what}{extra} is not supported on tensors. Supported ufuncs: {', '.join(sorted(u.__name__ for u in UFUNCS))}.")
