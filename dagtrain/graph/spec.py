"""The shape and dtype of an array, before it exists."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import is_whole
from dagtrain.errors import DTypeError, ShapeError

__all__ = ["Array", "Spec", "held", "refuse_masked", "spec_of"]

Array = np.ndarray[Any, Any]
"""A NumPy array of any shape and dtype."""


class Spec(NamedTuple):
    """Shape and dtype of an array, or of the several arrays that one op gives (``parts``).

    Attributes
    ----------
    shape
        Length of each axis; ``()`` for one number.
    dtype
        NumPy dtype.
    parts
        The specs of an op with several outputs (`scan`); empty for every ordinary array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: tuple[Spec, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements (of all parts together, if there are parts)."""
        return sum(p.nbytes for p in self.parts) if self.parts else self.size * self.dtype.itemsize

    def __str__(self) -> str:
        if self.parts:
            return "(" + ", ".join(map(str, self.parts)) + ")"
        return f"{_name(self.dtype)}[{', '.join(map(str, self.shape))}]"


@cache  # NumPy puts the name together anew each time
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name


def make_spec(shape: Any, dtype: Any) -> Spec:
    """Check a shape and a dtype and make a `Spec` of them."""
    axes = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    for length in axes:
        if not is_whole(length) or length < 0:
            raise ShapeError(f"a shape is made of whole numbers from 0 up, got {shape!r}.")
    return Spec(tuple(int(length) for length in axes), held(dtype))


_USER_DEFINED = 256  # the lowest number of a dtype that is not NumPy's own, such as bfloat16


def held(dtype: Any) -> np.dtype[Any]:
    """A dtype that tensors hold, in the byte order of this machine; DTypeError for any other."""
    try:
        result: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"there is no dtype {dtype!r}: {error}") from None
    if result.kind not in "biufc" or result.num >= _USER_DEFINED:
        raise DTypeError(f"tensors hold booleans, integers, floats or complex numbers of NumPy, not {result} (kind {result.kind!r}).")
    return result if result.isnative else result.newbyteorder("=")


def refuse_masked(value: Any) -> Any:
    """The value itself; DTypeError for a masked array with masked elements, or a matrix: as plain arrays they would mean something else."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DTypeError("a masked array would lose its mask: fill it with .filled(...), or pass the mask as an array of its own.")
    if isinstance(value, np.matrix):
        raise DTypeError("np.matrix multiplies otherwise than arrays and tensors: make it an array with np.asarray(m), and write @.")
    return value


def spec_of(value: Any) -> Spec:
    """Spec of an array, a NumPy scalar, a Python number, a tensor, or a spec itself.

    Examples
    --------
    >>> import numpy as np
    >>> print(spec_of(np.zeros((2, 3), "f4")))
    float32[2, 3]
    """
    if isinstance(value, Spec):
        return value
    spec = getattr(value, "spec", None)
    if isinstance(spec, Spec):
        return spec
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return make_spec(value.shape, value.dtype)
    array = np.asarray(value)
    return make_spec(array.shape, array.dtype)
