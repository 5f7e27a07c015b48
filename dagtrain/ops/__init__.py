"""The ops: one short record each, in families."""

from dagtrain.ops import control, custom, elementwise, index, linalg, random, reduce, scan, scatter, shape, softmax, sorting, special
from dagtrain.ops.record import OPS, ZERO, Draw, Drawn, Kernel, Op, Sample, as_tensor, find, part, parts

__all__ = [
    "OPS",
    "ZERO",
    "Draw",
    "Drawn",
    "Kernel",
    "Op",
    "Sample",
    "as_tensor",
    "control",
    "custom",
    "elementwise",
    "find",
    "index",
    "linalg",
    "part",
    "parts",
    "random",
    "reduce",
    "scan",
    "scatter",
    "shape",
    "softmax",
    "sorting",
    "special",
]
