"""Pruning of loops: a `scan` loses the outputs, carries and inputs that nothing outside needs.

Elsewhere there is nothing to prune, since a graph holds only what its outputs need. A loop's node however gives all its parts at once, and
the gradient of a loop computes a derivative for each input, wanted or not.
"""

from __future__ import annotations

from dagtrain.graph import Graph, Tensor, located, rebuild, topological, users
from dagtrain.ops.scan import bare_scan

__all__ = ["prune"]


def prune(graph: Graph) -> Graph:
    """Drop what is not needed from all loops, the outer ones first, and from the loops in their bodies."""
    scans = [node for node in graph.nodes if node.op == "scan"]
    if not scans:
        return graph
    readers = users(graph.nodes)
    replace: dict[Tensor, Tensor] = {}
    became: dict[Tensor, Tensor] = {}
    for node in scans:  # inner results first, so that each loop is built on inputs that are pruned already
        wanted = {reader.attribute("index"): reader for reader in readers[node]}
        became = rebuild(node.inputs, replace)
        replace.update(_pruned(node, wanted, tuple(became[source] for source in node.inputs)))
    if not replace:
        return graph
    return graph.replace(rebuild(graph.outputs.values(), replace))


def _pruned(node: Tensor, wanted: dict[int, Tensor], inputs: tuple[Tensor, ...]) -> dict[Tensor, Tensor]:
    """Old part → part of a smaller loop; empty if the loop cannot be made smaller."""
    a = dict(node.attributes)
    body: Graph = a["body"]
    carries, sequences = a["carries"], a["sequences"]
    ins, outs = list(body.inputs.values()), list(body.outputs.values())
    ys = len(outs) - carries
    used_ys = [i for i in range(ys) if carries + i in wanted]
    state = {i for i in range(carries) if i in wanted or carries + ys + i in wanted}
    while True:  # a carry that another needed result reads is needed too
        results = [outs[i] for i in sorted(state)] + [outs[carries + i] for i in used_ys]
        needed = set(topological(results))
        more = state | {i for i in range(carries) if ins[i] in needed}
        if more == state:
            break
        state = more
    kept_state = sorted(state)
    lines = [i for i in range(carries, carries + sequences) if ins[i] in needed]
    fixed = [i for i in range(carries + sequences, len(ins)) if ins[i] in needed]
    kept = [*kept_state, *lines, *fixed]
    names, results_names = list(body.inputs), list(body.outputs)
    chosen = [*kept_state, *(carries + i for i in used_ys)]
    if len(kept) < len(ins) or len(chosen) < len(outs):
        smaller = prune(Graph({names[i]: ins[i] for i in kept}, {results_names[i]: outs[i] for i in chosen}))
    else:
        smaller = prune(body)
    if smaller is body:
        return {}
    state_in, lines_in, fixed_in = ([inputs[i] for i in group] for group in (kept_state, lines, fixed))
    with located(node.origin):
        parts = bare_scan(smaller, state_in, lines_in, fixed_in, a["length"], a["reverse"])
    place = {i: n for n, i in enumerate(kept_state)}
    place.update({carries + i: len(kept_state) + n for n, i in enumerate(used_ys)})
    place.update({carries + ys + i: len(kept_state) + len(used_ys) + n for n, i in enumerate(kept_state)})
    return {reader: parts[place[index]] for index, reader in wanted.items()}
