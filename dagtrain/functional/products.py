"""Products of derivatives with vectors: `vjp`, `jvp`, `hvp`.

vjp    u ──▶ uᵀJ        backwards through the graph
jvp    v ──▶ Jv         the derivative of uᵀJv by u: backwards through the graph of the first, in which u itself is not needed
hvp    v ──▶ Hv         the first for the gradient
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.functional.compiled import Compiled
from dagtrain.functional.gradients import grad
from dagtrain.functional.targets import Targets, apply_to, callable_or_error, name_of, results_of, split_aux, stable
from dagtrain.graph import Tensor, rebuild
from dagtrain.graph import input as new_input
from dagtrain.hinting import hinted
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.shape import broadcast_to
from dagtrain.trace import flatten, unflatten
from dagtrain.transform.gradient import cotangents

__all__ = ["hvp", "jvp", "pull", "push", "vjp"]


def zeros_of(tensor: Tensor) -> Tensor:
    """Zeros of the shape and dtype of a tensor."""
    return broadcast_to(as_tensor(np.zeros((), tensor.dtype)), tensor.shape)


def pull(outputs: Sequence[Tensor], seeds: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
    """For each leaf, the sum over the outputs of seed times derivative; zeros where no output depends on it."""
    pairs = [(t, seed) for t, seed in zip(outputs, seeds, strict=True) if t.dtype.kind in "fc"]
    grads = cotangents([t for t, _ in pairs], [seed for _, seed in pairs], leaves)
    return [grads.get(leaf, zeros_of(leaf)) for leaf in leaves]


def push(outputs: Sequence[Tensor], leaves: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Tensor]:
    """For each output, the sum over the leaves of derivative times tangent."""
    ahead = [new_input(f"cotangent_{i}", t.shape, t.dtype) for i, t in enumerate(outputs)]
    grads = pull(outputs, ahead, leaves)
    # The gradients are linear in the cotangents, so that it does not matter at which the derivative is taken.
    results = pull(grads, tangents, ahead)
    became = rebuild(results, {t: zeros_of(t) for t in ahead})
    return [became[t] for t in results]


def like(word: str, values: Any, tensors: Sequence[Tensor], structure: Any) -> list[Tensor]:
    """A nest of tangents or cotangents as tensors of the specs of others, in order."""
    named, nesting = flatten(values)
    if nesting != structure:
        raise ArgumentError(f"the {word} is nested as {nesting}, but {structure} is needed.")
    results = []
    for (path, value), tensor in zip(named.items(), tensors, strict=True):
        given = as_tensor(value)
        if given.shape != tensor.shape:
            raise ShapeError(f"the {word} at {path!r} has shape {given.shape}, but {tensor.shape} is needed.")
        results.append(cast(given, tensor.dtype))
    return results


@hinted
def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """A function's result, and the function from a cotangent of it to cotangents of the arguments.

    Parameters
    ----------
    function
        Takes arrays or nests of arrays, and returns the same.
    *primals
        The arguments, arrays or tensors.
    has_aux
        Whether the function returns a pair: its result, and anything else, which is returned as a third value.

    Returns
    -------
    result, pullback
        ``pullback(cotangent)`` is a tuple: the cotangent, of the nesting and shapes of the result, times the derivative by each argument.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> result, pullback = dt.vjp(lambda x, y: x * np.sin(y), np.ones(2), np.zeros(2))
    >>> pullback(np.array([1.0, 5.0]))
    (array([0., 0.]), array([1., 5.]))
    """
    callable_or_error("vjp", function)
    results, aux = split_aux("vjp", has_aux, Compiled(function)(*primals))

    def build(*arguments: Any) -> Any:
        *values, cotangent = arguments
        targets = Targets(values, tuple(range(len(values))))
        named, structure = results_of(name_of(function), split_aux("vjp", has_aux, function(*targets.arguments))[0])
        outputs = stable(list(named.values()), targets.leaves)
        seeds = like("cotangent", cotangent, outputs, structure)
        return targets.nest(targets.back(pull(outputs, seeds, targets.leaves)))

    product = Compiled(lambda *arguments: None, f"vjp({name_of(function)})", build)

    def pullback(cotangent: Any) -> Any:
        return product(*primals, cotangent)

    return (results, pullback, aux) if has_aux else (results, pullback)


@hinted
def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: bool = False) -> Any:
    """A function's result, and its derivative along a direction.

    Parameters
    ----------
    function
        Takes arrays or nests of arrays, and returns the same.
    primals
        A tuple of the arguments.
    tangents
        A tuple of directions, nested as the arguments are.
    has_aux
        Whether the function returns a pair: its result, and anything else, which is returned as a third value.

    Returns
    -------
    result, tangent

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.jvp(lambda x: x**2, (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    (array([1., 4.]), array([ 2., 40.]))
    """
    callable_or_error("jvp", function)
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list) or len(primals) != len(tangents):
        raise ArgumentError("jvp(function, primals, tangents): both are tuples with one value for each argument, as in jvp(f, (x,), (v,)).")

    def build(*arguments: Any) -> Any:
        values, directions = arguments[: len(primals)], arguments[len(primals) :]
        targets = Targets(values, tuple(range(len(values))))
        results, aux = split_aux("jvp", has_aux, function(*targets.arguments))
        named, structure = results_of(name_of(function), results)
        outputs = stable(list(named.values()), targets.leaves)
        moves = like("tangent", tuple(directions), targets.leaves, flatten(tuple(values))[1])
        pushed = targets.back([*outputs, *push(outputs, targets.leaves, moves)])
        pair = unflatten(structure, pushed[: len(outputs)]), unflatten(structure, pushed[len(outputs) :])
        return (*pair, apply_to(aux, targets.back)) if has_aux else pair

    return Compiled(lambda *arguments: None, f"jvp({name_of(function)})", build)(*primals, *tangents)


@hinted
def hvp(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False) -> Compiled:
    """The product of a cost function's Hessian with a vector, without the Hessian.

    Parameters
    ----------
    function, argnums, has_aux
        As for `value_and_grad`.

    Returns
    -------
    Compiled
        Called with the function's arguments and a vector, nested as the arguments named by `argnums` are, it gives the product, nested so
        too; with `has_aux`, ``(product, aux)``.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    array([  6., 120.])
    """
    callable_or_error("hvp", function)
    gradient = grad(function, argnums, unconnected="zero", has_aux=has_aux)

    def build(*arguments: Any) -> Any:
        if len(arguments) < 2:
            raise ArgumentError(f"hvp({name_of(function)}) takes the arguments of {name_of(function)} and a vector.")
        *values, vector = arguments
        targets = Targets(values, argnums)
        grads, aux = gradient(*targets.arguments) if has_aux else (gradient(*targets.arguments), None)
        named, structure = flatten(grads)
        outputs = list(named.values())
        seeds = like("vector", vector, outputs, structure)
        product = targets.nest(targets.back(pull(outputs, seeds, targets.leaves)))
        return (product, apply_to(aux, targets.back)) if has_aux else product

    return Compiled(lambda *arguments: None, f"hvp({name_of(function)})", build)
