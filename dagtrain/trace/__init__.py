"""Tracing: from Python functions of nested arrays to graphs."""

from dagtrain.trace.choice import cond, switch
from dagtrain.trace.custom import custom_gradient, recompute
from dagtrain.trace.loop import scan, while_loop
from dagtrain.trace.trace import Traced, trace, trace_nested
from dagtrain.trace.tree import flatten, leaves, map_leaves, names, unflatten

__all__ = [
    "Traced",
    "cond",
    "custom_gradient",
    "flatten",
    "leaves",
    "map_leaves",
    "names",
    "recompute",
    "scan",
    "switch",
    "trace",
    "trace_nested",
    "unflatten",
    "while_loop",
]
