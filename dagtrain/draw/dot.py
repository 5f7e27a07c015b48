"""A `Diagram` as DOT, the language of Graphviz: the one place that knows its syntax and its escapes."""

from __future__ import annotations

from collections.abc import Iterable

from dagtrain.draw.diagram import Diagram, Edge, Group, LegendItem, Line, Node
from dagtrain.draw.style import EDGES, FONT, GROUPS, NODES, ROLES, light
from dagtrain.draw.text import clean

__all__ = ["to_dot"]

LARGE = 250
"""From this many edges on, layout gives up some beauty for speed."""
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
    members: dict[str | None, list[Node]] = {}
    for node in diagram.nodes:
        members.setdefault(node.group, []).append(node)
    children: dict[str | None, list[Group]] = {}
    for group in diagram.groups:
        children.setdefault(group.parent, []).append(group)
    lines += _box(None, members, children, names, boxes, "  ")
    lines += [f"  {_edge(edge, i, names)};" for i, edge in enumerate(diagram.edges)]
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
        graph |= {"nslimit": "2", "nslimit1": "2", "mclimit": "0.2", "splines": "polyline", "ranksep": "0.35"}
    if diagram.legend or diagram.title:
        graph |= {"labelloc": "b", "labeljust": "l"}
    node = {"fontname": FONT, "fontsize": "11", "fontcolor": light("ink"), "height": "0.3", "width": "0.3"}
    edge = {"fontname": FONT, "fontsize": "10", "arrowsize": "0.6", "arrowhead": "normal"}
    texts = [f"{kind} [{_attributes(values)}]" for kind, values in (("graph", graph), ("node", node), ("edge", edge))]
    if diagram.legend or diagram.title:
        texts.append(f"label=<{_legend(diagram)}>")
    return texts


def _box(
    key: str | None,
    members: dict[str | None, list[Node]],
    children: dict[str | None, list[Group]],
    names: dict[str, str],
    boxes: dict[str, str],
    indent: str,
) -> list[str]:
    lines = [f"{indent}{_node(node, names[node.key])};" for node in members.get(key, [])]
    for group in children.get(key, []):
        fill, line = GROUPS[group.kind]
        values = {
            "style": "rounded,filled",
            "fillcolor": light(fill),
            "color": light(line),
            "fontcolor": light("muted"),
            "fontname": FONT,
            "fontsize": "10.5",
            "labelloc": "t",
            "labeljust": "l",
            "margin": "9",
            "class": f"group {group.kind}",
            "id": f"group-{boxes[group.key]}",
            "tooltip": clean(group.label),
        }
        lines.append(f"{indent}subgraph {boxes[group.key]} {{")
        lines.append(f"{indent}  graph [{_attributes(values)}]; label=<{_markup(group.label)}>;")
        lines += _box(group.key, members, children, names, boxes, indent + "  ")
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


def _edge(edge: Edge, index: int, names: dict[str, str]) -> str:
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
    if not stroke.head:
        values["arrowhead"] = "none"
    text = _attributes(values)
    if edge.label:
        text = f"label=<{_lines([Line(_SPACE + edge.label + _SPACE, stroke.label)])}> {text}"
    return f"{names[edge.source]} -> {names[edge.target]} [{text}]"


def _legend(diagram: Diagram) -> str:
    """A table below the picture, three items a row, so that it stays out of the layout's way."""
    cells = [_legend_cells(item) for item in diagram.legend]
    columns = 2 if len(cells) <= 4 else 3
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    title = ""
    if diagram.title:
        title = f'<TR><TD ALIGN="LEFT" COLSPAN="{2 * columns}">{_lines([Line(diagram.title, "title")])}</TD></TR>'
    body = "".join(f"<TR>{''.join(row)}</TR>" for row in rows)
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="1">{title}{body}</TABLE>'


def _legend_cells(item: LegendItem) -> str:
    if item.sign in NODES:
        shape = NODES[item.sign]
        style = "ROUNDED" if shape.shape != "box" or "rounded" in shape.style else ""
        style = "DASHED" if "dashed" in shape.style else style
        border = f'BORDER="{max(1, round(shape.width))}" COLOR="{light(shape.line)}" BGCOLOR="{light(shape.fill)}"'
        sign = f'<TD {border} {f"STYLE={style!r}".replace(chr(39), chr(34)) if style else ""} WIDTH="20" HEIGHT="11" FIXEDSIZE="TRUE"></TD>'
    elif item.sign in EDGES:
        sign = f'<TD><FONT COLOR="{light(EDGES[item.sign].color)}" POINT-SIZE="11"><B>—▸</B></FONT></TD>'
    else:
        sign = f'<TD><FONT COLOR="{light(ROLES[item.sign].color)}" POINT-SIZE="10">123</FONT></TD>'
    return f'{sign}<TD ALIGN="LEFT"><FONT COLOR="{light("muted")}" POINT-SIZE="9.5">{_markup(item.text)}{_SPACE * 2}</FONT></TD>'


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
    """A quoted string: Graphviz reads backslash escapes and character references inside, so both are made literal."""
    escaped = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
