"""Curves and bars as a picture, by matplotlib: returns of episodes, losses of epochs, shares of the numbers of a row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from dagtrain.arguments import is_number, whole
from dagtrain.errors import ArgumentError
from dagtrain.explain.plot import Plot, figures

__all__ = ["plot_lines", "plot_shares"]


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
    if not lines or not isinstance(lines, Mapping):
        raise ArgumentError(f"plot_lines takes a dict of lines by name, and there is no line in {lines!r:.60}.")
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


def plot_shares(
    shares: Mapping[str, float],
    most: int = 10,
    x: str = "",
    title: str = "",
    filename: str | os.PathLike[str] | None = None,
) -> Plot:
    """Shares of a score as bars, the largest on top: red where they raise the score, blue where they lower it.

    Parameters
    ----------
    shares
        Name → share, such as the `dagtrain.explain.integrated_gradients` of one row.
    most
        Most bars; what is left is one bar more.
    x, title
        Texts.
    filename
        Where to write it, in the format of its ending: png, svg, pdf.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    whole("plot_shares: most", most)
    if not shares or not isinstance(shares, Mapping):
        raise ArgumentError(f"plot_shares takes a dict of shares by name, and there is no share in {shares!r:.60}.")
    for name, share in shares.items():
        if not is_number(share) or not np.isfinite(share):
            raise ArgumentError(f"plot_shares: the share of {name!r} is no finite number: {share!r}.")
    ranked = sorted(((name, float(share)) for name, share in shares.items()), key=lambda pair: -abs(pair[1]))
    bars, rest = ranked[:most], ranked[most:]
    if rest:
        bars.append((f"{len(rest)} others", sum(share for _, share in rest)))
    figure = figures()(figsize=(6.4, 0.7 + 0.26 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    widths = [share for _, share in bars]
    places = np.arange(len(bars))[::-1]
    axes.barh(places, widths, color=["#b2182b" if width > 0 else "#2166ac" for width in widths], height=0.7)
    axes.set_yticks(places, [name for name, _ in bars], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel=x, title=title)
    plot = Plot(figure)
    if filename is not None:
        plot.save(filename)
    return plot
