"""Where the folders below plug themselves into tensors and graphs.

The graph knows nothing of NumPy's functions, plans, Dask or pictures, yet `x + y`, `e.compute()` and `e.visualize()` must work
on it. Each of those folders puts one function here when it is imported. `import dagtrain` says where they live; those that need Dask
or Graphviz are imported at the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeVar

from dagtrain.errors import DagtrainError

__all__ = ["call", "home", "plug"]

F = TypeVar("F", bound=Callable[..., Any])

_plugged: dict[str, Callable[..., Any]] = {}
_homes: dict[str, str] = {}


def plug(name: str) -> Callable[[F], F]:
    """Decorator: make a function the answer to `name`."""

    def put(function: F) -> F:
        _plugged[name] = function
        return function

    return put


def home(module: str, names: Iterable[str]) -> None:
    """Say which module plugs these names in when it is imported."""
    _homes.update(dict.fromkeys(names, module))


def call(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call what was plugged in under `name`."""
    if name not in _plugged and name in _homes:
        import_module(_homes[name])
    if name not in _plugged:
        raise DagtrainError(f"nothing answers to {name!r} yet: import dagtrain itself, not only dagtrain.graph.")
    return _plugged[name](*args, **kwargs)
