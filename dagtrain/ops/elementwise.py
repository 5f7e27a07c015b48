"""Ops that work on each element alone: NumPy's arithmetic, comparison, logic and mathematical functions.

Where a function has a kink, the derivative is the one stated here: `absolute` and `sign` 0 at 0; `maximum`, `minimum`, `fmax` and `fmin`
one half to each of two equal arguments; `logaddexp` one half to each of two equal infinities; `relu` 0 at 0; `hypot` and `arctan2` 0 at
(0, 0); rounding functions 0 everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.graph import Spec, Tensor, held, refuse_masked, spec_of
from dagtrain.ops.record import ZERO, Draw, Gradient, Kernel, Op, Sample, as_tensor, broadcast_shapes, elementwise, written

LN2, LN10 = math.log(2.0), math.log(10.0)
POSITIVE, UNIT, ABOVE_ONE = (0.5, 3.0), (-0.9, 0.9), (1.1, 3.0)

# ---- arithmetic

add = elementwise("add", np.add, lambda g, y, a, b: (g, g))
subtract = elementwise("subtract", np.subtract, lambda g, y, a, b: (g, -g))
multiply = elementwise("multiply", np.multiply, lambda g, y, a, b: (g * b, g * a))
divide = elementwise("divide", np.divide, lambda g, y, a, b: (g / b, -g * y / b), domain=[(-2, 2), POSITIVE])
negative = elementwise("negative", np.negative, lambda g, y, a: (-g,))
positive = elementwise("positive", np.positive, lambda g, y, a: (g,))
square = elementwise("square", np.square, lambda g, y, a: (2 * g * a,))
reciprocal = elementwise("reciprocal", np.reciprocal, lambda g, y, a: (-g * square(y),), domain=[POSITIVE])


def _absolute_gradient(g: Tensor, y: Tensor, a: Tensor) -> tuple[Tensor]:
    return (g * (part_of_length(conjugate(a), y) if a.dtype.kind == "c" else sign(a)),)


def _sign_gradient(g: Tensor, y: Tensor, a: Tensor) -> tuple[Tensor | None]:
    # The sign of a complex number is a / |a|.
    if a.dtype.kind != "c":
        return (None,)
    length = absolute(a)
    length = where(length == 0, 1, length)
    return ((g - conjugate(y) * real(g * y)) / length,)


absolute: Op = elementwise("absolute", np.absolute, _absolute_gradient, domain=[POSITIVE])
fabs = elementwise("fabs", np.fabs, lambda g, y, a: (g * sign(a),), domain=[(-3.0, -0.5)])


def _power_gradient(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
    # d(a^b)/da = b a^(b-1), and 0 rather than 0 * inf where b is 0; d(a^b)/db = y log(a), and 0 where a is 0.
    if b.op == "constant" and b.size == 1:
        exponent = b.value.item()
        if exponent == 2:
            return g * (2 * a), None
        if exponent == 0:
            return None, None
        return g * (b * power(a, exponent - 1)), None
    # Where b is 0, so is the derivative by a, also where 1 / a is infinite; and it is a function of b there, too.
    base = where((b == 0) & ~(absolute(a) >= float(np.finfo(y.dtype).smallest_normal)), 1, a)
    by_base = b * power(base, b - 1)
    a = cast(a, y.dtype) if y.dtype.kind == "c" else a
    by_exponent = where(a == 0, 0, y * log(where(a == 0, 1, a)))
    return g * by_base, g * by_exponent


power = elementwise("power", np.power, _power_gradient, domain=[POSITIVE, (-2, 2)], flops=10)
float_power = elementwise("float_power", np.float_power, _power_gradient, domain=[POSITIVE, (-2, 2)], flops=10)
floor_divide = elementwise("floor_divide", np.floor_divide, ZERO, domain=[(-2, 2), POSITIVE])
remainder = elementwise("remainder", np.remainder, lambda g, y, a, b: (g, -g * floor_divide(a, b)), domain=[(0.1, 0.4), POSITIVE])
fmod = elementwise("fmod", np.fmod, lambda g, y, a, b: (g, -g * trunc(a / b)), domain=[(0.1, 0.4), POSITIVE])
sqrt = elementwise("sqrt", np.sqrt, lambda g, y, a: (g / (2 * y),), domain=[POSITIVE], flops=4)
cbrt = elementwise("cbrt", np.cbrt, lambda g, y, a: (g / 3 * square(reciprocal(y)),), domain=[POSITIVE], flops=10)


def part_of_length(a: Tensor, length: Tensor) -> Tensor:
    """A / length, the derivative of the length of a vector by its element a; 0 where all elements are."""
    return where(length == 0, 0, a / where(length == 0, 1, length))


hypot: Op = elementwise(
    "hypot",
    np.hypot,
    lambda g, y, a, b: (g * part_of_length(a, y), g * part_of_length(b, y)),
    domain=[POSITIVE, POSITIVE],
    flops=6,
)

# ---- exponentials and logarithms

exp = elementwise("exp", np.exp, lambda g, y, a: (g * y,), flops=10)
exp2 = elementwise("exp2", np.exp2, lambda g, y, a: (g * y * LN2,), flops=10)
expm1 = elementwise("expm1", np.expm1, lambda g, y, a: (g * exp(a),), flops=10)
log = elementwise("log", np.log, lambda g, y, a: (g / a,), domain=[POSITIVE], flops=10)
log2 = elementwise("log2", np.log2, lambda g, y, a: (g / (a * LN2),), domain=[POSITIVE], flops=10)
log10 = elementwise("log10", np.log10, lambda g, y, a: (g / (a * LN10),), domain=[POSITIVE], flops=10)
log1p = elementwise("log1p", np.log1p, lambda g, y, a: (g / (1 + a),), domain=[UNIT], flops=10)


def finite(a: Tensor) -> Tensor:
    """Numbers that are far from the largest, for infinities and others that are close to it; differences of them do not overflow."""
    far = float(np.finfo(a.dtype).max) / 2
    return a if a.dtype.kind == "c" else minimum(maximum(a, -far), far)


def _logaddexp_gradient(scale: float) -> Any:
    # The share of exp(a) in the sum is sigmoid(a - b); a - y cancels, and is not defined for infinities.
    def gradient(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        ahead = scale * (finite(a) - finite(b))
        return g * sigmoid(ahead), g * sigmoid(-ahead)

    return gradient


logaddexp = elementwise("logaddexp", np.logaddexp, _logaddexp_gradient(1.0), flops=20)
logaddexp2 = elementwise("logaddexp2", np.logaddexp2, _logaddexp_gradient(LN2), flops=20)

# ---- trigonometric and hyperbolic functions

sin = elementwise("sin", np.sin, lambda g, y, a: (g * cos(a),), flops=10)
cos: Op = elementwise("cos", np.cos, lambda g, y, a: (-g * sin(a),), flops=10)
tan = elementwise("tan", np.tan, lambda g, y, a: (g * (1 + square(y)),), domain=[(-1, 1)], flops=10)


def _one_minus_square(a: Any, out: Any = None, scratch: Any = None) -> Any:
    less = np.subtract(1, a, out=None if scratch is None else scratch[0])
    return np.multiply(less, np.add(a, 1, out=out), out=out)


one_minus_square = Op(
    "one_minus_square",  # (1 - a) (1 + a), which does not cancel where a is close to 1
    Kernel(_one_minus_square, inplace="first", scratch=lambda a: (a,)),
    lambda a: a,
    lambda g, y, a: (g * (-2 * a),),
    samples=(Sample((Draw(),)), Sample((Draw(()),))),
    flops=lambda spec, a: 3.0 * spec.size,
)
arcsin = elementwise("arcsin", np.arcsin, lambda g, y, a: (g / sqrt(one_minus_square(a)),), domain=[UNIT], flops=10)
arccos = elementwise("arccos", np.arccos, lambda g, y, a: (-g / sqrt(one_minus_square(a)),), domain=[UNIT], flops=10)
arctan = elementwise("arctan", np.arctan, lambda g, y, a: (g / (1 + square(a)),), flops=10)


def _arctan2_gradient(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    # The squares of a and b may overflow or underflow where their length does not.
    length = hypot(a, b)
    length = where(length == 0, 1, length)
    a, b = (where(np.isinf(length), 0, x) for x in (a, b))
    return g * (b / length / length), -g * (a / length / length)


arctan2 = elementwise(
    "arctan2",
    np.arctan2,
    _arctan2_gradient,
    domain=[POSITIVE, POSITIVE],
    flops=10,
)
sinh = elementwise("sinh", np.sinh, lambda g, y, a: (g * cosh(a),), flops=10)
cosh: Op = elementwise("cosh", np.cosh, lambda g, y, a: (g * sinh(a),), flops=10)
tanh = elementwise("tanh", np.tanh, lambda g, y, a: (g * (1 - square(y)),), flops=10)
arcsinh = elementwise("arcsinh", np.arcsinh, lambda g, y, a: (g / (sqrt(1 + square(a)) if a.dtype.kind == "c" else hypot(a, 1)),), flops=10)
arccosh = elementwise("arccosh", np.arccosh, lambda g, y, a: (g / sqrt(a - 1) / sqrt(a + 1),), domain=[ABOVE_ONE], flops=10)
arctanh = elementwise("arctanh", np.arctanh, lambda g, y, a: (g / one_minus_square(a),), domain=[UNIT], flops=10)
deg2rad: Op = elementwise("deg2rad", np.deg2rad, lambda g, y, a: (deg2rad(g),))
rad2deg: Op = elementwise("rad2deg", np.rad2deg, lambda g, y, a: (rad2deg(g),))

# ---- rounding and choice

sign: Op = elementwise("sign", np.sign, _sign_gradient, domain=[POSITIVE])
rint = elementwise("rint", np.rint, ZERO, domain=[(0.1, 0.4)])
floor = elementwise("floor", np.floor, ZERO, domain=[(0.1, 0.9)])
ceil = elementwise("ceil", np.ceil, ZERO, domain=[(0.1, 0.9)])
trunc: Op = elementwise("trunc", np.trunc, ZERO, domain=[(0.1, 0.9)])
heaviside = elementwise("heaviside", np.heaviside, lambda g, y, a, b: (None, g * (a == 0)), domain=[POSITIVE, (-2, 2)])
copysign = elementwise(
    "copysign",
    np.copysign,
    lambda g, y, a, b: (g * where(np.signbit(a) == np.signbit(b), 1, -1).astype(g.dtype), None),
    domain=[POSITIVE, POSITIVE],
)


def _maximum_mask_kernel(a: Any, b: Any, out: Any = None, scratch: Any = None) -> Any:
    tie = np.equal(a, b, out=None if scratch is None else scratch[0])
    if out is None:
        out = np.empty(np.shape(tie), np.result_type(a, b))
    np.greater(a, b, out=out, casting="unsafe")
    np.copyto(out, 0.5, where=tie)
    return out


maximum_mask = Op(
    "maximum_mask",  # d max(a, b) / da: 1 where a is greater, one half where both are equal, else 0
    Kernel(_maximum_mask_kernel, scratch=lambda a, b: (Spec(broadcast_shapes("maximum_mask", a, b), np.dtype(bool)),)),
    lambda a, b: Spec(broadcast_shapes("maximum_mask", a, b), np.result_type(a.dtype, b.dtype)),
    ZERO,
    samples=(Sample((Draw(), Draw((4,)))), Sample((Draw(), Draw(())))),
)
maximum: Op = elementwise("maximum", np.maximum, lambda g, y, a, b: (g * maximum_mask(a, b), g * maximum_mask(b, a)))
minimum: Op = elementwise("minimum", np.minimum, lambda g, y, a, b: (g * maximum_mask(b, a), g * maximum_mask(a, b)))


def _gradient_without_nan(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    # Where one is NaN, the other is the result and has the whole derivative.
    tie = where(a == b, g.dtype.type(0.5), g.dtype.type(1))
    return g * ((a == y) * tie), g * ((b == y) * tie)


fmax = elementwise("fmax", np.fmax, _gradient_without_nan)
fmin = elementwise("fmin", np.fmin, _gradient_without_nan)

# ---- comparison, logic, bits: piecewise constant

FLAT: dict[str, np.ufunc] = {
    u.__name__: u
    for u in (
        np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
        np.logical_and, np.logical_or, np.logical_xor, np.logical_not, np.isnan, np.isinf, np.isfinite, np.signbit,
    )
}  # fmt: skip
BITS: dict[str, np.ufunc] = {
    u.__name__: u for u in (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift, np.gcd, np.lcm)
}
for _name, _ufunc in FLAT.items():
    globals()[_name] = elementwise(_name, _ufunc, ZERO)
for _name, _ufunc in BITS.items():
    globals()[_name] = elementwise(_name, _ufunc, ZERO, dtype="i8", domain=[(1, 5), (1, 5)])

# ---- not ufuncs


def _where(condition: Any, a: Any, b: Any, out: Any = None) -> Any:
    if out is None:
        return np.where(condition, a, b)
    np.copyto(out, b)
    np.copyto(out, a, where=condition)
    return out


def _where_spec(condition: Spec, a: Spec, b: Spec) -> Spec:
    return Spec(broadcast_shapes("where", condition, a, b), np.result_type(a.dtype, b.dtype))


_where_op = Op(
    "where",
    _where,
    _where_spec,
    lambda g, y, c, a, b: (None, where(c, g, 0), where(c, 0, g)),
    samples=(Sample((Draw((3, 4), 0, 1, "?"), Draw(), Draw((4,)))), Sample((Draw((3, 1), 0, 1, "?"), Draw((4,)), Draw(())))),
)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """`a` where the condition holds, else `b`; Python numbers take the dtype of the other side."""
    if type(a) in (int, float, complex) and type(b) in (int, float, complex):
        a = np.asarray(a, np.result_type(type(a), type(b)))
    if type(a) in (int, float, complex) and type(b) not in (int, float, complex):
        a = np.asarray(a, np.result_type(spec_of(b).dtype, a))
    if type(b) in (int, float, complex):
        b = np.asarray(b, np.result_type(spec_of(a).dtype, b))
    if not isinstance(condition, Tensor):
        condition = np.asarray(refuse_masked(condition), bool)
    elif condition.dtype.kind != "b":
        condition = condition != 0
    return _where_op(condition, a, b)


def _part_of(name: str, part: Any, gradient: Gradient) -> Op:
    def infer(a: Spec) -> Spec:
        return Spec(a.shape, np.empty(0, a.dtype).real.dtype)

    return Op(name, lambda a, out=None: written(part(a).copy() if out is None else part(a), out), infer, gradient, (Sample((Draw(),)),))


_conjugate = elementwise("conjugate", np.conjugate, lambda g, y, a: (conjugate(g),))
_real = _part_of("real", np.real, lambda g, y, a: (g,))
_imag = _part_of("imag", np.imag, lambda g, y, a: (multiply(g, -1j),))


def conjugate(a: Tensor) -> Tensor:
    """Complex numbers with the sign of their imaginary parts changed; other tensors as they are."""
    return _conjugate(a) if a.dtype.kind == "c" else a


def real(a: Tensor) -> Tensor:
    """Real parts."""
    return _real(a) if a.dtype.kind == "c" else a


def imag(a: Tensor) -> Tensor:
    """Imaginary parts."""
    return _imag(a) if a.dtype.kind == "c" else as_tensor(np.zeros(a.shape, a.dtype))


def _cast(a: Any, out: Any = None, *, dtype: str) -> Any:
    if out is None:
        return a.astype(dtype)
    np.copyto(out, a, casting="unsafe")
    return out


_cast_op = Op(
    "cast",
    _cast,
    lambda a, *, dtype: Spec(a.shape, np.dtype(dtype)),
    lambda g, y, a, *, dtype: (cast(g if a.dtype.kind == "c" else real(g), a.dtype),),
    samples=(Sample((Draw(),), {"dtype": "<f8"}),),
)


def cast(a: Tensor, dtype: Any) -> Tensor:
    """The same numbers in another dtype."""
    target = held(dtype)
    return a if a.dtype == target else _cast_op(a, dtype=target.str)


def _relu(a: Any, out: Any = None) -> Any:
    return np.maximum(a, a.dtype.type(0), out=out)


relu = Op(
    "relu",
    Kernel(_relu, inplace="first"),
    lambda a: a,
    lambda g, y, a: (relu_gradient(g, y),),
    samples=(Sample((Draw(low=0.5),)), Sample((Draw(high=-0.5),))),
)
relu_gradient: Op = Op(
    "relu_gradient",
    Kernel(
        lambda g, y, out=None, scratch=None: np.multiply(g, np.greater(y, 0, out=None if scratch is None else scratch[0]), out=out),
        inplace="first",
        scratch=lambda g, y: (Spec(y.shape, np.dtype(bool)),),
    ),
    lambda g, y: Spec(broadcast_shapes("relu_gradient", g, y), g.dtype),
    lambda h, z, g, y: (relu_gradient(h, y), None),
    samples=(Sample((Draw(), Draw(low=0.5))),),
)


def _sigmoid(a: Any, out: Any = None) -> Any:
    # For large negative a, exp(-a) overflows to infinity and the result is 0, as it should be. The form with tanh does not overflow, but
    # it cancels there: the smallest results would have no correct digit.
    with np.errstate(over="ignore"):
        result = np.negative(a, out=out)
        np.exp(result, out=result)
        result += result.dtype.type(1)
        return np.reciprocal(result, out=result)


def _float_spec(a: Spec) -> Spec:
    return Spec(a.shape, np.result_type(a.dtype, np.float16) if a.dtype.kind in "fc" else np.dtype(float))


sigmoid = Op(
    "sigmoid",
    Kernel(lambda a, out=None: _sigmoid(a, out) if a.dtype.kind in "fc" and a.ndim else _sigmoid_slow(a, out), inplace="first"),
    _float_spec,
    lambda g, y, a: (g * (y * (1 - y)),),
    samples=(Sample((Draw(low=-4, high=4),)), Sample((Draw(()),))),
    flops=lambda spec, a: 13.0 * spec.size,
)


def _sigmoid_slow(a: Any, out: Any = None) -> Any:
    result = np.asarray(_sigmoid(np.array(a, dtype=a.dtype if a.dtype.kind in "fc" else float, ndmin=1)).reshape(np.shape(a)))
    return written(result, out)


softplus = Op(
    "softplus",
    Kernel(lambda a, out=None: np.logaddexp(a, a.dtype.type(0) if a.dtype.kind in "fc" else np.float64(0), out=out), inplace="first"),
    _float_spec,
    lambda g, y, a: (g * sigmoid(a),),
    samples=(Sample((Draw(low=-4, high=4),)),),
    flops=lambda spec, a: 20.0 * spec.size,
)

stop_gradient = Op(
    "stop_gradient",
    Kernel(lambda a: a.view() if isinstance(a, np.ndarray) else a, view=True),
    lambda a: a,
    ZERO,
    samples=(Sample((Draw(),)),),
)
