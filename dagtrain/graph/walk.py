"""The only traversals of a graph: all iterative, so that the depth of a graph has no limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dagtrain.graph.origin import located
from dagtrain.graph.tensor import LEAVES, Tensor, make

__all__ = ["ancestors_of", "rebuild", "remake", "topological", "users"]


def topological(outputs: Iterable[Tensor]) -> list[Tensor]:
    """All nodes that lead to the outputs, inputs before users, in an order that depends on the graph alone."""
    order: list[Tensor] = []
    done: set[Tensor] = set()
    stack = list(outputs)[::-1]
    while stack:
        node = stack[-1]
        if node not in done:
            if node.inputs:
                waiting = [source for source in node.inputs if source not in done]
                if waiting:
                    stack += waiting[::-1]
                    continue
            done.add(node)
            order.append(node)
        stack.pop()
    return order


def users(order: Iterable[Tensor]) -> dict[Tensor, list[Tensor]]:
    """For each node, the nodes of `order` that take it as an input (twice if they take it twice)."""
    readers: dict[Tensor, list[Tensor]] = {}
    for node in order:
        readers.setdefault(node, [])
        for source in node.inputs:
            readers.setdefault(source, []).append(node)
    return readers


def ancestors_of(targets: Iterable[Tensor], order: Iterable[Tensor]) -> set[Tensor]:
    """The nodes of `order` (inputs first) that depend on any of the targets, the targets included."""
    dependents = set(targets)
    for node in order:
        if node not in dependents and any(source in dependents for source in node.inputs):
            dependents.add(node)
    return dependents


def remake(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    """The same op on other inputs of the same specs."""
    if all(new is old for new, old in zip(inputs, node.inputs, strict=True)):
        return node
    return make(node.op, inputs, dict(node.attributes), node.spec, node.origin)


def rebuild(
    outputs: Iterable[Tensor],
    replace: Mapping[Tensor, Tensor] | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
) -> dict[Tensor, Tensor]:
    """Copy a graph from its leaves up; the result maps each node to its new node.

    Parameters
    ----------
    outputs
        The graph's outputs.
    replace
        Node → its replacement; nodes that lead only to replaced nodes are not visited.
    change
        Applied to each node after its inputs were replaced; it returns the node or another one.
    """
    became: dict[Tensor, Tensor] = dict(replace or {})
    for output in outputs:
        stack: list[tuple[Tensor, bool]] = [(output, False)]
        while stack:
            node, entered = stack.pop()
            if node in became:
                continue
            if not entered and node.inputs:
                stack.append((node, True))
                stack.extend((source, False) for source in reversed(node.inputs) if source not in became)
                continue
            new = node if node.op in LEAVES else remake(node, tuple(became[source] for source in node.inputs))
            if change is not None:
                with located(node.origin):
                    new = change(new)
            became[node] = new
    return became
