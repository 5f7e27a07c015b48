"""Tracing: from Python functions of nested arrays to graphs."""

from dagtrain.trace.loop import scan
from dagtrain.trace.trace import Traced, trace, trace_nested
from dagtrain.trace.tree import flatten, leaves, map_leaves, names, unflatten

__all__ = ["Traced", "flatten", "leaves", "map_leaves", "names", "scan", "trace", "trace_nested", "unflatten"]
