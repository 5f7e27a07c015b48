"""All parameters of a model in one contiguous vector, with views of it by name.

    params = {"dense_1": {"kernel": (64, 128), "bias": (128,)}, …}
    vector   [ dense_1.kernel            | dense_1.bias | … ]      in the order of the nest, or by groups: trained ones first

So an optimiser makes one pass over one vector, an exchange sends one buffer, and a checkpoint is one write.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, DTypeError
from dagtrain.graph import Array, Spec
from dagtrain.trace import flatten, unflatten
from dagtrain.trace.tree import Leaf

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

    Attributes
    ----------
    names, shapes
        Of the arrays, in the order of the nest.
    structure
        The nest without its arrays.
    dtype
        Of the vector.
    order
        The arrays in the order in which they lie in the vector, by their index; empty for the order of the nest.
    fixed
        Number of arrays at the vector's end that are not trained, and that gradients leave out.

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
    order: tuple[int, ...] = ()
    fixed: int = 0

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

    def grouped(self, groups: Sequence[Sequence[str]], fixed: Sequence[str] = ()) -> VectorLayout:
        """The layout of the same arrays with those of each group together, and those that are not trained at the end."""
        index = {name: i for i, name in enumerate(self.names)}
        order = tuple(index[name] for names in (*groups, fixed) for name in names)
        return replace(self, order=() if order == tuple(range(len(order))) else order, fixed=len(fixed))

    def part(self, names: Sequence[str]) -> VectorLayout:
        """The layout of these arrays alone, in this order, as a flat dict."""
        shapes = dict(zip(self.names, self.shapes, strict=True))
        return VectorLayout(tuple(names), tuple(shapes[name] for name in names), dict.fromkeys(names, Leaf), self.dtype)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The place of each array, in the order of the nest."""
        sizes, start = self.sizes, 0
        places = [slice(0, 0)] * len(sizes)
        for i in self.order or range(len(sizes)):
            places[i] = slice(start, start + sizes[i])
            start += sizes[i]
        return tuple(places)

    @cached_property
    def trained_arrays(self) -> tuple[int, ...]:
        """The indices of the arrays that have a gradient, in the order of the nest."""
        order = self.order or range(len(self.names))
        return tuple(sorted(order[: len(order) - self.fixed]))

    @cached_property
    def trained(self) -> int:
        """Elements of a gradient: the vector's first ones, which are trained."""
        sizes = self.sizes
        return sum(sizes[i] for i in self.trained_arrays)

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
    def arrays(self) -> tuple[Spec, ...]:
        """The spec of each array."""
        return tuple(Spec(shape, np.dtype(self.dtype)) for shape in self.shapes)

    @property
    def specs(self) -> Any:
        """The nest of the arrays' specs."""
        return unflatten(self.structure, self.arrays)

    def pack(self, tree: Any) -> Array:
        """The nest as a new vector."""
        arrays, structure = flatten(tree)
        if structure != self.structure or tuple(np.shape(v) for v in arrays.values()) != self.shapes:
            raise ArgumentError("the nest of arrays differs from the layout in structure or shapes.")
        vector = np.empty(self.size, self.dtype)
        for view, array in zip(self.views(vector), arrays.values(), strict=True):
            view[...] = array
        return vector

    def views(self, vector: Array) -> list[Array]:
        """One view for each array, in the order of the nest."""
        return [vector[place].reshape(shape) for place, shape in zip(self.slices, self.shapes, strict=True)]

    def gradient_views(self, vector: Array) -> list[Array]:
        """One view of a gradient for each array that is trained, in the order of the nest."""
        return [vector[self.slices[i]].reshape(self.shapes[i]) for i in self.trained_arrays]

    def tree(self, vector: Array) -> Any:
        """The nest of views of a vector."""
        return unflatten(self.structure, self.views(vector))
