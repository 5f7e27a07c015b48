"""Curves as a picture, by matplotlib: returns of episodes, losses of epochs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError
from dagtrain.explain.plot import Plot, figures

__all__ = ["plot_lines"]


def plot_lines(
    lines: Mapping[str, Sequence[float]],
    bounds: Mapping[str, float] | None = None,
    mean_over: int = 1,
    x: str = "",
    y: str = "",
    title: str = "",
    filename: str | os.PathLike[str] | None = None,
) -> Plot:
    """Curves of numbers, such as ``agent.returns`` of several seeds or a list of a history.

    Parameters
    ----------
    lines
        Name → numbers in their order.
    bounds
        Name → value of a dashed line across.
    mean_over
        Draw the mean of the last so many numbers.
    x, y, title
        Texts.
    filename
        Where to write it, in the format of its ending: png, svg, pdf.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    whole("plot_lines: mean_over", mean_over)
    if not lines:
        raise ArgumentError("plot_lines: there is no line.")
    figure = figures()(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, numbers in lines.items():
        sums = np.cumsum(np.concatenate([[0.0], np.asarray(numbers, float)]))
        ends = np.arange(1, len(sums))
        begins = np.maximum(ends - mean_over, 0)
        axes.plot(ends, (sums[ends] - sums[begins]) / (ends - begins), label=name, linewidth=1.2)
    for name, value in (bounds or {}).items():
        axes.axhline(value, color="black", linestyle="--", linewidth=1)
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.legend(fontsize=8, frameon=False)
    plot = Plot(figure)
    if filename is not None:
        plot.save(filename)
    return plot
