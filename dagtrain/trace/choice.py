"""Choices for users: one of several Python functions is run, by a value that the graph computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import births
from dagtrain.graph import input as new_input
from dagtrain.hinting import hinted
from dagtrain.ops import as_tensor
from dagtrain.ops.control import bare_switch
from dagtrain.ops.elementwise import cast
from dagtrain.trace.closing import close_all, in_common
from dagtrain.trace.tree import flatten, unflatten

__all__ = ["cond", "switch"]


@hinted
def cond(predicate: Any, if_true: Callable[..., Any], if_false: Callable[..., Any], *operands: Any) -> Any:
    """One of two functions of the operands; only that one is computed.

    Parameters
    ----------
    predicate
        A boolean of shape (). For a choice by element, use `numpy.where`.
    if_true, if_false
        Functions of the operands; they return nests of tensors of equal structure and shapes. Tensors from outside may be used freely.
    *operands
        Nests of tensors or arrays.

    Returns
    -------
    nest of Tensor

    Raises
    ------
    ArgumentError
        If the predicate is not one boolean.
    ShapeError
        If the functions return other structures or shapes.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> f = dt.compile(lambda x: dt.cond(np.sum(x) > 1, np.sin, np.cos, x))
    >>> f(np.zeros(2)), f(np.ones(2) * np.pi)
    (array([1., 1.]), array([1.2246468e-16, 1.2246468e-16]))
    """
    value = as_tensor(predicate)
    if value.shape or value.dtype.kind != "b":
        raise ArgumentError(
            f"cond: the predicate is one boolean, got {value.spec}: compare and use np.all or np.any, or choose by element with np.where."
        )
    return _switch("cond", cast(value, np.intp), (if_false, if_true), operands, ("if_false", "if_true"))


@hinted
def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """The branch at an index, of the operands; only that one is computed.

    Parameters
    ----------
    index
        A whole number of shape (), from 0; one that names no branch is an error when it runs.
    branches
        Functions of the operands; they return nests of tensors of equal structure and shapes. Tensors from outside may be used freely.
    *operands
        Nests of tensors or arrays.

    Returns
    -------
    nest of Tensor

    Raises
    ------
    ArgumentError
        If the index is not one whole number, or there is no branch.
    ShapeError
        If the functions return other structures or shapes.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> f = dt.compile(lambda i, x: dt.switch(i, [np.sin, np.cos, np.negative], x))
    >>> f(2, 1.0), f(1, 0.0)
    (-1.0, 1.0)
    """
    value = as_tensor(index)
    if value.shape or value.dtype.kind not in "iu":
        raise ArgumentError(f"switch: the index is one whole number, got {value.spec}.")
    if callable(branches) or not branches:
        raise ArgumentError("switch: branches is a list of functions, with at least one.")
    return _switch("switch", value, branches, operands, [f"branch {i}" for i in range(len(branches))])


def _switch(function: str, index: Any, branches: Sequence[Callable[..., Any]], operands: Sequence[Any], names: Sequence[str]) -> Any:
    named, structure = flatten(list(operands), "operand")
    tensors = [as_tensor(v) for v in named.values()]
    leaves = [new_input(n, t.shape, t.dtype) for n, t in zip(named, tensors, strict=True)]
    with births() as born:
        results, nest = in_common(function, [branch(*unflatten(structure, leaves)) for branch in branches], names)
    if not results[0]:
        raise ArgumentError(f"{function}: the functions return no tensor.")
    graphs, captured = close_all([(leaves, row) for row in results], born)
    return unflatten(nest, bare_switch(index, graphs, [*tensors, *captured]))
