"""A `Diagram` as Mermaid text, which GitHub, GitLab and many wikis draw by themselves."""

from __future__ import annotations

from dagtrain.draw.diagram import Diagram
from dagtrain.draw.style import EDGES, NODES, light
from dagtrain.draw.text import clean

__all__ = ["to_mermaid"]

_BRACKETS = {"ellipse": ("([", "])"), "note": ("[/", "/]"), "circle": ("((", "))"), "box": ("[", "]"), "plaintext": ("[", "]")}


def to_mermaid(diagram: Diagram) -> str:
    """Mermaid flowchart of a diagram.

    Examples
    --------
    >>> from dagtrain.draw.diagram import Line, Node
    >>> print(to_mermaid(Diagram((Node("a", (Line("a", "title"),)),))).splitlines()[1].strip())
    n0("a"):::op
    """
    names = {node.key: f"n{i}" for i, node in enumerate(diagram.nodes)}
    boxes = {group.key: f"g{i}" for i, group in enumerate(diagram.groups)}
    lines = [f"flowchart {diagram.direction}", *_box(diagram, None, names, boxes, "  ")]
    for edge in diagram.edges:
        stroke = EDGES[edge.kind]
        arrow = "---" if not stroke.head else "-.->" if stroke.style == "dashed" else "-->"
        label = f"|{_text(edge.label)}|" if edge.label else ""
        lines.append(f"  {names[edge.source]} {arrow}{label} {names[edge.target]}")
    for kind in sorted({node.kind for node in diagram.nodes}):
        shape = NODES[kind]
        lines.append(f"  classDef {kind} fill:{light(shape.fill)},stroke:{light(shape.line)},color:{light('ink')}")
    return "\n".join([*lines, ""])


def _box(diagram: Diagram, key: str | None, names: dict[str, str], boxes: dict[str, str], indent: str) -> list[str]:
    lines = []
    for node in diagram.nodes_in.get(key, []):
        shape = NODES[node.kind]
        left, right = ("(", ")") if "rounded" in shape.style else _BRACKETS[shape.shape]
        body = _text("\n".join(line.text for line in node.lines) or " ")
        lines.append(f"{indent}{names[node.key]}{left}{body}{right}:::{node.kind}")
    for group in diagram.groups_in.get(key, []):
        lines.append(f"{indent}subgraph {boxes[group.key]}[{_text(group.label)}]")
        lines += _box(diagram, group.key, names, boxes, indent + "  ")
        lines.append(f"{indent}end")
    return lines


def _text(text: str) -> str:
    """Quoted text: Mermaid reads HTML and, after `#`, its own character codes."""
    escaped = clean(text).replace("#", "#35;").replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return '"' + escaped.replace("\n", "<br/>") + '"'
