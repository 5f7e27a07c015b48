"""The legend of a computational graph: what its colours and numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dagtrain.draw.diagram import Edge, LegendItem, Node
from dagtrain.draw.measure import Measures

__all__ = ["legend_items"]

KINDS = {
    "input": "input",
    "parameter": "parameter",
    "constant": "constant",
    "op": "op",
    "layer": "layer",
    "backward": "gradient phase",
    "update": "update phase",
    "output": "output",
    "heat_1": "less than 1 % of the time",
    "heat_2": "from 1 %",
    "heat_3": "from 3 %",
    "heat_4": "from 10 %",
    "heat_5": "from 25 % of the time",
}


def legend_items(nodes: Mapping[str, Node], edges: Sequence[Edge], measures: Measures, target: str) -> list[LegendItem]:
    """The legend of a computational graph: the kinds and numbers that occur in it."""
    kinds = {node.kind for node in nodes.values()}
    items = [LegendItem(kind, text) for kind, text in KINDS.items() if kind in kinds]
    roles = {line.role for node in nodes.values() for line in node.lines}
    if "value" in roles:
        items.append(LegendItem("value", "value"))
    if "gradient" in roles and measures.target is not None:
        quantity = f"the sum of {target}" if measures.target.shape else target
        items.append(LegendItem("gradient", f"∂ gradient of {quantity}"))
    labels = [edge.label for edge in edges if edge.tooltip]
    if labels:
        words = "local derivative"
        if any("avg" in label for label in labels):
            words += " (avg: mean over elements)"
        items.append(LegendItem("derivative", words))
        if any("Σ" in label for label in labels):
            items.append(LegendItem("derivative", "Σ: of the sum of the node's elements"))
    return items
