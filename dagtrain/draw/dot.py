"""A `Diagram` as DOT, the language of Graphviz: its syntax and its escapes are here alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dagtrain.draw.diagram import Diagram, Edge, LegendItem, Line, Node
from dagtrain.draw.style import EDGES, FONT, GROUPS, NODES, ROLES, light
from dagtrain.draw.text import clean

__all__ = ["to_dot"]

LARGE = 120
"""With more edges, layout trades some beauty for speed."""
LONG = 5000
"""If all edges together cross more ranks, edges are straight: routing them around nodes would take most of the time."""
_SPACE = "\N{NO-BREAK SPACE}"
"""Keeps labels off lines and cells apart: Graphviz drops ordinary spaces at the ends."""


def to_dot(diagram: Diagram) -> str:
    """DOT text of a diagram.

    Examples
    --------
    >>> text = to_dot(Diagram((Node("n0", (Line("x < 1", "title"),)),)))
    >>> "x &lt; 1" in text
    True
    """
    names = {node.key: f"n{i}" for i, node in enumerate(diagram.nodes)}
    boxes = {group.key: f"cluster_{i}" for i, group in enumerate(diagram.groups)}
    lines = ["digraph dagtrain {", *(f"  {line};" for line in _settings(diagram))]
    lines += _box(diagram, None, names, boxes, "  ")
    homes = {node.key: node.group for node in diagram.nodes}
    for i, edge in enumerate(diagram.edges):
        # One more rank before a box leaves room for the parameters of its first op; else boxes overlap in rank and drift sideways.
        enters = not diagram.rows and homes[edge.target] is not None and homes[edge.source] != homes[edge.target]
        lines.append(f"  {_edge(edge, i, names, enters)};")
    for row in (row for row in diagram.rows if len(row) > 1):
        lines.append(f"  {{ rank=same; {' -> '.join(names[key] for key in row)} [style=invis] }};")
    return "\n".join([*lines, "}", ""])


def _settings(diagram: Diagram) -> list[str]:
    graph = {
        "bgcolor": "transparent",
        "fontname": FONT,
        "fontsize": "11",
        "fontcolor": light("muted"),
        "rankdir": diagram.direction,
        "nodesep": "0.3",
        "ranksep": "0.42",
        "pad": "0.15",
        "tooltip": clean(diagram.title) or " ",
    }
    if diagram.fixed:
        graph |= {"layout": "neato", "splines": "line", "outputorder": "edgesfirst"}
    elif len(diagram.edges) > LARGE:
        # Without these limits the network simplex alone takes tens of seconds on a few thousand edges.
        graph |= {"nslimit": "0.5", "nslimit1": "0.5", "splines": "polyline", "ranksep": "0.35"}
        if _span(diagram) > LONG:
            graph |= {"splines": "line", "outputorder": "edgesfirst", "nslimit": "0.1", "nslimit1": "0.1", "searchsize": "10"}
    if diagram.ordered and not diagram.groups:
        # With boxes as well, Graphviz loses edges.
        graph["ordering"] = "out"
    if diagram.rows:
        graph["newrank"] = "true"  # else each box has ranks of its own
    if diagram.legend or diagram.title:
        graph |= {"labelloc": "b", "labeljust": "l"}
    node = {"fontname": FONT, "fontsize": "11", "fontcolor": light("ink"), "height": "0.3", "width": "0.3"}
    edge = {"fontname": FONT, "fontsize": "10", "arrowsize": "0.6", "arrowhead": "normal"}
    texts = [f"{kind} [{_attributes(values)}]" for kind, values in (("graph", graph), ("node", node), ("edge", edge))]
    if diagram.legend or diagram.title:
        texts.append(f"label=<{_legend(diagram)}>")
    return texts


def _span(diagram: Diagram) -> int:
    """The number of ranks that all edges cross together, each node being below the lowest of its sources."""
    after: dict[str, list[str]] = {node.key: [] for node in diagram.nodes}
    waiting = dict.fromkeys(after, 0)
    for edge in diagram.edges:
        after[edge.source].append(edge.target)
        waiting[edge.target] += 1
    rank = dict.fromkeys(after, 0)
    ready = [key for key, count in waiting.items() if not count]
    while ready:
        key = ready.pop()
        for target in after[key]:
            rank[target] = max(rank[target], rank[key] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return sum(abs(rank[edge.target] - rank[edge.source]) for edge in diagram.edges)


def _box(diagram: Diagram, key: str | None, names: dict[str, str], boxes: dict[str, str], indent: str) -> list[str]:
    lines = [f"{indent}{_node(node, names[node.key])};" for node in diagram.nodes_in.get(key, [])]
    for group in diagram.groups_in.get(key, []):
        fill, line = GROUPS[group.kind]
        values = {
            "style": "rounded,filled",
            "fillcolor": light(fill),
            "color": light(line),
            "fontcolor": light("muted"),
            "fontname": FONT,
            "fontsize": "10.5",
            "labelloc": "t",
            "labeljust": "r",  # the trunk enters a box on the left
            "margin": "9",
            "class": f"group {group.kind}",
            "id": f"group-{boxes[group.key]}",
            "tooltip": clean(group.label),
        }
        lines.append(f"{indent}subgraph {boxes[group.key]} {{")
        lines.append(f"{indent}  graph [{_attributes(values)}]; label=<{_markup(group.label)}>;")
        lines += _box(diagram, group.key, names, boxes, indent + "  ")
        lines.append(f"{indent}}}")
    return lines


def _node(node: Node, name: str) -> str:
    shape = NODES[node.kind]
    values = {
        "shape": shape.shape,
        "style": shape.style,
        "fillcolor": light(shape.fill),
        "color": light(shape.line),
        "penwidth": f"{shape.width:g}",
        "margin": shape.margin,
        "tooltip": clean(node.tooltip) or " ",
        "class": " ".join([node.kind, *node.classes]),
        "id": f"node-{name}",
    }
    if node.position is not None:
        values["pos"] = f"{node.position[0] / 72:.4f},{node.position[1] / 72:.4f}!"
    if shape.shape == "circle":
        values |= {"fixedsize": "true", "width": "0.34", "height": "0.34"}
    return f"{name} [label=<{_lines(node.lines)}> {_attributes(values)}]"


def _edge(edge: Edge, index: int, names: dict[str, str], enters: bool) -> str:
    stroke = EDGES[edge.kind]
    values = {
        "color": light(stroke.color),
        "penwidth": f"{stroke.width:g}",
        "class": edge.kind,
        "id": f"edge-{index}",
        "tooltip": clean(edge.tooltip) or " ",
    }
    if edge.label:
        values["labeltooltip"] = values["tooltip"]
    if stroke.style != "solid":
        values["style"] = stroke.style
    if edge.weight != 1:
        values["weight"] = str(edge.weight)
    if enters:
        values["minlen"] = "2"
    if not stroke.shapes_layout:
        values["constraint"] = "false"
    if not stroke.head:
        values["arrowhead"] = "none"
    text = _attributes(values)
    if edge.label:
        text = f"label=<{_lines([Line(_SPACE + edge.label + _SPACE, stroke.label)])}> {text}"
    return f"{names[edge.source]} -> {names[edge.target]} [{text}]"


def _legend(diagram: Diagram) -> str:
    """A table below the picture, where it does not affect the layout: title, signs in rows, and words in their own colour."""
    signs = [item for item in diagram.legend if item.sign not in ROLES]
    words = [_lines([Line(item.text + _SPACE * 4, item.sign)]) for item in diagram.legend if item.sign in ROLES]
    per_row = 3 if any(len(item.text) > 20 for item in signs) else 5
    rows = [_lines([Line(diagram.title, "title")])] if diagram.title else []
    rows += [_signs(signs[i : i + per_row]) for i in range(0, len(signs), per_row)]
    rows += ["".join(words[i : i + 3]) for i in range(0, len(words), 3)]
    body = "".join(f'<TR><TD ALIGN="LEFT" CELLPADDING="2">{row}</TD></TR>' for row in rows)
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0"><TR><TD HEIGHT="10"></TD></TR>{body}</TABLE>'


def _signs(items: Sequence[LegendItem]) -> str:
    """Small pictures of nodes and edges with their meaning, in a table of roughly its natural width: Graphviz would stretch a wider one."""
    width = sum(28 + 5.2 * (len(item.text) + 3) for item in items)
    look = f'BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="0" ALIGN="LEFT" FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="20"'
    return f"<TABLE {look}><TR>{''.join(map(_sign, items))}</TR></TABLE>"


def _sign(item: LegendItem) -> str:
    text = f'<TD ALIGN="LEFT"><FONT COLOR="{light("muted")}" POINT-SIZE="9.5">{_SPACE}{_markup(item.text)}{_SPACE * 3}</FONT></TD>'
    if item.sign not in NODES:
        return f'<TD><FONT COLOR="{light(EDGES[item.sign].color)}" POINT-SIZE="11"><B>—▸</B></FONT></TD>{text}'
    shape = NODES[item.sign]
    style = "DASHED" if "dashed" in shape.style else "ROUNDED" if shape.shape != "box" or "rounded" in shape.style else ""
    look = f'BORDER="{max(1, round(shape.width))}" COLOR="{light(shape.line)}" BGCOLOR="{light(shape.fill)}"'
    look += f' STYLE="{style}"' if style else ""
    return f'<TD {look} WIDTH="18" HEIGHT="11" FIXEDSIZE="TRUE"></TD>{text}'


def _lines(lines: Iterable[Line]) -> str:
    texts = []
    for line in lines:
        role = ROLES[line.role]
        text = _markup(line.text) or " "
        text = f"<B>{text}</B>" if role.bold else text
        texts.append(f'<FONT COLOR="{light(role.color)}" POINT-SIZE="{role.size:g}">{text}</FONT>')
    return "<BR/>".join(texts) or " "


def _markup(text: str) -> str:
    """Text inside an HTML-like label."""
    escaped = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return escaped.replace("\n", "<BR/>")


def _attributes(values: dict[str, str]) -> str:
    return " ".join(f"{key}={_quote(value)}" for key, value in values.items())


def _quote(text: str) -> str:
    """A quoted string, made literal: Graphviz reads character references in it, and backslash escapes twice over in tooltips."""
    escaped = text.replace("&", "&amp;").replace("\\", "\\" * 4).replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
