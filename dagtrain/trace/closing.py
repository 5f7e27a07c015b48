"""Bodies: the graph of a function's results, whatever tensors from outside the function uses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.graph import LEAVES, Graph, Spec, Tensor, ancestors_of, rebuild, topological
from dagtrain.graph import input as new_input
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.trace.tree import Structure, flatten, unflatten

__all__ = ["close", "close_all", "in_common", "settle"]


def outside_of(leaves: Sequence[Tensor], results: Sequence[Tensor], born: Collection[Tensor] = ()) -> list[Tensor]:
    """The tensors that the results are computed from and that depend neither on a leaf nor on a `born` node; without constants."""
    order = topological(results)
    inside = ancestors_of([*leaves, *(t for t in born if t.op not in LEAVES)], order)
    outside: dict[Tensor, None] = {}
    for node in order:
        if node in inside:
            outside.update((s, None) for s in node.inputs if s not in inside and s.op != "constant")
    outside.update((r, None) for r in results if r not in inside and r.op != "constant")
    return list(outside)


def close_all(
    bodies: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]], born: Collection[Tensor] = ()
) -> tuple[list[Graph], list[Tensor]]:
    """The graph of each pair of leaves and results, with all their outside tensors as further inputs, and these tensors.

    What depends on no leaf is computed outside, once. With `born`, the nodes that came into being in the bodies, it stays inside.
    """
    outside = list(dict.fromkeys(t for leaves, results in bodies for t in outside_of(leaves, results, born)))
    graphs = []
    for leaves, results in bodies:
        stand_ins = {t: new_input(f"outside_{i}", t.shape, t.dtype) for i, t in enumerate(outside)}
        became = rebuild(results, stand_ins)
        inputs = {f"{i}_{t.name}": t for i, t in enumerate([*leaves, *stand_ins.values()])}
        graphs.append(Graph(inputs, {f"output_{i}": became[r] for i, r in enumerate(results)}))
    return graphs, outside


def close(leaves: Sequence[Tensor], results: Sequence[Tensor], born: Collection[Tensor] = ()) -> tuple[Graph, list[Tensor]]:
    """The graph from leaves to results, with outside tensors as further inputs, and these tensors; see `close_all`."""
    (graph,), outside = close_all([(leaves, results)], born)
    return graph, outside


class Settled(NamedTuple):
    """A loop's body after its carry has settled.

    Attributes
    ----------
    carries
        The first carries, in the dtypes that last.
    state
        The leaves of the body for the carries.
    following
        The next carries that the body gives.
    structure
        How the carry is nested.
    output
        What else the body gives.
    """

    carries: list[Tensor]
    state: list[Tensor]
    following: list[Tensor]
    structure: Structure
    output: Any


def settle(loop: str, init: Any, body: Callable[[Any], tuple[Any, Any]]) -> Settled:
    """Call a body with leaves for the carry, until its dtypes last; ``body(carry)`` gives the next carry, and what else there is.

    Each round makes a dtype wider, and there is a widest.
    """
    leaves, structure = flatten(init, "carry")
    carries = [as_tensor(v) for v in leaves.values()]
    while True:
        state = [new_input(n, t.shape, t.dtype) for n, t in zip(leaves, carries, strict=True)]
        carry, output = body(unflatten(structure, state))
        next_leaves, next_structure = flatten(carry, "carry")
        if next_structure != structure:
            raise ShapeError(f"the body of {loop} takes a carry of structure {structure} and returns {next_structure}.")
        following = [as_tensor(v) for v in next_leaves.values()]
        dtypes = [_common_dtype(loop, n, s.spec, f.spec) for n, s, f in zip(leaves, state, following, strict=True)]
        if dtypes == [s.dtype for s in state]:
            return Settled(carries, state, [cast(t, d) for t, d in zip(following, dtypes, strict=True)], structure, output)
        carries = [cast(t, d) for t, d in zip(carries, dtypes, strict=True)]


def _common_dtype(loop: str, name: str, state: Spec, following: Spec) -> np.dtype[Any]:
    if following.shape != state.shape:
        raise ShapeError(f"the body of {loop} takes {name} of shape {state.shape} and returns it with shape {following.shape}.")
    return np.result_type(state.dtype, following.dtype)


def in_common(function: str, results: Sequence[Any], names: Sequence[str]) -> tuple[list[list[Tensor]], Structure]:
    """The leaves of several results of one structure, with common dtypes; Python numbers take the dtype of the others.

    Raises
    ------
    ShapeError
        If structures or shapes differ; `names` say what gave the results.
    """
    named: list[Mapping[str, Any]] = []
    structures = []
    for result in results:
        leaves, structure = flatten(result, "result")
        named.append(leaves)
        structures.append(structure)
    for number, structure in enumerate(structures):
        if structure != structures[0]:
            raise ShapeError(
                f"{function}: {names[0]} returns {structures[0]} and {names[number]} returns {structure}; they must be nested alike."
            )
    columns = []
    for name in named[0]:
        values = [leaves[name] for leaves in named]
        weak = [v if type(v) in (bool, int, float, complex) else as_tensor(v).dtype for v in values]
        tensors = [cast(as_tensor(v), np.result_type(*weak)) for v in values]
        for number, tensor in enumerate(tensors):
            if tensor.shape != tensors[0].shape:
                raise ShapeError(
                    f"{function}: {name} has shape {tensors[0].shape} from {names[0]} and {tensor.shape} from {names[number]}; "
                    "they must be equal."
                )
        columns.append(tensors)
    return [list(row) for row in zip(*columns, strict=True)] or [[] for _ in results], structures[0]
