"""The functions that conditions and results of rewrite rules call on tensors and attributes.

Each looks at a bounded neighbourhood of a node, so that a pass over a graph stays linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dagtrain.graph import Tensor
from dagtrain.ops.convolution import pays_by_tiles
from dagtrain.transform.patterns import number_of

__all__ = ["CONDITIONS"]

Axes = tuple[int, ...]

ABOVE_ZERO = frozenset({"exp", "exp2", "softmax", "sigmoid", "softplus", "cosh"})
KEEP_ABOVE_ZERO = frozenset(
    {"add", "multiply", "divide", "maximum", "sqrt", "square", "reciprocal", "sum", "mean", "max", "min", "prod", "broadcast_to", "reshape"}
    | {"transpose", "slice", "flip", "cast", "concatenate", "cumsum", "cumprod", "stop_gradient", "power", "absolute"}
)
DEPTH = 5


def positive(x: Tensor, depth: int = DEPTH) -> bool:
    """Whether x is above zero by its form: an exponential, a softmax, or made of these by ops that preserve positivity."""
    if x.op in ABOVE_ZERO:
        return x.dtype.kind == "f"
    number = number_of(x)
    if number is not None:
        return not isinstance(number, complex) and number > 0
    return depth > 0 and x.op in KEEP_ABOVE_ZERO and x.dtype.kind == "f" and all(positive(i, depth - 1) for i in x.inputs)


def whole(*tensors: Tensor) -> bool:
    """Whether these are integers, for which there is no NaN, no infinity and no negative zero."""
    return all(x.dtype.kind in "iu" for x in tensors)


def floating(x: Tensor) -> bool:
    """Whether these are floats."""
    return x.dtype.kind == "f"


def signed(x: Tensor) -> bool:
    """Whether x may be negative, so that a minus does not wrap around."""
    return x.dtype.kind != "u"


def number(x: Tensor) -> bool:
    """Whether x is a constant of one element."""
    return x.op == "constant" and x.size == 1


def float_number(x: Tensor) -> bool:
    """Whether x is a floating point constant of one element."""
    return number(x) and x.dtype.kind == "f"


def power_of_two(x: Tensor) -> bool:
    """Whether x is a floating point constant ±2^n with an exact reciprocal: multiplying by it changes only the exponent."""
    value = number_of(x)
    if not isinstance(value, float) or x.dtype.kind != "f" or not 2**-13 <= abs(value) <= 2**13:
        return False
    return abs(math.frexp(value)[0]) == 0.5


def filled(x: Tensor) -> bool:
    """Whether x has elements."""
    return x.size > 0


def vector(x: Tensor) -> bool:
    """Whether x has one axis."""
    return x.ndim == 1


def single(axes: Axes) -> bool:
    """Whether this is exactly one axis."""
    return len(axes) == 1


def only(axes: Axes) -> int:
    """The one axis of several."""
    return axes[0]


def is_axis(axes: Axes, axis: int) -> bool:
    """Whether these axes are this one alone."""
    return axes == (axis,)


def compose(first: Axes, second: Axes) -> Axes:
    """The transposition that does one and then another."""
    return tuple(first[i] for i in second)


def in_order(axes: Axes) -> bool:
    """Whether a transposition leaves everything in place."""
    return axes == tuple(range(len(axes)))


def leads(x: Tensor, shape: Axes) -> bool:
    """Whether this shape is x's after leading axes of length 1, which broadcasting would add."""
    extra = len(shape) - x.ndim
    return extra >= 0 and shape == (1,) * extra + x.shape


def spans(x: Tensor, y: Tensor) -> bool:
    """Whether x has the broadcast shape of x and y, so that an elementwise op costs the same before and after."""
    return y.ndim <= x.ndim and all(n in (1, m) for n, m in zip(y.shape[::-1], x.shape[::-1], strict=False))


def reduced(x: Tensor, axes: Axes) -> Axes:
    """The shape of x without these axes."""
    return tuple(n for i, n in enumerate(x.shape) if i not in axes)


def keeps_axes(x: Tensor, axes: Axes, shape: Axes) -> bool:
    """Whether this is the shape of x with these axes of length 1."""
    return shape == tuple(1 if i in axes else n for i, n in enumerate(x.shape))


def level(x: Tensor, y: Tensor) -> bool:
    """Whether x and y have the same number of axes, so that an axis of one is the same axis of the other."""
    return x.ndim == y.ndim


def one_each(x: Tensor, axes: Axes) -> bool:
    """Whether x has length 1 along all these axes, so that a reduction over them has one element each."""
    return all(x.shape[i] == 1 for i in axes)


def placed(g: Tensor, i: Tensor, axis: int, shape: Axes) -> bool:
    """Whether g has one element for each position in i, so that scattering moves or adds elements only within their own lines."""
    return g.shape == tuple(i.shape[axis] if j == axis else n for j, n in enumerate(shape))


def without_ones(x: Tensor, axes: Axes, keepdims: bool) -> Axes:
    """The shape after reducing axes of length 1."""
    return x.shape if keepdims else reduced(x, axes)


def lossless(x: Tensor, through: str, to: str) -> bool:
    """Whether casting x through one dtype to another equals the direct cast, bit by bit."""
    start, middle, end = x.dtype, np.dtype(through), np.dtype(to)
    if start.kind == "f" and end.kind not in "fc":
        return False  # what a float beyond an integer's range becomes depends on the float's width
    if start.kind in "iu" and middle.kind in "fc":
        digits = np.finfo(middle).nmant + 1
        return start.itemsize * 8 - (start.kind == "i") <= digits
    return bool(np.can_cast(start, middle, "safe"))


def above_zero(x: Tensor) -> bool:
    """Whether x is a floating point constant of one element above zero."""
    return float_number(x) and bool(number_of(x) > 0)


def near(x: Tensor, value: float) -> bool:
    """Whether x is this constant, as exactly as its dtype can hold it."""
    return float_number(x) and math.isclose(number_of(x), value, rel_tol=float(np.finfo(x.dtype).eps))


def value(x: Tensor) -> float:
    """The number that a constant of one element is."""
    return float(number_of(x))


def inverse(x: Tensor) -> float:
    """One over the number that a constant of one element is."""
    return 1 / value(x) if value(x) else math.nan


def half(h: Tensor, x: Tensor) -> bool:
    """Whether h is x / 2 by its form."""
    if h.op not in ("multiply", "divide"):
        return False
    factor = 0.5 if h.op == "multiply" else 2.0
    a, b = h.inputs
    return (a is x and number_of(b) == factor) or (h.op == "multiply" and b is x and number_of(a) == factor)


def last(axes: Axes, x: Tensor) -> bool:
    """Whether these are the last axis of x alone."""
    return axes == (x.ndim - 1,)


def last_one(axis: int, x: Tensor) -> bool:
    """Whether this is the last axis of x."""
    return axis == x.ndim - 1


def features(s: Tensor, x: Tensor) -> bool:
    """Whether s has one element for each position along the last axis of x."""
    return s.shape == x.shape[-1:] and s.dtype == x.dtype


def turned(x: Tensor) -> Axes:
    """The transposition that exchanges the last two axes of x."""
    return (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)


def stacked(x: Tensor, w: Tensor) -> bool:
    """Whether a product with a matrix has rows on several axes, whose elements lie in order: one large product is faster than many."""
    return x.ndim > 2 and w.ndim == 2 and x.size > 0 and x.op not in ("transpose", "broadcast_to", "slice", "flip")


def flat(x: Tensor) -> Axes:
    """The shape of x with all axes but the last as one."""
    return (x.size // x.shape[-1], x.shape[-1])


def rows_of(x: Tensor, w: Tensor) -> Axes:
    """The shape of x with the last axis of w."""
    return (*x.shape[:-1], w.shape[-1])


def fill(x: Tensor) -> float | None:
    """The score that attention takes for keys out of sight: a number; None for minus infinity."""
    return None if value(x) == -math.inf else value(x)


def time_of(scores: str, values: str) -> int:
    """Where the axis of positions stands, -2 or -3, in two einsums that are the products of attention; 0 if they are not."""
    (q, k), table = scores.partition("->")[0].split(","), scores.partition("->")[2]
    (weights, v), y = values.partition("->")[0].split(","), values.partition("->")[2]
    if not len(q) == len(k) == len(table) == len(weights) == len(v) == len(y) or len(q) < 2 or q[-1] != k[-1] or "." in scores + values:
        return 0
    same = dict(zip(weights, table, strict=True)) | {v[-1]: "value"}
    for time in (-2, -3):
        batch = [c for i, c in enumerate(q[:-1]) if i != len(q) + time]
        if len(q) < -time or len(set(same.values())) <= len(table) or list(table) != [*batch, q[time], k[time]]:
            continue
        keys, queries = ([*axes[:-1], "value"] for axes in (k, q))
        alike = [c for i, c in enumerate(k[:-1]) if i != len(k) + time] == batch and q[time] != k[time] and q[-1] not in table
        if alike and [same.get(c) for c in v] == keys and [same.get(c) for c in y] == queries:
            return time
    return 0


def score(x: Tensor) -> bool:
    """Whether x is a number that a score may be: finite, or minus infinity."""
    return float_number(x) and value(x) < math.inf


def by_tiles(x: Tensor, kernel: Tensor, attributes: Mapping[str, Any]) -> bool:
    """Whether a convolution with these attributes is faster by tiles."""
    return pays_by_tiles(x, kernel, dict(attributes))


CONDITIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        positive, whole, floating, signed, number, float_number, power_of_two, filled, vector, single, only, is_axis, compose, in_order,
        leads, above_zero, near, value, inverse, half, last, last_one, features, turned, time_of, fill, score, stacked, flat,
        rows_of, by_tiles,
        level, keeps_axes, one_each, placed, reduced, spans, without_ones, lossless,
    )
}  # fmt: skip
