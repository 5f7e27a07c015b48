"""Reverse mode: broadcasting undone, errors, second order, ties and kinks as the docs say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, NoGradientError, NotConnectedError, NotScalarError
from dagtrain.graph import Graph, Tensor
from dagtrain.ops import OPS, Op
from dagtrain.ops.elementwise import relu, stop_gradient
from dagtrain.ops.reduce import norm
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient


def value(*tensors: Tensor) -> Any:
    results = interpret(Graph.of(*tensors))
    return results[0] if len(results) == 1 else results


def derivative(function: Any, at: Any) -> Any:
    x = dt.array(np.asarray(at, float))
    return value(gradient(np.sum(function(x)), [x])[0])


def test_textbook_example() -> None:
    a, b = dt.array(2.0), dt.array(1.0)
    e = (a + b) * (b + 1)
    assert value(e, *gradient(e, [a, b])) == (6, 2, 5)


def test_inner_node_is_a_target() -> None:
    a, b = dt.array(2.0), dt.array(1.0)
    c = a + b
    assert value(*gradient(c * (b + 1), [c, b])) == (2, 5)


@pytest.mark.parametrize(("left", "right"), [((3, 4), (4,)), ((3, 4), ()), ((3, 1), (1, 4)), ((1,), (2, 3, 1)), ((2, 3), (2, 3))])
def test_broadcasting_is_undone(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = dt.array(np.ones(left)), dt.array(np.full(right, 2.0))
    by_a, by_b = gradient(np.sum(a * b), [a, b])
    assert (by_a.spec, by_b.spec) == (a.spec, b.spec)
    full = np.ones(np.broadcast_shapes(left, right))
    got_a, got_b = interpret(Graph.of(by_a, by_b))
    np.testing.assert_array_equal(got_a, np.full(left, 2.0 * full.size / np.prod(left)))
    np.testing.assert_array_equal(got_b, np.full(right, full.size / np.prod(right)))


def test_gradient_has_the_dtype_of_its_target() -> None:
    a, b = dt.array(np.ones(3, "f4")), dt.array(np.ones(3))
    by_a, by_b = gradient(np.sum(a * b), [a, b])
    assert (by_a.dtype, by_b.dtype) == (np.float32, np.float64)


def test_third_derivative() -> None:
    x = dt.array(2.0)
    y = x**4
    for _ in range(3):
        (y,) = gradient(y, [x])
    assert value(y) == 48


def test_cotangent_of_a_tensor() -> None:
    x = dt.array([1.0, 2.0])
    np.testing.assert_array_equal(value(gradient(x**2, [x], [1.0, 10.0])[0]), [2, 40])


def test_gradient_nodes_tell_phase_scope_and_line() -> None:
    x = dt.array(2.0)
    with dt.scope("layer"):
        y = np.sin(x)
    (g,) = gradient(y * 2, [x])
    cosines = [n for n in Graph.of(g).nodes if n.op == "cos"]
    assert cosines[0].origin.phase == "gradient"
    assert cosines[0].origin.scope == ("layer",)
    assert (cosines[0].origin.file, cosines[0].origin.line) == (y.origin.file, y.origin.line)


def test_only_the_path_to_the_targets_is_walked() -> None:
    a, b = dt.array(1.0), dt.array(2.0)
    (g,) = gradient(a * np.argmax(np.stack([b, b])) + np.sin(b), [a])
    assert "cos" not in [n.op for n in Graph.of(g).nodes]


# ---- errors


def test_cost_must_be_one_number() -> None:
    x = dt.array([1.0, 2.0])
    with pytest.raises(NotScalarError, match=r"one number, got shape \(2,\).*test_gradient.py:\d+"):
        gradient(np.sin(x), [x])


def test_cost_must_be_a_float() -> None:
    x = dt.array(1.0)
    with pytest.raises(NotScalarError, match="int64"):
        gradient(np.argmax(np.stack([x, x])), [x])


def test_unconnected_target_is_an_error_or_zero() -> None:
    x, other = dt.array(1.0), dt.array([2.0, 3.0], name="other")
    with pytest.raises(NotConnectedError, match=r"not connected to the target 'other' \(float64\[2\], .*test_gradient.py:\d+"):
        gradient(np.sin(x), [other])
    assert value(gradient(np.sin(x), [other], unconnected="zero")[0]).tolist() == [0, 0]


def test_integer_target_is_not_connected() -> None:
    n = dt.array(2, name="n")
    with pytest.raises(NotConnectedError, match=r"'n'.*dtype is not a float"):
        gradient(n * 1.5, [n])


def test_stop_gradient_gives_zero() -> None:
    x = dt.array(3.0)
    assert value(gradient(x * stop_gradient(x), [x])[0]) == 3
    assert value(gradient(stop_gradient(x), [x])[0]) == 0


def test_zero_by_way_of_integers_is_zero_and_no_error() -> None:
    x = dt.array([1.0, 5.0])
    np.testing.assert_array_equal(value(gradient(np.argmax(x) * 2.0, [x])[0]), [0, 0])
    np.testing.assert_array_equal(value(gradient(np.sum(x.astype(int).astype(float)), [x])[0]), [0, 0])


def test_result_of_an_op_with_zero_derivative_is_a_target() -> None:
    x = dt.array(3.0)
    s = np.sign(x)
    assert value(*gradient(s * x, [x, s])) == (1, 3)


def test_a_path_through_complex_numbers_between_real_ones() -> None:
    x = dt.array(2.0)
    (g,) = gradient(abs((x * 1j) + 1), [x])
    assert g.dtype == np.float64
    np.testing.assert_allclose(g.compute(), 2 / np.sqrt(5))


def test_missing_rule_is_an_error_that_names_op_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, "opaque", None)
    del OPS["opaque"]
    opaque = Op("opaque", np.positive, lambda a: a)
    x = dt.array(2.0)
    with pytest.raises(NoGradientError, match=r"'opaque'.*no gradient rule.*stop_gradient"):
        gradient(opaque(x) * 2, [x])
    assert value(gradient(opaque(stop_gradient(x)) * x, [x])[0]) == 2


def test_target_must_be_a_tensor() -> None:
    x = dt.array(1.0)
    with pytest.raises(ArgumentError, match="not by a float"):
        gradient(x * 2, [1.0])  # type: ignore[list-item]  # the error is the point


# ---- ties and kinks


@pytest.mark.parametrize(
    ("function", "at", "expected"),
    [
        (np.absolute, [-2.0, 0.0, 3.0], [-1, 0, 1]),
        (np.sign, [-2.0, 0.0, 3.0], [0, 0, 0]),
        (relu, [-2.0, 0.0, 3.0], [0, 0, 1]),
        (lambda x: np.maximum(x, 0), [-2.0, 0.0, 3.0], [0, 0.5, 1]),
        (lambda x: np.maximum(0, x), [-2.0, 0.0, 3.0], [0, 0.5, 1]),
        (lambda x: np.minimum(x, 0), [-2.0, 0.0, 3.0], [1, 0.5, 0]),
        (lambda x: np.fmax(x, 0), [-2.0, 0.0, 3.0], [0, 0.5, 1]),
        (lambda x: np.fmin(x, 0), [-2.0, 0.0, 3.0], [1, 0.5, 0]),
        (lambda x: np.maximum(x, x), [1.0], [1]),
        (lambda x: np.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0], [0, 0.5, 1, 0.5, 0]),
        (np.max, [1.0, 3.0, 3.0], [0, 0.5, 0.5]),
        (np.min, [1.0, 1.0, 3.0], [0.5, 0.5, 0]),
        (norm, [0.0, 0.0], [0, 0]),
        (norm, [3.0, 4.0], [0.6, 0.8]),
        (np.prod, [0.0, 2.0, 3.0], [6, 0, 0]),
        (np.prod, [0.0, 0.0, 3.0], [0, 0, 0]),
        (np.cumprod, [2.0, 0.0, 3.0], [1, 8, 0]),
        (lambda x: x**0, [0.0, 2.0], [0, 0]),
        (lambda x: x**1, [0.0, 2.0], [1, 1]),
        (lambda x: x**2, [0.0, 2.0], [0, 4]),
        (np.rint, [0.2, 1.7], [0, 0]),
    ],
)
def test_kinks_are_as_documented(function: Any, at: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(derivative(function, at), expected, rtol=1e-15)


def test_power_of_zero_by_its_exponent() -> None:
    a, b = dt.array([0.0, 2.0]), dt.array([2.0, 0.0])
    by_a, by_b = value(*gradient(np.sum(a**b), [a, b]))
    np.testing.assert_allclose(by_a, [0, 0])
    np.testing.assert_allclose(by_b, [0, np.log(2)])


def test_where_keeps_nan_of_the_other_branch_out() -> None:
    x = dt.array([-1.0, 4.0])
    safe = np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0)
    np.testing.assert_allclose(value(gradient(np.sum(safe), [x])[0]), [0, 0.25])
