"""NumPy's ufuncs on tensors: each becomes the op whose kernel it is; keyword arguments are honoured or refused as those of functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError
from dagtrain.numpy_api.calls import Call, name_of, unsupported
from dagtrain.numpy_api.moves import converted
from dagtrain.numpy_api.products import matvec, vecdot, vecmat
from dagtrain.numpy_api.reductions import all_, any_, cumprod, cumsum, highest, lowest, prod, total
from dagtrain.ops import OPS, Op, as_tensor
from dagtrain.ops.elementwise import conjugate
from dagtrain.ops.record import axis_of, kind_of
from dagtrain.ops.shape import reshape

UFUNCS: dict[np.ufunc, Op] = {op.kernel.call: op for op in OPS.values() if isinstance(op.kernel.call, np.ufunc) and op.name != "conjugate"}
UFUNCS.update({np.degrees: OPS["rad2deg"], np.radians: OPS["deg2rad"]})  # NumPy has these under two names
UFUNCS[np.matmul] = OPS["matmul"]  # whose kernel joins rows before
COMPOSED_UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    np.vecdot: vecdot,
    **{getattr(np, f.__name__): f for f in (matvec, vecmat) if hasattr(np, f.__name__)},  # the two since NumPy 2.2
    np.divmod: lambda a, b: (OPS["floor_divide"](a, b), OPS["remainder"](a, b)),
    np.conjugate: lambda a: conjugate(as_tensor(a)),
}
_REDUCE = {np.add: total, np.multiply: prod, np.maximum: highest, np.minimum: lowest, np.logical_or: any_, np.logical_and: all_}
_ACCUMULATE = {np.add: cumsum, np.multiply: cumprod}


def _call(ufunc: np.ufunc) -> Call:
    """``ufunc(*inputs, dtype=..., casting=...)``; all their other arguments are refused."""
    function: Callable[..., Any] = UFUNCS[ufunc] if ufunc in UFUNCS else COMPOSED_UFUNCS[ufunc]

    def call(*inputs: Any, dtype: Any = None, casting: Any = "same_kind") -> Any:
        if dtype is None and casting == "same_kind":
            return function(*inputs)
        if ufunc in UFUNCS:
            return function(*_cast_inputs(ufunc, inputs, dtype, casting))
        return function(*[i if dtype is None else converted(i, dtype, casting) for i in inputs])

    return Call(name_of(ufunc), call, lambda *inputs, **kwargs: None)


def _cast_inputs(ufunc: np.ufunc, inputs: Sequence[Any], dtype: Any, casting: Any) -> list[Any]:
    """The inputs in the dtypes in which a ufunc gives this one."""
    kinds = [kind_of(i) for i in inputs]
    options: dict[str, Any] = {} if dtype is None else {"signature": (*(None,) * len(inputs), np.dtype(dtype))}
    try:
        loop = ufunc.resolve_dtypes((*kinds, None), casting=casting, **options)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"{name_of(ufunc)} with dtype={dtype!r}, casting={casting!r}: {error}") from None
    return [as_tensor(i, d) if isinstance(k, type) else converted(i, d, "unsafe") for i, k, d in zip(inputs, kinds, loop, strict=False)]


def _accumulated(running: Callable[..., Any]) -> Callable[..., Any]:
    def accumulate(a: Any, axis: int = 0, dtype: Any = None) -> Any:
        a = as_tensor(a)
        return running(a, axis_of("accumulate", axis, a.ndim), dtype)

    return accumulate


def _with_keywords(a: Any, **kwargs: Any) -> None:
    """The signature of a ufunc's methods, as far as it matters: NumPy names all arguments but the first."""


def _outer(op: Op) -> Callable[..., Any]:
    def outer(a: Any, b: Any) -> Any:
        a, b = as_tensor(a), as_tensor(b)
        return op(reshape(a, (*a.shape, *(1,) * b.ndim)), b)

    return outer


CALLS: dict[Any, Call] = {
    **{(u, "__call__"): _call(u) for u in (*UFUNCS, *COMPOSED_UFUNCS)},
    **{(u, "reduce"): Call(f"{name_of(u)}.reduce", f, _with_keywords) for u, f in _REDUCE.items()},
    **{(u, "accumulate"): Call(f"{name_of(u)}.accumulate", _accumulated(f), _with_keywords) for u, f in _ACCUMULATE.items()},
    **{
        (u, "outer"): Call(f"{name_of(u)}.outer", _outer(op), lambda a, b, **kwargs: None)
        for u, op in UFUNCS.items()
        if u.nin == 2 and u.signature is None
    },
}
"""Each ufunc, and its methods, with arguments."""


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Implement `Tensor.__array_ufunc__`."""
    if not kwargs and method == "__call__":
        op = UFUNCS.get(ufunc)
        if op is not None:
            return op(*inputs)
    call = CALLS.get((ufunc, method))
    if call is None:
        name = name_of(ufunc) + ("" if method == "__call__" else f".{method}")
        raise unsupported(name, {c.name for c in CALLS.values()})
    return call(*inputs, **({"axis": 0} | kwargs if method in ("reduce", "accumulate") else kwargs))
