"""The transforms against loops and differences: under each other, on nests, on tensors, in traces; and against JAX and autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, GraphError, NotScalarError, ShapeError
from dagtrain.graph import Tensor
from dagtrain.trace import map_leaves

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=3), RNG.normal(size=(2, 3))
XS = RNG.normal(size=(4, 3))


def layer(w: Any, x: Any) -> Any:
    return np.tanh(w @ x)


def cost(x: Any) -> Any:
    return np.sum(np.sin(x) * x[::-1]) + np.log(np.sum(np.exp(x)))


def recurrent(x: Any) -> Any:
    return dt.scan(lambda c, u: (np.tanh(c * x + u), np.sum(c) * u), x * 0, np.stack([x, 2 * x]))[1]


def close(a: Any, b: Any, rtol: float = 1e-10) -> None:
    map_leaves(lambda p, q: np.testing.assert_allclose(p, q, rtol=rtol, atol=1e-12), a, b)


def by_columns(f: Callable[..., Any], x: Any) -> Any:
    """The Jacobian by central differences, refined once."""
    columns = []
    for i in range(x.size):
        e = np.zeros(x.size)
        e[i] = 1e-3
        e = e.reshape(x.shape)
        near, far = ((np.asarray(f(x + s * e)) - np.asarray(f(x - s * e))) / (2e-3 * s) for s in (1, 2))
        columns.append((4 * near - far) / 3)
    return np.stack(columns, -1).reshape(*np.shape(columns[0]), *x.shape)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.outer(x, np.sin(x)),
        lambda x: np.sum(x**2),
        lambda x: layer(W, x),
        lambda x: dt.softmax(x)[1:] * np.max(x),
        lambda x: np.concatenate([np.cumprod(x), np.sort(x)])[[0, 4, 4]],
        recurrent,
    ],
)
def test_jacobians_by_rows_and_by_columns_are_those_of_differences(f: Any) -> None:
    plain = dt.compile(f)
    expected = by_columns(plain, X)
    close(dt.jacobian(f)(X), expected, 1e-7)
    # The other way: more results than arguments, or fewer.
    wide = dt.jacobian(lambda x: np.stack([f(x)] * 7))(X)
    close(wide, np.stack([expected] * 7), 1e-7)
    v, u = RNG.normal(size=3), RNG.normal(size=np.shape(plain(X)))
    result, tangent = dt.jvp(f, (X,), (v,))
    close((result, tangent), (plain(X), expected @ v), 1e-7)
    result, pullback = dt.vjp(f, X)
    close((result, pullback(u)), (plain(X), (np.tensordot(u, expected, np.ndim(u)),)), 1e-7)


def test_hessians() -> None:
    expected = by_columns(dt.grad(cost), X)
    close(dt.hessian(cost)(X), expected, 1e-7)
    v = RNG.normal(size=3)
    close(dt.hvp(cost)(X, v), expected @ v, 1e-7)
    close(dt.jvp(dt.grad(cost), (X,), (v,))[1], expected @ v, 1e-7)
    close(dt.jacobian(dt.jacobian(cost))(X), expected, 1e-7)


def test_nests_and_several_arguments() -> None:
    def f(p: Any, x: Any) -> Any:
        return {"y": p["w"] @ x + p["b"], "s": np.sum(x) * p["b"][0]}

    p = {"w": W, "b": np.array([0.5, -1.0])}
    by_p, by_x = dt.jacobian(f, (0, 1))(p, X)["y"]
    close(by_p, {"w": np.einsum("ij,k->ijk", np.eye(2), X), "b": np.eye(2)})
    close(by_x, W)
    close(dt.jacobian(f)(p, X)["s"], {"w": np.zeros((2, 3)), "b": np.array([X.sum(), 0])})
    close(dt.jvp(f, (p, X), (p, 0 * X))[1], {"y": f(p, X)["y"], "s": f(p, X)["s"]})
    (by_p, by_x) = dt.vjp(f, p, X)[1]({"y": np.ones(2), "s": 0.0})
    close(by_p, {"w": np.stack([X, X]), "b": np.ones(2)})
    close(by_x, W.sum(0))
    blocks = dt.hessian(lambda p, x: np.sum((p["w"] @ x) ** 2), (0, 1))(p, X)
    assert blocks[1][0]["w"].shape == (3, 2, 3)
    close(blocks[1][0]["b"], np.zeros((3, 2)))
    close(blocks[1][1], 2 * W.T @ W)
    close(dt.hvp(lambda p, x: np.sum((p["w"] @ x) ** 2), 1)(p, X, X), 2 * W.T @ W @ X)
    close(dt.grad(lambda x, y: x * y, (0, 1, 0))(2.0, 3.0), (3.0, 2.0, 3.0))
    counted = dt.hessian(lambda p: np.sum(p["x"] ** 2 * p["n"]))({"x": X, "n": np.arange(3)})
    close(counted["x"]["x"], np.diag(2.0 * np.arange(3)))
    assert not counted["n"]["x"].any()


def test_results_and_arguments_without_elements_or_rows() -> None:
    assert dt.jacobian(lambda x: x[:0])(X).shape == (0, 3)
    assert dt.jacobian(lambda x: np.concatenate([x, [1.0]]))(np.ones(0)).shape == (1, 0)
    assert dt.vmap(recurrent)(np.ones((0, 3))).shape == (0, 2, 3)
    assert dt.vmap(lambda x, y: x, in_axes=(0, None))(XS, None).shape == (4, 3)
    close(dt.jvp(lambda x: (x * 2, np.argmax(x)), (X,), (X,))[1], (X * 2, 0))
    close(dt.jvp(lambda x: 3.0, (X,), (X,)), (3.0, 0.0))


def test_the_further_result_of_a_function() -> None:
    def f(x: Any) -> Any:
        return np.sum(x**3), {"sum": np.sum(x), "n": 3}

    aux = {"sum": X.sum(), "n": 3}
    close(dt.grad(f, has_aux=True)(X), (3 * X**2, aux))
    close(dt.value_and_grad(f, has_aux=True)(X), ((np.sum(X**3), aux), 3 * X**2))
    close(dt.jacobian(f, has_aux=True)(X), (3 * X**2, aux))
    close(dt.hessian(f, has_aux=True)(X), (np.diag(6 * X), aux))
    close(dt.hvp(f, has_aux=True)(X, X), (6 * X**2, aux))
    close(dt.jvp(f, (X,), (X,), has_aux=True), (np.sum(X**3), 3 * np.sum(X**3), aux))
    result, pullback, further = dt.vjp(f, X, has_aux=True)
    close((result, pullback(2.0), further), (np.sum(X**3), (6 * X**2,), aux))
    with pytest.raises(ArgumentError, match=r"grad.*has_aux=True.*pair"):
        dt.grad(np.sum, has_aux=True)(X)


# ---- many rows


def rows(f: Any, *arguments: Any) -> Any:
    return map_leaves(lambda *parts: np.stack(parts), *(f(*row) for row in zip(*arguments, strict=True)))


@pytest.mark.parametrize(
    "f",
    [
        cost,
        lambda x: layer(W, x),
        recurrent,
        lambda x: {"max": np.max(x), "order": np.argsort(x), "none": 2.0},
        lambda x: dt.scan(lambda c, u: (c + u, c), 0.0, x),  # a carry without rows that gets them
        lambda x: dt.scan(lambda c, u: ((c[0] + 1, c[1] * np.sum(x)), c[0] * u), (0, 1.0), np.arange(3.0), reverse=True),
        lambda x: dt.scan(lambda c, u: (dt.scan(lambda d, t: (d * t, d), c, x)[0] + u, np.ones(2)), x[0], np.arange(2.0)),
        dt.grad(cost),
        dt.hessian(cost),
        dt.jacobian(recurrent),
    ],
)
def test_a_function_of_many_rows_is_the_function_of_each(f: Any) -> None:
    one = dt.compile(f)
    close(dt.vmap(f)(XS), rows(one, XS))
    (built,) = dt.trace(dt.vmap(f), XS).plan()(XS)[:1]
    assert len(built) == 4


@dt.custom_gradient
def clipped(x: Any) -> Any:
    return np.sum(x**3), lambda g: np.clip(g * 3 * x**2, -1, 1)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: dt.cond(x[0] > 0, np.sin, np.cos, x),
        lambda x: dt.switch(1, [np.sin, lambda z: z * x[0]], x),
        lambda x: np.sum(dt.recompute(lambda z: np.tanh(z * x[0]) * W[0])(x)) * x,
        lambda x: clipped(x) * clipped(W[0]),
        lambda x: np.sort(x)[::-1] * dt.top_k(x, 2)[0][0],
        lambda x: dt.scatter(np.ones(4), np.array([0, 2, 3]), x, "multiply"),
    ],
)
def test_bodies_on_many_rows_with_their_gradients(f: Any) -> None:
    one = dt.compile(f)
    close(dt.vmap(f)(XS), rows(one, XS))

    def total(x: Any) -> Any:
        return np.sum(f(x) * np.arange(1.0, 1 + np.size(one(X))).reshape(np.shape(one(X))))

    close(dt.grad(lambda xs: np.sum(dt.vmap(total)(xs)))(XS), rows(dt.grad(total), XS))
    close(dt.vmap(dt.grad(total))(XS), rows(dt.grad(total), XS))


def test_loops_of_unknown_length_run_for_one_row_after_the_other() -> None:
    def halved(x: Any) -> Any:
        return dt.while_loop(lambda c: c[1] > 0.1, lambda c: (c[0] + 1, c[1] / 2), (0, np.sum(x**2)))

    close(dt.vmap(halved)(XS), rows(dt.compile(halved), XS))
    with pytest.raises(ArgumentError, match=r"random_uniform.*the same for all rows"):
        dt.vmap(lambda x: dt.cond(x > 0, lambda x: x + dt.uniform(dt.key(1)), lambda x: x, x))(X)


def test_axes_of_rows() -> None:
    close(dt.vmap(layer, in_axes=(None, 0))(W, XS), np.tanh(XS @ W.T))
    close(dt.vmap(layer, in_axes=(None, 1), out_axes=-1)(W, XS.T), np.tanh(W @ XS.T))
    nest = dt.vmap(lambda p, y: (p["a"] * y, p["b"]), in_axes=({"a": 0, "b": None}, -1), out_axes=(1, None))
    close(nest({"a": np.arange(4.0), "b": 5.0}, XS.T), ((np.arange(4.0)[:, None] * XS).T, 5.0))
    # Rows of rows, and each row of one with each of another.
    close(dt.vmap(dt.vmap(cost))(np.stack([XS, 2 * XS])), np.stack([dt.vmap(cost)(XS), dt.vmap(cost)(2 * XS)]))
    close(dt.vmap(dt.vmap(np.dot, (None, 0)), (0, None))(XS, W), XS @ W.T)


def test_gradients_of_many_rows_and_many_rows_of_gradients() -> None:
    close(dt.grad(lambda xs: np.sum(dt.vmap(cost)(xs) ** 2))(XS), rows(lambda x: 2 * dt.compile(cost)(x) * dt.grad(cost)(x), XS))
    per_row = dt.vmap(dt.grad(lambda w, x, y: np.sum((layer(w, x) - y) ** 2)), in_axes=(None, 0, 0))
    ys = RNG.normal(size=(4, 2))
    close(per_row(W, XS, ys), rows(lambda x, y: dt.grad(lambda w: np.sum((layer(w, x) - y) ** 2))(W), XS, ys))
    close(dt.vmap(lambda x: dt.jvp(cost, (x,), (x,))[1])(XS), rows(lambda x: dt.grad(cost)(x) @ x, XS))
    close(dt.vmap(lambda x: x * dt.grad(lambda y: np.sum(x * y**2))(3.0))(XS), XS * 6 * XS.sum(1, keepdims=True))


def test_tensors_give_tensors_and_traces_take_them() -> None:
    x = dt.array(X)
    for f in (dt.jacobian(cost), dt.hessian(cost), dt.vmap(np.sin)):
        assert isinstance(f(x), Tensor)
        close(f(x).compute(), f(X))
        close(dt.compile(lambda z, f=f: f(z) * 2)(X), 2 * f(X))
    close(dt.compile(lambda z: dt.vjp(cost, z)[1](2.0)[0])(X), 2 * dt.grad(cost)(X))
    close(dt.hvp(cost)(x, X).compute(), dt.hvp(cost)(X, X))
    result, tangent = dt.jvp(cost, (x,), (X,))
    close(tangent.compute(), dt.grad(cost)(X) @ X)
    assert result.compute() == dt.compile(cost)(X)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dt.vmap(np.sin, in_axes=None)(X), ArgumentError, "no rows"),
        (lambda: dt.vmap(np.sin)(1.0), ShapeError, "axis 0 of 'x', which has 0 axes"),
        (lambda: dt.vmap(np.add, in_axes=(0, 0))(X, XS), ShapeError, "numbers of rows.*3.*4"),
        (lambda: dt.vmap(np.add, in_axes=(0,))(X, X), ArgumentError, "for 1 arguments, add got 2"),
        (lambda: dt.vmap(lambda p: p["a"], in_axes=({"b": 0},))({"a": X}), ArgumentError, "in_axes holds"),
        (lambda: dt.vmap(lambda x: x, out_axes=None)(X), ArgumentError, "not the same for all rows"),
        (lambda: dt.vmap(lambda x: x, out_axes=2)(X), ShapeError, "out_axes names axis 2"),
        (lambda: dt.vmap(3), ArgumentError, "vmap takes a function"),
        (lambda: dt.jacobian(lambda x: x > 0)(X), NotScalarError, "results that are floats"),
        (lambda: dt.jvp(cost, X, X), ArgumentError, "both are tuples"),
        (lambda: dt.jvp(cost, (X,), (X[:2],)), ShapeError, r"tangent at '0' has shape \(2,\), but \(3,\)"),
        (lambda: dt.vjp(cost, X)[1](X), ShapeError, "cotangent"),
        (lambda: dt.vjp(cost, X)[1]((1.0, 2.0)), ArgumentError, "cotangent is nested"),
        (lambda: dt.hvp(cost)(X), ArgumentError, "and a vector"),
        (lambda: dt.jacobian(cost, 2)(X), ArgumentError, "argnums=2"),
    ],
)
def test_wrong_calls_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@dataclass(frozen=True)
class PerRow(dt.nn.Layer):
    """A layer that runs another for each row."""

    inner: Any

    def forward(self, c: Any, x: Any) -> Any:
        return dt.vmap(lambda row: c(self.inner, row[None])[0])(x)


def test_layers_under_vmap_have_parameters_and_cannot_update_states() -> None:
    spec = dt.Spec(XS.shape, XS.dtype)
    dense, normal = PerRow(dt.nn.Dense(2)), PerRow(dt.nn.BatchNorm())
    parameters, state = dense.init(dt.key(0), spec)
    close(dense.apply(parameters, state, XS)[0], XS @ parameters["inner"]["kernel"])
    parameters, state = normal.init(dt.key(0), spec)
    with pytest.raises(GraphError, match=r"one row of 'row' left the function under vmap.*state"):
        dt.trace(lambda x: normal.apply(parameters, state, x, training=True), XS)


# ---- the same in JAX and autograd

PEERS: dict[str, tuple[Callable[..., Any], Any]] = {
    "vector to vector": (lambda xp, x: xp.tanh(xp.outer(x, x))[0] * xp.sum(x), X),
    "matrix to number": (lambda xp, x: xp.sum(xp.tanh(x @ x.T) ** 2) + xp.max(x), W),
    "indices": (lambda xp, x: xp.concatenate([x[np.array([0, 2, 2])], x[::-1] * xp.exp(x)]), X),
    "norms": (lambda xp, x: xp.sqrt(xp.sum(x**2)) * xp.sin(x) + xp.log(xp.sum(xp.exp(x))), X),
}


@pytest.mark.parametrize("name", PEERS)
def test_transforms_of_jax(name: str) -> None:
    jax = pytest.importorskip("jax", reason="JAX is what transforms are compared with")
    f, x = PEERS[name]
    ours, theirs = (lambda v: f(np, v)), (lambda v: f(jax.numpy, v))
    stacked, v = np.stack([x, 2 * x, x + 1]), np.cos(x)
    jax.config.update("jax_enable_x64", True)
    close(dt.jacobian(ours)(x), jax.jacrev(theirs)(x))
    close(dt.jvp(ours, (x,), (v,)), jax.jvp(theirs, (x,), (v,)))
    result, pullback = jax.vjp(theirs, x)
    close(dt.vjp(ours, x)[1](np.asarray(result)), pullback(result))
    close(dt.vmap(ours, 0, -1)(stacked), jax.vmap(theirs, 0, -1)(stacked))
    scalar, other = (lambda v: np.sum(ours(v) ** 2)), (lambda v: jax.numpy.sum(theirs(v) ** 2))
    close(dt.hessian(scalar)(x), jax.hessian(other)(x))
    close(dt.vmap(dt.value_and_grad(scalar))(stacked), jax.vmap(jax.value_and_grad(other))(stacked))
    close(dt.hvp(scalar)(x, v), jax.jvp(jax.grad(other), (x,), (v,))[1])


@pytest.mark.parametrize("name", PEERS)
def test_derivatives_of_autograd(name: str) -> None:
    autograd = pytest.importorskip("autograd", reason="autograd is what derivatives are compared with")
    f, x = PEERS[name]
    anp = pytest.importorskip("autograd.numpy")
    close(dt.jacobian(lambda v: f(np, v))(x), autograd.jacobian(lambda v: f(anp, v))(x))
    close(dt.hessian(lambda v: np.sum(f(np, v) ** 2))(x), autograd.hessian(lambda v: anp.sum(f(anp, v) ** 2))(x))
