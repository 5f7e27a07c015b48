"""Executors ask a backend for kernels and memory, and use nothing else: the same graphs on a memory that NumPy cannot reach."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import dask
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.backends import BACKENDS, NUMPY, Backend, find_backend
from dagtrain.errors import ArgumentError, UnknownNameError, UnsupportedError
from dagtrain.graph import Graph
from dagtrain.plan import Plan, interpret
from dagtrain.tasks import lower
from dagtrain.transform import gradient, optimize

from ..ops.cases import CASES, draws
from .sealed import SEALED, Sealed

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "sealed", f"{__package__}.sealed:SEALED")


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def check(graph: Graph, values: Sequence[Any]) -> None:
    """The interpreter, plans and their copies on sealed memory against the interpreter of NumPy."""
    with NUMPY.guard():
        right = interpret(graph, *values)
        assert all(map(same, interpret(graph, *values, backend="sealed"), right))
        plan = graph.plan(optimize=False, backend="sealed")
        for execute in (plan, pickle.loads(pickle.dumps(plan)), plan):
            assert all(map(same, execute(*values), right)), plan.source


def loops(x: Any, w: Any) -> Any:
    last, ys = dt.scan(lambda c, u: (np.tanh(c @ w + u), c * 2), np.zeros(3), x)
    far, steps = dt.while_loop(lambda c: np.sum(c[0]) < 50, lambda c: (c[0] * 1.5 + 1, c[1] + 1), (np.abs(last), 0))
    chosen = dt.cond(steps > 3, lambda: far, lambda: last)
    return np.sum(chosen * ys) + dt.recompute(np.sin)(steps * 1.0)


@pytest.mark.slow
def test_every_op_and_its_gradient_on_other_memory() -> None:
    for case in CASES:
        op, sample = case.values
        values = draws(op, sample)
        leaves = [dt.input(f"x{i}", np.shape(v), np.asarray(v).dtype) for i, v in enumerate(values)]
        y = op(*leaves, **sample.attributes)
        outputs = {"y": y}
        targets = [t for t in leaves if t.dtype.kind == "f"]
        if y.dtype.kind == "f" and op.gradient is not None and targets:
            outputs.update((f"g{i}", g) for i, g in enumerate(gradient(np.sum(np.sin(y)), targets, unconnected="zero")))
        check(Graph({str(t.name): t for t in leaves}, outputs), values)


@pytest.mark.parametrize("optimized", [False, True])
def test_loops_and_choices_on_other_memory(optimized: bool) -> None:
    values = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 3))
    graph = dt.trace(loops, *values)
    check(optimize(graph) if optimized else graph, values)


def test_gradient_of_a_network_on_other_memory_and_as_tasks() -> None:
    def cost(p: Any, x: Any, y: Any) -> Any:
        hidden = np.maximum(x @ p["w"] + p["b"], 0)
        return np.mean((hidden.reshape(2, 3, 4).transpose(1, 0, 2)[::-1].sum(axis=2) - y) ** 2)

    p, x, y = {"w": RNG.normal(size=(5, 4)), "b": RNG.normal(size=4)}, RNG.normal(size=(6, 5)), RNG.normal(size=(3, 2))
    graph = optimize(dt.trace(dt.value_and_grad(cost), p, x, y))
    check(graph, (*p.values(), x, y))
    arrays = {name: dt.array(value, name=name) for name, value in zip(graph.inputs, (*p.values(), x, y), strict=True)}
    closed = Graph({}, dict(zip(graph.outputs, graph.apply(*arrays.values()), strict=True)))
    with NUMPY.guard():
        right = interpret(closed)
    keys = []
    for backend in ("sealed", "numpy"):
        made = lower(closed, granularity="op", backend=backend)
        keys.append(set(made.keys.values()))
        results = dask.get(made.tasks, list(made.keys.values()))
        assert all(map(same, results, right))
    assert not keys[0] & keys[1], "tasks of two kernel sets are not equal tasks"


def test_a_plan_allocates_nothing_after_it_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(dt.trace(loops, *(values := (RNG.normal(size=(5, 3)), RNG.normal(size=(3, 3))))), backend=SEALED)
    bound = plan.bind()
    monkeypatch.setattr(SEALED, "empty", None)
    inputs = [Sealed(v) for v in values]
    first = SEALED.to_host(bound(*inputs)[0])
    assert first == SEALED.to_host(bound(*inputs)[0]) == interpret(dt.trace(loops, *values), *values)[0]


def test_the_kernel_set_is_in_the_key_of_a_plan() -> None:
    graph = dt.trace(lambda x: np.exp(x) * 2, np.zeros(3))
    here, there = graph.plan(), graph.plan(backend="sealed")
    assert here.key != there.key
    assert pickle.loads(pickle.dumps(there)).key == there.key
    for name in ("numpy", "blas", "functions"):
        assert f"{name} {NUMPY.software()[name]}" in NUMPY.kernel_set


def test_what_is_no_backend_or_lacks_a_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'numpy'"):
        find_backend("numpi")
    monkeypatch.setitem(BACKENDS, "nothing", "dagtrain.backends:BACKENDS")
    with pytest.raises(ArgumentError, match=r"'nothing' is dagtrain\.backends:BACKENDS, which is no instance"):
        find_backend("nothing")

    class Small(SEALED.__class__):  # type: ignore[name-defined, misc]
        name = "small"
        kernels = MappingProxyType({"add": NUMPY.kernel("add")})

    small: Backend = Small()
    assert Plan(dt.trace(lambda x: x + x, 1.0), backend=small).backend is small
    for execute in (lambda g: Plan(g, backend=small), lambda g: interpret(g, 1.0, backend=small)):
        with pytest.raises(UnsupportedError, match="'small' has no kernel for the op 'sin'"):
            execute(dt.trace(np.sin, 1.0))
