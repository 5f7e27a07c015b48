"""NumPy's protocols, indexing, and the methods and attributes of arrays, for tensors.

Methods are those of NumPy's arrays: ``x.sum(axis=0)``, ``x.reshape(2, -1)``, ``x.astype("f4")``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dagtrain.graph import Tensor
from dagtrain.hinting import no_attribute
from dagtrain.numpy_api import functions, moves, products, sorting  # noqa: F401  # they fill FUNCTIONS
from dagtrain.numpy_api.calls import FUNCTIONS, Call, apply_function
from dagtrain.numpy_api.indexing import getitem
from dagtrain.numpy_api.ufuncs import apply_ufunc
from dagtrain.ops import shape
from dagtrain.ops.elementwise import conjugate, imag, real
from dagtrain.ops.linalg import dot
from dagtrain.registry import hints

__all__ = ["apply_function", "apply_ufunc", "attribute", "getitem", "transpose"]


def _reshape(a: Any, *shape: Any, order: str = "C", copy: bool | None = None) -> None:
    """The signature of arrays' method."""


def _spread(args: tuple[Any, ...]) -> Any:
    return args[0] if len(args) == 1 else args


METHODS: dict[str, Call] = {
    name: Call(f"x.{name}", FUNCTIONS[getattr(np, name)].function, getattr(np, name))
    for name in (
        "all", "any", "argmax", "argmin", "argsort", "copy", "cumprod", "cumsum", "diagonal", "max", "mean", "min", "prod", "ravel",
        "repeat", "round", "squeeze", "std", "sum", "swapaxes", "take", "trace", "var",
    )
}  # fmt: skip
"""Methods that are functions: with the function's arguments, in its order."""
METHODS |= {
    name: Call(f"x.{name}", function, like)
    for name, function, like in (
        ("astype", moves.astype, lambda x, dtype, order="K", casting="unsafe", subok=True, copy=True: None),
        ("clip", lambda a, min=None, max=None: functions.clip(a, min, max), lambda a, min=None, max=None, out=None: None),
        ("conj", conjugate, None),
        ("conjugate", conjugate, None),
        ("dot", dot, np.dot),
        ("flatten", moves.ravel, None),
        ("reshape", lambda a, *shape, order="C": moves.reshape(a, _spread(shape) if shape else None, order), _reshape),
        ("transpose", lambda a, *axes: shape.transpose(a, _spread(axes) if axes else None), None),
    )
}
"""... and those that differ: the function, and NumPy's signature where it has more."""


HINTS = hints(
    ("item numpy tolist tonumpy eval", "tensor.compute()"),
    ("backward grad gradient", "dt.grad(cost, [tensor])"),
    ("detach stopgradient requiresgrad", "dt.stop_gradient(tensor)"),
    ("cpu cuda to device", "nothing: a tensor is a node of a graph, and has a value only when it is computed"),
    ("view permute unsqueeze expanddims", "tensor.reshape, tensor.transpose, or an index such as tensor[:, None]"),
    ("float double int long half type", "tensor.astype(dtype)"),
    ("matmul mm", "tensor @ other"),
    ("at set add", "np.where, dt.scatter_add or np.concatenate: tensors never change"),
    ("sort", "np.sort(tensor): tensors never change"),
    ("fill put partition resize", "a new tensor, by NumPy's functions: tensors never change"),
    ("nonzero compress", "np.where(mask, tensor, 0): the shape of its result would depend on values"),
    ("flat", "tensor.ravel()"),
    ("exp log sqrt abs tanh sin cos relu sigmoid softmax", "NumPy's function, as in np.exp(tensor), or dt.nn.activations"),
    ("plot draw show", "tensor.visualize()"),
)
"""Attributes of tensors in other libraries → what to write here."""

ATTRIBUTES = {"mT": lambda a: shape.swapaxes(a, -1, -2), "real": real, "imag": imag}


def transpose(a: Tensor) -> Tensor:
    """Implement `Tensor.T`."""
    return shape.transpose(a, None)


def attribute(a: Tensor, name: str) -> Any:
    """Implement `Tensor.__getattr__`."""
    if name in METHODS:
        bound = partial(METHODS[name], a)
        bound.__name__ = name  # type: ignore[attr-defined]  # partials take attributes
        return bound
    if name in ATTRIBUTES:
        return ATTRIBUTES[name](a)
    raise no_attribute("attribute of a tensor", name, {*METHODS, *ATTRIBUTES, *dir(Tensor)}, HINTS)
