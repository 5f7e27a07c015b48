"""Random programs over the ops: the rewritten graph against the plain one, and values and gradients against PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dagtrain as dt
from dagtrain.graph import Graph, Tensor
from dagtrain.ops import elementwise as e
from dagtrain.ops import reduce as r
from dagtrain.ops import softmax as s
from dagtrain.ops.special import erf
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient, optimize, stabilise, verify

pytestmark = pytest.mark.slow

ROWS, COLUMNS = 3, 4
Call = Callable[..., Any]

# name → our function, PyTorch's; all map a (3, 4) float64 array of moderate numbers to such an array.
UNARY: dict[str, tuple[Call, Call]] = {
    "sin": (np.sin, lambda t, a: t.sin(a)),
    "tanh": (np.tanh, lambda t, a: t.tanh(a)),
    "exp of tanh": (lambda a: np.exp(np.tanh(a)), lambda t, a: t.exp(t.tanh(a))),
    "log of square + 1": (lambda a: np.log(a**2 + 1), lambda t, a: t.log(a**2 + 1)),
    "sqrt of square + 1": (lambda a: np.sqrt(1 + np.square(a)), lambda t, a: t.sqrt(1 + a * a)),
    "minus": (np.negative, lambda t, a: -a),
    "sigmoid": (e.sigmoid, lambda t, a: t.sigmoid(a)),
    "softplus": (e.softplus, lambda t, a: t.logaddexp(a, t.zeros_like(a))),
    "erf": (erf, lambda t, a: t.erf(a)),
    "arctan": (np.arctan, lambda t, a: t.atan(a)),
    "relu": (e.relu, lambda t, a: t.relu(a)),
    "maximum with 0": (lambda a: np.maximum(a, 0), lambda t, a: t.maximum(a, t.zeros_like(a))),
    "clip": (lambda a: np.clip(a, -1, 1.5), lambda t, a: t.clamp(a, -1, 1.5)),
    "log of exp(tanh) + 1": (lambda a: np.log(1 + np.exp(np.tanh(a))), lambda t, a: t.log(1 + t.exp(t.tanh(a)))),
    "written sigmoid": (lambda a: 1 / (1 + np.exp(-a)), lambda t, a: 1 / (1 + t.exp(-a))),
    "softmax": (lambda a: s.softmax(a, 1), lambda t, a: t.softmax(a, 1)),
    "log softmax": (lambda a: s.log_softmax(a, 0), lambda t, a: t.log_softmax(a, 0)),
    "written log softmax": (
        lambda a: np.log(np.exp(a) / np.sum(np.exp(a), axis=1, keepdims=True)),
        lambda t, a: t.log(t.exp(a) / t.exp(a).sum(1, keepdim=True)),
    ),
    "logsumexp": (lambda a: a - r.logsumexp(a, 1, True), lambda t, a: a - t.logsumexp(a, 1, keepdim=True)),
    "centred": (lambda a: a - np.mean(a, axis=0), lambda t, a: a - a.mean(0)),
    "scaled": (
        lambda a: a / np.sqrt(np.var(a, axis=1, keepdims=True) + 1),
        lambda t, a: a / t.sqrt(a.var(1, correction=0, keepdim=True) + 1),
    ),
    "sum along rows": (lambda a: a + np.sum(a, axis=1, keepdims=True), lambda t, a: a + a.sum(1, keepdim=True)),
    "max of columns": (lambda a: a - np.max(a, axis=0), lambda t, a: a - t.amax(a, 0)),
    "running sum": (lambda a: np.cumsum(a, axis=1) / 4, lambda t, a: t.cumsum(a, 1) / 4),
    "flip": (lambda a: np.flip(a, 0), lambda t, a: t.flip(a, (0,))),
    "steps back": (lambda a: a[::-1, ::-1], lambda t, a: t.flip(a, (0, 1))),
    "roll": (lambda a: np.roll(a, 1, 1), lambda t, a: t.roll(a, 1, 1)),
    "reshape": (lambda a: a.reshape(4, 3).T, lambda t, a: a.reshape(4, 3).T),
    "cut and joined": (
        lambda a: np.concatenate([a[:, 2:], np.sin(a[:, :2])], 1),
        lambda t, a: t.cat([a[:, 2:], t.sin(a[:, :2])], 1),
    ),
    "taken": (lambda a: np.take(a, np.array([2, 0, 2]), 0), lambda t, a: a[t.tensor([2, 0, 2])]),
    "taken along": (
        lambda a: np.take_along_axis(a, np.array([[0, 3, 3, 1]] * 3), 1),
        lambda t, a: t.take_along_dim(a, t.tensor([[0, 3, 3, 1]] * 3), 1),
    ),
    "chosen": (lambda a: np.where(a > 0, a, 0.1 * a), lambda t, a: t.where(a > 0, a, 0.1 * a)),
    "cubed": (lambda a: np.tanh(a) ** 3, lambda t, a: t.tanh(a) ** 3),
    "half": (lambda a: a / 2 * 1 - 0, lambda t, a: a / 2),
    "narrow and wide": (lambda a: a.astype(np.float32).astype(np.float64), lambda t, a: a.float().double()),
}
BINARY: dict[str, tuple[Call, Call]] = {
    "+": (lambda a, b: a + b, lambda t, a, b: a + b),
    "-": (lambda a, b: a - b, lambda t, a, b: a - b),
    "*": (lambda a, b: a * np.tanh(b), lambda t, a, b: a * t.tanh(b)),
    "/": (lambda a, b: a / (1 + b * b), lambda t, a, b: a / (1 + b * b)),
    "maximum": (np.maximum, lambda t, a, b: t.maximum(a, b)),
    "minimum": (np.minimum, lambda t, a, b: t.minimum(a, b)),
    "logaddexp": (np.logaddexp, lambda t, a, b: t.logaddexp(a, b)),
    "power": (lambda a, b: np.power(1 + a * a, np.tanh(b)), lambda t, a, b: t.pow(1 + a * a, t.tanh(b))),
    "hypot": (lambda a, b: np.hypot(a, 1 + b * b), lambda t, a, b: t.hypot(a, 1 + b * b)),
    "arctan2": (lambda a, b: np.arctan2(a, 1 + b * b), lambda t, a, b: t.atan2(a, 1 + b * b)),
    "matmul": (lambda a, b: (a @ b.T) @ b / 10, lambda t, a, b: (a @ b.T) @ b / 10),
    "einsum": (lambda a, b: np.einsum("ij,kj,kl->il", a, b, b) / 10, lambda t, a, b: t.einsum("ij,kj,kl->il", a, b, b) / 10),
    "row of the other": (lambda a, b: a * b[1], lambda t, a, b: a * b[1]),
    "column of the other": (lambda a, b: a + b[:, -1:], lambda t, a, b: a + b[:, -1:]),
}
Step = tuple[str, int, int]
Program = list[Step]

steps = st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 3), st.integers(0, 3))
programs = st.lists(steps, min_size=1, max_size=9)


def execute(program: Program, values: list[Any], torch: Any = None) -> Any:
    """In this library or PyTorch: each step works on two of the last four values, and the result depends on the last ones."""
    results = list(values)
    for name, first, second in program:
        a, b = results[-1 - first % len(results)], results[-1 - second % len(results)]
        if torch is None:
            results.append(UNARY[name][0](a) if name in UNARY else BINARY[name][0](a, b))
        else:
            results.append(UNARY[name][1](torch, a) if name in UNARY else BINARY[name][1](torch, a, b))
    return sum((results[-i] * results[-i]).mean() for i in range(1, min(3, len(results)) + 1))


def graph_of(program: Program) -> Graph:
    leaves = [dt.input(n, (ROWS, COLUMNS), np.float64) for n in "xy"]
    cost: Tensor = execute(program, list(leaves))
    grads = gradient(cost, leaves, unconnected="zero")
    return Graph(dict(zip("xy", leaves, strict=True)), {"cost": cost, "by_x": grads[0], "by_y": grads[1]})


def inputs(program: Program) -> list[Any]:
    rng = np.random.default_rng(len(program))
    return [rng.normal(size=(ROWS, COLUMNS)) for _ in range(2)]


def close(result: Any, expected: Any, rtol: float = 1e-9) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol * max(1e-3, np.abs(expected).max(initial=0)))


def on_random_programs(check: Callable[[Program], None]) -> Callable[[bool], None]:
    """A test that calls `check` with many programs."""

    def test(thorough: bool) -> None:
        many = settings(
            max_examples=300 if thorough else 60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        many(given(programs)(check))()

    test.__name__ = check.__name__
    return test


@on_random_programs
def test_rewriting_keeps_values_and_gradients(program: Program) -> None:
    graph = graph_of(program)
    plain = interpret(graph, *inputs(program))
    for new in (optimize(graph), optimize(graph, approximate=True)):
        verify(new)
        assert len(new) <= len(graph) + 4
        for result, expected in zip(interpret(new, *inputs(program)), plain, strict=True):
            close(result, expected)
    assert optimize(optimize(graph)).key == optimize(graph).key


@on_random_programs
def test_stabilising_before_differentiating_keeps_gradients(program: Program) -> None:
    leaves = [dt.input(n, (ROWS, COLUMNS), np.float64) for n in "xy"]
    forward = Graph(dict(zip("xy", leaves, strict=True)), {"cost": execute(program, list(leaves))})
    (cost,) = stabilise(forward).outputs.values()
    graph = Graph(forward.inputs, {"cost": cost, **dict(zip(("by_x", "by_y"), gradient(cost, leaves, unconnected="zero"), strict=True))})
    for result, expected in zip(interpret(graph, *inputs(program)), interpret(graph_of(program), *inputs(program)), strict=True):
        close(result, expected)


@on_random_programs
def test_values_and_gradients_are_those_of_pytorch(program: Program) -> None:
    torch = pytest.importorskip("torch", reason="random programs are compared with PyTorch")
    x, y = (torch.tensor(a, requires_grad=True) for a in inputs(program))
    cost = execute(program, [x, y], torch)
    cost.backward()
    expected = [cost.detach().numpy(), *(np.zeros((ROWS, COLUMNS)) if v.grad is None else v.grad.numpy() for v in (x, y))]
    rtol = 1e-5 if any(name == "narrow and wide" for name, *_ in program) else 1e-9
    for result, right in zip(interpret(graph_of(program), *inputs(program)), expected, strict=True):
        close(result, right, rtol)


@on_random_programs
def test_content_key_is_that_of_a_second_trace(program: Program) -> None:
    assert graph_of(program).key == graph_of(program).key
