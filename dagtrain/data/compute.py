"""Small results about data, computed where the data is; and the graph of collections, as task nodes.

    compute(graph, keys) ─┬─ the client of the futures, or the current one ──▶ tasks on its cluster, with a deadline
                          └─ no client ──▶ this process, by the local scheduler in use

The slot `CLUSTER` reaches the cluster, so this folder imports none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from dagtrain.arguments import is_future
from dagtrain.graph import Slot

__all__ = ["CLIENT", "CLUSTER", "Key", "block_key", "compute", "computed_by", "futures_in", "is_delayed", "shared_graph", "task_nodes"]

Key = Any
Graph = dict[Key, Any]
CLIENT: ContextVar[Any] = ContextVar("CLIENT", default=None)
"""The client to use; None stands for the current one."""
CLUSTER: Slot[Callable[[Graph, Sequence[Key], Sequence[Any]], list[Any] | None]] = Slot("dagtrain.engines.cluster.waiting")
"""Values of keys of a graph that depends on futures, from the cluster in use; None without a cluster."""


@contextmanager
def computed_by(client: Any) -> Iterator[None]:
    """Make `compute` use this client in this thread. It does not change Dask's current client, nor other threads."""
    token = CLIENT.set(client)
    try:
        yield
    finally:
        CLIENT.reset(token)


def compute(graph: Graph, keys: Sequence[Key], futures: Sequence[Any] = ()) -> list[Any]:
    """The values of these keys.

    Parameters
    ----------
    graph
        Task nodes, and futures under their own keys.
    keys
        Keys whose values this process needs whole.
    futures
        Futures that the graph depends on but no longer holds.

    Raises
    ------
    ClusterError
        If the cluster gets no worker, or finishes no task before the deadline.
    """
    import dask

    nodes = task_nodes(graph)
    values = CLUSTER.value(nodes, keys, [*futures, *futures_in(graph)])
    if values is not None:
        return values
    scheduler = dask.base.get_scheduler() or dask.threaded.get
    return list(scheduler(nodes, list(keys)))


def shared_graph(collections: Sequence[Any]) -> Graph:
    """The optimised graph of dask arrays, or of delayed values, that computes their common parts once.

    `dask.optimize` optimises them one by one, which fuses common parts into tasks of each. Futures stay in the graph.
    """
    from dask.highlevelgraph import HighLevelGraph

    merged = HighLevelGraph.merge(*(c.__dask_graph__() for c in collections))
    futures = {key: node for layer in merged.layers.values() if layer.is_materialized() for key, node in layer.items() if is_future(node)}
    return {**collections[0].__dask_optimize__(merged, [c.__dask_keys__() for c in collections]), **futures}


def task_nodes(graph: Graph) -> Graph:
    """The graph as task nodes, without its futures; it may hold legacy tuples, as collections made outside dask do."""
    from dask._task_spec import convert_legacy_graph

    return dict(convert_legacy_graph(graph))


def futures_in(graph: Graph) -> tuple[Any, ...]:
    """The futures in a graph."""
    return tuple(node for node in graph.values() if is_future(node))


def block_key(array: Any, index: Sequence[int]) -> Key:
    """The key of a block of a dask array."""
    return (array.name, *index)


def is_delayed(value: Any) -> bool:
    """Whether this is a `dask.delayed` value; it seems to have every attribute, so only its type tells."""
    if not type(value).__module__.startswith("dask"):
        return False
    from dask.delayed import Delayed

    return isinstance(value, Delayed)
