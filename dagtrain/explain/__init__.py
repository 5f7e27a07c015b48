"""What a trained model sees: filters, outputs of layers, the part of a picture that decides, the share of each input; also as pictures."""

from dagtrain.explain.activations import activations, filters, layer_graph
from dagtrain.explain.attribution import Attributions, integrated_gradients, saliency
from dagtrain.explain.lines import plot_lines, plot_shares
from dagtrain.explain.occlusion import occlusion
from dagtrain.explain.plot import Plot, plot_activations, plot_attributions, plot_filters, plot_grid, plot_occlusion

__all__ = [
    "Attributions",
    "Plot",
    "activations",
    "filters",
    "integrated_gradients",
    "layer_graph",
    "occlusion",
    "plot_activations",
    "plot_attributions",
    "plot_filters",
    "plot_grid",
    "plot_lines",
    "plot_occlusion",
    "plot_shares",
    "saliency",
]
