"""All parameters of a model in one contiguous vector, with views of it by name.

    params = {"dense_1": {"kernel": (64, 128), "bias": (128,)}, …}
    vector   [ dense_1.kernel            | dense_1.bias | … ]

So an optimiser makes one pass over one vector, an exchange sends one buffer, and a checkpoint is one write.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, DTypeError
from dagtrain.graph import Array, Spec
from dagtrain.trace import flatten, unflatten

__all__ = ["VectorLayout", "settled"]


def settled(array: Array) -> Array:
    """The array itself if it is C-contiguous and aligned in memory, else a copy that is.

    An array from a network may begin at any byte. NumPy copies unaligned operands, in a memory order of its own; BLAS then takes another
    kernel, whose last bits differ. So a result would depend on where it was computed.
    """
    return np.require(array, requirements=["C", "A"])


@dataclass(frozen=True)
class VectorLayout:
    """The place of each named array in the vector.

    Examples
    --------
    >>> layout = VectorLayout.of({"w": np.zeros((2, 2)), "b": np.ones(2)})
    >>> layout.size, layout.names
    (6, ('w', 'b'))
    >>> layout.pack({"w": np.zeros((2, 2)), "b": np.ones(2)})
    array([0., 0., 0., 0., 1., 1.], dtype=float32)
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    structure: Any
    dtype: str = "<f4"

    @classmethod
    def of(cls, tree: Any, dtype: Any = np.float32) -> VectorLayout:
        """Layout of a nest of float arrays."""
        arrays, structure = flatten(tree)
        for name, value in arrays.items():
            if np.asarray(value).dtype.kind != "f":
                raise DTypeError(
                    f"the parameter {name!r} is {np.asarray(value).dtype}; parameters are floats. Convert it with .astype(np.float32)."
                )
        return cls(tuple(arrays), tuple(np.shape(v) for v in arrays.values()), structure, np.dtype(dtype).str)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Elements of each array."""
        return tuple(math.prod(s) for s in self.shapes)

    @property
    def size(self) -> int:
        """Elements of the vector."""
        return sum(self.sizes)

    @property
    def nbytes(self) -> int:
        """Bytes of the vector."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def specs(self) -> Any:
        """The nest of the arrays' specs."""
        return unflatten(self.structure, [Spec(shape, np.dtype(self.dtype)) for shape in self.shapes])

    def pack(self, tree: Any) -> Array:
        """The nest as a new vector."""
        arrays, structure = flatten(tree)
        if structure != self.structure or tuple(np.shape(v) for v in arrays.values()) != self.shapes:
            raise ArgumentError("the nest of arrays differs from the layout in structure or shapes.")
        parts = [np.asarray(v, self.dtype).ravel() for v in arrays.values()]
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)

    def views(self, vector: Array) -> list[Array]:
        """One view for each array, in order."""
        views, start = [], 0
        for shape, size in zip(self.shapes, self.sizes, strict=True):
            views.append(vector[start : start + size].reshape(shape))
            start += size
        return views

    def tree(self, vector: Array) -> Any:
        """The nest of views of a vector."""
        return unflatten(self.structure, self.views(vector))
