"""The content of a picture, apart from its form: nodes, edges, boxes around nodes, a legend.

    computational graph ─┐                        ┌─▶ DOT ──▶ SVG, PNG, PDF, HTML
    network             ─┼──▶  Diagram (a value) ─┤
    task graph          ─┘                        └─▶ Mermaid

A `Diagram` holds plain text and the names of kinds and roles; colours and shapes are in `style`, syntax in `dot` and `mermaid`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError

__all__ = ["Diagram", "Edge", "Group", "LegendItem", "Line", "Node"]


@dataclass(frozen=True)
class Line:
    """One line of text in a node; `role` (a key of `style.ROLES`) gives its colour, size and weight."""

    text: str
    role: str = "note"


@dataclass(frozen=True)
class Node:
    """One shape with lines of text; `kind` is a key of `style.NODES`."""

    key: str
    lines: tuple[Line, ...]
    kind: str = "op"
    group: str | None = None
    tooltip: str = ""
    classes: tuple[str, ...] = ()
    position: tuple[float, float] | None = None
    """Fixed centre in points; a diagram fixes all its nodes or none."""


@dataclass(frozen=True)
class Edge:
    """An arrow between nodes, by their keys; `kind` is a key of `style.EDGES`."""

    source: str
    target: str
    label: str = ""
    kind: str = "data"
    tooltip: str = ""
    weight: int = 1
    """How much the layout should keep the edge short and straight."""


@dataclass(frozen=True)
class Group:
    """A box around nodes and other boxes; `kind` is a key of `style.GROUPS`."""

    key: str
    label: str
    parent: str | None = None
    kind: str = "scope"


@dataclass(frozen=True)
class LegendItem:
    """One line of the legend: `sign` is a kind of node or edge, or a role of text."""

    sign: str
    text: str


DIRECTIONS = ("TB", "BT", "LR", "RL")
"""From top to bottom, and so on."""


@dataclass(frozen=True)
class Diagram:
    """A whole picture as a value; it checks that edges and groups refer to existing nodes and groups."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    groups: tuple[Group, ...] = ()
    legend: tuple[LegendItem, ...] = ()
    title: str = ""
    direction: str = field(default="TB")
    ordered: bool = False
    """Whether the targets of one node stand side by side in the order of the edges."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Keys of nodes that stand side by side in this order, whichever boxes they are in."""

    def __post_init__(self) -> None:
        one_of("direction", self.direction, DIRECTIONS)
        keys = {node.key for node in self.nodes}
        if len(keys) < len(self.nodes):
            raise ArgumentError("two nodes of a diagram have the same key.")
        for key in (key for row in self.rows for key in row):
            if key not in keys:
                raise ArgumentError(f"a row of a diagram names {key!r}, which is not one of its nodes.")
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in keys:
                    raise ArgumentError(f"an edge of a diagram ends at {end!r}, which is not one of its nodes.")
        boxes = {group.key for group in self.groups}
        for owner, box in [(n.key, n.group) for n in self.nodes] + [(g.key, g.parent) for g in self.groups]:
            if box is not None and box not in boxes:
                raise ArgumentError(f"{owner!r} is in the group {box!r}, which is not one of the diagram's groups.")

    @cached_property
    def nodes_in(self) -> Mapping[str | None, list[Node]]:
        """Key of a group → its nodes; under None the nodes in no group."""
        nodes: dict[str | None, list[Node]] = {}
        for node in self.nodes:
            nodes.setdefault(node.group, []).append(node)
        return nodes

    @cached_property
    def groups_in(self) -> Mapping[str | None, list[Group]]:
        """Key of a group → the groups in it; under None the outermost ones."""
        groups: dict[str | None, list[Group]] = {}
        for group in self.groups:
            groups.setdefault(group.parent, []).append(group)
        return groups

    @property
    def fixed(self) -> bool:
        """Whether nodes have positions already."""
        return any(node.position is not None for node in self.nodes)
