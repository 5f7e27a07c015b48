"""`grad`, `value_and_grad`, `compile` and `gradcheck`: nests, arguments, caching by signature, nesting in one another, errors."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import (
    ArgumentError,
    GradientError,
    NoGradientError,
    NotConnectedError,
    NotScalarError,
    UnknownNameError,
    UnsupportedError,
)
from dagtrain.graph import Tensor
from dagtrain.ops import OPS, Op

RNG = np.random.default_rng(0)


def loss(params: Any, x: Any, y: Any) -> Any:
    h = np.tanh(x @ params["w1"] + params["b1"])
    return np.mean((h @ params["w2"] - y) ** 2)


@pytest.fixture
def problem() -> Any:
    params = {"w1": RNG.normal(size=(3, 4)), "b1": np.zeros(4), "w2": RNG.normal(size=(4, 2))}
    return params, RNG.normal(size=(5, 3)), RNG.normal(size=(5, 2))


def by_hand(params: Any, x: Any, y: Any) -> Any:
    h = np.tanh(x @ params["w1"] + params["b1"])
    error = 2 * (h @ params["w2"] - y) / y.size
    back = error @ params["w2"].T * (1 - h**2)
    return {"w1": x.T @ back, "b1": back.sum(axis=0), "w2": h.T @ error}


# ---- value and gradient of functions


def test_gradient_is_nested_as_the_argument_is_and_right(problem: Any) -> None:
    value, grads = dt.value_and_grad(loss)(*problem)
    assert value == pytest.approx(loss(*problem), rel=1e-12)
    assert list(grads) == list(problem[0])
    for name, expected in by_hand(*problem).items():
        np.testing.assert_allclose(grads[name], expected, rtol=1e-10, atol=1e-14)


def test_compile_of_a_gradient_gives_the_same_bits(problem: Any) -> None:
    value, grads = dt.value_and_grad(loss)(*problem)
    again, compiled = dt.compile(dt.value_and_grad(loss))(*problem)
    assert value == again
    assert all(grads[k].tobytes() == compiled[k].tobytes() for k in grads)


class Layer(NamedTuple):
    w: Any
    b: Any


def test_lists_tuples_and_named_tuples_of_arrays() -> None:
    params = [Layer(np.ones((2, 2)), np.zeros(2)), (np.ones(2), {"c": np.ones(())})]
    grads = dt.grad(lambda p: np.sum((p[0].w @ p[1][0] + p[0].b) * p[1][1]["c"]))(params)
    assert isinstance(grads, list)
    assert isinstance(grads[0], Layer)
    assert isinstance(grads[1], tuple)
    assert grads[0].b.tolist() == [1, 1]
    assert grads[1][1]["c"] == 4


def test_argnums_choose_arguments() -> None:
    def f(a: Any, b: Any, c: Any) -> Any:
        return a * b**2 + c

    assert dt.grad(f, 1)(2.0, 3.0, 1.0) == 12.0
    assert dt.grad(f, (0, 2))(2.0, 3.0, 1.0) == (9.0, 1.0)
    assert dt.grad(f, -1)(2.0, 3.0, 1.0) == 1.0
    assert dt.value_and_grad(f, (1,))(2.0, 3.0, 1.0) == (19.0, (12.0,))
    with pytest.raises(ArgumentError, match="argnums=3"):
        dt.grad(f, 3)(2.0, 3.0, 1.0)


def test_results_that_are_one_number_are_plain_numbers() -> None:
    assert type(dt.grad(lambda x: x**3)(2.0)) is float
    assert type(dt.compile(lambda x: x > 1)(2.0)) is bool
    assert type(dt.compile(lambda x: x + 1)(2)) is int
    assert isinstance(dt.compile(lambda x: x + 1)(np.float32(2)), np.float32)


def test_equal_arguments_have_gradients_of_their_own() -> None:
    value = np.array([1.0, 2.0])
    a, b = dt.grad(lambda a, b: np.sum(a * a * b), (0, 1))(value, value)
    assert a.tolist() == [2, 8]
    assert b.tolist() == [1, 4]


def test_one_tensor_as_two_arguments_has_two_gradients() -> None:
    x = dt.array([1.0, 2.0], name="x")
    a, b = dt.grad(lambda a, b: np.sum(a * a * b), (0, 1))(x, x)
    assert a.compute().tolist() == [2, 8]
    assert b.compute().tolist() == [1, 4]


def test_integer_data_with_float_parameters() -> None:
    g = dt.grad(lambda w, labels: np.sum(np.take(w, labels) ** 2))(np.arange(4.0), np.array([1, 1, 3]))
    assert g.tolist() == [0, 4, 0, 6]


# ---- nesting


def test_third_derivative() -> None:
    assert dt.grad(dt.grad(dt.grad(lambda x: x**4)))(2.0) == 48.0


def test_gradient_of_a_function_of_a_gradient() -> None:
    def penalty(w: Any, x: Any) -> Any:
        return np.sum(dt.grad(lambda v: np.sum(np.sin(w * v)))(x) ** 2)  # sum of (w cos(w x))²

    w, x = np.array([0.3, 1.2]), np.array([0.5, -0.7])
    expected = 2 * w * np.cos(w * x) ** 2 - 2 * w**2 * np.cos(w * x) * np.sin(w * x) * x
    np.testing.assert_allclose(dt.grad(penalty)(w, x), expected, rtol=1e-12)


def test_hessian_times_vector_within_a_compiled_function() -> None:
    matrix = RNG.normal(size=(3, 3))

    @dt.compile
    def product(x: Any, v: Any) -> Any:
        return dt.grad(lambda z: np.sum(dt.grad(lambda u: np.sum(u @ matrix * u) / 2)(z) * v))(x)

    v = RNG.normal(size=3)
    np.testing.assert_allclose(product(np.zeros(3), v), (matrix + matrix.T) / 2 @ v, rtol=1e-12)


def test_compiled_functions_build_graph_when_called_on_tensors(problem: Any) -> None:
    compiled = dt.compile(lambda x: np.tanh(x) ** 2)
    built = compiled(dt.array([0.5], name="x"))
    assert isinstance(built, Tensor)
    assert built.compute() == compiled(np.array([0.5]))
    graph = dt.trace(dt.value_and_grad(loss), *problem)
    assert list(graph.inputs) == ["params.w1", "params.b1", "params.w2", "x", "y"]
    assert len(graph.outputs) == 4


def test_constants_and_tensors_may_be_mixed() -> None:
    x = dt.array([1.0, 2.0])
    g = dt.grad(lambda a, b: np.sum(a * b), (0, 1))(x, np.array([3.0, 4.0]))
    assert [t.compute().tolist() for t in g] == [[3, 4], [1, 2]]


def test_gradient_of_a_tensor_by_tensors() -> None:
    a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    c = a + b
    e = c * (b + 1)
    assert [g.compute() for g in dt.grad(e, [a, b])] == [2.0, 5.0]
    assert dt.grad(e, c).compute() == 2.0  # an inner node
    assert dt.grad(dt.grad(e, a), b).compute() == 1.0
    with pytest.raises(ArgumentError, match="give the tensor or the list of tensors"):
        dt.grad(e, 0)


def test_the_derivative_of_a_stable_form_is_stable() -> None:
    value, g = dt.value_and_grad(lambda z: np.log(np.sum(np.exp(z))))(np.array([1000.0, 0.0]))
    assert value == 1000.0
    assert g.tolist() == [1, 0]


# ---- signatures


def test_one_trace_for_each_signature() -> None:
    traced = []

    @dt.compile
    def f(x: Any, y: Any) -> Any:
        traced.append((x.shape, x.dtype))
        return x * y

    f(np.zeros(2), 1.0)
    f(np.ones(2), 5.0)
    assert len(traced) == 1
    f(np.zeros(3), 1.0)
    f(np.zeros(2, "f4"), 1.0)
    assert len(traced) == 3
    f(np.zeros(2), 2.0)
    assert len(traced) == 3
    assert "3 signatures" in repr(f)


def test_the_nesting_is_part_of_the_signature() -> None:
    f = dt.compile(lambda p: sum(p.values()) if isinstance(p, dict) else p[0] - p[1])
    assert f({"a": 3.0, "b": 1.0}) == 4.0
    assert f([3.0, 1.0]) == 2.0
    assert f((3.0, 1.0)) == 2.0


def test_the_plan_and_the_graph_of_the_latest_signature() -> None:
    f = dt.compile(lambda x: x * 2 + 1)
    with pytest.raises(ArgumentError, match="no plan yet"):
        _ = f.plan
    f(np.zeros(3))
    f(np.zeros((4, 5)))
    assert f.plan.inputs["x"].shape == (4, 5)
    f(np.zeros(3))
    assert f.graph.inputs["x"].shape == (3,)


def test_only_the_latest_signatures_are_kept() -> None:
    traced = []
    f = dt.compile(lambda x: traced.append(x.shape) or x + 1)
    for n in range(70):
        f(np.zeros(n))
    assert "64 signatures" in repr(f)
    f(np.zeros(69))
    assert len(traced) == 70
    f(np.zeros(0))
    assert len(traced) == 71


def test_threads_may_call_one_compiled_function() -> None:
    f = dt.value_and_grad(lambda x: np.sum(np.sin(x)))
    wrong = []

    def work(n: int) -> None:
        for _ in range(20):
            value, g = f(np.full(n, 0.5))
            if len(g) != n or abs(value - n * np.sin(0.5)) > 1e-9:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_compiled_functions_keep_name_and_documentation() -> None:
    compiled = dt.compile(loss)
    assert compiled.__name__ == "loss"
    assert compiled.__wrapped__ is loss
    assert dt.grad(loss).__name__ == "grad(loss)"


# ---- errors


def test_a_cost_that_is_not_one_number() -> None:
    with pytest.raises(NotScalarError, match=r"got shape \(2,\).*np\.mean or np\.sum"):
        dt.grad(lambda x: x * 2)(np.zeros(2))
    with pytest.raises(NotScalarError, match="got a float"):
        dt.grad(lambda x: 3.0)(np.zeros(2))
    with pytest.raises(NotScalarError, match="must be a float"):
        dt.grad(np.sum)(np.array([1, 2]))


def test_a_parameter_that_the_cost_does_not_depend_on() -> None:
    with pytest.raises(NotConnectedError, match=r"'p\.unused'"):
        dt.grad(lambda p: np.sum(p["w"]))({"w": np.ones(2), "unused": np.ones(3)})
    g = dt.grad(lambda p: np.sum(p["w"]), unconnected="zero")({"w": np.ones(2), "unused": np.ones(3)})
    assert g["unused"].tolist() == [0, 0, 0]
    assert dt.value_and_grad(lambda x: 3.0, unconnected="zero")(np.ones(2))[1].tolist() == [0, 0]


def test_an_op_without_gradient_on_the_path() -> None:
    ruleless = Op("ruleless", np.sin, lambda spec: spec)
    try:
        with pytest.raises(NoGradientError, match=r"'ruleless'.*test_functional\.py.*stop_gradient"):
            dt.grad(lambda x: np.sum(ruleless(x)))(np.ones(2))
        assert dt.grad(lambda x: np.sum(dt.stop_gradient(ruleless(x)) * x))(np.zeros(2)).tolist() == [0, 0]
    finally:
        del OPS["ruleless"]


def test_things_that_are_no_functions() -> None:
    for make in (dt.compile, dt.value_and_grad, dt.grad):
        with pytest.raises(ArgumentError, match="takes a function, not a int"):
            make(3)


def test_a_result_that_is_no_tensor() -> None:
    with pytest.raises(ArgumentError, match="returned a str at 'b'"):
        dt.compile(lambda x: {"a": x, "b": "text"})(1.0)


def test_arguments_that_are_no_numbers() -> None:
    with pytest.raises(TypeError, match="'x'"):
        dt.compile(lambda x: x)(np.array(["text"]))
    with pytest.raises(ArgumentError, match="takes 1 positional arguments, got 2"):
        dt.compile(lambda x: x)(1.0, 2.0)


def test_unknown_words_for_unconnected_targets() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'zero'"):
        dt.grad(lambda p: np.sum(p["w"]), unconnected="zeros")({"w": np.ones(2), "unused": np.ones(3)})


# ---- gradcheck


def test_gradcheck_passes_for_nests_and_chosen_arguments(problem: Any) -> None:
    assert dt.gradcheck(loss, *problem)
    assert dt.gradcheck(loss, *problem, argnums=(0, 1), order=1)
    assert dt.gradcheck(lambda w, labels: np.sum(np.take(w, labels) ** 2), np.arange(4.0), np.array([1, 3]))


def test_gradcheck_finds_an_error_of_a_thousandth_in_either_order() -> None:
    def wrong(x: Any) -> Any:
        return np.sum(np.sin(x) + 0.001 * dt.stop_gradient(np.sin(x)))

    with pytest.raises(GradientError, match="order 1 along random direction 0"):
        dt.gradcheck(wrong, np.array([0.3, 0.7]))

    def wrong_second(x: Any) -> Any:  # x³ whose derivative 3x² is right and whose second derivative is 0.1 % off
        return np.sum(x * x * x + 0.001 * (x - dt.stop_gradient(x)) * dt.stop_gradient(x * x) - 0.001 * (x - dt.stop_gradient(x)) * x * x)

    assert dt.gradcheck(wrong_second, np.array([0.3, 0.7]), order=1)
    with pytest.raises(GradientError, match="order 2"):
        dt.gradcheck(wrong_second, np.array([0.3, 0.7]))


def test_gradcheck_in_float64_whatever_the_arrays_are() -> None:
    assert dt.gradcheck(lambda x: np.sum(np.tanh(x)), np.ones(3, "f4"))


def test_gradcheck_refuses_what_it_cannot_check() -> None:
    with pytest.raises(ArgumentError, match="order 1 or 2"):
        dt.gradcheck(lambda x: x, 1.0, order=3)
    with pytest.raises(UnsupportedError, match="needs arrays"):
        dt.gradcheck(np.sum, dt.array([1.0]))


def test_arguments_by_name():
    f = dt.compile(lambda x, y=2.0, z=3.0: x + 10 * y + 100 * z)
    assert f(1.0, y=5.0) == f(y=5.0, x=1.0) == 351.0
    assert f(z=7.0, x=1.0, y=2.0) == 721.0
    assert dt.grad(lambda x, y: x * y)(2.0, y=5.0) == 5.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f(1.0, w=2.0), "unexpected keyword argument 'w'"),
        (lambda f: f(1.0, x=2.0), "multiple values for argument 'x'"),
        (lambda f: f(1.0, z=2.0), "z cannot be given by name"),
        (lambda f: f(1.0, scale=2.0), "scale cannot be given by name"),
    ],
)
def test_wrong_arguments_by_name(call, message):
    def f(x, y=0.0, z=0.0, *, scale=1.0):
        return x * scale + y + z

    with pytest.raises(ArgumentError, match=f"f: .*{message}"):
        call(dt.compile(f))
