"""`grad` and `value_and_grad`: the derivatives of a cost, of functions and of tensors.

loss ──trace──▶ graph ──stabilise──▶ graph ──gradient──▶ graph
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError, NotScalarError
from dagtrain.functional.compiled import Compiled
from dagtrain.graph import Graph, Tensor, rebuild
from dagtrain.graph import input as new_input
from dagtrain.hinting import hinted
from dagtrain.ops import as_tensor
from dagtrain.trace import flatten, unflatten
from dagtrain.transform import gradient, stabilise

__all__ = ["differentiate", "grad", "value_and_grad"]


def differentiate(cost: Tensor, targets: Sequence[Tensor], unconnected: str = "error") -> tuple[Tensor, list[Tensor]]:
    """The cost in its stable form, and its derivatives by the targets."""
    one_of("way with unconnected targets", unconnected, ("error", "zero"))
    stable = stabilise(Graph.of(cost), keep=targets).outputs["output"] if cost.inputs else cost
    return stable, gradient(stable, targets, unconnected=unconnected)


@hinted
def value_and_grad(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, unconnected: str = "error") -> Compiled:
    """A function that returns the cost and its gradient.

    Parameters
    ----------
    function
        A cost function: NumPy calls on arrays or nests of arrays, giving one number.
    argnums
        By which positional arguments to differentiate: a number, or several for a tuple of gradients.
    unconnected
        ``"error"``, or ``"zero"`` for zeros where the cost does not depend on a part of the arguments.

    Returns
    -------
    Compiled
        Called with the function's arguments, it gives ``(value, gradient)``; the gradient is nested as the argument is.

    Raises
    ------
    NotScalarError, NotConnectedError, NoGradientError
        When it is called.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.value_and_grad(lambda p, x: np.sum(p["w"] * x))({"w": np.ones(2)}, np.array([3.0, 4.0]))
    (7.0, {'w': array([3., 4.])})
    """
    if not callable(function):
        raise ArgumentError(f"value_and_grad takes a function, not a {type(function).__name__}.")
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def build(*arguments: Any) -> Any:
        if any(not -len(arguments) <= i < len(arguments) for i in positions):
            raise ArgumentError(f"argnums={argnums} names an argument that was not given: there are {len(arguments)}.")
        values = list(arguments)
        targets: list[Tensor] = []
        originals: dict[Tensor, Tensor] = {}
        nests = []
        for i in positions:
            named, structure = flatten(values[i], f"argument_{i}")
            tensors = [as_tensor(value) for value in named.values()]
            # Each target has a leaf of its own while the cost is built: equal constants, a tensor used twice or closed over stay apart.
            leaves = [new_input(t.name or n, t.shape, t.dtype) for n, t in zip(named, tensors, strict=True)]
            values[i] = unflatten(structure, leaves)
            nests.append((structure, len(leaves)))
            targets += leaves
            originals.update(zip(leaves, tensors, strict=True))
        cost = function(*values)
        if unconnected == "zero" and isinstance(cost, int | float | np.number | np.ndarray):
            cost = as_tensor(cost)
        if not isinstance(cost, Tensor):
            raise NotScalarError(f"the cost function must return one number that depends on its arguments, got a {type(cost).__name__}.")
        value, grads = differentiate(cost, targets, unconnected)
        became = rebuild([value, *grads], originals)
        value, grads = became[value], [became[g] for g in grads]
        results, start = [], 0
        for structure, count in nests:
            results.append(unflatten(structure, grads[start : start + count]))
            start += count
        return value, (results[0] if isinstance(argnums, int) else tuple(results))

    return Compiled(function, f"value_and_grad({getattr(function, '__name__', 'function')})", build)


@hinted
def grad(function: Any, argnums: Any = 0, *, unconnected: str = "error") -> Any:
    """Gradient of a function, or of a tensor by tensors.

    Parameters
    ----------
    function
        A cost function; or a tensor of one number.
    argnums
        By which arguments to differentiate (see `value_and_grad`); or a tensor, or a list of tensors.
    unconnected
        ``"error"`` or ``"zero"``.

    Returns
    -------
    Compiled, Tensor or list of Tensor
        A function that gives the gradient; or the derivatives.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.grad(lambda x: x**3)(2.0)
    12.0
    >>> a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    >>> [g.compute() for g in dt.grad((a + b) * (b + 1), [a, b])]
    [2.0, 5.0]
    """
    if isinstance(function, Tensor):
        if isinstance(argnums, Tensor):
            return differentiate(function, [argnums], unconnected)[1][0]
        if not isinstance(argnums, list | tuple):
            raise ArgumentError("grad(tensor, targets): give the tensor or the list of tensors to differentiate by.")
        return differentiate(function, list(argnums), unconnected)[1]
    both = value_and_grad(function, argnums, unconnected=unconnected)
    return Compiled(function, f"grad({getattr(function, '__name__', 'function')})", lambda *arguments: both(*arguments)[1])
