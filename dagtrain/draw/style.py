"""How pictures look: every colour once, as a pair (light, dark), and every kind of node, edge, box and text as one line of a table.

A picture is made in the light colours, which are right for PNG, PDF and viewers without CSS. In an SVG a stylesheet then maps each light
colour to a variable, and the variable follows the page: the reader's system, `data-theme` on any element around the picture, or Jupyter's
theme. So all colours must differ, even where the eye would see no difference.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COLORS", "EDGES", "FONT", "GROUPS", "NODES", "ROLES", "WORKERS", "css"]

FONT = "Helvetica,Arial,sans-serif"

COLORS: dict[str, tuple[str, str]] = {
    "canvas": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#545d67", "#a6b0ba"),
    "line": ("#8c959f", "#6e7681"),
    "faint": ("#d3d9df", "#2f3640"),
    "value": ("#12692d", "#4ac26b"),
    "gradient": ("#cf222e", "#ff8078"),
    "derivative": ("#0550ae", "#79c0ff"),
    "op_fill": ("#fefefe", "#1c2128"),
    "op_line": ("#aab2bb", "#545d68"),
    "input_fill": ("#e2f2ff", "#10304d"),
    "input_line": ("#3f8fdc", "#4b96e6"),
    "parameter_fill": ("#fff5d1", "#3a2f12"),
    "parameter_line": ("#c08a1e", "#c4942f"),
    "constant_fill": ("#f3f4f6", "#21262d"),
    "constant_line": ("#b9c0c8", "#4d5560"),
    "output_fill": ("#efe9ff", "#2c2250"),
    "output_line": ("#7a5bd0", "#a18be8"),
    "backward_fill": ("#fff0ee", "#3b1d20"),
    "backward_line": ("#e09a94", "#b65f5b"),
    "update_fill": ("#e3f6f2", "#12342f"),
    "update_line": ("#4fae9d", "#3a8f80"),
    "box_fill": ("#f7f8fa", "#13181f"),
    "box_line": ("#d5dae0", "#343b45"),
    "inner_fill": ("#f0f2f5", "#181e26"),
    "inner_line": ("#cbd1d8", "#3b434e"),
    "moved": ("#a84300", "#f0883e"),
    "worker_1": ("#cfe4fd", "#153b66"),
    "worker_2": ("#ffe0bd", "#4f320d"),
    "worker_3": ("#d0efd6", "#133d24"),
    "worker_4": ("#fdd6e4", "#5b1f3a"),
    "worker_5": ("#e4daff", "#3b2b68"),
    "worker_6": ("#f8ecad", "#463c0e"),
    "worker_7": ("#c6eeeb", "#0f3e3c"),
    "worker_8": ("#e9dbce", "#403022"),
    "worker_9": ("#ffd2cc", "#68231e"),
    "worker_10": ("#dfe3e8", "#333a42"),
    "heat_1": ("#fff6e8", "#231d15"),
    "heat_2": ("#fff0c8", "#3a2c12"),
    "heat_3": ("#ffe6a1", "#4d360f"),
    "heat_4": ("#ffd67e", "#5a330f"),
    "heat_5": ("#ffcaae", "#6a2416"),
}


class Text(NamedTuple):
    """Colour, size in points, and whether bold."""

    color: str
    size: float
    bold: bool = False


class Shape(NamedTuple):
    """Graphviz shape and style, colours, width of the outline, margin in inches."""

    shape: str
    style: str
    fill: str
    line: str
    width: float = 1.0
    margin: str = "0.13,0.06"


class Stroke(NamedTuple):
    """Colour, width and style of an edge, whether it has a head, and the role of its label."""

    color: str
    width: float = 1.0
    style: str = "solid"
    head: bool = True
    label: str = "derivative"
    shapes_layout: bool = True
    """Whether the layout puts the target below the source; not for edges that lead back."""


ROLES: dict[str, Text] = {
    "title": Text("ink", 12, True),
    "plain": Text("ink", 11),
    "note": Text("muted", 9.5),
    "value": Text("value", 10.5),
    "gradient": Text("gradient", 10.5),
    "derivative": Text("derivative", 10),
    "moved": Text("moved", 10),
}

NODES: dict[str, Shape] = {
    "op": Shape("box", "rounded,filled", "op_fill", "op_line"),
    "backward": Shape("box", "rounded,filled", "backward_fill", "backward_line"),
    "update": Shape("box", "rounded,filled", "update_fill", "update_line"),
    "input": Shape("note", "filled", "input_fill", "input_line", 1.2),
    "parameter": Shape("box", "filled", "parameter_fill", "parameter_line", 1.2),
    "constant": Shape("ellipse", "filled,dashed", "constant_fill", "constant_line", 1.0, "0.02,0.01"),
    "output": Shape("box", "rounded,filled", "output_fill", "output_line", 2.0),
    "layer": Shape("box", "rounded,filled", "inner_fill", "op_line", 1.4, "0.2,0.1"),
    "task": Shape("box", "rounded,filled", "op_fill", "op_line"),
    "data": Shape("box", "filled", "parameter_fill", "parameter_line"),
    "neuron_input": Shape("circle", "filled", "input_fill", "input_line", 1.2),
    "neuron": Shape("circle", "filled", "inner_fill", "op_line", 1.2),
    "neuron_output": Shape("circle", "filled", "output_fill", "output_line", 1.2),
    "dots": Shape("plaintext", "", "canvas", "canvas"),
    "caption": Shape("plaintext", "", "canvas", "canvas"),
    **{f"worker_{i}": Shape("box", "rounded,filled", f"worker_{i}", "op_line") for i in range(1, 11)},
    **{f"heat_{i}": Shape("box", "rounded,filled", f"heat_{i}", "op_line") for i in range(1, 6)},
}

EDGES: dict[str, Stroke] = {
    "data": Stroke("line"),
    "backward": Stroke("backward_line"),
    "update": Stroke("update_line"),
    "port": Stroke("line", label="note"),
    "carry": Stroke("output_line", 1.2, "dashed", label="note", shapes_layout=False),
    "moved": Stroke("moved", 1.6, label="moved"),
    "local": Stroke("line", 1.0, label="note"),
    "scattered": Stroke("moved", 1.6, label="moved"),
    "gathered": Stroke("update_line", 1.6, label="note"),
    "synapse": Stroke("faint", 0.8, head=False),
}

GROUPS: dict[str, tuple[str, str]] = {
    "scope": ("box_fill", "box_line"),
    "inner": ("inner_fill", "inner_line"),
    "backward": ("box_fill", "backward_line"),
    "update": ("box_fill", "update_line"),
}

WORKERS = tuple(name for name in COLORS if name.startswith("worker_"))


def light(name: str) -> str:
    """A colour's light form, in which pictures are made."""
    return COLORS[name][0]


def css() -> str:
    """The stylesheet of an SVG: light by default, dark by the reader's system or by an attribute around the picture.

    Examples
    --------
    >>> "prefers-color-scheme: dark" in css() and "[data-theme" in css()
    True
    """
    bright = "".join(f"--{name}:{pair[0]};" for name, pair in COLORS.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in COLORS.items())
    rules = [
        f"svg.dagtrain{{{bright}max-width:100%;height:auto}}",
        f"@media (prefers-color-scheme: dark){{svg.dagtrain{{{dark}}}}}",
        _under("light", bright),
        _under("dark", dark),
        # A picture opened by itself paints the page behind it; inside another page it stays transparent.
        "svg.dagtrain:root{background:var(--canvas)}",
    ]
    for name, (color, _) in COLORS.items():
        rules.append(f'svg.dagtrain [fill="{color}"]{{fill:var(--{name})}}')
        rules.append(f'svg.dagtrain [stroke="{color}"]{{stroke:var(--{name})}}')
    rules.append("svg.dagtrain .node:hover>path,svg.dagtrain .node:hover>polygon,svg.dagtrain .node:hover>ellipse{stroke-width:2.5}")
    rules.append("svg.dagtrain .edge:hover>path{stroke-width:3}")
    return "\n".join(rules)


def _under(theme: str, variables: str) -> str:
    """Variables for pictures inside an element that names its theme: the common attribute, Jupyter's, and VS Code's."""
    jupyter = "true" if theme == "light" else "false"
    places = [f'[data-theme="{theme}"]', f'[data-jp-theme-light="{jupyter}"]', f'[data-vscode-theme-kind="vscode-{theme}"]']
    chosen = [f"{place} svg.dagtrain" for place in places] + [f'svg.dagtrain[data-theme="{theme}"]']
    return f"{','.join(chosen)}{{{variables}}}"
