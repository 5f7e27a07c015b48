"""The ops: one short record each, in families."""

from dagtrain.ops import elementwise, index, linalg, random, reduce, scan, shape, softmax, special
from dagtrain.ops.record import OPS, ZERO, Draw, Op, Sample, as_tensor, find

__all__ = [
    "OPS",
    "ZERO",
    "Draw",
    "Op",
    "Sample",
    "as_tensor",
    "elementwise",
    "find",
    "index",
    "linalg",
    "random",
    "reduce",
    "scan",
    "shape",
    "softmax",
    "special",
]
