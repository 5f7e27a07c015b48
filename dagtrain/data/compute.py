"""Small answers about data, computed where the data lies; and the graph of collections, as task nodes.

    compute(graph, keys) ─┬─ the client that holds the data, or that is in use ──▶ tasks on its cluster, waited for with a deadline
                          └─ none ──▶ this process, by whichever local scheduler is in use

A cluster is reached through a slot: this folder knows none.
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
"""The client that was asked for; None leaves it to the one that is in use."""
CLUSTER: Slot[Callable[[Graph, Sequence[Key], Sequence[Any]], list[Any] | None]] = Slot("dagtrain.engines.cluster.waiting")
"""The values of keys of a graph that depends on futures, from the cluster in use; None where there is none."""


@contextmanager
def computed_by(client: Any) -> Iterator[None]:
    """Have this client compute what is computed meanwhile in this thread. Dask itself, and other threads, know nothing of it."""
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
        What is wanted: each is small, or wanted whole in this process.
    futures
        Those that the graph depends on and has no longer in it.

    Raises
    ------
    ClusterError
        The cluster gets no worker, or finishes nothing for a long time.
    """
    import dask

    nodes = task_nodes(graph)
    values = CLUSTER.value(nodes, keys, [*futures, *futures_in(graph)])
    if values is not None:
        return values
    scheduler = dask.base.get_scheduler() or dask.threaded.get
    return list(scheduler(nodes, list(keys)))


def shared_graph(collections: Sequence[Any]) -> Graph:
    """The optimised graph of dask arrays, or of delayed values, in which all that they have in common is computed once.

    Optimised one by one, as `dask.optimize` does, each would take what they share into tasks of its own. Futures stand for themselves.
    """
    from dask.highlevelgraph import HighLevelGraph

    merged = HighLevelGraph.merge(*(one.__dask_graph__() for one in collections))
    futures = {key: node for layer in merged.layers.values() if layer.is_materialized() for key, node in layer.items() if is_future(node)}
    return {**collections[0].__dask_optimize__(merged, [one.__dask_keys__() for one in collections]), **futures}


def task_nodes(graph: Graph) -> Graph:
    """Task nodes for a graph that may hold tuples of the old form, as collections made outside dask do, and futures, which are left out."""
    from dask._task_spec import convert_legacy_graph

    return dict(convert_legacy_graph(graph))


def futures_in(graph: Graph) -> tuple[Any, ...]:
    """The futures that stand under their own keys in a graph."""
    return tuple(node for node in graph.values() if is_future(node))


def block_key(array: Any, index: Sequence[int]) -> Key:
    """The key of a block of a dask array."""
    return (array.name, *index)


def is_delayed(value: Any) -> bool:
    """Whether this is a `dask.delayed` value. It claims to have every attribute, so that nothing else can be asked of it."""
    if not type(value).__module__.startswith("dask"):
        return False
    from dask.delayed import Delayed

    return isinstance(value, Delayed)
