"""`gradcheck`: a gradient against differences, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, GradientError, UnsupportedError
from dagtrain.functional.compiled import Compiled
from dagtrain.functional.gradients import value_and_grad
from dagtrain.functional.specialised import compile
from dagtrain.graph import Spec, Tensor
from dagtrain.hinting import hinted
from dagtrain.ops.random import derive, key
from dagtrain.trace import flatten, unflatten

__all__ = ["gradcheck"]


@hinted
def gradcheck(
    function: Callable[..., Any],
    *arguments: Any,
    argnums: int | tuple[int, ...] = 0,
    order: int = 2,
    directions: int = 3,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> bool:
    """Compare a cost function's gradient with differences along random directions, in float64.

    Parameters
    ----------
    function, argnums
        As for `value_and_grad`.
    *arguments
        Where to check; floats are taken as float64.
    order
        1 for the gradient; 2 for the gradient of its product with a direction as well.
    directions
        Number of random directions for each order.
    tolerance
        Largest allowed difference, relative to the size of the derivative (at least 1).

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradientError
        With the order, the direction's number and both derivatives.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.gradcheck(lambda w, x: np.sum(np.tanh(x @ w)), np.ones((3, 2)), np.ones((4, 3)))
    True
    """
    if order not in (1, 2):
        raise ArgumentError(f"gradcheck checks order 1 or 2, not {order}.")
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    nests = [_as_float64(a) for a in arguments]
    flat = [flatten(nests[i], str(i)) for i in positions]
    point = [np.asarray(v) for leaves, _ in flat for v in leaves.values()]
    floats = [i for i, v in enumerate(point) if v.dtype.kind == "f"]

    def of(*values: Any) -> Any:
        inserted, start = list(nests), 0
        for i, (leaves, structure) in zip(positions, flat, strict=True):
            inserted[i] = unflatten(structure, values[start : start + len(leaves)])
            start += len(leaves)
        return function(*inserted)

    checked: Callable[..., Any] = of
    for level in range(1, order + 1):
        generator = np.random.Generator(np.random.Philox(key=derive(key(seed), level)))
        differentiated = value_and_grad(checked, tuple(floats), unconnected="zero")
        value = compile(checked)
        along: list[Any] = []
        for number in range(directions):
            along = [generator.standard_normal(point[i].shape) for i in floats]
            exact = sum(float(np.sum(g * d)) for g, d in zip(differentiated(*point)[1], along, strict=True))
            step = 1e-5
            sides = []
            for sign in (1.0, -1.0, 2.0, -2.0):
                moved = list(point)
                for i, d in zip(floats, along, strict=True):
                    moved[i] = point[i] + sign * step * d
                sides.append(float(value(*moved)))
            numeric = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / (12 * step)
            if not abs(exact - numeric) <= tolerance * max(1.0, abs(numeric)):
                raise GradientError(
                    f"the derivative of order {level} along random direction {number} is {exact!r} by the graph and {numeric!r} by "
                    f"differences (tolerance {tolerance}). A rule is wrong, or the function is not smooth there."
                )
        checked = _directional(differentiated, along)
    return True


def _directional(differentiated: Compiled, along: Sequence[Any]) -> Callable[..., Any]:
    def derivative(*values: Any) -> Any:
        total: Any = 0.0
        for g, d in zip(differentiated(*values)[1], along, strict=True):
            total = total + np.sum(g * d)
        return total

    return derivative


def _as_float64(argument: Any) -> Any:
    leaves, structure = flatten(argument)
    for name, value in leaves.items():
        if isinstance(value, Tensor | Spec):
            raise UnsupportedError(f"gradcheck needs arrays, got a {type(value).__name__} at {name!r}.")
    arrays = [np.asarray(v) for v in leaves.values()]
    return unflatten(structure, [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays])
