"""What a trained model sees: its filters, the outputs of its layers, and which part of a picture decides; also as pictures."""

from dagtrain.explain.activations import activations, filters, layer_graph
from dagtrain.explain.lines import plot_lines
from dagtrain.explain.occlusion import occlusion
from dagtrain.explain.plot import Plot, plot_activations, plot_filters, plot_grid, plot_occlusion

__all__ = [
    "Plot",
    "activations",
    "filters",
    "layer_graph",
    "occlusion",
    "plot_activations",
    "plot_filters",
    "plot_grid",
    "plot_lines",
    "plot_occlusion",
]
