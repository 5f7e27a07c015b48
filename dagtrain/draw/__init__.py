"""Pictures of what runs: computational graphs, networks and task graphs, as SVG, PNG, PDF, HTML, DOT and Mermaid."""

from dagtrain.draw import api as _api
from dagtrain.draw.api import diagram_of, draw
from dagtrain.draw.computational import computational_diagram
from dagtrain.draw.diagram import Diagram, Edge, Group, LegendItem, Line, Node
from dagtrain.draw.dot import to_dot
from dagtrain.draw.layers import Layer, draw_network, network_diagram
from dagtrain.draw.mermaid import to_mermaid
from dagtrain.draw.picture import Picture, render
from dagtrain.draw.tasks import TaskRecord, task_diagram
from dagtrain.graph.protocols import DRAWING

__all__ = [
    "Diagram",
    "Edge",
    "Group",
    "Layer",
    "LegendItem",
    "Line",
    "Node",
    "Picture",
    "TaskRecord",
    "computational_diagram",
    "diagram_of",
    "draw",
    "draw_network",
    "network_diagram",
    "render",
    "task_diagram",
    "to_dot",
    "to_mermaid",
]

DRAWING.fill(_api)
