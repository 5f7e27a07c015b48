from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from dagtrain.draw import Layer, draw_network, network_diagram
from dagtrain.draw.layers import COLUMN
from dagtrain.draw.style import ROLES
from dagtrain.errors import ArgumentError, UnknownNameError

DIGITS = [Layer("pixels", 64, "8×8 image"), Layer("dense_1", 128, "relu", None, 8320), Layer("dense_2", 10, "softmax", None, 1290)]


def test_small_layers_show_every_neuron_and_every_connection() -> None:
    diagram = network_diagram([("x", 2, ""), ("hidden", 3, "tanh"), ("y", 1, "sigmoid")])
    circles = [node for node in diagram.nodes if node.kind.startswith("neuron")]
    assert len(circles) == 6
    assert len(diagram.edges) == 2 * 3 + 3 * 1


def test_long_layers_are_abbreviated_with_dots() -> None:
    diagram = network_diagram(DIGITS, most=6)
    for column in range(3):
        kinds = [node.kind for node in diagram.nodes if node.key.startswith(f"{column}/")]
        assert len(kinds) == 6 + 2  # dots, label
        assert kinds.count("dots") == 1
    tips = [node.tooltip for node in diagram.nodes if node.tooltip.startswith("dense_1")]
    assert tips[0] == "dense_1, neuron 1 of 128"
    assert tips[-1] == "dense_1, neuron 128 of 128"


def test_labels_stand_below_their_column_and_nothing_overlaps() -> None:
    diagram = network_diagram(DIGITS)
    for column in range(3):
        nodes = [node.position for node in diagram.nodes if node.key.startswith(f"{column}/")]
        heights = [position[1] for position in nodes if position is not None]
        assert heights == sorted(heights, reverse=True)
        assert min(a - b for a, b in pairwise(heights)) > 24
        assert len({position[0] for position in nodes if position is not None}) == 1


def test_positions_are_kept_by_the_renderer() -> None:
    svg = draw_network([("x", 1, ""), ("y", 1, "")]).svg
    assert svg.count("<ellipse") == 2
    assert svg.count('class="edge synapse"') == 1


def test_blocks_show_shapes_and_parameters(tmp_path: Path) -> None:
    layers = [("image", 784, "grey", (28, 28, 1)), ("conv_1", 8, "3×3", (26, 26, 8), 80), ("pool_1", 8, "", (13, 13, 8), 0)]
    picture = draw_network(layers, tmp_path / "net.svg", view="blocks")
    lines = [[line.text for line in node.lines] for node in picture.diagram.nodes]
    assert lines == [
        ["image", "grey", "28×28×1"],
        ["conv_1", "3×3", "→ 26×26×8", "80 parameters"],
        ["pool_1", "→ 13×13×8", "no parameters"],
    ]
    assert len(picture.diagram.edges) == 2
    assert (tmp_path / "net.svg").exists()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'blocks'"):
        network_diagram(DIGITS, view="block")
    with pytest.raises(ArgumentError, match="no layers"):
        network_diagram([])
    with pytest.raises(ArgumentError, match="'x' has width 0"):
        network_diagram([("x", 0)])


def test_long_names_of_columns_do_not_touch() -> None:
    layers = [("input", 4), ("hidden", 3), ("a_very_long_name_of_a_layer", 3), ("another_very_long_name", 2)]
    x = [node.position[0] for node in network_diagram(layers).nodes if node.position and node.kind == "caption"]
    assert x[1] - x[0] == COLUMN
    assert x[3] - x[2] >= 0.6 * ROLES["title"].size * (27 + 22) / 2
