"""NumPy's ufuncs on tensors: each becomes the op whose kernel it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import UnsupportedError
from dagtrain.numpy_api.composed import matvec, vecdot, vecmat
from dagtrain.ops import OPS, Op, as_tensor, reduce
from dagtrain.ops.shape import reshape

UFUNCS: dict[np.ufunc, Op] = {op.kernel.call: op for op in OPS.values() if isinstance(op.kernel.call, np.ufunc)}
UFUNCS.update({np.degrees: OPS["rad2deg"], np.radians: OPS["deg2rad"]})  # NumPy has these under two names
_REDUCE = {
    np.add: reduce.reduce_sum,
    np.multiply: reduce.reduce_prod,
    np.maximum: reduce.reduce_max,
    np.minimum: reduce.reduce_min,
    np.logical_or: reduce.reduce_any,
    np.logical_and: reduce.reduce_all,
}
COMPOSED_UFUNCS = {
    np.vecdot: vecdot,
    **{getattr(np, f.__name__): f for f in (matvec, vecmat) if hasattr(np, f.__name__)},
}  # the two since NumPy 2.2
_ACCUMULATE = {np.add: reduce.cumsum, np.multiply: reduce.cumprod}


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Implement `Tensor.__array_ufunc__`."""
    if kwargs.get("out") is not None:
        raise UnsupportedError(f"np.{ufunc.__name__}(..., out=...): tensors never change. Use the result instead, as in x = x + y.")
    options = {k: v for k, v in kwargs.items() if k != "out" and v is not None}
    if method == "__call__" and not options:
        if ufunc in UFUNCS:
            return UFUNCS[ufunc](*inputs)
        if ufunc in COMPOSED_UFUNCS:
            return COMPOSED_UFUNCS[ufunc](*inputs)
        if ufunc is np.divmod:
            return OPS["floor_divide"](*inputs), OPS["remainder"](*inputs)
        if ufunc is np.conjugate and all(not np.issubdtype(as_tensor(i).dtype, np.complexfloating) for i in inputs):
            return as_tensor(inputs[0])
    if method == "reduce" and ufunc in _REDUCE and set(options) <= {"axis", "keepdims"}:
        axis = kwargs.get("axis", 0)
        return _REDUCE[ufunc](as_tensor(inputs[0]), axis, bool(options.get("keepdims", False)))
    if method == "accumulate" and ufunc in _ACCUMULATE and set(options) <= {"axis"}:
        return _ACCUMULATE[ufunc](as_tensor(inputs[0]), options.get("axis", 0))
    if method == "outer" and not options and ufunc in UFUNCS:
        a, b = map(as_tensor, inputs)
        return UFUNCS[ufunc](reshape(a, (*a.shape, *(1,) * b.ndim)), b)
    name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    extra = f" with {', '.join(sorted(options))}" if options else ""
    raise UnsupportedError(f"{name}{extra} is not supported on tensors. Supported ufuncs: {', '.join(sorted(u.__name__ for u in UFUNCS))}.")
