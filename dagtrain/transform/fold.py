"""Constant folding, and merging of equal nodes that interning keeps apart: two steps that change no value.

A result is folded if it is small and its op either moves elements or is fixed to the last bit by IEEE arithmetic, so that the folded graph
is the same on every machine; an exponential of a constant is left to the machine that runs it. Random ops and loops are never folded.
"""

from __future__ import annotations

import numpy as np

from dagtrain.graph import Tensor, constant, located
from dagtrain.ops import find
from dagtrain.transform.patterns import COMMUTATIVE
from dagtrain.transform.rewrite import Settle, Step

__all__ = ["LARGEST_FOLD", "fold", "merging"]

LARGEST_FOLD = 4096
"""Most bytes of a folded result, unless it takes no more than the constants it comes from."""

MOVES = frozenset({"reshape", "transpose", "slice", "flip", "concatenate", "pad", "unslice", "take", "take_along_axis", "gather"})
FIXED_BY_IEEE = frozenset(
    {"add", "subtract", "multiply", "divide", "negative", "positive", "square", "reciprocal", "absolute", "fabs", "sqrt", "sign", "rint"}
    | {"floor", "ceil", "trunc", "copysign", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and"}
    | {"logical_or", "logical_xor", "logical_not", "isnan", "isinf", "isfinite", "signbit", "where", "cast", "one_hot"}
)
FOLDABLE = MOVES | FIXED_BY_IEEE


def fold(node: Tensor, settle: Settle) -> Tensor:
    """A constant in the place of a small result that depends on constants alone."""
    if node.op not in FOLDABLE or not all(source.op == "constant" for source in node.inputs):
        return node
    if node.nbytes > max(LARGEST_FOLD, sum(source.nbytes for source in node.inputs) if node.op in MOVES else 0):
        return node
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(find(node.op).kernel(*(source.value for source in node.inputs), **dict(node.attributes)))
    except (IndexError, ValueError):  # positions out of bounds: the run raises the error, with the user's line
        return node
    if value.dtype != node.dtype or value.shape != node.shape:
        return node
    with located(node.origin):
        return constant(value)


def merging() -> Step:
    """A step that makes one node of two that differ only in the order of the operands of a commutative op."""
    first: dict[tuple[str, frozenset[int]], Tensor] = {}  # a node keeps its inputs alive, so their ids are not reused

    def merge(node: Tensor, settle: Settle) -> Tensor:
        if node.op not in COMMUTATIVE:
            return node
        return first.setdefault((node.op, frozenset(map(id, node.inputs))), node)

    return merge
