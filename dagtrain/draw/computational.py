"""The computational graph as a diagram.

leaves ──▶ ops ──▶ outputs        in boxes by layer, coloured by phase, with values, gradients and local derivatives laid over
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dagtrain.arguments import whole
from dagtrain.draw.diagram import Diagram, Edge, Group, Line, Node
from dagtrain.draw.legend import legend_items
from dagtrain.draw.measure import Measures, is_elementwise
from dagtrain.draw.naming import drawn_as, expression, leaf_name, node_names, note, part_name, range_text, tooltip
from dagtrain.draw.scopes import Path, Placement, is_parameter, place
from dagtrain.draw.text import array_text, count_text, number, seconds_text, shorten, spec_text
from dagtrain.errors import ArgumentError
from dagtrain.graph import LEAVES, Graph, Tensor, bodies

__all__ = ["computational_diagram"]

FEW = 30
"""In graphs of at most this many nodes, scalar constants are nodes; in larger ones they are written into the ops."""
LAYER_NODES = 60
"""In graphs of more nodes, layers are collapsed unless the caller decides."""
HEAT = 0.01, 0.03, 0.1, 0.25
"""Shares of the time at which the next colour begins."""
PHASES = {"forward": "op", "gradient": "backward", "update": "update"}
EDGE_PHASES = {"forward": "data", "gradient": "backward", "update": "update"}


def computational_diagram(
    graph: Graph,
    measures: Measures | None = None,
    *,
    collapse: bool | int | None = None,
    fold: bool = True,
    bodies: bool = False,
    names: Mapping[str, Tensor] | None = None,
    constants: bool | None = None,
    seconds: Mapping[Tensor, float] | None = None,
    direction: str = "TB",
    title: str = "",
    legend: bool = True,
) -> Diagram:
    """Describe the picture of a computational graph.

    Parameters
    ----------
    graph
        What to draw.
    measures
        Numbers to lay over it.
    collapse
        True draws each layer as one node, False every op; a number n draws n levels of boxes and collapses what is nested deeper;
        None collapses large graphs with layers.
    fold
        Draw equal layers in a row once, with their number.
    bodies
        Draw the bodies of loops and choices in boxes, instead of one node for each.
    names
        Names for nodes; other nodes have their leaf's name, or that of the variable on the line that made them.
    constants
        Whether scalar constants are nodes of their own; None decides by size.
    seconds
        Seconds of ops, as `dagtrain.draw.timing.op_seconds` measures them: written on the nodes, and shown by colour.
    direction
        "TB" (down), "BT" (up), "LR" or "RL".
    title
        Written below the picture.
    legend
        Whether to explain colours and numbers.
    """
    depth = _depth(graph, collapse)
    if constants is None:
        constants = len(graph) <= FEW and depth is None
    for name, tensor in (names or {}).items():
        if not any(tensor is node for node in graph.nodes):
            raise ArgumentError(f"names has tensors of the graph by name, as in names={{'loss': loss}}, got {name!r}: {tensor!r:.99}.")
    builder = _Builder(graph, measures or Measures(), place(graph, depth=depth, fold=fold), dict(names or {}), constants, bodies)
    builder.build()
    builder.colour(seconds or {})
    nodes, edges = builder.nodes, list(builder.edges.values())
    return Diagram(
        tuple(nodes.values()),
        tuple(edges),
        tuple(builder.groups.values()),
        tuple(legend_items(nodes, edges, builder.measures, builder.target_name())) if legend else (),
        title,
        direction,
    )


def _depth(graph: Graph, collapse: bool | int | None) -> int | None:
    if collapse is None:
        scoped = any(node.origin.scope for node in graph.nodes if node.op not in LEAVES)
        return 0 if scoped and len(graph) > LAYER_NODES else None
    if isinstance(collapse, bool):
        return 0 if collapse else None
    return whole("collapse (if not True or False)", collapse, 0)


@dataclass
class _Builder:
    graph: Graph
    measures: Measures
    placement: Placement
    user_names: dict[str, Tensor]
    constants: bool
    bodies: bool
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str, int], Edge] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    prefix: str = ""
    inside: str | None = None
    skip: int = 0
    """Number of scopes around the box of a body."""
    alias: dict[Tensor, str] = field(default_factory=dict)
    """Leaf of a body → the outer node drawn for it."""

    def __post_init__(self) -> None:
        self.index = {node: i for i, node in enumerate(self.graph.nodes)}
        self.names = node_names(self.graph, self.user_names)
        self.outputs = {t: name for name, t in reversed(list(self.graph.outputs.items()))}
        self.folded = set(self.placement.representative) | set(self.placement.representative.values())
        self.ports: dict[tuple[Tensor, int], str] = {}
        """Part of a node whose body is drawn → the drawn node that gives it."""

    # ---- nodes

    def build(self) -> None:
        for node in self.graph.nodes:
            if self.placement.stand_in(node) is not node:
                continue
            path = self.placement.collapsed(node)
            if path is not None:
                self.layer(path)
            elif self.opened(node):
                self.body(node)
            elif not self.written_inline(node) and node.op != "constant":
                self.node(node)
        for node in self.graph.nodes:
            if self.placement.stand_in(node) is node and not self.opened(node):
                self.arrows(node)
        if any(self.placement.collapsed(t) for t in self.outputs):
            self.ends()

    def target_name(self) -> str:
        """The name of the differentiated output."""
        target = self.measures.target
        return "" if target is None else self.names.get(target, self.outputs.get(target, "output"))

    def key(self, node: Tensor) -> str:
        node = self.placement.stand_in(node)
        if node in self.alias:
            return self.alias[node]
        if node.is_part and (node.inputs[0], node.attribute("index")) in self.ports:
            return self.ports[node.inputs[0], node.attribute("index")]
        path = self.placement.collapsed(node)
        return f"{self.prefix}layer {'/'.join(path)}" if path is not None else f"{self.prefix}node {self.index[node]}"

    def written_inline(self, node: Tensor) -> bool:
        return node.op == "constant" and not self.constants and node.size == 1

    def node(self, node: Tensor, key: str | None = None, group: str | None = None) -> None:
        """One op or leaf."""
        if node in self.alias or (node.is_part and (node.inputs[0], node.attribute("index")) in self.ports):
            return
        name = self.names.get(node)
        box = group or self.group(self.placement.paths[node])
        self.nodes[key or self.key(node)] = Node(
            key or self.key(node),
            tuple(self.lines(node, name)),
            self.kind(node),
            box,
            tooltip(node, name),
            (f"phase-{node.origin.phase}", f"op-{node.op}"),
        )

    def kind(self, node: Tensor) -> str:
        if node in self.outputs and node.op not in LEAVES:
            return "output"
        if is_parameter(node):
            return "parameter"
        if node.op in ("input", "constant"):
            return node.op
        return PHASES.get(node.origin.phase, "op")

    def lines(self, node: Tensor, name: str | None) -> list[Line]:
        scope = self.placement.paths[node][1:]
        if node.op in LEAVES:
            text = leaf_name(name, scope) if name else ("constant" if node.op == "constant" else node.op)
            small = node.op == "constant" and node.size == 1
            lines = [Line(number(node.value), "plain")] if small else [Line(text, "title")]
        else:
            text = self.op_text(node, scope)
            lines = [Line(f"{shorten(name)} = {text}" if name else text, "title")]
        words = note(node)
        if words:
            lines.append(Line(words))
        if node.shape or (not node.spec.parts and node not in self.measures.values and node.op != "constant"):
            lines.append(Line(spec_text(node.spec)))
        if node.op == "constant" and node.size > 1:
            lines.append(Line(array_text(node.value)))
        if node in self.folded:
            return lines
        if node in self.measures.values and node.op != "constant" and not node.spec.parts:
            lines.append(Line(array_text(self.measures.values[node]), "value"))
        if node in self.measures.gradients:
            lines.append(Line(self.gradient_text(node, name), "gradient"))
        return lines

    def op_text(self, node: Tensor, scope: Path) -> str:
        if bodies(node):
            return drawn_as(node).title
        if node.is_part:
            return part_name(node)
        return expression(node, self.names, scope, not self.constants)

    def gradient_text(self, node: Tensor, name: str | None) -> str:
        value = array_text(self.measures.gradients[node])
        target = self.measures.target
        top = self.names.get(target) if target is not None else None
        if top and name and len(top) + len(name) <= 10:
            return f"∂{top}/∂{name} = {value}"
        return f"∂ {value}"

    def layer(self, path: Path) -> None:
        """A collapsed layer: its name, its shape, its numbers of ops and parameters."""
        key = f"{self.prefix}layer {'/'.join(path)}"
        if key in self.nodes:
            return
        members = [n for n in self.graph.nodes if self.placement.collapsed(n) == path]
        ops = [n for n in members if n.op not in LEAVES]
        weights = sum(n.size for n in members if is_parameter(n))
        lines = [Line(self.label(path), "title")]
        if ops and path[0] == "forward":
            lines.append(Line(spec_text(ops[-1].spec)))
        words = [f"{len(ops)} op{'s' if len(ops) != 1 else ''}"]
        if weights:
            words.append(f"{count_text(weights)} parameters")
        lines.append(Line(" · ".join(words)))
        tip = "\n".join([self.label(path), *(f"{n.op}: {n.spec}" for n in members[:20]), *(["…"] if len(members) > 20 else [])])
        kind = "layer" if path[0] == "forward" else PHASES.get(path[0], "layer")
        self.nodes[key] = Node(key, tuple(lines), kind, self.group(path[:-1]), tip, (f"phase-{path[0]}", "layer"))

    def label(self, path: Path) -> str:
        run = self.placement.repeats.get(path)
        name = path[-1] if run is None else range_text(path[-1], run[-1][-1])
        name = name if path[0] == "forward" else f"{name} · {path[0]}"
        return name if run is None else f"{name}  × {len(run)}"

    def group(self, path: Path) -> str | None:
        """The box of a path, with the boxes around it."""
        parent = self.inside
        for length in range(2 + self.skip, len(path) + 1):
            key = f"{self.prefix}{'/'.join(path[:length])}"
            kind = {"gradient": "backward", "update": "update"}.get(path[0], "scope" if length % 2 == 0 else "inner")
            self.groups.setdefault(key, Group(key, self.label(path[:length]), parent, kind))
            parent = key
        return parent

    def opened(self, node: Tensor) -> bool:
        """Whether the bodies of a node are drawn."""
        return self.bodies and bool(bodies(node))

    def body(self, node: Tensor) -> None:
        """A box for each body. A loop's carry returns to its start, and its outputs leave the box; a choice is drawn below its branches."""
        drawn, several = drawn_as(node), [g for graphs in bodies(node).values() for g in graphs]
        for number_, graph in enumerate(several):
            title = drawn.title if len(several) == 1 else f"{drawn.title} · {drawn.bodies[number_]}"
            inner = self.box(node, graph, f"{self.prefix}body {self.index[node]} {number_}", title, drawn.inputs)
            ins, outs = list(graph.inputs.values()), list(graph.outputs.values())
            if drawn.choice:
                self.node(node)
                self.edge(self.source_key(node.inputs[0], self.key(node), 0), self.key(node), "", "data", 0)
                for output in outs:
                    self.edge(inner.key(output), self.key(node), drawn.bodies[number_], "data", number_)
            elif number_ == 0:
                for i in range(drawn.carries):
                    if inner.key(outs[i]) != inner.key(ins[i]):
                        self.edge(inner.key(outs[i]), inner.key(ins[i]), "carry", "carry", 0)
                self.ports.update({(node, i): inner.key(t) for i, t in enumerate([*outs, *ins[: drawn.carries]])})

    def box(self, node: Tensor, graph: Graph, box: str, title: str, labels: Sequence[str | None]) -> _Builder:
        """A body in a box: values that it takes in parts or that change enter it; others are drawn where they are made."""
        self.groups[box] = Group(box, title, self.group(self.placement.paths[node]), "inner")
        skip = self.skip if node.origin.scope == () else len(node.origin.scope)
        inner = _Builder(
            graph,
            Measures(),
            place(graph, depth=None, fold=False),
            {},
            False,
            self.bodies,
            self.nodes,
            self.edges,
            self.groups,
            f"{box}/",
            box,
            skip,
        )
        inner.names.update({leaf: text.partition("_")[2] for text, leaf in graph.inputs.items()})
        inner.outputs = {}
        ends = list(zip(node.inputs[-len(graph.inputs) or len(node.inputs) :], graph.inputs.values(), labels, strict=True))
        for source, leaf, label in ends:
            if label is None:
                inner.alias[leaf] = self.key(source)
                inner.names[leaf] = self.names.get(source, inner.names[leaf])
        inner.build()
        for i, (source, leaf, label) in enumerate(ends):
            end = inner.key(leaf)
            if label is not None and end in self.nodes and not self.written_inline(source):
                self.edge(self.source_key(source, end, i), end, label, "port", i)
        return inner

    def colour(self, seconds: Mapping[Tensor, float]) -> None:
        """Write the share of the time on each node, and colour it by it; a node that stands for several has their sum."""
        spent: dict[str, float] = {}
        for node, own in seconds.items():
            spent[self.key(node)] = spent.get(self.key(node), 0.0) + own
        whole = sum(spent.values()) or 1.0
        for key in spent.keys() & self.nodes.keys():
            share = spent[key] / whole
            line = Line(f"{seconds_text(spent[key])} · {share:.{0 if share >= 0.01 else 1}%}", "plain")
            kind = f"heat_{1 + sum(share >= least for least in HEAT)}"
            self.nodes[key] = replace(self.nodes[key], kind=kind, lines=(*self.nodes[key].lines, line))

    def ends(self) -> None:
        """Nodes for outputs of collapsed layers; more than two outputs of one layer share a node."""
        ends: dict[str, list[Tensor]] = {}
        for node in self.outputs:
            if self.placement.collapsed(node) is not None:
                ends.setdefault(self.key(node), []).append(node)
        for source, nodes in ends.items():
            few = len(nodes) <= 2
            for node in nodes if few else nodes[:1]:
                name = self.names.get(node, self.outputs[node])
                key = f"{self.prefix}output {name}"
                lines = [Line(shorten(name), "title"), Line(spec_text(node.spec))]
                if not few:
                    lines = [Line(f"{len(nodes)} outputs", "title"), Line(shorten(f"{name} …"))]
                elif node in self.measures.values:
                    lines.append(Line(array_text(self.measures.values[node]), "value"))
                tip = tooltip(node, name) if few else "\n".join(self.outputs[n] for n in nodes)
                self.nodes[key] = Node(key, tuple(lines), "output", None, tip, ("output",))
                self.edge(source, key, "", EDGE_PHASES.get(node.origin.phase, "data"), 0)

    # ---- edges

    def source_key(self, source: Tensor, target: str, position: int) -> str:
        """The drawn node of an operand; each op that uses a constant has its own copy, so that no line crosses the picture for a 1."""
        if source.op != "constant":
            return self.key(source)
        key = f"{self.prefix}constant {self.index[source]} of {target} {position if source.size > 1 else ''}".strip()
        if key not in self.nodes:
            self.node(source, key, self.nodes[target].group)
        return key

    def arrows(self, node: Tensor) -> None:
        target = self.key(node)
        for position, source in enumerate(node.inputs):
            if self.written_inline(source) or (source.op == "constant" and self.placement.collapsed(node) is not None):
                continue
            if target not in self.nodes or (node.is_part and (source, node.attribute("index")) in self.ports):
                continue
            key = self.source_key(source, target, position)
            if key == target:
                continue
            label, tip = self.derivative(node, position)
            self.edge(key, target, label, EDGE_PHASES.get(node.origin.phase, "data"), position, tip)

    def edge(self, source: str, target: str, label: str, kind: str, position: int, tip: str = "") -> None:
        """An arrow; arrows without a number are drawn once between two nodes."""
        ends = (source, target, position if label else -1)
        # The trunk of the graph, from op to op, is kept straight; parameters are drawn beside it.
        weight = 1 if self.nodes[source].kind in ("parameter", "constant") else 8
        self.edges.setdefault(ends, Edge(source, target, label, kind, tip, weight))

    def derivative(self, node: Tensor, position: int) -> tuple[str, str]:
        local = self.measures.local.get((node, position))
        source = node.inputs[position]
        if local is None or node in self.folded or self.placement.collapsed(node) is not None:
            return "", ""
        top, bottom = self.names.get(node), leaf_name(self.names.get(source, ""))
        name = f"∂{top}/∂{bottom}" if top and bottom and len(top) + len(bottom) <= 8 else ""
        if local.ndim == 0 or (local.size and (local == local.flat[0]).all()):
            text = number(local.flat[0])
        else:
            text = f"avg {number(local.mean())}"
        if not is_elementwise(node) and node.shape:
            text = f"Σ {text}"
        tip = f"local derivative of {top or node.op} by {bottom or source.op}: shape {local.shape}"
        if local.size:
            tip += f", least {number(local.min())}, mean {number(local.mean())}, most {number(local.max())}"
        return (f"{name} = {text}" if name else text), tip
