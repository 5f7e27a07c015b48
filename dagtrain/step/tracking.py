"""Parameters that follow others: after the update of a step, ``new = old + rate * (followed - old)``; see `dagtrain.optim.track`.

    vector   [ trained …  actor.kernel … | following …  target.kernel … | frozen … ]
                             │ new values ────────────▶ │

An element depends on one other alone, so any part of the vector may be computed by itself, to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.optim.groups import ParameterGroup
from dagtrain.step.layout import VectorLayout

__all__ = ["Followed", "Following", "followed"]


class Followed(NamedTuple):
    """A parameter that follows another: their places in the vector, the rate, and after how many steps each time."""

    target: slice
    source: slice
    rate: float
    every: int


def followed(groups: Sequence[ParameterGroup], layout: VectorLayout) -> tuple[Followed, ...]:
    """The parameters that follow others, by a layout in the order of the groups.

    Raises
    ------
    ArgumentError
        If two of them differ in shape.
    """
    index = {name: i for i, name in enumerate(layout.names)}
    pairs = []
    for group in groups:
        for name, source in zip(group.parameters, group.follows, strict=False):
            a, b = index[name], index[source]
            if layout.shapes[a] != layout.shapes[b]:
                raise ArgumentError(f"track: {name!r} of shape {layout.shapes[a]} cannot follow {source!r} of shape {layout.shapes[b]}.")
            settings = group.optimizer.settings
            pairs.append(Followed(layout.slices[a], layout.slices[b], settings["rate"], settings["every"]))
    return tuple(pairs)


class Following:
    """The parameters that follow others in one vector: all, or those elements that follow ones in `sources`."""

    def __init__(self, pairs: Sequence[Followed], parameters: Array, sources: Sequence[slice] | None = None) -> None:
        self._moves: list[tuple[Array, Array, float, int]] = []
        for target, source, rate, every in pairs:
            for part in [source] if sources is None else sources:
                start, stop = max(source.start, part.start), min(source.stop, part.stop)
                if start < stop:
                    shift = target.start - source.start
                    self._moves.append((parameters[start + shift : stop + shift], parameters[start:stop], rate, every))

    def move(self, step: int) -> None:
        """Move them, after the update of this step."""
        for old, new, rate, every in self._moves:
            if (step + 1) % every:
                continue
            if rate == 1:
                old[...] = new
            else:
                old += (new - old) * old.dtype.type(rate)
