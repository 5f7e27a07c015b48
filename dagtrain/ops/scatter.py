"""Writing into places: `scatter` sets elements, or joins them with what is there by a product, a maximum or a minimum.

`scatter_add`, the gradient of `gather`, is in `dagtrain.ops.index`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import DTypeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.elementwise import cast, where
from dagtrain.ops.index import gather, gathered_spec, scatter_add
from dagtrain.ops.record import Draw, Op, Sample, as_tensor, written
from dagtrain.ops.shape import broadcast_to

__all__ = ["scatter"]

_SAMPLES = (
    Sample((Draw((5, 3)), Draw((4, 3)), Draw((4,), 0, 5, "i8"))),
    Sample((Draw((5, 3)), Draw((4,)), Draw((4,), 0, 5, "i8"), Draw((4,), 0, 3, "i8"))),
)


def _spec(a: Spec, updates: Spec, *indices: Spec) -> Spec:
    if updates.dtype != a.dtype:
        raise DTypeError(f"scatter: the updates are {updates.dtype} and the tensor {a.dtype}.")
    gathered_spec(a, *indices)
    return a


def _scatter(name: str, write: Any, gradient: Any) -> Op:
    def kernel(a: Any, updates: Any, *indices: Any, out: Any = None) -> Any:
        result = written(a, out) if out is not None else a.copy()
        write(result, indices, updates)
        return result

    return Op(name, kernel, _spec, gradient, _SAMPLES, flops=lambda spec, a, updates, *_: float(updates.size))


def _set(result: Any, indices: Any, updates: Any) -> None:
    result[indices] = updates


def _set_gradient(g: Tensor, y: Tensor, a: Tensor, updates: Tensor, *indices: Tensor) -> list[Tensor | None]:
    """Of several updates at one place, the last has the cotangent: the others are overwritten."""
    order = np.arange(updates.size).reshape(updates.shape)
    last = scatter(as_tensor(np.full(a.shape, -1)), indices, order)
    return [where(last < 0, g, 0), where(gather(last, *indices) == order, gather(g, *indices), 0), *[None] * len(indices)]


def _multiply_gradient(g: Tensor, y: Tensor, a: Tensor, updates: Tensor, *indices: Tensor) -> list[Tensor | None]:
    """Products of the other factors, also where a factor is zero."""
    zeros = scatter_add(cast(a == 0, np.intp), indices, cast(updates == 0, np.intp))
    others = scatter(where(a == 0, 1, a), indices, where(updates == 0, 1, updates), "multiply")  # the product of all that are not zero

    def by(factor: Tensor, zeros: Tensor, others: Tensor) -> Tensor:
        is_zero = factor == 0
        without = where(is_zero, others, others / where(is_zero, 1, factor))
        return where(zeros == cast(is_zero, np.intp), without, 0)

    return [
        g * by(a, zeros, others),
        gather(g, *indices) * by(updates, gather(zeros, *indices), gather(others, *indices)),
        *[None] * len(indices),
    ]


def _extreme_gradient(g: Tensor, y: Tensor, a: Tensor, updates: Tensor, *indices: Tensor) -> list[Tensor | None]:
    """Equal extremes share the cotangent, as in `max` and `min`."""
    here, there = cast(a == y, g.dtype), cast(updates == gather(y, *indices), g.dtype)
    share = g / scatter_add(here, indices, there)
    return [share * here, gather(share, *indices) * there, *[None] * len(indices)]


_OPS = {
    "set": _scatter("scatter_set", _set, _set_gradient),
    "multiply": _scatter("scatter_multiply", np.multiply.at, _multiply_gradient),
    "maximum": _scatter("scatter_maximum", np.maximum.at, _extreme_gradient),
    "minimum": _scatter("scatter_minimum", np.minimum.at, _extreme_gradient),
}


def scatter(a: Any, indices: Any, updates: Any, how: str = "set") -> Tensor:
    """`a` with `updates` written at ``a[indices]``.

    Parameters
    ----------
    a
        Tensor or array.
    indices
        Whole numbers for the first axis, or a tuple of them for the leading axes, as for `gather`.
    updates
        Broadcast to the shape of ``a[indices]`` and cast to the dtype of `a`.
    how
        ``"set"``: the last of several updates at one place stays. ``"add"``, ``"multiply"``, ``"maximum"``, ``"minimum"``: all are joined
        with what is there, by NumPy's function of that name.

    Raises
    ------
    ShapeError, DTypeError, UnknownNameError

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> places, values = np.array([0, 2, 0]), np.array([1.0, 2.0, 3.0])
    >>> dt.scatter(np.zeros(3), places, values).compute()
    array([3., 0., 2.])
    >>> dt.scatter(np.ones(3), places, values, "multiply").compute()
    array([3., 1., 2.])
    """
    one_of("way to scatter", how, ("add", *_OPS))
    a, updates = as_tensor(a), as_tensor(updates)
    places = tuple(map(as_tensor, indices if isinstance(indices, tuple) else (indices,)))
    values = broadcast_to(cast(updates, a.dtype), gathered_spec(a.spec, *(i.spec for i in places)).shape)
    return scatter_add(a, places, values) if how == "add" else _OPS[how](a, values, *places)
