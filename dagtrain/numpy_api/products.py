"""NumPy's products of vectors and matrices, and what they are made of; norms."""

from __future__ import annotations

from functools import reduce as fold
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError, UnsupportedError
from dagtrain.graph import Tensor
from dagtrain.numpy_api.calls import implements
from dagtrain.numpy_api.moves import converted, diagonal
from dagtrain.numpy_api.reductions import in_dtype, total
from dagtrain.ops import OPS, as_tensor, linalg, reduce, shape
from dagtrain.ops.elementwise import cast, conjugate
from dagtrain.ops.index import take
from dagtrain.ops.record import axes_of, axis_of

__all__ = ["matvec", "trace", "vecdot", "vecmat"]

implements(np.dot)(linalg.dot)
implements(np.inner)(linalg.inner)
implements(np.outer)(linalg.outer)
implements(np.tensordot)(linalg.tensordot)
implements(np.linalg.outer)(lambda x1, x2: linalg.outer(_vector("np.linalg.outer", x1), _vector("np.linalg.outer", x2)))
implements(np.linalg.tensordot)(lambda x1, x2, *, axes=2: linalg.tensordot(x1, x2, axes))
implements(np.linalg.multi_dot)(lambda arrays: fold(linalg.dot, arrays))


@implements(np.linalg.matmul)
def linalg_matmul(x1: Any, x2: Any) -> Tensor:
    return OPS["matmul"](x1, x2)


@implements(np.vdot)
def vdot(a: Any, b: Any) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    return linalg.dot(conjugate(shape.reshape(a, (a.size,))), shape.reshape(b, (b.size,)))


def vecdot(x1: Any, x2: Any) -> Tensor:
    """Sum of products along the last axis, the first of each conjugated."""
    products = OPS["multiply"](conjugate(as_tensor(x1)), x2)
    return cast(reduce.reduce_sum(products, -1), products.dtype)


def matvec(x1: Any, x2: Any) -> Tensor:
    """Matrices times vectors."""
    return shape.squeeze(OPS["matmul"](x1, shape.expand_dims(as_tensor(x2), -1)), -1)


def vecmat(x1: Any, x2: Any) -> Tensor:
    """Vectors, conjugated, times matrices."""
    return shape.squeeze(OPS["matmul"](shape.expand_dims(conjugate(as_tensor(x1)), -2), x2), -2)


@implements(np.linalg.vecdot)
def linalg_vecdot(x1: Any, x2: Any, *, axis: int = -1) -> Tensor:
    return vecdot(shape.moveaxis(as_tensor(x1), axis, -1), shape.moveaxis(as_tensor(x2), axis, -1))


def _vector(name: str, a: Any) -> Tensor:
    tensor = as_tensor(a)
    if tensor.ndim != 1:
        raise ShapeError(f"{name} needs vectors, got shape {tensor.shape}.")
    return tensor


@implements(np.einsum)
def einsum(*operands: Any, optimize: Any = False, dtype: Any = None, casting: str = "safe") -> Tensor:
    # How it is computed is the kernel's choice, whatever `optimize` is.
    subscripts, tensors = (operands[0], list(operands[1:])) if isinstance(operands[0], str) else linalg.subscripts_of(operands)
    return linalg.einsum(subscripts, *(tensors if dtype is None else [converted(t, dtype, casting) for t in tensors]))


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    return total(diagonal(a, offset, axis1, axis2), -1, dtype)


implements(np.linalg.trace)(lambda x, *, offset=0, dtype=None: trace(x, offset, -2, -1, dtype))
implements(np.linalg.diagonal)(lambda x, *, offset=0: diagonal(x, offset, -2, -1))


@implements(np.kron)
def kron(a: Any, b: Any) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    axes = max(a.ndim, b.ndim)
    long, short = ((*(1,) * (axes - t.ndim), *t.shape) for t in (a, b))
    left = shape.reshape(a, [n for length in long for n in (length, 1)])
    right = shape.reshape(b, [n for length in short for n in (1, length)])
    return shape.reshape(OPS["multiply"](left, right), [n * m for n, m in zip(long, short, strict=True)])


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Tensor:
    a, v = as_tensor(a), as_tensor(v)
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ShapeError(f"np.convolve needs two vectors that are not empty, got shapes {a.shape} and {v.shape}.")
    if mode not in ("full", "same", "valid"):
        raise UnsupportedError(f'np.convolve has the modes "full", "same" and "valid", not mode={mode!r}.')
    a, v = (a, v) if a.size >= v.size else (v, a)
    around = v.size - 1
    windows = np.arange(a.size + around)[:, None] + np.arange(v.size)
    full = OPS["matmul"](take(shape.pad(a, around), windows, 0), shape.flip(v))
    start, length = {"full": (0, full.size), "same": (around // 2, a.size), "valid": (around, a.size - around)}[mode]
    return shape.slice_(full, (slice(start, start + length),))


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Tensor:
    a = as_tensor(a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or n < 0:
        raise UnsupportedError(f"np.linalg.matrix_power on tensors takes square matrices and powers from 0 up, got {a.shape} and {n}.")
    if n == 0:
        return shape.broadcast_to(as_tensor(np.eye(a.shape[-1], dtype=a.dtype)), a.shape)
    half = matrix_power(a, n // 2) if n > 1 else a
    if n == 1:
        return half
    even = OPS["matmul"](half, half)
    return OPS["matmul"](even, a) if n % 2 else even


# ---- norms


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    x = as_tensor(x)
    if ord is None:
        return reduce.norm(x, axis, keepdims)
    axes = axes_of("norm", axis, x.ndim)
    if len(axes) == 1 and isinstance(ord, int | float):
        return vector_norm(x, axis=axes[0], keepdims=keepdims, ord=ord)
    if len(axes) == 2 and isinstance(ord, int | float | str):
        return _matrix_norm(x, ord, axis if isinstance(axis, tuple) else (0, 1), keepdims)
    raise UnsupportedError(f"np.linalg.norm of {len(axes)} axes with ord={ord!r} is not supported on tensors.")


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Tensor:
    x = as_tensor(x)
    if ord == 2:
        return reduce.norm(x, axis, keepdims)
    lengths = OPS["absolute"](in_dtype(x, None if x.dtype.kind in "fc" else np.float64))
    if ord == np.inf:
        return reduce.reduce_max(lengths, axis, keepdims)
    if ord == -np.inf:
        return reduce.reduce_min(lengths, axis, keepdims)
    if ord == 0:
        return in_dtype(reduce.reduce_sum(OPS["not_equal"](x, 0), axis, keepdims), lengths.dtype)
    if ord == 1:
        return reduce.reduce_sum(lengths, axis, keepdims)
    if not isinstance(ord, int | float):
        raise UnsupportedError(f"a vector's norm has a number as ord, not ord={ord!r}.")
    return OPS["power"](reduce.reduce_sum(OPS["power"](lengths, ord), axis, keepdims), 1 / ord)


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    return _matrix_norm(as_tensor(x), ord, (-2, -1), keepdims)


def _matrix_norm(x: Tensor, ord: Any, axes: tuple[int, int], keepdims: bool) -> Tensor:
    if ord == "fro":
        return reduce.norm(x, axes, keepdims)
    if ord not in (1, -1, np.inf, -np.inf):
        raise UnsupportedError(f"np.linalg.norm on tensors has the norms of matrices 'fro', 1, -1, inf and -inf, not ord={ord!r}.")
    rows, columns = (axis_of("norm", i, x.ndim) for i in axes)
    summed, other = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = reduce.reduce_sum(OPS["absolute"](in_dtype(x, None if x.dtype.kind in "fc" else np.float64)), summed, True)
    extreme = (reduce.reduce_max if ord > 0 else reduce.reduce_min)(sums, other, True)
    return extreme if keepdims else shape.squeeze(extreme, (rows, columns))
