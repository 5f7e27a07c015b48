"""Layers for inputs with axes between samples and channels: (samples, *lengths, channels)."""

from __future__ import annotations

from typing import Any, ClassVar

from dagtrain.nn.layer import Layer
from dagtrain.nn.spatial.geometry import each, lengths_of
from dagtrain.nn.values import Values

__all__ = ["ByLengths", "times"]


class ByLengths(Layer):
    """A layer for inputs with a fixed number of lengths."""

    lengths: ClassVar[int]

    @property
    def title(self) -> str:
        """What errors call the layer."""
        return self.name or type(self).__name__

    def each(self, argument: str, value: Any, least: int = 1) -> tuple[int, ...]:
        """An argument as a whole number for each length."""
        return each(f"{self.title}: {argument}", value, self.lengths, least)

    def checked(self, x: Values) -> Values:
        """`x`, if it has these lengths."""
        lengths_of(self.title, x, self.lengths)
        return x


def times(numbers: tuple[int, ...]) -> str:
    """Numbers as pictures show them: 3 × 3."""
    return " × ".join(map(str, numbers))
