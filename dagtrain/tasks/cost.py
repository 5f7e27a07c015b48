"""A rough estimate of a node's time: enough to tell a microsecond from a millisecond.

A node takes one NumPy call, plus the longer of the times for its operations and for its bytes on one core.
"""

from __future__ import annotations

from dagtrain.graph import LEAVES, Tensor, bodies
from dagtrain.ops import find

__all__ = ["BYTES_A_SECOND", "FLOPS_A_SECOND", "TRANSFER_A_SECOND", "WORTH", "seconds"]

FLOPS_A_SECOND = 5e10
BYTES_A_SECOND = 1e10
TRANSFER_A_SECOND = 1e9
"""Bytes a second from one worker to another."""
CALL = 1e-6
WORTH = 1e-3
"""Seconds of work that are worth a task: roughly the cost of a task in Dask's distributed scheduler."""


def seconds(node: Tensor) -> float:
    """Estimated time of one node on one core.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = dt.input("x", (1000, 1000))
    >>> 0.01 < seconds(x @ x) < 0.5
    True
    """
    if node.op in LEAVES:
        return 0.0
    op = find(node.op)
    if op.view:
        return 0.0
    graphs = [graph for several in bodies(node).values() for graph in several]
    if graphs:
        return op.times(node) * sum(seconds(n) for graph in graphs for n in graph.nodes)
    moved = node.nbytes + sum(source.nbytes for source in node.inputs)
    return CALL + max(op.count_flops(node) / FLOPS_A_SECOND, moved / BYTES_A_SECOND)
