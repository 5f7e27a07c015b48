"""The rewrite rules, as data that reads like algebra.

    Rule("log(softmax(x, **a))", "log_softmax(x, **a)", STABLE)

Rules of arithmetic are for real numbers, and letters may stand for floats, integers or truth values: a rewrite is not done where it would
compute in integers, which wrap around, what was computed in floats or at another width. Every rule says how far it can be trusted:

- ``EXACT``: the same bits for every value, NaN, infinities and the sign of zero included (which of several NaNs comes out is left open);
- ``STABLE``: mathematically equal, and numerically at least as good: no new overflow, no new cancellation, no more roundings;
- ``APPROXIMATE``: equal on ordinary numbers only (x*0 is 0 unless x is NaN or infinite); applied on request only.

`dagtrain.transform.patterns` describes the language of the texts, `dagtrain.transform.conditions` the conditions. A rewrite is done only
where the result has the shape and dtype of what it replaces, so ``cast(x, **a) → x`` needs no condition.

Not here on purpose: ``maximum(x, 0) → relu(x)``, because their derivatives at 0 differ (one half and none);
``exp(log_softmax(x)) → softmax(x)``, because the gradient of cross-entropy has computed log_softmax already, and one exponential is cheaper
than another softmax.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from dagtrain.transform.patterns import Pattern, Use, ops_of, parse, parse_condition, variants

__all__ = ["APPROXIMATE", "APPROXIMATIONS", "EXACT", "SIMPLIFICATIONS", "STABILISATIONS", "STABLE", "Kind", "Rule"]

Kind = Literal["exact", "stable", "approximate"]
MOVES = frozenset({"transpose", "reshape", "broadcast_to", "flip", "cast", "where"})
EXACT: Kind = "exact"
STABLE: Kind = "stable"
APPROXIMATE: Kind = "approximate"


@dataclass(frozen=True)
class Rule:
    """A rewrite: where the pattern matches and the condition holds, the result replaces it.

    Examples
    --------
    >>> Rule("x * 1", "x", EXACT)
    Rule(pattern='x * 1', result='x', kind='exact', when='')
    """

    pattern: str
    result: str
    kind: Kind
    when: str = ""

    @cached_property
    def parsed_pattern(self) -> Pattern:
        """The pattern, parsed."""
        return parse(self.pattern)

    @cached_property
    def forms(self) -> tuple[Pattern, ...]:
        """The pattern with the operands of commutative ops in either order."""
        return tuple(variants(self.parsed_pattern))

    @cached_property
    def parsed_result(self) -> Pattern:
        """The result, parsed."""
        return parse(self.result)

    @cached_property
    def only_moves(self) -> bool:
        """Whether it concerns no arithmetic, so that it holds for complex numbers, too."""
        return (ops_of(self.parsed_pattern) | ops_of(self.parsed_result)) <= MOVES

    @cached_property
    def condition(self) -> tuple[Use, ...]:
        """The condition, parsed."""
        return parse_condition(self.when) if self.when else ()

    def __str__(self) -> str:
        return f"{self.pattern} → {self.result}" + (f"   when {self.when}" if self.when else "") + f"   ({self.kind})"


_BINARY = ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "equal", "not_equal", "less", "less_equal", "greater",
           "greater_equal")  # fmt: skip
_REDUCTIONS = ("sum", "mean", "prod", "max", "min", "logsumexp", "norm", "any", "all")

SUM_SHAPES = (
    # A reduction whose axes of length 1 are then added or removed is the reduction with the other keepdims.
    *(Rule(f"reshape({r}(x, axis=k, keepdims=True), **b)", f"{r}(x, axis=k, keepdims=False)", EXACT) for r in _REDUCTIONS),
    *(Rule(f"reshape({r}(x, axis=k, keepdims=False), **b)", f"{r}(x, axis=k, keepdims=True)", EXACT) for r in _REDUCTIONS),
)

_CENTRED = "(x - mean(x, axis=k, keepdims=True))"
_SQUARES = ("square({z})", "{z} * {z}")
# A value over the root of the mean of squares, as users write it; z is x, or x less its mean.
_OVER_ROOT = ("{z} / sqrt(mean({q}, axis=k, keepdims=True) + e)", "{z} * (1 / sqrt(mean({q}, axis=k, keepdims=True) + e))",
              "{z} * reciprocal(sqrt(mean({q}, axis=k, keepdims=True) + e))")  # fmt: skip
_NORM = "part(layer_norm(x, {s}, {o}, {a}), index=0)"


def _norms(z: str, center: bool) -> Iterator[Rule]:
    """Layer norm without scale and offset, or with a scale that is multiplied before the division; with ``center=False`` RMS norm."""
    attributes = f"epsilon=value(e), center={center}"
    for form in _OVER_ROOT:
        for square in _SQUARES:
            pattern = form.format(z=z, q=square.format(z=z))
            yield Rule(pattern, _NORM.format(s=1, o=0, a=attributes), STABLE, "above_zero(e) and last(k, x)")
    for square in _SQUARES:
        pattern = f"(s * {z}) / sqrt(mean({square.format(z=z)}, axis=k, keepdims=True) + e)"
        yield Rule(pattern, _NORM.format(s="s", o=0, a=attributes), STABLE, "above_zero(e) and last(k, x) and features(s, x)")


_SHARE = "part(gelu(x, approximate={}), index=1)"
_TWICE = "2 * part(gelu(x, **a), index=1)"
_GELUS = (
    *(Rule(f"1 + tanh(c * (x + {cube}))", f"2 * {_SHARE.format(True)}", STABLE, "near(c, 0.7978845608028654) and near(d, 0.044715)")
      for cube in ("d * x ** 3", "d * x * x * x", "d * (x * x * x)", "d * (x * square(x))")),
    Rule("1 + erf(x / c)", f"2 * {_SHARE.format(False)}", STABLE, "near(c, 1.4142135623730951)"),
    Rule("1 + erf(x * c)", f"2 * {_SHARE.format(False)}", STABLE, "near(c, 0.7071067811865476)"),
    Rule(f"0.5 * ({_TWICE})", "part(gelu(x, **a), index=1)", STABLE),
    Rule(f"h * ({_TWICE})", "part(gelu(x, **a), index=0)", STABLE, "half(h, x)"),
    Rule("x * part(gelu(x, **a), index=1)", "part(gelu(x, **a), index=0)", STABLE),
)  # fmt: skip


def _attentions() -> Iterator[Rule]:
    """Softmax attention, with scores that are scaled and masked, or not, by products or by einsum."""
    for scores, output, k, time, when in (
        ("q @ t", "{} @ v", "transpose(t, axes=turned(t))", "-2", "last_one(j, q)"),
        ("einsum(q, k, subscripts=a)", "einsum({}, v, subscripts=b)", "k", "time_of(a, b)", "last_one(j, q) and time_of(a, b)"),
    ):
        for scaled, scale, number in (
            (scores, 1.0, ""),
            (f"({scores}) * s", "value(s)", " and float_number(s)"),
            (f"({scores}) / s", "inverse(s)", " and float_number(s)"),
        ):
            options = f"scale={scale}, causal=False, empty='nan', time={time}"
            result = f"attention(q, {k}, v, {options}, fill=None)"
            yield Rule(output.format(f"softmax({scaled}, axis=j)"), result, STABLE, when + number)
            masked = f"softmax(where(c, {scaled}, n), axis=j)"
            result = f"attention(q, {k}, v, c, {options}, fill=fill(n))"
            yield Rule(output.format(masked), result, STABLE, f"{when}{number} and score(n)")


COARSE: tuple[Rule, ...] = (
    # Ops of one pass in the place of many, found in what users write.
    *_norms(_CENTRED, center=True),
    *_norms("x", center=False),
    Rule(f"{_NORM.format(s=1, o=0, a='**a')} * s", _NORM.format(s="s", o=0, a="**a"), STABLE, "features(s, x)"),
    Rule(f"{_NORM.format(s='s', o=0, a='**a')} + o", _NORM.format(s="s", o="o", a="**a"), STABLE, "features(o, x)"),
    *_GELUS,
    *_attentions(),
)

STABILISATIONS: tuple[Rule, ...] = (
    *COARSE,
    *SUM_SHAPES,
    # Powers that have a function of their own, correctly rounded.
    Rule("x ** 1", "x", STABLE),
    Rule("x ** 2", "square(x)", STABLE),
    Rule("x ** 0.5", "sqrt(x)", STABLE),
    Rule("x ** -1", "reciprocal(x)", STABLE, "floating(x)"),
    Rule("sqrt(square(x))", "absolute(x)", STABLE),
    # Squares of lengths, which have a derivative at zero where the lengths have none; and lengths whose derivative at zero is zero.
    *(Rule(pattern.replace("y", y), result, STABLE) for y, result in (
        ("absolute(x)", "square(x)"), ("fabs(x)", "square(x)"), ("norm(x, **a)", "sum(square(x), **a)"),
        ("hypot(x, z)", "square(x) + square(z)"),
    ) for pattern in ("square(y)", "y * y")),
    Rule("sqrt(sum(square(x), **a))", "norm(x, **a)", STABLE),
    Rule("sqrt(sum(x * x, **a))", "norm(x, **a)", STABLE),
    # Logarithms and exponentials near 1 and of large arguments.
    Rule("log(exp(x))", "x", STABLE),
    Rule("log(1 + x)", "log1p(x)", STABLE),
    Rule("exp(x) - 1", "expm1(x)", STABLE),
    Rule("log1p(exp(x))", "softplus(x)", STABLE),
    Rule("logaddexp(x, 0)", "softplus(x)", STABLE),
    Rule("log1p(expm1(x))", "x", STABLE),
    # The logistic function and its logarithms.
    Rule("1 / (1 + exp(-x))", "sigmoid(x)", STABLE),
    Rule("1 / (1 + exp(x))", "sigmoid(-x)", STABLE),
    Rule("reciprocal(1 + exp(-x))", "sigmoid(x)", STABLE),
    Rule("exp(x) / (1 + exp(x))", "sigmoid(x)", STABLE),
    Rule("log(sigmoid(x))", "-softplus(-x)", STABLE),
    Rule("log(1 - sigmoid(x))", "-softplus(x)", STABLE),
    Rule("log1p(-sigmoid(x))", "-softplus(x)", STABLE),
    # Softmax and log-sum-exp, with or without an explicit subtraction of the maximum.
    Rule("exp(x) / sum(exp(x), axis=k, keepdims=True)", "softmax(x, axis=only(k))", STABLE, "single(k) and filled(x)"),
    Rule("exp(x) / sum(exp(x), axis=k, keepdims=False)", "softmax(x, axis=only(k))", STABLE, "vector(x) and filled(x)"),
    Rule("softmax(x - max(x, axis=k, keepdims=True), axis=j)", "softmax(x, axis=j)", STABLE, "is_axis(k, j)"),
    Rule("log_softmax(x - max(x, axis=k, keepdims=True), axis=j)", "log_softmax(x, axis=j)", STABLE, "is_axis(k, j)"),
    Rule("log(softmax(x, **a))", "log_softmax(x, **a)", STABLE),
    Rule("log(sum(exp(x), **a))", "logsumexp(x, **a)", STABLE, "filled(x)"),
    Rule("max(x, axis=k, keepdims=j) + logsumexp(x - max(x, axis=k, keepdims=True), axis=k, keepdims=j)",
         "logsumexp(x, axis=k, keepdims=j)", STABLE),
    Rule("x - logsumexp(x, axis=k, keepdims=True)", "log_softmax(x, axis=only(k))", STABLE, "single(k)"),
    Rule("x - max(x, axis=k, keepdims=True) - logsumexp(x - max(x, axis=k, keepdims=True), axis=k, keepdims=True)",
         "log_softmax(x, axis=only(k))", STABLE, "single(k)"),
    # Gradients of the unstable forms above: no division by a value that may underflow.
    Rule("g / y * y", "g", STABLE, "positive(y)"),
    Rule("(-(g / y)) * y", "-g", STABLE, "positive(y)"),
    Rule("g / y * (y * z)", "g * z", STABLE, "positive(y)"),
    Rule("y * (g / y + s)", "g + y * s", STABLE, "positive(y)"),
    Rule("y * (g / y - s)", "g - y * s", STABLE, "positive(y)"),
    Rule("g / (1 + exp(x)) * exp(x)", "g * sigmoid(x)", STABLE),
    Rule("(g / sigmoid(x) - h / (1 - sigmoid(x))) * (sigmoid(x) * (1 - sigmoid(x)))", "g * (1 - sigmoid(x)) - h * sigmoid(x)", STABLE),
    Rule("(g - sigmoid(x) * (h / (1 - sigmoid(x)))) * sigmoid(-x)", "g * sigmoid(-x) - h * sigmoid(x)", STABLE),
    Rule("g / sum(exp(x), axis=k, keepdims=True) * exp(x)", "g * softmax(x, axis=only(k))", STABLE, "single(k) and filled(x)"),
    Rule("reshape(g / sum(exp(x), axis=k, keepdims=False), shape=s) * exp(x)",
         "reshape(broadcast_to(g, shape=reduced(x, k)), shape=s) * softmax(x, axis=only(k))", STABLE,
         "single(k) and filled(x) and keeps_axes(x, k, s)"),
    Rule("sum(w / sum(exp(x), axis=k, keepdims=True), axis=k, keepdims=True)",
         "sum(w, axis=k, keepdims=True) / sum(exp(x), axis=k, keepdims=True)", STABLE, "level(w, x)"),
    Rule("g / sum(exp(x), **a) + h / sum(exp(x), **a)", "(g + h) / sum(exp(x), **a)", STABLE),
    Rule("g / sum(exp(x), **a) - h / sum(exp(x), **a)", "(g - h) / sum(exp(x), **a)", STABLE),
    Rule("sum(-x, **a)", "-sum(x, **a)", STABLE),
)  # fmt: skip

SIMPLIFICATIONS: tuple[Rule, ...] = (
    # Neutral and absorbing elements.
    Rule("x * 1", "x", EXACT),
    Rule("x / 1", "x", EXACT),
    Rule("x - 0", "x", EXACT),
    Rule("x + -0.0", "x", EXACT),
    Rule("x + 0", "x", EXACT, "whole(x)"),
    Rule("x + 0", "x", EXACT, "positive(x)"),
    Rule("x * 0", "0", EXACT, "whole(x)"),
    Rule("x - x", "0", EXACT, "whole(x)"),
    Rule("x ** 0", "1", EXACT),
    Rule("+x", "x", EXACT),
    # Signs.
    Rule("--x", "x", EXACT),
    Rule("x + (-y)", "x - y", EXACT),
    Rule("x - (-y)", "x + y", EXACT),
    Rule("x * -1", "-x", EXACT),
    Rule("x / -1", "-x", EXACT),
    Rule("(-x) * (-y)", "x * y", EXACT),
    Rule("(-x) / (-y)", "x / y", EXACT),
    Rule("(-x) * c", "x * -c", EXACT, "float_number(c)"),
    Rule("(-x) / c", "x / -c", EXACT, "float_number(c)"),
    Rule("-(x * c)", "x * -c", EXACT, "float_number(c)"),
    Rule("-(x / c)", "x / -c", EXACT, "float_number(c)"),
    Rule("(-x) * y", "-(x * y)", EXACT, "spans(x, y)"),
    Rule("(-x) / y", "-(x / y)", EXACT, "spans(x, y)"),
    Rule("x / (-y)", "-(x / y)", EXACT, "spans(y, x)"),
    Rule("absolute(-x)", "absolute(x)", EXACT, "signed(x)"),
    Rule("absolute(absolute(x))", "absolute(x)", EXACT),
    Rule("square(-x)", "square(x)", EXACT),
    Rule("logical_not(logical_not(x))", "x", EXACT),
    # Cheaper forms of the same.
    Rule("x * x", "square(x)", EXACT),
    Rule("1 / x", "reciprocal(x)", EXACT),
    Rule("x / c", "x * (1 / c)", EXACT, "number(c) and power_of_two(c)"),
    Rule("c * (m * x)", "(c * m) * x", STABLE, "float_number(c) and float_number(m) and power_of_two(m)"),
    Rule("c * (m * x)", "(c * m) * x", STABLE, "float_number(c) and float_number(m) and power_of_two(c)"),
    Rule("x @ w", "reshape(reshape(x, shape=flat(x)) @ w, shape=rows_of(x, w))", STABLE, "stacked(x, w)"),
    # Moves of elements.
    Rule("transpose(transpose(x, axes=p), axes=q)", "transpose(x, axes=compose(p, q))", EXACT),
    Rule("transpose(x, axes=p)", "x", EXACT, "in_order(p)"),
    Rule("reshape(reshape(x, **a), **b)", "reshape(x, **b)", EXACT),
    Rule("reshape(x, **a)", "x", EXACT),
    Rule("broadcast_to(broadcast_to(x, **a), **b)", "broadcast_to(x, **b)", EXACT),
    Rule("broadcast_to(reshape(x, shape=s), **b)", "broadcast_to(x, **b)", EXACT, "leads(x, s)"),
    Rule("broadcast_to(x, **a)", "x", EXACT),
    Rule("flip(flip(x, **a), **a)", "x", EXACT),
    Rule("cast(x, **a)", "x", EXACT),
    Rule("cast(cast(x, dtype=d), dtype=e)", "cast(x, dtype=e)", EXACT, "lossless(x, d, e)"),
    Rule("cast(where(c, x, y), **a)", "where(c, cast(x, **a), cast(y, **a))", EXACT, "number(x) and number(y)"),
    # Explicit broadcasts that the op does itself.
    *(Rule(f"{op}(x, broadcast_to(y, **a))", f"{op}(x, y)", EXACT) for op in _BINARY),
    *(Rule(f"{op}(broadcast_to(x, **a), y)", f"{op}(x, y)", EXACT) for op in _BINARY),
    *(Rule(f"{op}(x, reshape(y, shape=s))", f"{op}(x, y)", EXACT, "leads(y, s)") for op in _BINARY),
    *(Rule(f"{op}(reshape(x, shape=s), y)", f"{op}(x, y)", EXACT, "leads(x, s)") for op in _BINARY),
    Rule("where(c, broadcast_to(x, **a), y)", "where(c, x, y)", EXACT),
    Rule("where(c, x, broadcast_to(y, **a))", "where(c, x, y)", EXACT),
    # Reductions of one element, and of scattered elements.
    # (NumPy starts sums at 0.0, so the sum of one -0.0 is 0.0.)
    *(Rule(f"{r}(x, axis=k, keepdims=j)", "reshape(x, shape=without_ones(x, k, j))", kind, "one_each(x, k)")
      for r, kind in (("sum", STABLE), ("mean", STABLE), ("prod", EXACT), ("max", EXACT), ("min", EXACT))),
    Rule("sum(take_along_axis_transpose(g, i, axis=k, shape=s), axis=j, keepdims=True)", "sum(g, axis=j, keepdims=True)", STABLE,
         "is_axis(j, k) and placed(g, i, k, s) and floating(g)"),
)  # fmt: skip

APPROXIMATIONS: tuple[Rule, ...] = (
    # Wrong for NaN and infinities.
    Rule("x * 0", "0", APPROXIMATE),
    Rule("0 / x", "0", APPROXIMATE),
    Rule("x - x", "0", APPROXIMATE),
    Rule("x / x", "1", APPROXIMATE),
    # Wrong for the sign of zero.
    Rule("x + 0", "x", APPROXIMATE),
    Rule("-(x - y)", "y - x", APPROXIMATE),
    # Wrong outside the domain of the inner function.
    Rule("exp(log(x))", "x", APPROXIMATE),
    Rule("square(sqrt(x))", "x", APPROXIMATE),
    # Wrong in the last places.
    Rule("x / c", "x * (1 / c)", APPROXIMATE, "float_number(c)"),
    Rule("c * (m * x)", "(c * m) * x", APPROXIMATE, "float_number(c) and float_number(m)"),
    Rule("x ** 3", "x * square(x)", APPROXIMATE),
    Rule("exp(x) * exp(y)", "exp(x + y)", APPROXIMATE),
    Rule("x * c + y * c", "(x + y) * c", APPROXIMATE),
    Rule("x * c - y * c", "(x - y) * c", APPROXIMATE),
    *(Rule(f"{op}(x, k, **a)", f"tiled_{op}(x, k, **a)", APPROXIMATE, "by_tiles(x, k, a)") for op in ("conv", "conv_by_input")),
)
