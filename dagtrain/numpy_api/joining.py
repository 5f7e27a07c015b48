"""NumPy's functions that join tensors and cut them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.graph import Tensor
from dagtrain.numpy_api.calls import implements
from dagtrain.numpy_api.moves import at_least_1d, at_least_2d, at_least_3d, converted
from dagtrain.ops import as_tensor, shape
from dagtrain.ops.record import axis_of

# ---- joining


def _parts(arrays: Any, dtype: Any, casting: str) -> list[Tensor]:
    """The parts of a whole, in a dtype if one is given."""
    parts = [as_tensor(a) for a in (arrays if isinstance(arrays, list | tuple) else list(arrays))]
    return parts if dtype is None else [converted(p, dtype, casting) for p in parts]


@implements(np.concatenate)
def concatenate(arrays: Any, axis: int | None = 0, *, dtype: Any = None, casting: str = "same_kind") -> Tensor:
    return shape.concatenate(_parts(arrays, dtype, casting), axis)


@implements(np.stack)
def stack(arrays: Any, axis: int = 0, *, dtype: Any = None, casting: str = "same_kind") -> Tensor:
    return shape.stack(_parts(arrays, dtype, casting), axis)


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Tensor:
    return shape.concatenate([at_least_2d(p) for p in _parts(tup, dtype, casting)], 0)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Tensor:
    parts = [at_least_1d(p) for p in _parts(tup, dtype, casting)]
    return shape.concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1)


implements(np.dstack)(lambda tup: shape.concatenate([at_least_3d(t) for t in tup], 2))


@implements(np.column_stack)
def column_stack(tup: Sequence[Any]) -> Tensor:
    parts = [as_tensor(t) for t in tup]
    return shape.concatenate([p if p.ndim >= 2 else shape.reshape(p, (p.size, 1)) for p in parts], 1)


@implements(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Tensor:
    return shape.concatenate([arr, values], axis)


@implements(np.block)
def block(arrays: Any) -> Tensor:
    def joined(part: Any, axis: int) -> Tensor:
        return shape.concatenate([joined(p, axis + 1) for p in part], axis) if isinstance(part, list) else wide(part)

    def wide(part: Any) -> Tensor:
        tensor = as_tensor(part)
        return shape.reshape(tensor, (*(1,) * (axes - tensor.ndim), *tensor.shape))

    def depth(part: Any) -> int:
        return 1 + depth(part[0]) if isinstance(part, list) else 0

    def leaves(part: Any) -> list[Any]:
        return [leaf for p in part for leaf in leaves(p)] if isinstance(part, list) else [part]

    axes = max(depth(arrays), *(np.ndim(leaf) for leaf in leaves(arrays)))
    return joined(arrays, axes - depth(arrays))


# ---- cutting


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    return shape.split(as_tensor(ary), indices_or_sections, axis)


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    ary = as_tensor(ary)
    if np.ndim(indices_or_sections) == 0:
        parts = np.array_split(np.empty((ary.shape[axis_of("array_split", axis, ary.ndim)], 0)), indices_or_sections)
        indices_or_sections = np.cumsum([len(p) for p in parts])[:-1].tolist()
    return shape.split(ary, indices_or_sections, axis)


@implements(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Tensor]:
    if np.ndim(ary) < 2:
        raise ShapeError(f"np.vsplit needs two axes or more, got shape {np.shape(ary)}.")
    return split(ary, indices_or_sections, 0)


implements(np.hsplit)(lambda ary, indices_or_sections: split(ary, indices_or_sections, 0 if np.ndim(ary) == 1 else 1))
implements(np.dsplit)(lambda ary, indices_or_sections: split(ary, indices_or_sections, 2))
implements(np.unstack)(lambda x, *, axis=0: tuple(shape.moveaxis(as_tensor(x), axis, 0)))
