"""Graphs as task graphs: readable keys that are the same everywhere, fragments, and the interpreter's bits for every cut of a graph."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from typing import Any

import dask
import numpy as np
import pytest
from dask.task_spec import DataNode, GraphNode, Task

import dagtrain as dt
from dagtrain.backends.blas import one_blas_thread
from dagtrain.errors import ArgumentError, ExecutionError, UnknownNameError
from dagtrain.graph import Graph, Tensor
from dagtrain.ops import Op, Sample
from dagtrain.plan import interpret
from dagtrain.tasks import Lowered, lower
from dagtrain.tasks.cost import seconds
from dagtrain.transform import gradient

from ..each import each
from ..ops.cases import CASES, draws

GRANULARITIES = ["op", "fragment", 1e-7, 1e-5]


def computed(lowered: Lowered, scheduler: Any = dask.get) -> list[Any]:
    return list(scheduler(lowered.tasks, list(lowered.keys.values())))


def check(graph: Graph, granularity: Any) -> Lowered:
    """The tasks of a graph without inputs against the interpreter; no task changes its inputs."""
    lowered = lower(graph, granularity=granularity)
    assert all(isinstance(node, GraphNode) and node.key == key for key, node in lowered.tasks.items())
    assert all(node.dependencies <= lowered.tasks.keys() for node in lowered.tasks.values())
    with one_blas_thread(), np.errstate(all="ignore"):
        expected = interpret(graph)
        results = computed(lowered)
    for a, b in zip(expected, results, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()
    return lowered


def tasks_of(lowered: Lowered) -> list[str]:
    """The readable parts of the keys of computing tasks."""
    return sorted(key.rsplit("-", 1)[0] for key, node in lowered.tasks.items() if not isinstance(node, DataNode))


def expression() -> tuple[Tensor, Tensor, Tensor]:
    a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    return a, b, (a + b) * (b + 1)


def network(batch: int = 8, width: int = 6) -> Graph:
    """A network of two dense layers with its gradient, every input an array."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (width, width), "b1": (width,), "w2": (width, 3), "x": (batch, width), "y": (batch, 3)}
    leaves = {n: dt.array(rng.normal(size=s).astype("f4"), name=n) for n, s in shapes.items()}
    with dt.scope("dense_1"):
        h = np.tanh(leaves["x"] @ leaves["w1"] + leaves["b1"])
    with dt.scope("dense_2"):
        z = h @ leaves["w2"]
    with dt.scope("loss"):
        cost = np.mean((z - leaves["y"]) ** 2)
    grads = dt.grad(cost, [leaves[n] for n in ("w1", "b1", "w2")])
    return Graph({}, {"cost": cost} | {f"g{i}": g for i, g in enumerate(grads)})


@pytest.mark.slow
@each(CASES)
def test_every_op_and_its_gradient(op: Op, sample: Sample) -> None:
    leaves = [dt.array(value, name=f"x{i}") for i, value in enumerate(draws(op, sample))]
    y = op(*leaves, **sample.attributes)
    outputs = {"y": y}
    targets = [t for t in leaves if t.dtype.kind == "f"]
    if y.dtype.kind == "f" and op.gradient is not None and targets:
        outputs |= {f"g{i}": g for i, g in enumerate(gradient(np.sum(np.sin(y)), targets, unconnected="zero"))}
    for granularity in ("op", 1e-7):
        check(Graph({}, outputs), granularity)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_network_with_its_gradient(granularity: Any) -> None:
    check(network(), granularity)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_loops(granularity: Any) -> None:
    w, h, xs = dt.array(np.eye(3) * 0.3, name="w"), dt.array(np.ones(3), name="h"), dt.array(np.arange(12.0).reshape(4, 3), name="xs")
    carry, ys = dt.scan(lambda c, x: (np.tanh(c @ w + x), c), h * 2, xs)
    cost = np.sum(carry * ys)
    check(Graph({}, {"cost": cost, "ys": ys, "g": dt.grad(cost, w)}), granularity)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_views_keep_the_order_of_sums(granularity: Any) -> None:
    x = dt.array(np.random.default_rng(0).normal(size=(3, 50, 70)).astype("f4"), name="x")
    turned = np.transpose(np.sin(x), (2, 0, 1))
    outputs = {"sum": np.sum(turned), "rows": np.sum(turned + 1, axis=0), "product": np.matmul(turned, np.swapaxes(turned, 1, 2))}
    outputs |= {"view": turned, "leaf": x, "leaf_view": x[::-1], "again": turned[1:]}
    check(Graph({}, outputs), granularity)


# ---- keys


def test_keys_tell_the_phase_and_the_layer() -> None:
    names = tasks_of(lower(network(), granularity=0.0))
    assert {"forward-dense_1", "forward-loss", "gradient-dense_1", "gradient-dense_2"} <= set(names)


def test_keys_op_by_op_are_the_names_of_ops() -> None:
    _, _, e = expression()
    lowered = lower(Graph({}, {"e": e}), granularity="op")
    assert tasks_of(lowered) == ["add", "add", "multiply"]
    assert re.fullmatch(r"multiply-[0-9a-f]{16}", lowered.keys["e"])
    assert sorted(k.rsplit("-", 1)[0] for k, node in lowered.tasks.items() if isinstance(node, DataNode)) == ["a", "b"]


def test_keys_are_the_same_in_another_process() -> None:
    code = (
        "import numpy as np, dagtrain as dt\nfrom dagtrain.tasks import lower\n"
        "a, b = dt.array(2.0, name='a'), dt.array(1.0, name='b')\ne = (a + b) * (b + 1)\n"
        "for g in ('op', 'fragment', 0.0):\n    print(sorted(lower(dt.Graph({}, {'e': e}), granularity=g).tasks))"
    )
    _, _, e = expression()
    expected = [str(sorted(lower(Graph({}, {"e": e}), granularity=g).tasks)) for g in ("op", "fragment", 0.0)]
    env = {"PYTHONHASHSEED": "2", "PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, timeout=60)
    assert done.stdout.splitlines() == expected


def test_equal_keys_are_equal_tasks_for_every_cut_of_a_graph() -> None:
    graph = network()
    seen: dict[Any, Any] = {}
    for granularity in GRANULARITIES:
        for outputs in (["cost"], ["cost", "g0"], ["g0", "g2"], ["g1"], ["g2", "g1", "g0", "cost"]):
            for key, node in lower(graph.select(*outputs), granularity=granularity).tasks.items():
                assert seen.setdefault(key, node.dependencies) == node.dependencies


def test_another_value_is_another_key() -> None:
    keys = {lower(Graph({}, {"y": dt.array(v, name="a") * 2})).keys["y"] for v in (1.0, 2.0, np.float32(1), True)}
    assert len(keys) == 4


# ---- fragments


def test_little_work_is_one_task() -> None:
    lowered = check(network(), "fragment")
    assert sum(isinstance(n, Task) and n.func.__name__ == "run_fragment" for n in lowered.tasks.values()) == 1


def test_work_that_is_worth_it_is_cut_where_it_is_parallel() -> None:
    x = dt.array(np.random.default_rng(0).normal(size=(400, 400)), name="x")
    branches = []
    for i in range(3):
        y = x * float(i + 1)
        for _ in range(3):
            y = np.tanh(y @ x) * 0.1
        branches.append(y)
    graph = Graph({}, {"y": np.sum(branches[0] + branches[1] + branches[2])})
    assert sum(map(seconds, graph.nodes)) > 6e-3
    assert len(tasks_of(check(graph, "fragment"))) in (3, 4)  # the sum may be done by the last branch's task or by one of its own
    assert len(tasks_of(check(graph, 10.0))) == 1


def test_only_what_a_task_reads_travels_to_it() -> None:
    x = dt.array(np.random.default_rng(0).normal(size=(600, 600)), name="x")
    h = np.tanh(x @ x)
    large, small = h * 2, np.sum(h, axis=0)
    outputs = {"large": large @ x @ large, "small": np.sum(np.outer(small, small) @ x @ x)}
    lowered = check(Graph({}, outputs), 5e-3)
    several = {
        key for key, n in lowered.tasks.items() if isinstance(n, Task) and n.func.__name__ == "run_fragment" and len(n.args[0].outputs) > 1
    }
    assert several
    for node in lowered.tasks.values():
        if isinstance(node, Task) and node.func.__name__ == "run_fragment":
            assert not (node.dependencies & several and len(node.args[0].inputs) == 2)  # `small` and `x`: without the bytes of `large`


def test_large_constants_are_tasks_of_their_own_and_plans_stay_small() -> None:
    large = np.random.default_rng(0).normal(size=(300, 300))
    x = dt.array(np.ones(300), name="x")
    lowered = check(Graph({}, {"a": large @ x, "b": x @ large}), "op")
    assert sum(isinstance(n, DataNode) and n.value.nbytes == large.nbytes for n in lowered.tasks.values()) == 1
    assert all(len(pickle.dumps(n)) < 10_000 for n in lowered.tasks.values() if isinstance(n, Task))


def test_an_output_that_is_a_leaf() -> None:
    a, _, e = expression()
    assert [float(v) for v in computed(check(Graph({}, {"a": a, "e": e, "again": a}), "fragment"))] == [2, 6, 2]


@pytest.mark.slow
def test_a_long_chain() -> None:
    x = dt.array(np.ones(2), name="x")
    y = x
    for _ in range(3000):
        y = np.sin(y)
    lowered = check(Graph({}, {"y": y}), "fragment")
    assert len(lowered.tasks) == 2


# ---- errors


@pytest.mark.parametrize("wrong", ["ops", "fragments"])
def test_unknown_granularity(wrong: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown granularity.*Did you mean"):
        lower(network(), granularity=wrong)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), True, None])
def test_granularity_that_is_no_time(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="granularity is"):
        lower(network(), granularity=wrong)


def test_an_input_without_value_is_named() -> None:
    x = dt.input("images", (3, 4), "f4")
    with pytest.raises(
        ArgumentError, match=r"needs the input 'images' \(float32\[3, 4\], made at .*test_lowering\.py:\d+.*to_delayed\(images="
    ):
        lower(Graph.of(np.sum(x)))


@pytest.mark.parametrize("granularity", ["op", "fragment"])
def test_an_error_in_a_task_names_the_users_line(granularity: Any) -> None:
    rows = np.take(dt.array(np.ones((3, 2)), name="x"), dt.array(7, name="i"), axis=0)
    with pytest.raises(ExecutionError, match=r"take.*test_lowering\.py:\d+.*out of bounds"):
        computed(lower(Graph.of(rows), granularity=granularity))
