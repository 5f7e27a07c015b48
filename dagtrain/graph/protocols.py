"""What tensors and graphs ask of folders that the graph does not import.

The graph knows nothing of NumPy's functions, plans, Dask or pictures, yet `x + y`, `e.compute()` and `e.visualize()` must work
on it. For each there is a slot with a type; the folder named there fills it when it is imported, and the first use imports it:

    Tensor.compute ──▶ DASK.value.compute ──▶ dagtrain/tasks fills DASK
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from dagtrain.errors import DagtrainError

if TYPE_CHECKING:
    from dagtrain.graph.graph import Graph
    from dagtrain.graph.tensor import Tensor

__all__ = ["DASK", "DRAWING", "NUMPY", "PLAN", "VERIFY", "DaskMethods", "Drawable", "Drawing", "NumPyMethods", "Slot"]

T = TypeVar("T")


class Slot(Generic[T]):
    """A place for a value that the module `home` puts there when it is imported."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._value: T | None = None

    def fill(self, value: T) -> None:
        """Put the value there."""
        self._value = value

    @property
    def value(self) -> T:
        """The value; the first use imports the module that gives it."""
        if self._value is None:
            import_module(self._home)
            if self._value is None:
                raise DagtrainError(f"{self._home} does not answer yet: it is still being imported. Use tensors after that.")
        return self._value


class NumPyMethods(Protocol):
    """What NumPy's calls on a tensor, and the methods and attributes of arrays, become."""

    def apply_ufunc(self, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `Tensor.__array_ufunc__` gives."""

    def apply_function(self, function: Any, args: Any, kwargs: Any) -> Any:
        """What `Tensor.__array_function__` gives."""

    def getitem(self, a: Tensor, index: Any) -> Tensor:
        """What `Tensor.__getitem__` gives."""

    def transpose(self, a: Tensor) -> Tensor:
        """What `Tensor.T` gives."""

    def attribute(self, a: Tensor, name: str) -> Any:
        """What `Tensor.__getattr__` gives."""


class DaskMethods(Protocol):
    """What Dask asks of a collection, and what a user asks of Dask."""

    def compute(self, tensor: Tensor, **options: Any) -> Any:
        """The value of a tensor."""

    def persist(self, tensor: Tensor, **options: Any) -> Tensor:
        """The same tensor, its value kept by Dask."""

    def to_delayed(self, graph: Graph, *inputs: Any, granularity: str | float = "fragment", **named: Any) -> Any:
        """One delayed value for each output."""

    def dask_graph(self, tensor: Tensor) -> Any:
        """What `Tensor.__dask_graph__` gives."""

    def dask_keys(self, tensor: Tensor) -> list[Any]:
        """What `Tensor.__dask_keys__` gives."""

    def dask_layers(self, tensor: Tensor) -> tuple[str, ...]:
        """What `Tensor.__dask_layers__` gives."""

    def dask_postcompute(self, tensor: Tensor) -> tuple[Any, tuple[Any, ...]]:
        """What `Tensor.__dask_postcompute__` gives."""

    def dask_postpersist(self, tensor: Tensor) -> tuple[Any, tuple[Any, ...]]:
        """What `Tensor.__dask_postpersist__` gives."""

    def dask_tokenize(self, tensor: Tensor) -> Any:
        """What `Tensor.__dask_tokenize__` gives."""

    def dask_optimize(self) -> Any:
        """What `Tensor.__dask_optimize__` is."""

    def dask_scheduler(self) -> Any:
        """What `Tensor.__dask_scheduler__` is."""


class Drawing(Protocol):
    """What makes pictures."""

    def draw(self, obj: Any, filename: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """The picture of anything that can be drawn, written to a file if one is named."""

    def mimebundle(self, obj: Any) -> dict[str, str]:
        """What a notebook shows; never raises."""


NUMPY: Slot[NumPyMethods] = Slot("dagtrain.numpy_api")
DASK: Slot[DaskMethods] = Slot("dagtrain.tasks")
DRAWING: Slot[Drawing] = Slot("dagtrain.draw")
VERIFY: Slot[Callable[[Graph], Graph]] = Slot("dagtrain.transform")
PLAN: Slot[Callable[..., Any]] = Slot("dagtrain.plan")


class Drawable:
    """Has pictures. All types but tensors and graphs give their picture by a method ``diagram(**options)``."""

    __slots__ = ()

    def visualize(self, filename: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """Draw it; see `dagtrain.draw.draw`."""
        return DRAWING.value.draw(self, filename, **options)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return DRAWING.value.mimebundle(self)
