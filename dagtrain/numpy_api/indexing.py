"""``x[...]`` on tensors: integers, slices, None, Ellipsis, integer arrays or tensors, and masks that are known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import ShapeError, UnsupportedError
from dagtrain.graph import Tensor, refuse_masked
from dagtrain.ops import as_tensor
from dagtrain.ops.index import gather, positions
from dagtrain.ops.shape import moveaxis, reshape, slice_


def getitem(a: Tensor, index: Any) -> Tensor:
    """Implement `Tensor.__getitem__`; known positions are checked against the shape."""
    items = _for_each_axis(a, list(index) if isinstance(index, tuple) else [index])
    if any(isinstance(i, Tensor) or (isinstance(i, np.ndarray) and i.ndim) for i in items):
        return _advanced(a, items)
    slices, shape, axis = [], [], 0
    for item in items:
        if item is None:
            shape.append(1)
        elif isinstance(item, slice):
            slices.append(item)
            shape.append(len(range(a.shape[axis])[item]))
            axis += 1
        elif item is not Ellipsis:
            slices.append(_one(item, a.shape[axis], axis, a))
            axis += 1
    return reshape(slice_(a, tuple(slices)), shape)


def _for_each_axis(a: Tensor, items: list[Any]) -> list[Any]:
    """An item for each axis, and None for each new one; an Ellipsis stays, before the whole slices that it stands for."""
    items = [np.asarray(positions(i)) if isinstance(i, list | range) else refuse_masked(i) for i in items]
    indexed = sum(_width(i) for i in items)
    if indexed > a.ndim:
        raise ShapeError(f"{indexed} indices for a tensor of shape {a.shape}, which has {a.ndim} axes.")
    dots = sum(1 for i in items if i is Ellipsis)
    if dots > 1:
        raise ShapeError("an index holds at most one '...'.")
    axis, result = 0, []
    for item in items if dots else [*items, Ellipsis]:
        if item is Ellipsis:
            result += [item, *[slice(None)] * (a.ndim - indexed)]
            axis += a.ndim - indexed
        elif _is_mask(item):
            if item.shape != a.shape[axis : axis + item.ndim]:
                raise IndexError(f"a mask of shape {item.shape} does not fit the axes from {axis} on of a tensor of shape {a.shape}.")
            result += item.nonzero()
            axis += item.ndim
        else:
            result.append(item)
            axis += item is not None
    return result


def _width(item: Any) -> int:
    """How many axes an item stands for."""
    if item is None or item is Ellipsis:
        return 0
    return int(item.ndim) if _is_mask(item) else 1


def _is_mask(item: Any) -> bool:
    """Whether this is a mask that is known beforehand; other masks are refused."""
    if isinstance(item, np.ndarray) and item.dtype == bool and item.ndim:
        return True
    if isinstance(item, bool | np.bool_) or getattr(getattr(item, "dtype", None), "kind", None) == "b":
        raise UnsupportedError(
            "indexing a tensor by a mask gives a shape that is not known beforehand. Use np.where(mask, x, 0), or positions (integers)."
        )
    return False


def _one(item: Any, n: int, axis: int, a: Tensor) -> slice:
    try:
        position = int(item.__index__())
    except (AttributeError, TypeError):
        raise UnsupportedError(f"a tensor cannot be indexed by {item!r}: use integers, slices, None, '...' or integer arrays.") from None
    if not -n <= position < n:
        raise IndexError(f"index {position} is out of bounds for axis {axis} of length {n} (shape {a.shape}).")
    return slice(position % n, position % n + 1)


def _advanced(a: Tensor, items: list[Any]) -> Tensor:
    slices: list[slice] = []  # of the tensor's axes
    lengths: list[int] = []  # of these and the new axes
    places: list[int] = []  # of those that the positions are for
    values: list[Tensor] = []
    runs, adjacent = 0, False
    for item in items:
        if item is None:
            lengths.append(1)
        elif isinstance(item, slice):
            lengths.append(len(range(a.shape[len(slices)])[item]))
            slices.append(item)
        elif item is not Ellipsis:
            runs += 0 if adjacent else 1
            places.append(len(lengths))
            values.append(_checked(item, len(slices), a))
            lengths.append(a.shape[len(slices)])
            slices.append(slice(None))
        adjacent = item is not None and item is not Ellipsis and not isinstance(item, slice)
    wide = reshape(slice_(a, tuple(slices)), lengths)
    picked = gather(moveaxis(wide, places, list(range(len(places)))), *values)
    # NumPy's rule: the axes of adjacent arrays take the arrays' position; those of arrays with anything in between come first.
    if runs > 1 or places[0] == 0:
        return picked
    width = picked.ndim - (wide.ndim - len(places))
    return moveaxis(picked, list(range(width)), list(range(places[0], places[0] + width)))


def _checked(item: Any, axis: int, a: Tensor) -> Tensor:
    """Positions along an axis; IndexError if some are known to be out of bounds."""
    values = as_tensor(item)
    n = a.shape[axis]
    if values.op == "constant" and values.size and values.dtype.kind in "iu":
        low, high = values.value.min(), values.value.max()
        if low < -n or high >= n:
            raise IndexError(f"positions from {low} to {high} are out of bounds for axis {axis} of length {n} (shape {a.shape}).")
    return values
