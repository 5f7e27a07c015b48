"""Pruning of loops: a `scan` loses the outputs, carries and inputs that no other node needs.

Other nodes need no pruning: a graph holds only nodes that its outputs need. But a loop's node gives all its parts at once, and the gradient
of a loop computes a derivative for every input.
"""

from __future__ import annotations

from dagtrain.graph import Graph, Tensor, located, rebuild, topological, users
from dagtrain.ops.scan import bare_scan

__all__ = ["prune"]


def prune(graph: Graph) -> Graph:
    """Drop unused outputs, carries and inputs from all loops, and then from the loops in their bodies."""
    scans = [node for node in graph.nodes if node.op == "scan"]
    if not scans:
        return graph
    readers = users(graph.nodes)
    replace: dict[Tensor, Tensor] = {}
    became: dict[Tensor, Tensor] = {}
    for node in scans:  # in topological order, so that each loop is built on pruned inputs
        used = {reader.attribute("index"): reader for reader in readers[node]}
        became = rebuild(node.inputs, replace)
        replace.update(_pruned(node, used, tuple(became[source] for source in node.inputs)))
    if not replace:
        return graph
    return graph.replace(rebuild(graph.outputs.values(), replace))


def _pruned(node: Tensor, used: dict[int, Tensor], inputs: tuple[Tensor, ...]) -> dict[Tensor, Tensor]:
    """Old part → part of a smaller loop; empty if the loop cannot be made smaller."""
    a = dict(node.attributes)
    body: Graph = a["body"]
    carries, sequences = a["carries"], a["sequences"]
    ins, outs = list(body.inputs.values()), list(body.outputs.values())
    ys = len(outs) - carries
    used_ys = [i for i in range(ys) if carries + i in used]
    state = {i for i in range(carries) if i in used or carries + ys + i in used}
    while True:  # a carry that another needed result reads is needed too
        results = [outs[i] for i in sorted(state)] + [outs[carries + i] for i in used_ys]
        ancestors = set(topological(results))
        more = state | {i for i in range(carries) if ins[i] in ancestors}
        if more == state:
            break
        state = more
    used_carries = sorted(state)
    lines = [i for i in range(carries, carries + sequences) if ins[i] in ancestors]
    fixed = [i for i in range(carries + sequences, len(ins)) if ins[i] in ancestors]
    used_ins = [*used_carries, *lines, *fixed]
    names, results_names = list(body.inputs), list(body.outputs)
    used_outs = [*used_carries, *(carries + i for i in used_ys)]
    if len(used_ins) < len(ins) or len(used_outs) < len(outs):
        smaller = prune(Graph({names[i]: ins[i] for i in used_ins}, {results_names[i]: outs[i] for i in used_outs}))
    else:
        smaller = prune(body)
    if smaller is body:
        return {}
    state_in, lines_in, fixed_in = ([inputs[i] for i in group] for group in (used_carries, lines, fixed))
    with located(node.origin):
        parts = bare_scan(smaller, state_in, lines_in, fixed_in, a["length"], a["reverse"])
    position = {i: n for n, i in enumerate(used_carries)}
    position.update({carries + i: len(used_carries) + n for n, i in enumerate(used_ys)})
    position.update({carries + ys + i: len(used_carries) + len(used_ys) + n for n, i in enumerate(used_carries)})
    return {reader: parts[position[index]] for index, reader in used.items()}
