"""What users write in NumPy's functions becomes the coarse ops: layer norm, RMS norm, gelu, softmax attention."""

import math

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.nn.activations import softmax
from dagtrain.transform import stabilise

from ..each import each

SQRT2 = math.sqrt(2)
TAU = math.sqrt(2 / math.pi)
TRIANGLE = np.tri(4, dtype=bool)


def by_var(x, s, o):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * s + o


def by_squares(x, s, o):
    mean = np.mean(x, axis=-1, keepdims=True)
    return s * (x - mean) / np.sqrt(np.mean((x - mean) ** 2, axis=-1, keepdims=True) + 1e-5) + o


def by_inverse(x, s, o):
    centred = x - x.mean(-1, keepdims=True)
    return o + s * (centred * (1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)))


def rms(x, s, o):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * s


def plain(q, k, v):
    return softmax(q @ np.swapaxes(k, -1, -2) / math.sqrt(4)) @ v


def scaled(q, k, v):
    scores = (q @ k.transpose(0, 2, 1)) * 0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)) @ v


def masked(q, k, v):
    scores = np.where(TRIANGLE, q @ k.transpose(0, 2, 1) / 2.0, -1e9)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def left_out(q, k, v):
    return softmax(np.where(TRIANGLE, q @ k.transpose(0, 2, 1), -np.inf)) @ v


def by_einsum(q, k, v):
    weights = softmax(np.einsum("bth,bsh->bts", q, k) * 0.5)
    return np.einsum("bts,bsh->bth", weights, v)


def heads_behind(q, k, v):
    scores = np.where(TRIANGLE, np.einsum("bqhd,bkhd->bhqk", q, k) / 2, -np.inf)
    return np.einsum("bhij,bjhd->bihd", softmax(scores), v)


FORMS = [
    *((form, "layer_norm", [(3, 4), (4,), (4,)]) for form in (by_var, by_squares, by_inverse, rms)),
    *((form, "attention", [(2, 4, 4)] * 3) for form in (plain, scaled, masked, left_out, by_einsum)),
    (heads_behind, "attention", [(2, 4, 3, 4)] * 3),
    *(
        (form, "gelu", [(3, 4)])
        for form in (
            lambda x: 0.5 * x * (1 + np.tanh(TAU * (x + 0.044715 * x**3))),
            lambda x: x * 0.5 * (1.0 + np.tanh(TAU * (x + 0.044715 * x * x * x))),
            lambda x: x * (0.5 * (1 + np.tanh(TAU * (x + 0.044715 * np.power(x, 3))))),
            lambda x: 0.5 * x * (1 + dt.ops.special.erf(x / SQRT2)),
            lambda x: x * (0.5 * (dt.ops.special.erf(x * (1 / SQRT2)) + 1)),
        )
    ),
]


@each(FORMS)
def test_a_users_form_becomes_one_op_with_the_same_values_and_gradients(form, op, shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in shapes]
    graph = stabilise(dt.trace(form, *arrays))
    kinds = [node.op for node in graph.nodes]
    assert kinds.count(op) == 1
    assert not {"softmax", "tanh", "erf", "sqrt"} & set(kinds)
    as_written, rewritten = dt.trace(form, *arrays), graph
    np.testing.assert_allclose(rewritten.plan()(*arrays), as_written.plan(optimize=False)(*arrays), rtol=1e-12)

    def cost(*values):
        return (form(*values) * np.cos(np.arange(rewritten.outputs["output"].size)).reshape(rewritten.outputs["output"].shape)).sum()

    assert dt.gradcheck(cost, *arrays)


def test_what_is_only_alike_stays():
    x = np.zeros((3, 4), "f4")
    for form in (
        lambda x: (x - x.mean(0, keepdims=True)) / np.sqrt(x.var(0, keepdims=True) + 1e-5),  # over the samples
        lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(0, keepdims=True) + 1e-5),
        lambda x: 0.5 * x * (1 + np.tanh(0.8 * (x + 0.044715 * x**3))),
        lambda x: 0.4 * x * (1 + np.tanh(TAU * (x + 0.05 * x**3))),
        lambda x: dt.ops.softmax.softmax(x @ x.T, 0) @ x,
        lambda x: np.einsum("ts,td->sd", softmax(np.einsum("td,sd->ts", x, x)), x),
    ):
        assert not {"layer_norm", "gelu", "attention"} & {node.op for node in stabilise(dt.trace(form, x)).nodes}


def test_weights_that_are_read_are_kept():
    def both(q, k, v):
        weights = softmax(q @ k.transpose(0, 2, 1))
        return weights @ v, weights

    graph = stabilise(dt.trace(both, *(np.zeros((2, 4, 4)) for _ in range(3))))
    assert {"softmax", "attention"} <= {node.op for node in graph.nodes}


@pytest.mark.parametrize("form", [by_var, masked])
def test_second_derivatives_of_a_users_form(form):
    rng = np.random.default_rng(0)
    shapes = next(shapes for f, _, shapes in FORMS if f is form)
    arrays = [rng.normal(size=shape) for shape in shapes]
    slope = dt.grad(lambda x: (form(x, *arrays[1:]) ** 3).sum())
    assert dt.gradcheck(lambda x: (slope(x) ** 2).sum(), arrays[0])
