"""NumPy's kernels of whole recurrent sequences, and of their derivatives.

    z = x · kernel + bias   one product for the inputs of many steps
    for each step           z[t] + h · recurrent;  one tanh for all gates;  the new state, straight into its place
    backwards               dz[t] from the step's cotangents;  dh = dz[t] · recurrentᵀ
    dkernel = xᵀ · dz       one product for all steps, and one for the recurrent kernel

Arrays are (steps, rows, features), so that each step is one piece of memory, and gates that are kept (steps, gates, rows, units), so that
each gate is one. sigmoid(z) = tanh(z / 2) / 2 + 1 / 2: the columns of the sigmoid gates are halved in a copy of the weights, which has them
side by side, and then one tanh serves all gates. (Where there are few rows, their products are halved: that is the same, to the bit.) All
loops run over preallocated memory: `out` and `scratch`; both may be None, and so may the arrays of `out` that nothing reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Mask", "Projection", "apart", "by_weights", "fill", "flat", "halved", "is_short", "order", "previous", "room", "sum_rows"]

Shape = tuple[int, ...]
_ROWS = 256
"""Rows of a product that lets it run at full speed."""


def room(out: Sequence[Any] | None, shapes: Sequence[Shape], dtype: Any) -> list[Any]:
    """The arrays of `out`, with new ones for those that are None; the work space `scratch` likewise."""
    given = [None] * len(shapes) if out is None else out
    return [np.empty(shape, dtype) if array is None else array for shape, array in zip(shapes, given, strict=True)]


def is_short(x: Any, recurrent: Any) -> bool:
    """Whether there are fewer rows than in the weights, so that products are halved and not weights, as in decoding step by step."""
    steps, rows, features = x.shape
    return bool(steps * rows < features + recurrent.shape[0])


def order(steps: int, reverse: bool) -> range:
    """The steps in the order in which they are made."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def flat(x: Any, room: Any) -> Any:
    """(steps, rows, features) as rows of features, copied into `room` where they do not lie so."""
    if not x.flags.c_contiguous:
        np.copyto(room, x)
        x = room
    return x.reshape(-1, x.shape[-1])


def fill(target: Any, blocks: Sequence[Any], factors: Sequence[float]) -> Any:
    """`target` with these blocks side by side along its last axis, each times its factor."""
    start = 0
    for block, factor in zip(blocks, factors, strict=True):
        end = start + block.shape[-1]
        np.multiply(block, target.dtype.type(factor), out=target[..., start:end])
        start = end
    return target


def apart(values: Any, gates: int) -> Any:
    """(rows, gates · units), gates side by side, as (gates, rows, units)."""
    return values.reshape(len(values), gates, values.shape[1] // gates).transpose(1, 0, 2)


def halved(tanhs: Any, out: Any) -> None:
    """From tanh(z / 2) to sigmoid(z)."""
    np.multiply(tanhs, out.dtype.type(0.5), out=out)
    np.add(out, out.dtype.type(0.5), out=out)


class Projection:
    """The products of the inputs and a kernel, with a bias, for some steps at a time."""

    def __init__(self, x: Any, weights: Any, bias: Any, copy: Any, products: Any) -> None:
        self._x, self._weights, self._bias, self._copy, self._products = x, weights, bias, copy, products
        self._start = -1

    @staticmethod
    def shapes(x: Any, width: int) -> list[Shape]:
        """The work space: copies of inputs, and products, of as many steps as make one product large enough."""
        steps, rows, features = x.shape
        count = min(max(steps, 1), -(-_ROWS // max(rows, 1)))
        return [(count, rows, features), (count, rows, width)]

    def __getitem__(self, t: int) -> Any:
        count = len(self._products)
        start = t - t % count
        if start != self._start:
            x = self._x[start : start + count]
            z = self._products[: len(x)].reshape(-1, self._products.shape[-1])
            np.matmul(flat(x, self._copy[: len(x)]), self._weights, out=z)
            np.add(z, self._bias, out=z)
            self._start = start
        return self._products[t - start]


class Mask:
    """Which rows take part in which step; the others keep what they have."""

    def __init__(self, mask: Any | None) -> None:
        self._any: Any = None
        if mask is not None:
            self._off = np.logical_not(mask)[..., None]
            self._any = self._off.any((1, 2)).tolist()

    def keep(self, t: int, target: Any, before: Any) -> None:
        """Write what was before into the rows of `target` that take no part in step `t`."""
        if self._any is not None and self._any[t]:
            np.copyto(target, before, where=self._off[t])


def previous(values: Any, first: Any, reverse: bool, room: Any) -> Any:
    """For each step the value of the step before, as rows."""
    if len(values) and reverse:
        room[-1] = first
        room[:-1] = values[1:]
    elif len(values):
        room[0] = first
        room[1:] = values[:-1]
    return room.reshape(-1, room.shape[-1])


def sum_rows(values: Any, out: Any) -> None:
    """The sum of all rows; that of float16 is added up in float32."""
    np.add.reduce(values, 0, dtype=np.float32 if values.itemsize == 2 else None, out=out)


def by_weights(x: Any, dz: Any, kernel: Any, gx: Any, gkernel: Any, gbias: Any) -> None:
    """Fill the cotangents of inputs, weights and bias from those of the products; None for one that nothing reads."""
    if gkernel is not None:
        np.matmul(x.T, dz, out=gkernel)
    if gbias is not None:
        sum_rows(dz, gbias)
    if gx is not None:
        np.matmul(dz, kernel.T, out=gx.reshape(-1, gx.shape[-1]))
