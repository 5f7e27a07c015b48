"""A second table of kernels over a memory that NumPy cannot reach, so that an executor that touches NumPy directly fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from dagtrain.backends import NUMPY, Backend
from dagtrain.ops import OPS, Kernel


class Sealed:
    """An array that refuses NumPy's functions, operators and buffers."""

    __array_ufunc__ = None

    def __init__(self, inner: Any) -> None:
        self._inner = np.asarray(inner)

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("NumPy reaches for a sealed array")

    def __array_function__(self, function: Any, *args: Any) -> NoReturn:
        raise TypeError(f"np.{function.__name__} reaches for a sealed array")

    def __getitem__(self, index: Any) -> Sealed:
        return Sealed(self._inner[index])

    def __setitem__(self, index: Any, value: Sealed) -> None:
        self._inner[index] = value._inner


def opened(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(opened, value))
    return None if value is None else value._inner


def sealed(kernel: Kernel) -> Kernel:
    """The kernel for sealed arrays; what is bound to bodies only indexes arrays and copies them by the backend."""

    def call(*arrays: Any, out: Any = None, scratch: Any = None, **attributes: Any) -> Any:
        memory = {k: opened(v) for k, v in (("out", out), ("scratch", scratch)) if v is not None}
        result = kernel(*map(opened, arrays), **memory, **attributes)
        return Sealed(result) if out is None else out

    return kernel if kernel.bind else replace(kernel, call=call, positional=False)


class _Table(Mapping[str, Kernel]):
    def __getitem__(self, name: str) -> Kernel:
        return sealed(OPS[name].kernel)

    def __iter__(self) -> Iterator[str]:
        return iter(OPS)

    def __len__(self) -> int:
        return len(OPS)


class SealedBackend(Backend):
    name = "sealed"
    kernels = _Table()
    inside = 0
    """Threads that are under the guard."""

    def empty(self, shape: Any, dtype: Any) -> Sealed:
        return Sealed(NUMPY.empty(shape, dtype))

    def view(self, buffer: Sealed, dtype: Any, shape: Any) -> Sealed:
        return Sealed(NUMPY.view(buffer._inner, dtype, shape))

    def copy(self, target: Sealed, source: Sealed) -> None:
        np.copyto(target._inner, source._inner)

    def from_host(self, array: Any) -> Sealed:
        return Sealed(array.copy())

    def to_host(self, array: Sealed) -> Any:
        return array._inner.copy()

    @contextmanager
    def guard(self, *, warnings: bool = False) -> Iterator[None]:
        self.inside += 1
        try:
            with NUMPY.guard(warnings=warnings):
                yield
        finally:
            self.inside -= 1

    def software(self) -> dict[str, str]:
        return {"sealing": "1"}


SEALED = SealedBackend()
