"""Convolution of images by 3 × 3 windows with a quarter of the products: Winograd's F(4 × 4, 3 × 3).

    x ──6 × 6 elements, every 4──▶ tiles (36, tiles, channels) ──▶ V  ╲
                                                                       V × U = M, for each of 36 places ──▶ Y: 4 × 4 outputs of each tile
    kernel ──▶ U (36, channels, filters)                              ╱

Its sums lose about a digit: an error of 4e-5 where that of float32 is 4e-6, for outputs of order 1. So only plans that are asked for
approximate results have it, by a rewrite rule of `conv` where it `pays`.

Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks" (2016), with the points 0, ±1, ±2 and infinity.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from dagtrain.graph import Spec
from dagtrain.ops.conv_kernels import BLOCK, Shapes, taken, turn
from dagtrain.ops.windows import blocks, cells, padded, views

__all__ = ["by_input", "by_input_scratch", "forward", "forward_scratch", "is_possible", "pays"]

TILE, WINDOW = 4, 3
SIDE = TILE + WINDOW - 1
PLACES = SIDE**2
FEWEST = 32
"""Channels, filters and tiles from which on the products that are saved cost more than the transforms: measured."""

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


@lru_cache(maxsize=8)
def _transforms(dtype: Any) -> tuple[Any, ...]:
    """The transforms of a tile of the input, of a kernel and of a tile of products, each over both axes at once."""
    matrices = (np.asarray(rows, np.float64) for rows in (_INPUT, _KERNEL, _OUTPUT))
    return tuple(np.kron(m, m).astype(dtype) for m in matrices)


def is_possible(s: Shapes) -> bool:
    """Whether the windows are 3 × 3 side by side, and the outputs divide into tiles."""
    plain = s.window == (WINDOW, WINDOW) and s.strides == s.dilation == (1, 1) and s.groups == 1
    return plain and all(n % TILE == 0 for n in s.counts)


def pays(s: Shapes) -> bool:
    """Whether it is possible and faster."""
    tiles = s.samples * math.prod(s.counts) // TILE**2
    return is_possible(s) and min(s.channels, s.filters, tiles) >= FEWEST


def _block(s: Shapes) -> tuple[int, int]:
    """Samples and rows of tiles of a block."""
    down, across = (n // TILE for n in s.counts)
    return blocks(s.samples, down, across * PLACES * max(s.channels, s.filters), BLOCK)


def forward_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `forward`: the padded input of a block, its tiles, and V, M, Y and U of the picture above."""
    (samples, rows), across = _block(s), s.counts[1] // TILE
    slab = (samples, TILE * rows + WINDOW - 1, TILE * across + WINDOW - 1, s.channels)
    tiles = samples * rows * across
    sizes = (PLACES * tiles * s.channels, PLACES * tiles * s.channels, PLACES * tiles * s.filters, TILE**2 * tiles * s.filters)
    return Spec(slab, dtype), *(Spec((size,), dtype) for size in sizes), Spec((PLACES, s.channels, s.filters), dtype)


def forward(x: Any, kernel: Any, out: Any, scratch: Any, s: Shapes) -> Any:
    """The convolution, in `out`."""
    slab, *rooms, U = taken(scratch, forward_scratch(s, out.dtype))
    of_input, of_kernel, of_output = _transforms(out.dtype)
    np.matmul(of_kernel, kernel.reshape(WINDOW**2, -1), out=U.reshape(PLACES, -1))
    block, (down, across), ((top, _), (left, _)) = _block(s), (n // TILE for n in s.counts), s.padding
    windows = views(slab, (block[1], across), (SIDE, SIDE), (TILE, TILE), (1, 1))[0]
    result = out.reshape(s.samples, down, TILE, across, TILE, s.filters)
    for samples, rows in cells(s.samples, down, block):
        count, height = samples.stop - samples.start, rows.stop - rows.start
        number = count * height * across
        padded(slab[:count], x[samples], (top - TILE * rows.start, left))
        shapes = (PLACES, number, s.channels), (PLACES, number, s.channels), (PLACES, number, s.filters), (TILE**2, number, s.filters)
        tiles, V, M, Y = (room[: math.prod(shape)].reshape(shape) for room, shape in zip(rooms, shapes, strict=True))
        np.copyto(tiles.reshape(SIDE, SIDE, count, height, across, -1), windows[:count, :height].transpose(3, 4, 0, 1, 2, 5))
        np.matmul(of_input, tiles.reshape(PLACES, -1), out=V.reshape(PLACES, -1))
        np.matmul(V, U, out=M)
        np.matmul(of_output, M.reshape(PLACES, -1), out=Y.reshape(TILE**2, -1))
        np.copyto(result[samples, rows], Y.reshape(TILE, TILE, count, height, across, -1).transpose(2, 3, 0, 4, 1, 5))
    return out


def by_input_scratch(s: Shapes, dtype: Any) -> tuple[Spec, ...]:
    """Work space of `by_input`."""
    assert s.turned is not None, "the strides are 1"
    return Spec((WINDOW, WINDOW, s.filters, s.channels), dtype), *forward_scratch(s.turned, dtype)


def by_input(g: Any, kernel: Any, out: Any, scratch: Any, s: Shapes) -> Any:
    """The gradient by x, in `out`: the convolution of the cotangent g of the output by the turned kernel."""
    turned, *work = taken(scratch, by_input_scratch(s, out.dtype))
    assert s.turned is not None, "the strides are 1"
    turn(kernel, turned, s)
    return forward(g, turned, out, work, s.turned)
