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
from dagtrain.functional.targets import Targets, apply_to, callable_or_error, name_of, split_aux, stable
from dagtrain.graph import Tensor
from dagtrain.hinting import hinted
from dagtrain.ops import as_tensor
from dagtrain.transform import gradient

__all__ = ["differentiate", "grad", "value_and_grad"]


def differentiate(cost: Tensor, targets: Sequence[Tensor], unconnected: str = "error") -> tuple[Tensor, list[Tensor]]:
    """The cost in its stable form, and its derivatives by the targets."""
    one_of("way with unconnected targets", unconnected, ("error", "zero"))
    (value,) = stable([cost], targets)
    return value, gradient(value, targets, unconnected=unconnected)


@hinted
def value_and_grad(
    function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, unconnected: str = "error", has_aux: bool = False
) -> Compiled:
    """A function that returns the cost and its gradient.

    Parameters
    ----------
    function
        A cost function: NumPy calls on arrays or nests of arrays, giving one number.
    argnums
        By which positional arguments to differentiate: a number, or several for a tuple of gradients.
    unconnected
        ``"error"``, or ``"zero"`` for zeros where the cost does not depend on a part of the arguments.
    has_aux
        Whether the function returns a pair: the cost, and anything else, which is returned beside the cost.

    Returns
    -------
    Compiled
        Called with the function's arguments, it gives ``(value, gradient)``, or ``((value, aux), gradient)``; the gradient is nested as
        the argument is.

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
    callable_or_error("value_and_grad", function)

    def build(*arguments: Any) -> Any:
        targets = Targets(arguments, argnums)
        cost, aux = split_aux("value_and_grad", has_aux, function(*targets.arguments))
        if unconnected == "zero" and isinstance(cost, int | float | np.number | np.ndarray):
            cost = as_tensor(cost)
        if not isinstance(cost, Tensor):
            raise NotScalarError(f"the cost function must return one number that depends on its arguments, got a {type(cost).__name__}.")
        value, grads = differentiate(cost, targets.leaves, unconnected)
        value, *grads = targets.back([value, *grads])
        return (value, apply_to(aux, targets.back)) if has_aux else value, targets.nest(grads)

    return Compiled(function, f"value_and_grad({name_of(function)})", build)


@hinted
def grad(function: Any, argnums: Any = 0, *, unconnected: str = "error", has_aux: bool = False) -> Any:
    """Gradient of a function, or of a tensor by tensors.

    Parameters
    ----------
    function
        A cost function; or a tensor of one number.
    argnums
        By which arguments to differentiate (see `value_and_grad`); or a tensor, or a list of tensors.
    unconnected, has_aux
        As for `value_and_grad`.

    Returns
    -------
    Compiled, Tensor or list of Tensor
        A function that gives the gradient, or ``(gradient, aux)``; or the derivatives.

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
    callable_or_error("grad", function)
    both = value_and_grad(function, argnums, unconnected=unconnected, has_aux=has_aux)

    def build(*arguments: Any) -> Any:
        value, gradients = both(*arguments)
        return (gradients, value[1]) if has_aux else gradients

    return Compiled(function, f"grad({name_of(function)})", build)
