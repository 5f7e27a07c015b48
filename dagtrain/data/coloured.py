"""Coloured digits on coloured noise: pictures of any size made of the handwritten digits.

    noise of 4 × 4 dark colours, enlarged ──▶ + grain ──┐
                                                        ├──▶ picture (size, size, 3)
    digit of 8 × 8, enlarged, anywhere ──▶ a colour ────┘

A picture is a function of its seed and its number, so each partition of dask arrays makes its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.data.digits import Split, load_digits
from dagtrain.graph import Array

__all__ = ["coloured_digits"]

_PURPOSE = 0x636F6C6F7572
_HELD_OUT = 1 << 32
"""The first number of a picture that is held out."""
_COARSE, _DARK, _GRAIN, _PALE = 4, 0.5, 0.08, 0.4
_SMALLEST, _LARGEST = 0.6, 0.95
"""Height and width of a digit's 8 × 8 elements, as parts of the picture's."""


def coloured_digits(size: int = 32, copies: int = 1, seed: int = 0, as_dask: bool = False) -> Split:
    """Scikit-learn's handwritten digits in random colours, sizes and places, before noise of other colours.

    The background is noise of 4 × 4 colours of red, green and blue from 0 to 0.5, enlarged bilinearly, plus normal noise of standard
    deviation 0.08 on each element. The digit's 8 × 8 elements cover 60 to 95 % of height and width. Its colour has any hue, a saturation
    from 0.4 to 1, and the highest value, so that none of red, green and blue alone shows each digit, and no colour tells the class. Digits
    that are held out, those of `load_digits`, never appear in training.

    Parameters
    ----------
    size
        Height and width of a picture; 16 at least.
    copies
        How many pictures show each digit of training, each in a colour, size and place of its own. Held-out digits are shown once.
    seed
        Seed of the digits held out and of all that is random. Picture i is a function of (seed, i) alone.
    as_dask
        Give dask arrays in partitions of 256 digits instead of NumPy arrays; each partition makes its own pictures.

    Returns
    -------
    Split
        ``x`` (copies * 1437, size, size, 3) and ``x_validation`` (360, size, size, 3), float32 from 0 to 1; ``y`` and ``y_validation``.

    Raises
    ------
    MissingDependencyError
        If scikit-learn is not installed.

    Examples
    --------
    >>> data = coloured_digits(16)
    >>> data.x.shape, data.x_validation.shape, str(data.x.dtype)
    ((1437, 16, 16, 3), (360, 16, 16, 3), 'float32')
    """
    whole("coloured_digits: size", size, 16)
    whole("coloured_digits: copies", copies)
    digits = load_digits(seed=seed)
    x, y = np.tile(digits.x, (copies, 1)), np.tile(digits.y, copies)
    sets = [(x, y, 0), (digits.x_validation, digits.y_validation, _HELD_OUT)]
    made: list[Any] = []
    for pixels, labels, first in sets:
        numbers = np.arange(first, first + len(labels))
        if as_dask:
            import dask.array as da

            chunks = (256, 64)
            parts = da.from_array(pixels, chunks=chunks), da.from_array(numbers[:, None], chunks=(256, 1))
            shape = {"dtype": np.float32, "chunks": (parts[0].chunks[0], size, size, 3), "new_axis": (2, 3)}
            made += [da.map_blocks(_pictures, *parts, size, seed, **shape), da.from_array(labels, chunks=256)]
        else:
            made += [_pictures(pixels, numbers, size, seed), labels]
    return Split(*made)


def _pictures(pixels: Array, numbers: Array, size: int, seed: int) -> Array:
    """Pictures of these digits, (n, 64), by their numbers."""
    pictures = np.empty((len(pixels), size, size, 3), np.float32)
    for i, (digit, number) in enumerate(zip(pixels.reshape(-1, 8, 8), numbers.ravel().tolist(), strict=True)):
        key, counter = np.array([seed, _PURPOSE], np.uint64), np.array([0, 0, 0, number], np.uint64)
        pictures[i] = _picture(digit, size, np.random.Generator(np.random.Philox(key=key, counter=counter)))
    return pictures


def _picture(digit: Array, size: int, draw: np.random.Generator) -> Array:
    """One picture; each number is drawn in this order."""
    colours = draw.uniform(0.0, _DARK, (_COARSE, _COARSE, 3))
    hue, saturation = draw.random(3), draw.uniform(_PALE, 1.0)
    length = size * draw.uniform(_SMALLEST, _LARGEST)
    top, left = draw.random(2) * (size - length)
    grain = draw.normal(0.0, _GRAIN, (size, size, 3))

    background = _spread(size, _COARSE, 0.0, size)
    behind = np.moveaxis(background @ np.moveaxis(colours, -1, 0) @ background.T, 0, -1)
    colour = 1 - saturation * (hue.max() - hue) / (hue.max() - hue.min())
    rows, columns = _spread(size, len(digit), top, length), _spread(size, len(digit), left, length)
    cover = (rows @ digit @ columns.T)[..., None]
    picture = behind + grain
    shown: Array = np.clip(picture + cover * (colour - picture), 0.0, 1.0).astype(np.float32)
    return shown


def _spread(size: int, elements: int, first: float, length: float) -> Array:
    """(size, elements): the part of each element in each place, if the elements lie from `first` over `length` places.

    Between the middles of two elements the one goes over into the other linearly. Beyond the outermost ones lies nothing, or these
    themselves if the elements cover all places.
    """
    middles = (np.arange(size) + 0.5 - first) * elements / length - 0.5
    covers = length >= size
    if covers:
        middles = middles.clip(0, elements - 1)
    parts: Array = np.maximum(0.0, 1.0 - np.abs(middles[:, None] - np.arange(elements)))
    return parts
