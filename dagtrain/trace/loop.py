"""`scan` for users: a Python body over nested carries and sequences; outside tensors that the body uses become constants of the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Graph, Spec, Tensor, ancestors_of, rebuild, topological
from dagtrain.graph import input as new_input
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.scan import bare_scan
from dagtrain.trace.tree import flatten, unflatten

__all__ = ["scan"]


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """Run a body over the first axis of sequences, carrying a state along.

    Parameters
    ----------
    body
        ``carry, x -> carry, y``; carry keeps its shapes. Tensors from outside may be used freely.
    init
        First carry: a nest of tensors or arrays. A carry to which the body adds a wider dtype has that dtype from the start.
    xs
        Nest of sequences, each of shape (length, ...); None for a loop that reads nothing.
    length
        Number of steps; needed only when `xs` is None.
    reverse
        Run from the last element to the first; each y has the position of its x.

    Returns
    -------
    carry, ys
        The last carry, and the nest of ys stacked along a new first axis.

    Raises
    ------
    ShapeError
        If sequences differ in length, or the body changes the carry's shape.
    ArgumentError
        If neither `xs` nor `length` gives the number of steps.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> total, running = dt.scan(lambda c, x: (c + x, c + x), dt.array(0.0), np.array([1.0, 2.0, 3.0]))
    >>> running.compute()
    array([1., 3., 6.])
    """
    carry_leaves, carry_structure = flatten(init, "carry")
    x_leaves, x_structure = flatten(xs, "x")
    carries, sequences = [as_tensor(v) for v in carry_leaves.values()], [as_tensor(v) for v in x_leaves.values()]
    lengths = {t.shape[0] if t.ndim else None for t in sequences} | ({int(length)} if length is not None else set())
    if not lengths:
        raise ArgumentError("scan needs sequences, or length= for a loop without them.")
    if len(lengths) > 1 or None in lengths:
        shapes = [t.shape for t in sequences]
        raise ShapeError(f"scan: sequences must be equally long on their first axis, got shapes {shapes}, length={length}.")
    steps = int(lengths.pop() or 0)
    element = [new_input(n, t.shape[1:], t.dtype) for n, t in zip(x_leaves, sequences, strict=True)]
    while True:  # until the dtypes settle: each round makes one wider, and there is a widest
        state = [new_input(n, t.shape, t.dtype) for n, t in zip(carry_leaves, carries, strict=True)]
        outcome = body(unflatten(carry_structure, state), unflatten(x_structure, element))
        if not isinstance(outcome, tuple) or len(outcome) != 2:
            raise ArgumentError("the body of scan returns a pair: the next carry, and the output of this step (or None).")
        next_leaves, next_structure = flatten(outcome[0], "carry")
        if next_structure != carry_structure:
            raise ShapeError(f"the body of scan takes a carry of structure {carry_structure} and returns {next_structure}.")
        following = [as_tensor(v) for v in next_leaves.values()]
        dtypes = [_common_dtype(n, s.spec, f.spec) for n, s, f in zip(carry_leaves, state, following, strict=True)]
        if dtypes == [s.dtype for s in state]:
            break
        carries = [cast(t, d) for t, d in zip(carries, dtypes, strict=True)]
    y_leaves, y_structure = flatten(outcome[1], "y")
    results = [*map(cast, following, dtypes), *map(as_tensor, y_leaves.values())]
    graph, captured = _close([*state, *element], results)
    parts = bare_scan(graph, carries, sequences, captured, steps, reverse)
    ys = parts[len(carries) : len(carries) + len(y_leaves)]
    return unflatten(carry_structure, parts[: len(carries)]), unflatten(y_structure, ys)


def _common_dtype(name: str, state: Spec, following: Spec) -> np.dtype[Any]:
    if following.shape != state.shape:
        raise ShapeError(f"the body of scan takes {name} of shape {state.shape} and returns it with shape {following.shape}.")
    return np.result_type(state.dtype, following.dtype)


def _close(leaves: list[Tensor], results: list[Tensor]) -> tuple[Graph, list[Tensor]]:
    """The body's graph, with outside tensors as further inputs, and these tensors."""
    order = topological(results)
    inside = ancestors_of(leaves, order)
    outside: dict[Tensor, None] = {}
    for node in order:
        if node in inside:
            outside.update((s, None) for s in node.inputs if s not in inside and s.op != "constant")
    outside.update((r, None) for r in results if r not in inside and r.op != "constant")
    stand_ins = {t: new_input(f"outside_{i}", t.shape, t.dtype) for i, t in enumerate(outside)}
    became = rebuild(results, stand_ins)
    inputs = {f"{i}_{t.name}": t for i, t in enumerate([*leaves, *stand_ins.values()])}
    return Graph(inputs, {f"output_{i}": became[r] for i, r in enumerate(results)}), list(outside)
