"""Where the columns of a model become real numbers, by which its outputs can be differentiated.

    amounts  float ─────────────────────────────▶ ┐
    words    int ──▶ reshape ──▶ gather(rows, ·) ─▶ ├──▶ outputs       the entrance of `words` is the result of gather
    mask     bool ─▶ where(·, h, 0)                 ┘                   held: no derivative leads through a comparison
    table    float ─▶ slice ──▶ cast to int ──▶ gather …                its codes enter there too, and its other numbers as they are

A whole number has no derivative. Its entrance is the first real number that is made of it alone: the row of an embedding, a cast, or
`dagtrain.one_hot`. What is attributed to an element there belongs to the element of the column that it was made of: what comes before the
entrance only moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import LEAVES, Graph, Tensor, topological
from dagtrain.graph import input as new_input
from dagtrain.ops import find
from dagtrain.ops.elementwise import cast
from dagtrain.ops.shape import broadcast_to
from dagtrain.transform.gradient import vjp_graph

__all__ = ["Entrance", "entrances"]

_MOVES = frozenset({"broadcast_to", "concatenate", "flip", "pad", "reshape", "slice", "take", "transpose"})
"""Ops that give elements of their inputs in another order or shape."""
_TABLES = frozenset({"gather", "one_hot"})
"""Ops that give a vector for each whole number."""


@dataclass(frozen=True, eq=False)
class Entrance:
    """A tensor of real numbers that depends on the model's columns directly.

    Attributes
    ----------
    tensor
        The column itself, or what is made of whole numbers.
    width
        Axes of the tensor at its end that one whole number is spread over.
    back
        Graph from attributions of the whole numbers at the entrance to those of each column of `columns`; None for a column itself.
    columns
        The numbers of the columns.
    """

    tensor: Tensor
    columns: tuple[int, ...]
    width: int = 0
    back: Graph | None = None


def entrances(columns: Sequence[Tensor], output: Tensor) -> list[Entrance]:
    """The entrances of a graph; columns that lead to the output through comparisons alone have none.

    Parameters
    ----------
    columns
        The leaves of the columns.
    output
        What is to be differentiated.

    Raises
    ------
    ArgumentError
        If whole numbers become real ones by an op whose result belongs to no element of a column.
    """
    order = topological([output])
    found = [Entrance(leaf, (i,)) for i, leaf in enumerate(columns) if leaf.dtype.kind == "f"]
    whole: dict[Tensor, Tensor | None] = {leaf: None for leaf in columns if leaf.dtype.kind in "iu"}
    other = {leaf for leaf in columns if leaf not in whole}  # real numbers, and what no derivative leads through
    real = {entrance.tensor for entrance in found}
    placed = set(real)  # the elements of real columns, in any place
    for node in order:
        if node.op in LEAVES or not any(source in whole or source in other for source in node.inputs):
            continue
        if node.op in _MOVES and node.inputs[0] in placed:
            placed.add(node)
        if node.op == "cast" and node.dtype.kind in "iu" and node.inputs[0] in placed:
            whole[node] = node
            continue
        sources = [source for source in node.inputs if source in whole]
        if any(source in real for source in node.inputs) or not sources:
            other.add(node)
            if any(source in real for source in node.inputs) and (node.spec.parts or node.dtype.kind == "f"):
                real.add(node)
        elif not node.spec.parts and node.dtype.kind in "iu":
            whole[node] = node
        elif not node.spec.parts and node.dtype.kind == "b":
            other.add(node)
        else:
            found.append(_entrance(node, sources, columns))
            other.add(node)
            real.add(node)
    return found


def _entrance(node: Tensor, sources: Sequence[Tensor], columns: Sequence[Tensor]) -> Entrance:
    moved = {leaf: new_input(f"column_{i}", leaf.shape, "f8") for i, leaf in enumerate(columns) if leaf.dtype.kind in "iuf"}
    elementwise = _is_elementwise(node)
    places = {_moved(source, moved, node) for source in sources}
    shape = sources[0].shape
    if len(places) > 1 or not (node.op in _TABLES or elementwise) or node.shape[: len(shape)] != shape:
        raise _refused(node, node)
    place = places.pop()
    numbers = tuple(i for i, leaf in enumerate(columns) if moved.get(leaf) in set(topological([place])))
    graph = Graph({f"column_{i}": moved[columns[i]] for i in numbers}, {"place": place})
    return Entrance(node, numbers, node.ndim - len(shape), vjp_graph(graph, range(len(numbers)), [0]))


def _moved(target: Tensor, moved: dict[Tensor, Tensor], entrance: Tensor) -> Tensor:
    """The whole numbers of a tensor as real ones, each moved from the place of its column as the ops before move it."""
    for node in topological([target]):
        if node in moved or not any(source in moved for source in node.inputs):
            continue
        if node.op in _MOVES or (node.op == "gather" and [i for i, t in enumerate(node.inputs) if t in moved] == [0]):
            inputs = [moved.get(t, cast(t, np.dtype("f8")) if node.op == "concatenate" else t) for t in node.inputs]
            moved[node] = find(node.op)(*inputs, **dict(node.attributes))
        elif _is_elementwise(node):
            places = {moved[t] for t in node.inputs if t in moved}
            if len(places) > 1:
                raise _refused(node, entrance)
            place = places.pop()
            moved[node] = place if place.shape == node.shape else broadcast_to(place, node.shape)
        elif node.dtype.kind != "b":
            raise _refused(node, entrance)
    if target not in moved:
        raise _refused(target, entrance)
    return moved[target]


def _is_elementwise(node: Tensor) -> bool:
    return find(node.op).ufunc is not None or node.op in ("cast", "where")


def _refused(node: Tensor, entrance: Tensor) -> ArgumentError:
    return ArgumentError(
        f"whole numbers of x pass through {node.op!r} ({node.origin}) before they become real numbers at {entrance.op!r} "
        f"({entrance.origin}), so it is not known what belongs to which of them: use nn.Embedding, dt.one_hot or .astype first."
    )
