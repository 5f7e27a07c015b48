"""Checks of what `Layer.init` and `Layer.apply` are called with: a key, nests of arrays, inputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.errors import ArgumentError, DTypeError
from dagtrain.graph import refuse_masked
from dagtrain.nn.naming import Path
from dagtrain.nn.values import Values

__all__ = ["array_nest", "check_inputs", "check_key"]


def check_key(key: Any) -> None:
    """Raise ArgumentError for what is no key of random numbers."""
    is_array = getattr(key, "shape", None) == (2,) and getattr(key, "dtype", None) == np.uint64
    if not (is_array or is_whole(key)):
        raise ArgumentError(f"a key of random numbers is dagtrain.key(seed), got {key!r}.")


def array_nest(what: str, nest: Any, path: Path = ()) -> dict[Path, Values]:
    """Nested dicts of arrays as arrays by path."""
    if not isinstance(nest, dict) and not path:
        raise ArgumentError(
            f"the {what} of a model are nested dicts of arrays, got {_kind(nest)}: params, state = model.init(dagtrain.key(0), x) gives "
            "them, and model.apply(params, state, x) takes them."
        )
    values: dict[Path, Values] = {}
    for name, value in nest.items():
        if isinstance(value, dict):
            values |= array_nest(what, value, (*path, name))
            continue
        if isinstance(name, str) and "." in name:
            raise ArgumentError(f"the {what} are nested dicts, as trainer.parameters, without dotted names such as {name!r}.")
        if not hasattr(value, "dtype"):
            raise ArgumentError(f"the {what} are arrays, but {'.'.join(map(str, (*path, name)))!r} is {_kind(value)}.")
        values[*path, name] = value
    return values


def check_inputs(names: tuple[str, ...], required: Collection[str], inputs: tuple[Any, ...]) -> None:
    """Raise an error for inputs of these names that are no arrays of numbers; None stands for one that is not required."""
    for i, value in enumerate(inputs):
        name = names[min(i, len(names) - 1)] if names else "x"
        if value is None and name not in required:
            continue
        if not hasattr(value, "ndim") or not isinstance(getattr(value, "dtype", None), np.dtype):
            is_like = isinstance(value, list | tuple | int | float) or hasattr(value, "__array__")
            cure = f"np.asarray({name}, np.float32) makes one" if is_like else "give an array"
            raise ArgumentError(f"the input {name!r} is {_kind(value)}, not an array: {cure}.")
        refuse_masked(value)
        if value.dtype.kind not in "biufc":
            raise DTypeError(f"the input {name!r} holds no numbers, but has dtype {value.dtype}: convert it with .astype(np.float32).")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
