"""Leaves whose value Dask computes: `from_delayed`, the inputs of a graph that is made into tasks, and persisted tensors.

Such a leaf is an ``input`` with an attribute ``feed``, which says under which key of which Dask graph the value is found.
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

__all__ = ["Feed", "fed", "feed_of", "from_delayed", "is_dask"]


class Feed:
    """Where a leaf's value comes from.

    Attributes
    ----------
    key
        Key of the value.
    graph
        Dask graph that computes it.
    ready
        Whether the value is known to be of the leaf's spec, as that of a persisted tensor is.
    exact
        Whether another dtype is an error, and not converted.
    """

    __slots__ = ("exact", "graph", "key", "ready")

    def __init__(self, key: Any, graph: Mapping[Any, Any], *, ready: bool = False, exact: bool = False) -> None:
        self.key, self.graph, self.ready, self.exact = key, graph, ready, exact

    def __repr__(self) -> str:
        return f"Feed({self.key!r}, ready={self.ready}, exact={self.exact})"

    def tasks(self) -> dict[Any, Any]:
        """The graph as one dict of task nodes (and futures under their own keys)."""
        return {key: _node(key, value) for key, value in dict(self.graph).items()}


def _node(key: Any, value: Any) -> Any:
    """An entry of a Dask graph as a task node; futures, and tasks as tuples, are left to the scheduler."""
    if isinstance(value, GraphNode) or is_future(value) or (isinstance(value, tuple) and value and callable(value[0])):
        return value
    return Alias(key, value) if isinstance(value, TaskRef) else DataNode(key, value)


def is_dask(value: Any) -> bool:
    """Whether Dask computes this value."""
    return is_future(value) or bool(is_dask_collection(value))


def feed_of(value: Any, *, exact: bool = False) -> Feed:
    """The feed of a future or a collection; a collection of several blocks becomes one value."""
    if is_future(value):
        return Feed(value.key, {value.key: value}, exact=exact)
    whole = make_delayed(value)
    return Feed(whole.key, whole.__dask_graph__(), exact=exact)


def fed(name: str, spec: Spec, feed: Feed) -> Tensor:
    """The leaf with this feed."""
    return make("input", (), {"name": name, "feed": feed}, spec)


def from_delayed(value: Any, shape: Any, dtype: Any, *, name: str | None = None) -> Tensor:
    """A tensor whose value Dask computes.

    Parameters
    ----------
    value
        A `dask.delayed.Delayed`, a future, or any other Dask collection that computes to one array or number.
    shape, dtype
        Of the value. That the value keeps to them is checked when it is there.
    name
        Shown in pictures, errors and key names; by default the name of the value's key.

    Raises
    ------
    ArgumentError
        If Dask does not compute this value; when it is computed, if its shape or dtype is another.

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
            "value that is there already."
        )
    feed = feed_of(value, exact=True)
    return fed(name or key_split(feed.key), make_spec(shape, np.dtype(dtype)), feed)
