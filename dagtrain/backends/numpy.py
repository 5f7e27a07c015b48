"""NumPy as a backend: its kernels are those of the ops' records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np

from dagtrain.backends.backend import Backend
from dagtrain.backends.blas import blas_description, guard, one_blas_thread
from dagtrain.graph import Array
from dagtrain.ops import OPS, Kernel

__all__ = ["NUMPY", "NumpyBackend", "functions_description"]

_ALIGNMENT = 64
_FUNCTIONS = ["exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "arctan", "sinh", "cosh", "tanh"]


class _Records(Mapping[str, Kernel]):
    """The kernels of all records, those of later ops too."""

    def __getitem__(self, name: str) -> Kernel:
        return OPS[name].kernel

    def __iter__(self) -> Iterator[str]:
        return iter(OPS)

    def __len__(self) -> int:
        return len(OPS)


class NumpyBackend(Backend):
    """Arrays of NumPy and the kernels of the ops' records."""

    name = "numpy"
    kernels = _Records()

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """New memory, in C order, on a boundary of 64 bytes."""
        dtype, count = np.dtype(dtype), int(np.prod(shape, dtype=np.int64))
        raw: Array = np.empty(count * dtype.itemsize + _ALIGNMENT, np.uint8)
        return self.view(raw[-raw.ctypes.data % _ALIGNMENT :], dtype, shape)

    def view(self, buffer: Array, dtype: Any, shape: Sequence[int]) -> Array:
        """The beginning of a buffer of bytes as an array in C order."""
        dtype, count = np.dtype(dtype), int(np.prod(shape, dtype=np.int64))
        array: Array = buffer[: count * dtype.itemsize].view(dtype).reshape(shape)
        return array

    def copy(self, target: Array, source: Array) -> None:
        """Copy the elements of one array to another."""
        np.copyto(target, source)

    def from_host(self, array: Array) -> Array:
        """The array itself."""
        return array

    def to_host(self, array: Array) -> Array:
        """The array itself."""
        return array

    def guard(self, *, warnings: bool = False) -> AbstractContextManager[None]:
        """One BLAS thread, and no warnings of floating point unless they are wanted."""
        return one_blas_thread() if warnings else guard()

    def software(self) -> dict[str, str]:
        """NumPy, its BLAS with the kernel that BLAS chose, and NumPy's functions.

        NumPy chooses code for exp, log, tanh and others by the processor's features, and takes others from the system's C library: another
        processor or system may give other last bits with the same versions. So a digest of computed values is among them.
        """
        return {"numpy": np.__version__, "blas": blas_description(), "functions": functions_description()}


@cache
def functions_description() -> str:
    """The processor targets of the functions that NumPy chose here, and a digest of their results; takes 2 ms, once."""
    digest = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        x = np.linspace(0.01, 9.99, 997).astype(dtype)
        for result in (*(getattr(np, name)(x) for name in _FUNCTIONS), np.power(x, x[::-1]), np.arctan2(x, x[::-1]), x.sum()):
            digest.update(result.tobytes())
    infos = np.lib.introspect.opt_func_info(func_name=f"^({'|'.join(_FUNCTIONS)})$", signature="float(32|64)")
    targets = sorted({kind["current"] for kinds in infos.values() for kind in kinds.values()})
    return f"{' and '.join(targets)}, results {digest.hexdigest()[:8]}"


NUMPY = NumpyBackend()
