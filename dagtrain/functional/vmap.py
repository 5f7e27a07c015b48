"""`vmap`: a function of one row made into a function of many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.functional.compiled import Compiled
from dagtrain.functional.targets import callable_or_error, name_of, results_of
from dagtrain.graph import Spec, Tensor, births, make
from dagtrain.graph import input as new_input
from dagtrain.hinting import hinted
from dagtrain.ops import as_tensor
from dagtrain.ops.shape import broadcast_to, moveaxis
from dagtrain.trace import flatten, unflatten
from dagtrain.trace.trace import argument_names
from dagtrain.transform.batching import batched

__all__ = ["vmap"]


@hinted
def vmap(function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Compiled:
    """A function of one row made into one of many rows, which runs each op once for all of them.

    Parameters
    ----------
    function
        Takes arrays or nests of arrays, and returns the same; called with tensors that have no axis of rows.
    in_axes
        Which axis of the arguments counts the rows: a number for all of them, or a tuple with one for each: a number, None for an argument
        that is the same for all rows, or a nest of these like the argument.
    out_axes
        Which axis of the results counts the rows, likewise; None for a result that is the same for all rows.

    Returns
    -------
    Compiled
        The function of many rows.

    Raises
    ------
    UnsupportedError
        If an op has no rule for many rows.
    ArgumentError
        If the function draws random numbers by a key that is the same for all rows.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> xs, w = np.arange(6.0).reshape(3, 2), np.array([1.0, 10.0])
    >>> dt.vmap(lambda x, w: np.sum(x * w), in_axes=(0, None))(xs, w)
    array([10., 32., 54.])
    >>> dt.vmap(dt.grad(lambda w, x: np.tanh(w @ x)), in_axes=(None, 0))(w, xs).shape
    (3, 2)
    """
    callable_or_error("vmap", function)

    def build(*arguments: Any) -> Any:
        if isinstance(in_axes, tuple | list) and len(in_axes) != len(arguments):
            raise ArgumentError(f"vmap: in_axes={in_axes!r} is for {len(in_axes)} arguments, {name_of(function)} got {len(arguments)}.")
        each = in_axes if isinstance(in_axes, tuple | list) else (in_axes,) * len(arguments)
        leaves: dict[Tensor, Tensor] = {}
        lengths: dict[str, int] = {}
        rows: list[Any] = []
        for name, argument, axes in zip(argument_names(function, len(arguments)), arguments, each, strict=True):
            named, structure = flatten(argument, name)
            values = []
            for (path, value), axis in zip(named.items(), _spread("in_axes", axes, argument), strict=True):
                tensor = as_tensor(value)
                if axis is not None:
                    full = moveaxis(tensor, _axis("in_axes", path, axis, tensor.ndim), 0)
                    lengths[path] = full.shape[0]
                    tensor = _row(path, full)
                    leaves[tensor] = full
                values.append(tensor)
            rows.append(unflatten(structure, values))
        if not lengths:
            raise ArgumentError("vmap: in_axes is None for all arguments, so that there are no rows.")
        size = next(iter(lengths.values()))
        if set(lengths.values()) != {size}:
            raise ShapeError(f"vmap: the arguments differ in their numbers of rows: {lengths}.")
        with births() as born:
            results = function(*rows)
        named_results, structure = results_of(name_of(function), results)
        outputs = batched(list(named_results.values()), leaves, size, set(born))
        placed = []
        for (path, row), (tensor, has_rows), axis in zip(
            named_results.items(), outputs, _spread("out_axes", out_axes, results), strict=True
        ):
            if axis is None:
                if has_rows:
                    raise ArgumentError(f"vmap: out_axes is None for the result {path!r}, which is not the same for all rows.")
                placed.append(tensor)
                continue
            full = tensor if has_rows else broadcast_to(tensor, (size, *tensor.shape))
            placed.append(moveaxis(full, 0, _axis("out_axes", path, axis, row.ndim + 1)))
        return unflatten(structure, placed)

    return Compiled(function, f"vmap({name_of(function)})", build)


def _row(path: str, full: Tensor) -> Tensor:
    """A leaf for one row; its mark tells what keeps values beyond the call that they are of one row."""
    serial = new_input("").attribute("serial")
    return make("input", (), {"name": path, "serial": serial, "row": True}, Spec(full.shape[1:], full.dtype))


def _axis(word: str, path: str, axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ShapeError(f"vmap: {word} names axis {axis} of {path!r}, which has {ndim} axes.")
    return axis % ndim


def _spread(word: str, axes: Any, tree: Any) -> list[int | None]:
    """An axis for each leaf of a nest; where `axes` is not nested, the same for all leaves there."""
    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        return [axes] * len(flatten(tree)[0])
    if isinstance(axes, dict) and isinstance(tree, dict) and set(axes) == set(tree):
        return [a for key, part in tree.items() for a in _spread(word, axes[key], part)]
    if isinstance(axes, tuple | list) and isinstance(tree, tuple | list) and len(axes) == len(tree):
        return [a for part_axes, part in zip(axes, tree, strict=True) for a in _spread(word, part_axes, part)]
    raise ArgumentError(f"vmap: {word} holds {axes!r}, which is no number, None or nest like {flatten(tree)[1]!r}.")
