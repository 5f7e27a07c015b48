"""Filters, outputs of layers, occlusion and attributions as pictures in a grid, by matplotlib.

Equal numbers give equal files: a figure is drawn without matplotlib's state of windows, and its files hold no date and no version.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dagtrain.arguments import one_of, whole
from dagtrain.draw.picture import write_picture
from dagtrain.errors import ArgumentError, MissingDependencyError, ShapeError
from dagtrain.explain.activations import activations, filters
from dagtrain.explain.occlusion import occlusion
from dagtrain.graph import Array

if TYPE_CHECKING:
    from dagtrain.train import Trainer

__all__ = ["Plot", "figures", "plot_activations", "plot_attributions", "plot_filters", "plot_grid", "plot_occlusion"]

COLOURS = {"grey": "gray", "heat": "inferno", "signed": "RdBu_r"}
"""How numbers become colours → matplotlib's name of it."""
_INCHES, _TITLE = 0.9, 0.22
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Creator": None, "Date": None},
    "pdf": {"Creator": None, "CreationDate": None, "Producer": None},
}


class Plot:
    """A picture by matplotlib: `.png` and `.svg`, `.save(path)`; a notebook shows it inline. `.figure` is matplotlib's own."""

    def __init__(self, figure: Any) -> None:
        self.figure = figure

    def render(self, format: str = "png") -> bytes:
        """The picture as png, svg or pdf."""
        import matplotlib

        one_of("format of a plot", format, list(_METADATA))
        buffer = BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "dagtrain"}):
            self.figure.savefig(buffer, format=format, dpi=120, metadata=_METADATA[format])
        return buffer.getvalue()

    @property
    def png(self) -> bytes:
        """The picture as PNG."""
        return self.render("png")

    @property
    def svg(self) -> str:
        """The picture as SVG."""
        return self.render("svg").decode()

    def save(self, filename: str | os.PathLike[str]) -> Path:
        """Write the picture to a file; the ending of its name tells the format (png, svg, pdf). Makes its folder."""
        return write_picture(filename, self.render(Path(filename).suffix.removeprefix(".").lower() or "png"))

    def _repr_png_(self) -> bytes:
        return self.png


def plot_grid(
    pictures: Any,
    titles: Sequence[str] = (),
    columns: int | None = None,
    colours: str | Sequence[str] = "grey",
    title: str = "",
    filename: str | os.PathLike[str] | None = None,
) -> Plot:
    """Pictures in a grid, row by row.

    Parameters
    ----------
    pictures
        Arrays of shape (height, width), (height, width, 1), or (height, width, 3) for colours from 0 to 1.
    titles
        One above each picture, or none.
    columns
        Pictures in a row; by default about as many as there are rows.
    colours
        For pictures without colours of their own, one for all or one for each: "grey" and "heat" from the smallest number to the largest,
        "signed" with 0 in the middle, negative numbers blue and positive ones red.
    title
        Above the whole.
    filename
        Where to write it, in the format of its ending: png, svg, pdf.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    figure_of = figures()
    shown = [_picture(picture) for picture in pictures]
    if not shown:
        raise ArgumentError("plot_grid: there is no picture.")
    if titles and len(titles) != len(shown):
        raise ArgumentError(f"plot_grid: there are {len(shown)} pictures and {len(titles)} titles: give one for each.")
    kinds = [colours] * len(shown) if isinstance(colours, str) else list(colours)
    if len(kinds) != len(shown):
        raise ArgumentError(f"plot_grid: there are {len(shown)} pictures and {len(kinds)} colours: give one for all, or one for each.")
    width = whole("plot_grid: columns", columns) if columns is not None else math.ceil(math.sqrt(len(shown)))
    height = math.ceil(len(shown) / width)
    above = _TITLE if titles else 0.04
    size = width * _INCHES + 0.1, height * (_INCHES + above) + (0.32 if title else 0.06)
    figure = figure_of(figsize=size)
    for i, (picture, kind) in enumerate(zip(shown, kinds, strict=True)):
        row, column = divmod(i, width)
        bottom = (height - 1 - row) * (_INCHES + above) + 0.05
        left = column * _INCHES + 0.05
        axes = figure.add_axes((left / size[0], bottom / size[1], (_INCHES - 0.06) / size[0], (_INCHES - 0.06) / size[1]))
        axes.set_axis_off()
        axes.imshow(picture, interpolation="nearest", **_scale(picture, kind))
        if titles:
            axes.set_title(titles[i], fontsize=7, pad=2)
    if title:
        figure.suptitle(title, fontsize=9, y=1 - 0.06 / size[1])
    plot = Plot(figure)
    if filename is not None:
        plot.save(filename)
    return plot


def plot_filters(
    trainer: Trainer, layer: str, most: int = 64, shape: Sequence[int] | None = None, filename: str | os.PathLike[str] | None = None
) -> Plot:
    """The filters of a layer: of one channel red and blue, of three in their colours, of others a row for each with its channels.

    Parameters
    ----------
    trainer, layer, shape
        As for `dagtrain.explain.filters`.
    most
        Most filters, and most channels of each.
    filename
        Where to write it; see `plot_grid`.
    """
    whole("plot_filters: most", most)
    kernels = filters(trainer, layer, shape)[:most]
    channels = kernels.shape[-1]
    title = f"{layer}: {len(kernels)} filters"
    if channels == 3:
        span = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
        return plot_grid(0.5 + kernels / (2 * np.where(span, span, 1)), title=title, filename=filename)
    columns = None if channels == 1 else min(channels, most)
    pictures = [kernel[..., c] for kernel in kernels for c in range(min(channels, most))]
    return plot_grid(pictures, columns=columns, colours="signed", title=title, filename=filename)


def plot_activations(
    trainer: Trainer, x: Any, layer: str, most: int = 8, column: str | None = None, filename: str | os.PathLike[str] | None = None
) -> Plot:
    """For each sample a row: its picture, then the channels of a layer that differ most between elements.

    Parameters
    ----------
    trainer
        Of a model of pictures.
    x
        A few pictures, or a dict of inputs of which `column` names them.
    layer
        Name of a layer whose output is (samples, height, width, channels); see `dagtrain.explain.activations`.
    most
        Most channels, those of the largest variance within pictures.
    column, filename
        As for `dagtrain.explain.occlusion` and `plot_grid`.
    """
    maps = activations(trainer, x, layer)
    if len(maps) != 1 or next(iter(maps.values())).ndim != 4:
        shapes = {name: array.shape for name, array in maps.items()}
        raise ShapeError(f"plot_activations takes one layer whose output is (samples, height, width, channels), got {shapes}.")
    ((name, values),) = maps.items()
    spread = values.var(axis=(1, 2)).mean(axis=0)
    channels = np.sort(np.argsort(-spread, kind="stable")[: whole("plot_activations: most", most)])
    pictures: list[Any] = []
    for picture, value in zip(np.asarray(x if column is None else x[column]), values, strict=True):
        pictures += [picture, *(value[..., c] for c in channels)]
    titles, colours = ["x", *map(str, channels)] * len(values), ["grey", *["heat"] * len(channels)] * len(values)
    return plot_grid(pictures, titles, len(channels) + 1, colours, f"{name}: channels", filename)


def plot_occlusion(
    trainer: Trainer,
    x: Any,
    size: int = 2,
    stride: int = 1,
    value: float = 0.0,
    target: Any = None,
    output: str | None = None,
    column: str | None = None,
    filename: str | os.PathLike[str] | None = None,
) -> Plot:
    """Above each other: pictures, and how far the output for their class falls where a square is covered; red where it falls.

    The parameters are those of `dagtrain.explain.occlusion` and `plot_grid`.
    """
    falls = occlusion(trainer, x, size, stride, value, target, output, column)
    pictures = list(np.asarray(x if column is None else x[column]))
    colours = ["grey"] * len(pictures) + ["signed"] * len(pictures)
    return plot_grid([*pictures, *falls], (), len(pictures), colours, "pictures, and what decides", filename)


def plot_attributions(x: Any, values: Any, filename: str | os.PathLike[str] | None = None) -> Plot:
    """Above each other: pictures, and the attributions of their elements, the sum over channels; red where they raise the score.

    Parameters
    ----------
    x
        Pictures, (samples, height, width) or (samples, height, width, channels).
    values
        Arrays of the shape of x, such as those of `dagtrain.explain.integrated_gradients` or `dagtrain.explain.saliency`.
    filename
        Where to write it; see `plot_grid`.
    """
    pictures, shares = list(np.asarray(x)), np.asarray(values)
    if shares.shape != np.shape(x) or shares.ndim not in (3, 4):
        raise ShapeError(f"plot_attributions takes pictures and values of one shape, got {np.shape(x)} and {shares.shape}.")
    shown = shares.sum(axis=-1) if shares.ndim == 4 else shares
    colours = ["grey"] * len(pictures) + ["signed"] * len(pictures)
    return plot_grid([*pictures, *shown], (), len(pictures), colours, "pictures, and the shares of their elements", filename)


def figures() -> Any:
    """Matplotlib's class of figures."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError.of("matplotlib", "a plot", "plot") from error
    return Figure


def _picture(values: Any) -> Array:
    picture = np.asarray(values)
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[-1] != 3):
        raise ShapeError(f"a picture is (height, width), (height, width, 1) or (height, width, 3), got {picture.shape}.")
    return picture if picture.ndim == 2 else np.clip(picture, 0, 255 if picture.dtype.kind in "iu" else 1)


def _scale(picture: Array, kind: str) -> dict[str, Any]:
    """How the numbers of a picture become colours."""
    one_of("colours of a picture", kind, list(COLOURS))
    if picture.ndim == 3:
        return {}
    largest = float(np.abs(picture).max()) or 1.0
    ends = (-largest, largest) if kind == "signed" else (float(picture.min()), float(picture.max()))
    return {"cmap": COLOURS[kind], "vmin": ends[0], "vmax": ends[1] if ends[1] > ends[0] else ends[0] + 1}
