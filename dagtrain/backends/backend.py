"""A backend: whose memory the values of a graph live in, and whose kernels compute them.

    record of an op ──▶ NumPy's kernel ─┐
                                        ├──▶ interpreter, plan, tasks        executors ask a backend for kernels and memory
    table by name ────▶ its kernels ────┘

Values enter by `from_host` and leave by `to_host`; between them an executor uses nothing but the backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError, UnsupportedError
from dagtrain.graph import Array
from dagtrain.ops import Kernel

__all__ = ["BACKENDS", "Backend", "find_backend"]

GROUP = "dagtrain.backends"
BACKENDS: dict[str, str] = {"numpy": "dagtrain.backends.numpy:NUMPY"}
"""Name → where the backend is. An installed package adds its own by an entry point of the group ``dagtrain.backends``."""


class Backend(ABC):
    """Memory and kernels of one library. Its arrays take an index, to read and to write, as NumPy's do.

    Attributes
    ----------
    name : str
    kernels : mapping of str → Kernel
        By the name of the op.
    """

    name: ClassVar[str]
    kernels: Mapping[str, Kernel]

    def kernel(self, op: str) -> Kernel:
        """The kernel of an op.

        Raises
        ------
        UnsupportedError
            If the backend has none.
        """
        try:
            return self.kernels[op]
        except KeyError:
            raise UnsupportedError(f'the backend {self.name!r} has no kernel for the op {op!r}: use backend="numpy".') from None

    @abstractmethod
    def empty(self, shape: Sequence[int], dtype: Any) -> Any:
        """New memory, in C order."""

    @abstractmethod
    def view(self, buffer: Any, dtype: Any, shape: Sequence[int]) -> Any:
        """The beginning of a buffer of bytes as an array in C order."""

    @abstractmethod
    def copy(self, target: Any, source: Any) -> None:
        """Copy the elements of one array to another of the same shape and dtype."""

    @abstractmethod
    def from_host(self, array: Array) -> Any:
        """A NumPy array as one of this backend, which may share its memory."""

    @abstractmethod
    def to_host(self, array: Any) -> Array:
        """An array of this backend as one of NumPy, which may share its memory."""

    @abstractmethod
    def guard(self, *, warnings: bool = False) -> AbstractContextManager[None]:
        """What a thread runs kernels under, so that their bits depend on nothing else: one thread a kernel. Entered once a thread.

        Warnings of floating point are not shown unless `warnings` is true: who asks for results by the thousand checks them for NaN.
        """

    @abstractmethod
    def software(self) -> dict[str, str]:
        """Name → version of all that the bits of its kernels depend on."""

    @cached_property
    def kernel_set(self) -> str:
        """The name of the set of kernels: the backend and its software, on which the bits of a plan depend."""
        return ", ".join([self.name, "one thread a kernel", *(f"{name} {version}" for name, version in self.software().items())])


def find_backend(backend: str | Backend) -> Backend:
    """The backend of this name, or `backend` itself.

    Raises
    ------
    UnknownNameError
        Neither this package nor an installed one has a backend of this name.
    """
    if isinstance(backend, Backend):
        return backend
    if backend in BACKENDS:
        point = EntryPoint(backend, BACKENDS[backend], GROUP)
    else:
        others = entry_points(group=GROUP)
        point = others[one_of("backend", backend, {*BACKENDS, *others.names})]
    found = point.load()
    if not isinstance(found, Backend):
        raise ArgumentError(f"the backend {backend!r} is {point.value}, which is no instance of dagtrain.backends.Backend.")
    return found
