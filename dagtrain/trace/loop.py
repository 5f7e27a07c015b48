"""Loops for users: a Python body over a nested carry; outside tensors that the body uses become constants of the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import input as new_input
from dagtrain.hinting import hinted
from dagtrain.ops import as_tensor
from dagtrain.ops.control import bare_while
from dagtrain.ops.scan import bare_scan
from dagtrain.trace.closing import close, close_all, settle
from dagtrain.trace.tree import flatten, unflatten

__all__ = ["scan", "while_loop"]


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
    x_leaves, x_structure = flatten(xs, "x")
    sequences = [as_tensor(v) for v in x_leaves.values()]
    lengths = {t.shape[0] if t.ndim else None for t in sequences} | ({int(length)} if length is not None else set())
    if not lengths:
        raise ArgumentError("scan needs sequences, or length= for a loop without them.")
    if len(lengths) > 1 or None in lengths:
        shapes = [t.shape for t in sequences]
        raise ShapeError(f"scan: sequences must be equally long on their first axis, got shapes {shapes}, length={length}.")
    steps = int(lengths.pop() or 0)
    element = [new_input(n, t.shape[1:], t.dtype) for n, t in zip(x_leaves, sequences, strict=True)]

    def step(carry: Any) -> tuple[Any, Any]:
        outcome = body(carry, unflatten(x_structure, element))
        if not isinstance(outcome, tuple) or len(outcome) != 2:
            raise ArgumentError("the body of scan returns a pair: the next carry, and the output of this step (or None).")
        return outcome

    carries, state, following, structure, output = settle("scan", init, step)
    y_leaves, y_structure = flatten(output, "y")
    graph, captured = close([*state, *element], [*following, *map(as_tensor, y_leaves.values())])
    parts = bare_scan(graph, carries, sequences, captured, steps, reverse)
    ys = parts[len(carries) : len(carries) + len(y_leaves)]
    return unflatten(structure, parts[: len(carries)]), unflatten(y_structure, ys)


@hinted
def while_loop(condition: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """Repeat a body as long as a condition holds.

    Parameters
    ----------
    condition
        ``carry -> boolean`` of shape ().
    body
        ``carry -> carry`` of the same shapes. Tensors from outside may be used freely, here and in the condition.
    init
        First carry: a nest of tensors or arrays.

    Returns
    -------
    carry
        The first one for which the condition is false.

    Raises
    ------
    ShapeError
        If the body changes the carry's shape.
    ArgumentError
        If the condition gives anything but one boolean.
    NoGradientError
        If a derivative is asked for: the number of steps is not known beforehand. `scan` has one.

    Examples
    --------
    >>> import dagtrain as dt
    >>> dt.while_loop(lambda c: c < 100, lambda c: c * 3, dt.array(1.0)).compute()
    243.0
    """
    carries, state, following, structure, _ = settle("while_loop", init, lambda carry: (body(carry), None))
    holds = as_tensor(condition(unflatten(structure, state)))
    if holds.shape or holds.dtype.kind != "b":
        raise ArgumentError(f"the condition of while_loop gives one boolean, got {holds.spec}: compare, and use np.all or np.any.")
    (asked, graph), captured = close_all([(state, [holds]), (state, following)])
    return unflatten(structure, bare_while(asked, graph, [*carries, *captured], len(carries)))
