"""How long each op of a graph takes, for a picture that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from dagtrain.graph import LEAVES, Graph, Tensor
from dagtrain.plan import node_values

__all__ = ["op_seconds"]

SLOW = 1.0
"""Seconds after which a graph is not computed once more."""


def op_seconds(graph: Graph, inputs: Sequence[Any] = (), repeats: int = 3) -> dict[Tensor, float]:
    """Seconds of each op when the graph is computed op by op, the least of several times.

    A plan takes less: it allocates no memory, and computes some ops together.

    Parameters
    ----------
    graph
        What to time.
    inputs
        Values of its inputs, in their order.
    repeats
        How often to compute it, at most: not once more after a second.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> graph = dt.trace(lambda x: np.tanh(x @ x), np.zeros((64, 64)))
    >>> seconds = op_seconds(graph, [np.ones((64, 64))])
    >>> [node.op for node in seconds]
    ['matmul', 'tanh']
    >>> graph.visualize(seconds=seconds)
    <Picture: 3 nodes, 2 edges>
    """
    best: dict[Tensor, float] = {}
    since = 0.0

    def watch(node: Tensor, value: Any) -> None:
        nonlocal since
        now = perf_counter()
        if node.op not in LEAVES:
            best[node] = min(best.get(node, float("inf")), now - since)
        since = perf_counter()

    began = perf_counter()
    for _ in range(repeats):
        since = perf_counter()
        node_values(graph, inputs, watch)
        if since - began > SLOW:
            break
    return best
