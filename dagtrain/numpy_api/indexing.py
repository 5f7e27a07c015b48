"""``x[...]`` on tensors: integers, slices, None, Ellipsis, and integer arrays or tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.errors import ShapeError, UnsupportedError
from dagtrain.graph import Tensor
from dagtrain.ops import as_tensor
from dagtrain.ops.index import gather
from dagtrain.ops.shape import moveaxis, reshape, slice_


def getitem(a: Tensor, index: Any) -> Tensor:
    """Implement `Tensor.__getitem__`; known positions are checked against the shape."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [np.asarray(i) if isinstance(i, list) else i for i in items]
    for item in items:
        dtype = getattr(item, "dtype", None)
        if isinstance(item, bool | np.bool_) or (dtype is not None and dtype == np.bool_):
            raise UnsupportedError(
                "indexing a tensor by a mask gives a shape that is not known beforehand. Use np.where(mask, x, 0), or positions (integers)."
            )
    indexed = sum(1 for i in items if i is not None and i is not Ellipsis)
    if indexed > a.ndim:
        raise ShapeError(f"{indexed} indices for a tensor of shape {a.shape}, which has {a.ndim} axes.")
    dots = sum(1 for i in items if i is Ellipsis)
    if dots > 1:
        raise ShapeError("an index holds at most one '...'.")
    if not dots:
        items.append(Ellipsis)
    dots_at = next(n for n, i in enumerate(items) if i is Ellipsis)
    items[dots_at : dots_at + 1] = [slice(None)] * (a.ndim - indexed)
    arrays = [i for i in items if isinstance(i, np.ndarray | Tensor) and i.ndim]
    if arrays:
        return _advanced(a, items)
    slices, shape, axis = [], [], 0
    for item in items:
        if item is None:
            shape.append(1)
            continue
        n = a.shape[axis]
        if isinstance(item, slice):
            slices.append(item)
            shape.append(len(range(n)[item]))
        else:
            if isinstance(item, Tensor):
                return _advanced(a, items)
            slices.append(_one(item, n, axis, a))
        axis += 1
    return reshape(slice_(a, tuple(slices)), shape)


def _one(item: Any, n: int, axis: int, a: Tensor) -> slice:
    try:
        position = int(item.__index__())
    except AttributeError:
        raise UnsupportedError(f"a tensor cannot be indexed by {item!r}: use integers, slices, None, '...' or integer arrays.") from None
    if not -n <= position < n:
        raise IndexError(f"index {position} is out of bounds for axis {axis} of length {n} (shape {a.shape}).")
    return slice(position % n, position % n + 1)


def _advanced(a: Tensor, items: list[Any]) -> Tensor:
    # NumPy's rule: the axes of adjacent arrays take the arrays' position, those of separated arrays come first.
    places = [n for n, i in enumerate(items) if i is not None and not isinstance(i, slice)]
    new_axes = [n for n, i in enumerate(items) if i is None]
    if new_axes:
        others = [i for i in items if i is not None]
        if places != list(range(places[0], places[0] + len(places))):
            raise UnsupportedError("None together with separated integer arrays in one index is not supported: index in two steps.")
        result = _advanced(a, others)
        before = [n for n in new_axes if n < places[0]]
        width = result.ndim - sum(isinstance(i, slice) for i in others)
        shape = list(result.shape)
        for n in new_axes:
            at = n if n in before else n - len(places) + width
            shape.insert(at, 1)
        return reshape(result, shape)
    sliced = slice_(a, tuple(i if isinstance(i, slice) else slice(None) for i in items))
    for n in places:
        values = items[n]
        if isinstance(values, np.ndarray) and values.size:
            low, high = values.min(), values.max()
            if low < -a.shape[n] or high >= a.shape[n]:
                raise IndexError(f"positions from {low} to {high} are out of bounds for axis {n} of length {a.shape[n]} (shape {a.shape}).")
    front = moveaxis(sliced, places, list(range(len(places))))
    picked = gather(front, *(as_tensor(items[n]) for n in places))
    together = places == list(range(places[0], places[0] + len(places)))
    if not together or places[0] == 0:
        return picked
    width = picked.ndim - (a.ndim - len(places))
    return moveaxis(picked, list(range(width)), list(range(places[0], places[0] + width)))
