"""Graphs as Dask tasks: tensors are Dask collections, graphs become delayed values, delayed values become inputs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagtrain.graph.protocols import DASK
from dagtrain.tasks import collection as _collection

if TYPE_CHECKING:
    from dagtrain.tasks.delayed import to_delayed
    from dagtrain.tasks.external import from_delayed
    from dagtrain.tasks.lowering import Lowered, lower

__all__ = ["Lowered", "from_delayed", "lower", "to_delayed"]

DASK.fill(_collection)

# `e.compute()` in this process needs no Dask, so the modules that import it are loaded on first use.
_LATER = {"Lowered": "lowering", "from_delayed": "external", "lower": "lowering", "to_delayed": "delayed"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"dagtrain.tasks.{_LATER[name]}"), name)
    raise AttributeError(f"module 'dagtrain.tasks' has no attribute {name!r}")
