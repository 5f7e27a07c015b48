"""Leaves whose value Dask computes: `from_delayed`, the inputs of a lowered graph, and persisted tensors.

Such a leaf is an ``input`` with an attribute ``source``: a Dask graph and the value's key in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from dask.base import is_dask_collection
from dask.delayed import delayed as make_delayed
from dask.task_spec import Alias, DataNode, GraphNode, TaskRef
from dask.utils import key_split

from dagtrain.arguments import is_future
from dagtrain.errors import ArgumentError
from dagtrain.graph import Spec, Tensor, make, make_spec

__all__ = ["DaskSource", "dask_leaf", "from_delayed", "is_dask", "source_of"]


class DaskSource:
    """The Dask graph that computes a leaf's value.

    Attributes
    ----------
    key
        Key of the value.
    graph
        Dask graph that computes it.
    ready
        Whether the value surely has the leaf's spec, as that of a persisted tensor.
    exact
        Whether a value of another dtype is an error, not converted.
    """

    __slots__ = ("exact", "graph", "key", "ready")

    def __init__(self, key: Any, graph: Mapping[Any, Any], *, ready: bool = False, exact: bool = False) -> None:
        self.key, self.graph, self.ready, self.exact = key, graph, ready, exact

    def __repr__(self) -> str:
        return f"DaskSource({self.key!r}, ready={self.ready}, exact={self.exact})"

    def tasks(self) -> dict[Any, Any]:
        """The graph as one dict of task nodes (and futures under their own keys)."""
        return {key: _node(key, value) for key, value in dict(self.graph).items()}


def _node(key: Any, value: Any) -> Any:
    """An entry of a Dask graph as a task node; futures, and tasks as tuples, stay as they are."""
    if isinstance(value, GraphNode) or is_future(value) or (isinstance(value, tuple) and value and callable(value[0])):
        return value
    return Alias(key, value) if isinstance(value, TaskRef) else DataNode(key, value)


def is_dask(value: Any) -> bool:
    """Whether Dask computes this value."""
    return is_future(value) or bool(is_dask_collection(value))


def source_of(value: Any, *, exact: bool = False) -> DaskSource:
    """The source of a future or a collection; several blocks become one value."""
    if is_future(value):
        return DaskSource(value.key, {value.key: value}, exact=exact)
    delayed = make_delayed(value)
    return DaskSource(delayed.key, delayed.__dask_graph__(), exact=exact)


def dask_leaf(name: str, spec: Spec, source: DaskSource) -> Tensor:
    """The leaf with this source."""
    return make("input", (), {"name": name, "source": source}, spec)


def from_delayed(value: Any, shape: Any, dtype: Any, *, name: str | None = None) -> Tensor:
    """A tensor whose value Dask computes.

    Parameters
    ----------
    value
        A `dask.delayed.Delayed`, a future, or any other Dask collection that computes to one array or number.
    shape, dtype
        Of the value; checked when it is computed.
    name
        Shown in pictures, errors and key names; by default the name of the value's key.

    Raises
    ------
    ArgumentError
        If Dask does not compute this value; when it is computed, if its shape or dtype differs.

    Examples
    --------
    >>> import dagtrain as dt, dask, numpy as np
    >>> squares = dask.delayed(lambda n: np.arange(n) ** 2.0)(4)
    >>> x = dt.from_delayed(squares, (4,), "f8")
    >>> np.sum(x).compute()
    14.0
    """
    if not is_dask(value):
        raise ArgumentError(
            f"from_delayed takes a Delayed, a future or another Dask collection, not a {type(value).__name__}: use dagtrain.array for a "
            "value that exists already."
        )
    source = source_of(value, exact=True)
    return dask_leaf(name or key_split(source.key), make_spec(shape, np.dtype(dtype)), source)
