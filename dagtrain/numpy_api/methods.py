"""NumPy's protocols, indexing, and the methods and attributes of arrays, for tensors.

Methods are those of NumPy's arrays: ``x.sum(axis=0)``, ``x.reshape(2, -1)``, ``x.astype("f4")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagtrain.graph import Tensor
from dagtrain.hinting import no_attribute
from dagtrain.numpy_api import functions as f
from dagtrain.numpy_api.functions import apply_function
from dagtrain.numpy_api.indexing import getitem
from dagtrain.numpy_api.ufuncs import apply_ufunc
from dagtrain.ops import shape
from dagtrain.ops.elementwise import cast
from dagtrain.ops.index import take
from dagtrain.ops.linalg import dot
from dagtrain.registry import hints

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


HINTS = hints(
    ("item numpy tolist tonumpy eval", "tensor.compute()"),
    ("backward grad gradient", "dt.grad(cost, [tensor])"),
    ("detach stopgradient requiresgrad", "dt.stop_gradient(tensor)"),
    ("cpu cuda to device", "nothing: a tensor is a node of a graph, and has a value only when it is computed"),
    ("view permute unsqueeze expanddims", "tensor.reshape, tensor.transpose, or an index such as tensor[:, None]"),
    ("float double int long half type", "tensor.astype(dtype)"),
    ("matmul mm", "tensor @ other"),
    ("at set add", "np.where, dt.scatter_add or np.concatenate: tensors never change"),
    ("exp log sqrt abs tanh sin cos relu sigmoid softmax", "NumPy's function, as in np.exp(tensor), or dt.nn.activations"),
    ("plot draw show", "tensor.visualize()"),
)
"""Attributes of tensors in other libraries → what to write here."""


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
    raise no_attribute("attribute of a tensor", name, {*METHODS, *dir(Tensor)}, HINTS)
