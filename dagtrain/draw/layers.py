"""A network as a picture: neurons in columns, as textbooks draw it, or one block a layer with shapes and parameter counts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from dagtrain.arguments import one_of
from dagtrain.draw.diagram import Diagram, Edge, Line, Node
from dagtrain.draw.picture import Picture
from dagtrain.draw.render import TIMEOUT
from dagtrain.draw.style import ROLES
from dagtrain.draw.text import count_text
from dagtrain.errors import ArgumentError

__all__ = ["Layer", "draw_network", "network_diagram"]

COLUMN, ROW = 130.0, 34.0
"""Points between columns, at least, and between neurons."""
LETTER = 0.68
"""The width of a letter of a caption, of its size: that of a bold one."""
VIEWS = ("neurons", "blocks")


@dataclass(frozen=True)
class Layer:
    """One layer of a network picture.

    Attributes
    ----------
    label
        Its name.
    width
        Number of its neurons (features it gives).
    detail
        Second line below it: activation, or kind of layer.
    shape
        Shape of its output, without the batch axis; `(width,)` by default.
    parameters
        Number of its parameters.
    """

    label: str
    width: int
    detail: str = ""
    shape: tuple[int, ...] | None = None
    parameters: int | None = None


def draw_network(
    layers: Sequence[Layer | tuple[Any, ...]],
    filename: str | os.PathLike[str] | None = None,
    *,
    view: str = "neurons",
    most: int = 8,
    title: str = "",
    format: str | None = None,
    timeout: float = TIMEOUT,
) -> Picture:
    """Draw a network from its inputs through its neurons to its outputs.

    Parameters
    ----------
    layers
        The input first; each a `Layer` or a tuple of its fields ``(label, width, detail, shape, parameters)``.
    filename
        Where to write the picture; its ending tells the format.
    view
        "neurons": a column of neurons for each layer, with every connection; "blocks": one block for each layer.
    most
        Neurons drawn in one column; longer layers are abbreviated with dots.
    title
        Written below the picture.
    format, timeout
        As in `draw`.

    Examples
    --------
    >>> draw_network([("pixels", 64, "8×8 image"), ("dense_1", 128, "relu"), ("dense_2", 10, "softmax")])
    <Picture: 30 nodes, 128 edges>
    """
    return Picture.of(network_diagram(layers, view=view, most=most, title=title), filename, format, timeout)


def network_diagram(layers: Sequence[Layer | tuple[Any, ...]], *, view: str = "neurons", most: int = 8, title: str = "") -> Diagram:
    """Describe the picture of a network; see `draw_network`."""
    one_of("view of a network", view, VIEWS)
    if most < 3:
        raise ArgumentError(f"a column needs room for at least 3 neurons, got most={most}.")
    network = [layer if isinstance(layer, Layer) else Layer(*layer) for layer in layers]
    if not network:
        raise ArgumentError("there are no layers to draw.")
    for layer in network:
        if layer.width < 1:
            raise ArgumentError(f"layer {layer.label!r} has width {layer.width}; a layer has at least one neuron.")
    return _neurons(network, most, title) if view == "neurons" else _blocks(network, title)


def _neurons(layers: Sequence[Layer], most: int, title: str) -> Diagram:
    nodes: list[Node] = []
    columns: list[list[str]] = []
    tallest = min(max(layer.width for layer in layers), most + 1)
    top = -(tallest - 1) / 2 * ROW - 24
    captions = [_caption(layer) for layer in layers]
    widths = [max(LETTER * ROLES[line.role].size * len(line.text) for line in caption) for caption in captions]
    steps = [max(COLUMN, (left + right) / 2) for left, right in pairwise(widths)]
    for i, (layer, words, x) in enumerate(zip(layers, captions, accumulate(steps, initial=0.0), strict=True)):
        kind = "neuron_input" if i == 0 else "neuron_output" if i == len(layers) - 1 else "neuron"
        rows = _rows(layer.width, most)
        column = []
        for place, index in enumerate(rows):
            key = f"{i}/{place}"
            y = ((len(rows) - 1) / 2 - place) * ROW
            if index is None:
                nodes.append(Node(key, (Line("⋮", "title"),), "dots", position=(x, y)))
                continue
            column.append(key)
            nodes.append(Node(key, (), kind, None, f"{layer.label}, neuron {index + 1} of {layer.width}", position=(x, y)))
        columns.append(column)
        # Graphviz centres text on a position; this makes captions of different heights begin on one line.
        height = sum(1.2 * ROLES[line.role].size for line in words)
        nodes.append(Node(f"{i}/label", words, "caption", position=(x, top - height / 2)))
    edges = [Edge(source, target, kind="synapse") for left, right in pairwise(columns) for source in left for target in right]
    return Diagram(tuple(nodes), tuple(edges), (), (), title, "LR")


def _caption(layer: Layer) -> tuple[Line, ...]:
    words = [Line(layer.label, "title"), Line(count_text(layer.width), "plain")]
    words += [Line(layer.detail)] if layer.detail else []
    words += [Line(f"{count_text(layer.parameters)} parameters")] if layer.parameters else []
    return tuple(words)


def _rows(width: int, most: int) -> list[int | None]:
    """Indices of the neurons drawn in one column, None for the dots between the first ones and the last."""
    if width <= most:
        return list(range(width))
    last = most // 2
    return [*range(most - last), None, *range(width - last, width)]


def _blocks(layers: Sequence[Layer], title: str) -> Diagram:
    nodes = []
    for i, layer in enumerate(layers):
        shape = "×".join(map(str, layer.shape if layer.shape is not None else (layer.width,)))
        words = [Line(layer.label, "title")]
        words += [Line(layer.detail)] if layer.detail else []
        words.append(Line(f"→ {shape}" if i else shape, "plain"))
        if layer.parameters is not None and i:
            words.append(Line(f"{count_text(layer.parameters)} parameters" if layer.parameters else "no parameters"))
        kind = "input" if i == 0 else "output" if i == len(layers) - 1 else "layer"
        nodes.append(Node(str(i), tuple(words), kind, None, f"{layer.label}: {shape}"))
    edges = [Edge(str(i), str(i + 1)) for i in range(len(layers) - 1)]
    return Diagram(tuple(nodes), tuple(edges), (), (), title, "TB")
