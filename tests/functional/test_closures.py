"""Functions made from functions that close over outer tensors, with names that are equal on both sides."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.graph import Graph, Tensor

ROWS = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("function", "at", "right"),
    [
        (lambda x: x * dt.grad(lambda y: x * y)(3.0), 2.0, 4.0),
        (lambda x: x * dt.grad(lambda x: x * x)(3.0), 2.0, 6.0),
        (lambda x: x * dt.compile(lambda y: x * y)(3.0), 2.0, 12.0),
        (lambda x: dt.grad(lambda y: dt.grad(lambda z: x * y * z)(5.0) ** 2)(3.0), 2.0, 24.0),
        (lambda x: dt.scan(lambda c, u: (c + dt.grad(lambda y: np.sum(x * y * c))(2.0), None), 1.0, ROWS)[0], 3.0, 8.0),
        (lambda carry: dt.scan(lambda c, x: (c + dt.grad(lambda y: np.sum(y * carry * x))(x)[0], None), 0.0, ROWS)[0], 3.0, 3.0),
        (lambda x: dt.grad(lambda y: x * y)(x), 2.0, 1.0),
        (lambda x: x * dt.grad(lambda x: dt.scan(lambda carry, x: (carry * x, None), x, np.array([2.0, 3.0]))[0])(x), 5.0, 6.0),
    ],
)
def test_an_inner_function_of_numbers_that_closes_over_an_outer_tensor(function: Any, at: float, right: float) -> None:
    x = dt.array(at)
    assert dt.grad(function)(at) == right
    assert dt.compile(dt.grad(function))(at) == right
    assert dt.grad(function(x), x).compute() == right


@pytest.mark.parametrize("name", ["x", "carry", "y", "outside_0", "cotangent_0", "kept 0", "in0"])
def test_names_of_inputs_may_be_those_of_the_machinery(name: str) -> None:
    outer, other = dt.input(name, (3,), np.float64), dt.input(name, (3,), np.float64)
    ys = dt.scan(lambda c, u: (c, dt.grad(lambda y: np.sum(y * outer * other))(u)), 0.0, ROWS)[1]
    cost = np.sum(np.log(np.sum(np.exp(ys))) * other)
    (g,) = dt.grad(cost, [outer])
    graph = Graph.of(g)
    assert len(graph.inputs) == 2
    assert pickle.loads(pickle.dumps(g)).shape == (3,)
    graph.verify().plan()(*np.ones((2, 3)))


def test_a_function_that_closes_over_a_tensor_gives_tensors_and_one_that_makes_its_own_gives_numbers() -> None:
    scale = dt.array(2.0)
    times = dt.compile(lambda x: x * scale)
    assert isinstance(times(3.0), Tensor)
    assert dt.grad(times(3.0), scale).compute() == 3.0
    assert dt.compile(lambda x: x * dt.array(2.0))(3.0) == 6.0


def test_extra_arguments_have_names_of_their_own() -> None:
    def f(rest_0: Any, *rest: Any) -> Any:
        return rest_0 + 10 * rest[0] + 100 * rest[1]

    assert dt.compile(f)(1.0, 2.0, 3.0) == 321.0
