"""`jacobian` and `hessian`: all derivatives of all results, by one product with a vector for each row or each column at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import NotScalarError
from dagtrain.functional.compiled import Compiled
from dagtrain.functional.gradients import grad
from dagtrain.functional.products import pull, push, zeros_of
from dagtrain.functional.targets import Targets, apply_to, callable_or_error, name_of, results_of, split_aux, stable
from dagtrain.graph import Tensor, ancestors_of, topological
from dagtrain.graph import input as new_input
from dagtrain.hinting import hinted
from dagtrain.ops import as_tensor
from dagtrain.ops.shape import broadcast_to, moveaxis, reshape
from dagtrain.trace import unflatten
from dagtrain.transform.batching import batched

__all__ = ["hessian", "jacobian"]


@hinted
def jacobian(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False) -> Compiled:
    """The derivatives of all elements of a function's results by all elements of its arguments.

    Parameters
    ----------
    function
        Takes arrays or nests of arrays, and returns the same.
    argnums
        By which positional arguments to differentiate: a number, or several for a tuple of Jacobians.
    has_aux
        Whether the function returns a pair: its result, and anything else, which is returned beside the Jacobian.

    Returns
    -------
    Compiled
        Called with the function's arguments, it gives, nested as the results are, for each of them a nest as the argument is, of arrays of
        shape ``(*result.shape, *argument.shape)``. It takes as many products with vectors as there are elements of the results or of the
        arguments, whichever are fewer, all at once.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.jacobian(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    callable_or_error("jacobian", function)

    def build(*arguments: Any) -> Any:
        targets = Targets(arguments, argnums)
        results, aux = split_aux("jacobian", has_aux, function(*targets.arguments))
        named, structure = results_of(name_of(function), results)
        dependent = ancestors_of(targets.leaves, topological(named.values()))
        for path, tensor in named.items():
            if tensor.dtype.kind != "f" and tensor in dependent:
                raise NotScalarError(f"jacobian needs results that are floats; {path!r} is {tensor.dtype}.")
        outputs = stable(list(named.values()), targets.leaves)
        rows = any(t.dtype.kind == "c" for t in targets.leaves)  # along a complex direction is not by a complex argument
        rows = rows or sum(t.size for t in outputs) <= sum(t.size for t in targets.leaves)
        table = _by_rows(outputs, targets.leaves) if rows else _by_columns(outputs, targets.leaves)
        flat = targets.back([block for line in table for block in line])
        width = len(targets.leaves)
        nests = [targets.nest(flat[i * width : (i + 1) * width]) for i in range(len(outputs))]
        nested = unflatten(structure, nests)
        return (nested, apply_to(aux, targets.back)) if has_aux else nested

    return Compiled(function, f"jacobian({name_of(function)})", build)


def _unit_vectors(tensor: Tensor) -> Tensor:
    """One tensor for each element, which is 1 there and 0 elsewhere."""
    return as_tensor(np.eye(tensor.size, dtype=tensor.dtype).reshape(tensor.size, *tensor.shape))


def _for_each(products: Sequence[Tensor], vector: Tensor) -> list[Tensor]:
    """The products with all unit vectors in the place of one vector, along a first axis."""
    size = vector.size
    results = batched(products, {vector: _unit_vectors(vector)}, size)
    return [t if has_rows else broadcast_to(t, (size, *t.shape)) for t, has_rows in results]


def _by_rows(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[list[Tensor]]:
    table = []
    for i, output in enumerate(outputs):
        u = new_input(f"cotangent_{i}", output.shape, output.dtype)
        lines = _for_each(pull([output], [u], leaves), u)
        table.append([reshape(line, (*output.shape, *leaf.shape)) for line, leaf in zip(lines, leaves, strict=True)])
    return table


def _by_columns(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[list[Tensor]]:
    columns = []
    for i, leaf in enumerate(leaves):
        if leaf.dtype.kind != "f":
            columns.append([broadcast_to(zeros_of(leaf), (*t.shape, *leaf.shape)) for t in outputs])
            continue
        v = new_input(f"tangent_{i}", leaf.shape, leaf.dtype)
        lines = _for_each(push(outputs, [leaf], [v]), v)
        columns.append([reshape(moveaxis(line, 0, line.ndim - 1), (*t.shape, *leaf.shape)) for line, t in zip(lines, outputs, strict=True)])
    return [[column[i] for column in columns] for i in range(len(outputs))]


@hinted
def hessian(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False) -> Compiled:
    """The second derivatives of a cost function: the Jacobian of its gradient.

    Parameters
    ----------
    function, argnums, has_aux
        As for `value_and_grad`.

    Returns
    -------
    Compiled
        Called with the function's arguments, it gives an array of shape ``(*x.shape, *x.shape)`` for an array x, and a nest of nests of
        such arrays for a nest.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    callable_or_error("hessian", function)
    second = jacobian(grad(function, argnums, unconnected="zero", has_aux=has_aux), argnums, has_aux=has_aux)
    return Compiled(function, f"hessian({name_of(function)})", second)
