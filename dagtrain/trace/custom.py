"""Gradients that a user gives, and gradients that compute values anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Graph, Tensor, births
from dagtrain.graph import input as new_input
from dagtrain.ops import as_tensor
from dagtrain.ops import custom as bare
from dagtrain.ops.elementwise import cast
from dagtrain.ops.shape import broadcast_to
from dagtrain.trace.closing import close, close_all
from dagtrain.trace.tree import flatten, leaves, unflatten

__all__ = ["custom_gradient", "recompute"]

Function = Callable[..., Any]


def recompute(function: Function) -> Function:
    """A function whose gradient computes its inner values again, so that they need no memory until then; values and bits stay.

    The gradient of a long chain needs the values of all its steps. With `recompute` around parts of the chain, only what enters a part is
    kept, for the time of one more forward pass: compare ``plan.memory`` with and without it.

    Parameters
    ----------
    function
        Of nests of arrays or tensors.

    Returns
    -------
    function
        With the same arguments and values; as a decorator, too.

    Notes
    -----
    Method: Chen et al., "Training deep nets with sublinear memory cost" (2016).

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> block = dt.recompute(lambda x: np.tanh(np.sin(x)) ** 2)
    >>> dt.grad(lambda x: np.sum(block(x)))(np.array([0.0, 1.0])).round(3)
    array([0.   , 0.392])
    """

    @wraps(function)
    def recomputed(*arguments: Any) -> Any:
        call = _Call(function, arguments)
        if call.plain is not None:
            return call.plain[0]
        outputs, structure = flatten(call.result)
        body, captured = close(call.leaves, [as_tensor(v) for v in outputs.values()], call.born)
        operands = [*call.tensors, *captured]
        return unflatten(structure, bare.recompute(body.apply(*operands), operands))

    return recomputed


def custom_gradient(function: Function) -> Function:
    """A function with a gradient of one's own.

    Parameters
    ----------
    function
        Returns a pair: its result, and a function that takes the cotangent of the result (nested alike) and returns those of the arguments:
        a tuple with one for each, or one alone for one argument; None for zero. It may use the arguments and values in between.

    Returns
    -------
    function
        With the same arguments; it returns the result.

    Raises
    ------
    ArgumentError, ShapeError
        When it is called: if `function` returns no such pair, or cotangents of other shapes than the arguments.
    NoGradientError
        When a derivative is asked for by a tensor that `function` closes over.

    Examples
    --------
    The derivative of log(1 + exp(x)) without overflow:

    >>> import dagtrain as dt, numpy as np
    >>> @dt.custom_gradient
    ... def softplus(x):
    ...     e = np.exp(x)
    ...     return np.log(1 + e), lambda g: g * (1 - 1 / (1 + e))
    >>> dt.grad(softplus)(1000.0)
    1.0
    """

    @wraps(function)
    def with_own_gradient(*arguments: Any) -> Any:
        call = _Call(function, arguments)
        outcome = call.result if call.plain is None else call.plain[0]
        if not isinstance(outcome, tuple) or len(outcome) != 2 or not callable(outcome[1]):
            raise ArgumentError(
                f"{_name(function)}: a function under custom_gradient returns a pair, its result and the function of the cotangent, "
                f"got {outcome!r:.99}."
            )
        if call.plain is not None:
            return outcome[0]
        named, structure = flatten(outcome[0])
        results = [as_tensor(v) for v in named.values()]
        seeds = [new_input(f"cotangent_{n}", t.shape, t.dtype) for n, t in zip(named, results, strict=True)]
        with births() as born:
            back = _cotangents(function, call, outcome[1](unflatten(structure, seeds)))
        (forward, backward), captured = close_all([(call.leaves, results), ([*call.leaves, *seeds], back)], [*call.born, *born])
        operands = [*call.tensors, *map(bare.closed_over, captured)]
        ins = list(backward.inputs.items())
        count = len(call.leaves)
        body = Graph(  # operands first, then cotangents
            dict([*ins[:count], *ins[count + len(seeds) :], *ins[count : count + len(seeds)]]),
            {**backward.outputs, **{f"closed_over_{i}": _zeros(t) for i, t in enumerate(captured)}},
        )
        return unflatten(structure, bare.custom_gradient(forward.apply(*operands), operands, body))

    return with_own_gradient


class _Call:
    """A call of a function with leaves in the place of its arguments."""

    def __init__(self, function: Function, arguments: Sequence[Any]) -> None:
        named, self.structure = flatten(list(arguments), "argument")
        self.plain: tuple[Any] | None = None
        """The result for arrays, if no tensor is among the arguments or in the closure."""
        if not any(isinstance(v, Tensor) for v in named.values()):
            result = function(*arguments)
            if not any(isinstance(v, Tensor) for v in leaves(result)):
                self.plain = (result,)
                return
        self.tensors = [as_tensor(v) for v in named.values()]
        self.leaves = [new_input(n, t.shape, t.dtype) for n, t in zip(named, self.tensors, strict=True)]
        self.arguments = unflatten(self.structure, self.leaves)
        with births() as self.born:
            self.result = function(*self.arguments)


def _cotangents(function: Function, call: _Call, given: Any) -> list[Tensor]:
    """The cotangent of each leaf of the arguments."""
    several = given if isinstance(given, tuple) and (len(call.arguments) != 1 or not isinstance(call.arguments[0], tuple)) else (given,)
    if len(several) != len(call.arguments):
        raise ArgumentError(
            f"{_name(function)}: its gradient returns a cotangent for each of the {len(call.arguments)} arguments, got {len(several)}."
        )
    back = []
    for number, (argument, cotangent) in enumerate(zip(call.arguments, several, strict=True)):
        targets, structure = flatten(argument)
        values, other = (dict.fromkeys(targets), structure) if cotangent is None else flatten(cotangent)
        if other != structure:
            raise ShapeError(f"{_name(function)}: the cotangent of argument {number} is nested as {other}, the argument as {structure}.")
        for target, value in zip(targets.values(), values.values(), strict=True):
            g = _zeros(target) if value is None else as_tensor(value)
            if g.shape != target.shape:
                raise ShapeError(f"{_name(function)}: the cotangent of argument {number} has shape {g.shape}, the argument {target.shape}.")
            back.append(cast(g, target.dtype))
    return back


def _zeros(like: Tensor) -> Tensor:
    return broadcast_to(as_tensor(np.zeros((), like.dtype)), like.shape)


def _name(function: Function) -> str:
    return str(getattr(function, "__name__", "the function"))
