"""Pictures of filters, outputs of layers and occlusion: what is shown where, in equal bytes each time."""

import sys

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, MissingDependencyError, ShapeError
from dagtrain.explain import (
    activations,
    filters,
    occlusion,
    plot_activations,
    plot_attributions,
    plot_filters,
    plot_grid,
    plot_lines,
    plot_occlusion,
    plot_shares,
)

pytest.importorskip("matplotlib")

X = np.random.default_rng(0).random((3, 8, 8, 1)).astype("f4")


@pytest.fixture(scope="module")
def trainer():
    layers = [nn.Conv2D(6, 3, "relu"), nn.Conv2D(4, 3), nn.Flatten(), nn.Dense(3)]
    return dt.Trainer(nn.Sequential(layers, input_shape=(8, 8, 1)), loss="cross_entropy")


def shown(plot):
    """The numbers of each picture, in the order of the grid."""
    return [np.asarray(axes.images[0].get_array()) for axes in plot.figure.axes]


def limits(plot):
    return [axes.images[0].get_clim() for axes in plot.figure.axes]


def test_filters_stand_side_by_side_with_zero_in_the_middle(trainer):
    plot = plot_filters(trainer, "conv2d_1", most=5)
    kernels = filters(trainer, "conv2d_1")
    assert len(shown(plot)) == 5
    assert all(np.array_equal(a, kernel[..., 0]) for a, kernel in zip(shown(plot), kernels, strict=False))
    assert limits(plot)[2] == (-np.abs(kernels[2]).max(), np.abs(kernels[2]).max())
    rows = plot_filters(trainer, "conv2d_2", most=4)  # a row a filter
    assert np.array_equal(shown(rows)[5], filters(trainer, "conv2d_2")[1, ..., 1])
    assert len({round(axes.get_position().y0, 6) for axes in rows.figure.axes}) == 4
    coloured = dt.Trainer(nn.Sequential([nn.Conv2D(2, 3)], input_shape=(8, 8, 3)), loss="mean_squared_error")
    assert [picture.shape for picture in shown(plot_filters(coloured, "conv2d_1"))] == [(3, 3, 3)] * 2


def test_outputs_of_a_layer_stand_beside_their_picture(trainer):
    plot = plot_activations(trainer, X, "conv2d_1", most=2)
    values = activations(trainer, X, "conv2d_1")["conv2d_1"]
    titles = [axes.get_title() for axes in plot.figure.axes]
    assert titles == ["x", titles[1], titles[2]] * 3
    channels = [int(title) for title in titles[1:3]]
    assert set(channels) == set(np.argsort(-values.var(axis=(1, 2)).mean(axis=0))[:2])
    assert np.array_equal(shown(plot)[3], X[1, ..., 0])
    assert np.array_equal(shown(plot)[4], values[1, ..., channels[0]])


def test_occlusion_stands_below_its_picture(trainer):
    plot = plot_occlusion(trainer, X, size=4, stride=2)
    assert np.array_equal(shown(plot)[:3], X[..., 0])
    assert np.array_equal(shown(plot)[3:], occlusion(trainer, X, size=4, stride=2))


def test_attributions_stand_below_their_picture_and_shares_are_bars():
    x, values = np.ones((2, 4, 4, 3)) / 2, np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    plot = plot_attributions(x, values)
    assert np.allclose(shown(plot)[2:], values.sum(axis=-1))
    with pytest.raises(ShapeError, match="of one shape"):
        plot_attributions(x, values[..., :2])
    bars = plot_shares({"a": 0.1, "b": -0.4, "c": 0.2, "d": 0.05}, most=2).figure.axes[0]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["b", "c", "2 others"]
    assert [patch.get_width() for patch in bars.patches] == pytest.approx([-0.4, 0.2, 0.15])


def test_files_are_equal_bytes(tmp_path):
    first, second = (plot_grid([np.eye(3), np.zeros((3, 3))], ["one", "none"], title="both") for _ in range(2))
    assert first.png == second.png
    assert first.svg == second.svg
    assert first.save(tmp_path / "new" / "a.pdf").read_bytes() == second.render("pdf")
    assert first.save(tmp_path / "a.svg").read_text() == second.svg
    assert first._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"pictures": []}, ArgumentError, "there is no picture"),
        ({"titles": ["a", "b"]}, ArgumentError, "1 pictures and 2 titles"),
        ({"colours": ["grey", "heat"]}, ArgumentError, "1 pictures and 2 colours"),
        ({"colours": "green"}, ArgumentError, "colours of a picture"),
        ({"pictures": np.zeros((1, 4, 4, 2))}, ShapeError, r"got \(4, 4, 2\)"),
        ({"columns": 0}, ArgumentError, "columns must be"),
        ({"filename": "a.gif"}, ArgumentError, "format of a plot"),
    ],
)
def test_mistakes_are_named(arguments, kind, words):
    with pytest.raises(kind, match=words):
        plot_grid(**{"pictures": np.zeros((1, 4, 4)), **arguments})


def test_layers_without_pictures_are_refused(trainer):
    with pytest.raises(ShapeError, match=r"takes one layer.*'dense_1': \(3, 3\)"):
        plot_activations(trainer, X, "dense_1")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "dagtrain\[plot\]"'):
        plot_grid([np.eye(3)])


def test_lines_are_drawn_with_their_means_and_bounds(tmp_path):
    plot = plot_lines({"a": [0, 2, 4, 6]}, {"best": 7.0}, mean_over=2, filename=tmp_path / "lines.svg")
    line, bound = plot.figure.axes[0].lines
    assert line.get_ydata().tolist() == [0, 1, 3, 5]
    assert bound.get_ydata() == [7, 7]
    assert (tmp_path / "lines.svg").read_text() == plot_lines({"a": [0, 2, 4, 6]}, {"best": 7.0}, mean_over=2).svg
    with pytest.raises(ArgumentError, match="no line"):
        plot_lines({})
    for shares, words in (([1.0], "takes a dict"), ({"a": np.nan}, "the share of 'a' is no finite number")):
        with pytest.raises(ArgumentError, match=words):
            plot_shares(shares)
