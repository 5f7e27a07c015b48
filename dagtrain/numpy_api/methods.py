"""NumPy's protocols, indexing, and the methods and attributes of arrays, for tensors.

Methods are those of NumPy's arrays: ``x.sum(axis=0)``, ``x.reshape(2, -1)``, ``x.astype("f4")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagtrain.graph import Tensor
from dagtrain.numpy_api import functions as f
from dagtrain.numpy_api.functions import apply_function
from dagtrain.numpy_api.indexing import getitem
from dagtrain.numpy_api.ufuncs import apply_ufunc
from dagtrain.ops import shape
from dagtrain.ops.elementwise import cast
from dagtrain.ops.index import take
from dagtrain.ops.linalg import dot

__all__ = ["apply_function", "apply_ufunc", "attribute", "getitem", "transpose"]


def _spread(args: tuple[Any, ...]) -> Any:
    return args[0] if len(args) == 1 else args


METHODS: dict[str, Callable[..., Any]] = {
    "sum": f.total,
    "mean": f.mean,
    "prod": f.prod,
    "max": f.highest,
    "min": f.lowest,
    "any": f.any_,
    "all": f.all_,
    "var": f.var,
    "std": f.std,
    "argmax": f.argmax,
    "argmin": f.argmin,
    "argsort": f.argsort,
    "cumsum": f.cumsum,
    "cumprod": f.cumprod,
    "clip": f.clip,
    "round": f.round_,
    "trace": f.trace,
    "diagonal": f.diagonal,
    "repeat": f.repeat,
    "astype": lambda a, dtype, **_: cast(a, dtype),
    "copy": lambda a: a,
    "reshape": lambda a, *args, order="C": f._reshape(a, _spread(args), order),
    "ravel": lambda a: shape.reshape(a, (-1,)),
    "flatten": lambda a: shape.reshape(a, (-1,)),
    "squeeze": shape.squeeze,
    "swapaxes": shape.swapaxes,
    "transpose": lambda a, *args: shape.transpose(a, _spread(args) if args else None),
    "take": lambda a, indices, axis=None: take(a, indices, axis),
    "dot": dot,
}


def transpose(a: Tensor) -> Tensor:
    """Implement `Tensor.T`."""
    return shape.transpose(a, None)


def attribute(a: Tensor, name: str) -> Any:
    """Implement `Tensor.__getattr__`."""
    if name in METHODS:
        function = METHODS[name]

        def bound(*args: Any, **kwargs: Any) -> Any:
            return f.call_named(f"x.{name}", function, a, *args, **kwargs)

        bound.__name__ = name
        return bound
    if name in ("mT",):
        return shape.swapaxes(a, -1, -2)
    raise AttributeError(f"a tensor has no attribute {name!r}.")
