"""Pruning of ops with bodies: a loop or a choice loses the outputs and inputs that no other node needs.

Other nodes need no pruning: a graph holds only nodes that its outputs need. But a loop's node gives all its parts at once, and the gradient
of a loop computes a derivative for every input.
"""

from __future__ import annotations

from dagtrain.graph import Graph, Tensor, located, rebuild, remake, users
from dagtrain.ops import find, parts

__all__ = ["prune"]


def prune(graph: Graph) -> Graph:
    """Drop what is unused from all ops that know how to, and then from their bodies."""
    nodes = [node for node in graph.nodes if node.spec.parts]
    if not nodes:
        return graph
    readers = users(graph.nodes)
    replace: dict[Tensor, Tensor] = {}
    for node in nodes:  # in topological order, so that each is built on pruned inputs
        used = {reader.attribute("index"): reader for reader in readers[node]}
        became = rebuild(node.inputs, replace)
        new = remake(node, tuple(became[source] for source in node.inputs))
        rule = find(node.op).prune
        with located(node.origin):
            outputs = {} if rule is None else rule(new, used, prune)
            if not outputs and new is not node:
                outputs = dict(enumerate(parts(new)))
            if outputs:
                replace.update((reader, outputs[index]) for index, reader in used.items())
    return graph.replace(rebuild(graph.outputs.values(), replace)) if replace else graph
