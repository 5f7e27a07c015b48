"""Linear equations: inverses, solutions and determinants of square matrices along the last two axes, by NumPy's kernels (LAPACK).

A singular matrix is NumPy's error when the kernel runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.bodies import several, written_parts
from dagtrain.ops.elementwise import real
from dagtrain.ops.record import Draw, Drawn, Op, Sample, as_tensor, part, parts, written
from dagtrain.ops.shape import expand_dims, reshape, swapaxes

__all__ = ["det", "inv", "slogdet", "solve"]


def _result(name: str, *specs: Spec) -> np.dtype[Any]:
    """The dtype of a result; errors for what is no stack of square matrices of float64 or float32."""
    a = specs[0]
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"{name} needs square matrices along the last two axes, got shape {a.shape}.")
    dtype = np.result_type(*(np.float64 if s.dtype.kind in "biu" else s.dtype for s in specs))
    if dtype == np.float16:
        raise DTypeError(f"{name} is not defined for float16. Cast with x.astype(np.float32) first.")
    return np.dtype(dtype)


def _transposed(a: Tensor) -> Tensor:
    return swapaxes(a, -1, -2)


def _each(a: Tensor) -> Tensor:
    """A number for each matrix, to multiply the matrices by."""
    return expand_dims(a, (a.ndim, a.ndim + 1))


def _cubes(spec: Spec, a: Spec, *_: Spec) -> float:
    return float(a.size * a.shape[-1])


def _inv_gradient(g: Tensor, y: Tensor, a: Tensor) -> tuple[Tensor]:
    return (-(_transposed(y) @ g @ _transposed(y)),)


_inv: Op = Op(
    "inv",
    lambda a, out=None: written(np.linalg.inv(a), out),
    lambda a: Spec(a.shape, _result("inv", a)),
    _inv_gradient,
    (Sample((Draw((3, 3)),)), Sample((Draw((2, 2, 2)),))),
    flops=_cubes,
)


def _solve_spec(a: Spec, b: Spec) -> Spec:
    dtype = _result("solve", a, b)
    try:
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(f"solve of shapes {a.shape} and {b.shape}: the leading axes do not broadcast.") from None
    if b.ndim < 2 or b.shape[-2] != a.shape[-1]:
        raise ShapeError(f"solve of shapes {a.shape} and {b.shape}: there are {a.shape[-1]} equations.")
    return Spec((*leading, *b.shape[-2:]), dtype)


def _solve_gradient(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    by_b = _solve(_transposed(a), g)
    return -(by_b @ _transposed(y)), by_b


_solve: Op = Op(
    "solve",
    lambda a, b, out=None: written(np.linalg.solve(a, b), out),
    _solve_spec,
    _solve_gradient,
    (Sample((Draw((3, 3)), Draw((3, 2)))), Sample((Draw((2, 2, 2)), Draw((2, 1))))),
    flops=_cubes,
)


def _det_gradient(g: Tensor, y: Tensor, a: Tensor) -> tuple[Tensor]:
    return (_each(g * y) * _transposed(_inv(a)),)


_det = Op(
    "det",
    lambda a, out=None: written(np.linalg.det(a), out),
    lambda a: Spec(a.shape[:-2], _result("det", a)),
    _det_gradient,
    (Sample((Draw((3, 3)),)), Sample((Draw((2, 2, 2)),))),
    flops=_cubes,
)


def _slogdet_kernel(a: Any, out: Any = None) -> Any:
    return written_parts(np.linalg.slogdet(a), out)


def _slogdet_spec(a: Spec) -> Spec:
    dtype = _result("slogdet", a)
    return several((Spec(a.shape[:-2], dtype), Spec(a.shape[:-2], np.empty(0, dtype).real.dtype)))


def _slogdet_gradient(cotangents: Sequence[Tensor | None], node: Tensor, a: Tensor) -> tuple[Tensor | None]:
    # The change of the logarithm of the determinant is t = trace(inv(a) da): logdet changes by its real part, and the sign turns by the
    # imaginary one.
    by_sign, by_log = cotangents
    total = by_log
    if by_sign is not None and a.dtype.kind == "c":
        turned = real(by_sign * part(node, index=0) * 1j) * -1j
        total = turned if total is None else total + turned
    return (None if total is None else _each(total) * _transposed(_inv(a)),)


_slogdet = Op(
    "slogdet",
    _slogdet_kernel,
    _slogdet_spec,
    _slogdet_gradient,
    (Sample((Draw((3, 3)),)), Sample((Draw((2, 2, 2)),))),
    flops=lambda spec, a: float(a.size * a.shape[-1]),
    drawn=lambda node: Drawn("slogdet", ("sign", "log |det|")),
)


def inv(a: Any) -> Tensor:
    """numpy.linalg.inv."""
    return _inv(as_tensor(a))


def solve(a: Any, b: Any) -> Tensor:
    """numpy.linalg.solve: b is one vector if it has one axis, else a stack of matrices."""
    a, b = as_tensor(a), as_tensor(b)
    if b.ndim != 1:
        return _solve(a, b)
    solved = _solve(a, reshape(b, (*b.shape, 1)))
    return reshape(solved, solved.shape[:-1])


def det(a: Any) -> Tensor:
    """numpy.linalg.det."""
    return _det(as_tensor(a))


def slogdet(a: Any) -> list[Tensor]:
    """The parts of numpy.linalg.slogdet."""
    return parts(_slogdet(as_tensor(a)))
