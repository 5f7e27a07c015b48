"""How much memory a plan needs, and which memory it may use."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.graph import Graph, Tensor
from dagtrain.plan import Plan, interpret
from dagtrain.transform import gradient


def chain(length: int, size: int = 1000) -> Graph:
    x = dt.input("x", (size,), "f8")
    y = x
    for _ in range(length):
        y = np.sin(y)
    return Graph({"x": x}, {"y": y})


@pytest.mark.parametrize("length", [2, 10, 200])
def test_a_chain_of_any_length_needs_one_buffer_and_its_result(length: int) -> None:
    memory = Plan(chain(length)).memory
    assert memory.intermediates == length * 8000
    assert memory.needed == 16000


def test_values_that_live_at_once_do_not_share() -> None:
    x = dt.input("x", (10,), "f8")
    parts = [np.sin(x + float(i)) for i in range(5)]
    plan = Plan(Graph({"x": x}, {"y": np.concatenate(parts)}))
    assert plan.memory.buffers == 5 * 80
    assert plan.memory.intermediates == 15 * 80


def test_matmul_bias_and_activation_share_a_buffer() -> None:
    graph = dt.trace(lambda x, w, b, v: np.maximum(x @ w + b, 0) @ v, *(np.zeros(s, "f4") for s in ((8, 6), (6, 5), (5,), (5, 2))))
    assert Plan(graph).memory.buffers == 8 * 5 * 4


def test_a_plan_never_needs_more_than_all_its_intermediates() -> None:
    def loss(w: Tensor, x: Tensor) -> Tensor:
        return np.mean(np.tanh(np.tanh(x @ w) @ w.T) ** 2)

    memory = Plan(dt.trace(dt.value_and_grad(loss), np.zeros((6, 5)), np.zeros((8, 6)))).memory
    assert memory.needed < memory.intermediates
    assert f"{memory.needed:,} bytes needed" in str(memory)


def test_a_gradient_is_computed_as_soon_as_it_can_be() -> None:
    """From the last layer to the first: a layer's cotangents need not be stored until all layers are done."""

    def loss(layers: list[Tensor], x: Tensor) -> Tensor:
        for w in layers:
            x = np.tanh(x @ w)
        return np.mean(x**2)

    depth, size = 12, (32, 64)
    graph = dt.trace(dt.value_and_grad(loss), [np.zeros((64, 64), "f4")] * depth, np.zeros(size, "f4"))
    plan = Plan(graph, yield_points=True)
    assert [k for what, *numbers in plan.yield_points if what == "wrote" for k in numbers if k > 0] == list(
        range(depth, 0, -1)
    )  # output 0 is the loss
    assert plan.memory.buffers < (depth + 4) * 4 * size[0] * size[1]  # activations, and a few more


def test_results_are_written_where_the_caller_says() -> None:
    graph = dt.trace(lambda a, b: (a * 2, np.sum(b), a + b), np.zeros((2, 3)), np.zeros((2, 3)))
    flat = np.full(20, np.nan)
    views = [flat[2:8].reshape(2, 3), flat[8:9].reshape(()), flat[10:16].reshape(2, 3)]
    a, b = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    Plan(graph).bind(views)(a, b)
    assert flat[2:8].tolist() == (a * 2).ravel().tolist()
    assert flat[8] == 6
    assert flat[10:16].tolist() == (a + b).ravel().tolist()
    assert np.isnan(flat[[0, 1, 9, 16, 17, 18, 19]]).all()


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((3, 2)), np.zeros((2, 3), "f4"), np.zeros((3, 2)).T, np.zeros((2, 6))[:, ::2]],
    ids=["shape", "dtype", "order", "strides"],
)
def test_an_output_array_that_does_not_fit_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="output 'output' must be a C-contiguous array of float64"):
        Plan(dt.trace(lambda x: x * 2, np.zeros((2, 3)))).bind([wrong])


def test_two_bindings_do_not_disturb_each_other_and_may_share_work_space() -> None:
    plan = Plan(chain(3, 4))
    first, second = plan.bind(), plan.bind()
    third = plan.bind(buffers=first.buffers)
    results = [b(np.full(4, v)) for b, v in ((first, 1.0), (second, 2.0), (third, 3.0))]
    for (r,), v in zip(results, (1.0, 2.0, 3.0), strict=True):
        assert r[0] == np.sin(np.sin(np.sin(v)))
    assert third.buffers[0] is first.buffers[0]


def donated(graph: Graph, gifts: dict[str, str], *values: np.ndarray) -> None:
    """Check a plan whose outputs are written into its inputs."""
    expected = interpret(graph, *values)
    arrays = [v.copy() for v in values]
    array_of = dict(zip(graph.inputs, arrays, strict=True))
    sources = {target: source for source, target in gifts.items()}
    outputs = [array_of[sources[n]] if n in sources else np.empty(t.shape, t.dtype) for n, t in graph.outputs.items()]
    bound = Plan(graph, gifts).bind(outputs)
    for result, right in zip(bound(*arrays), expected, strict=True):
        assert np.array_equal(result, right)


def test_an_update_is_written_over_what_it_updates() -> None:
    graph = dt.trace(lambda p, g: {"p": p - 0.1 * g, "norm": np.sum(g * g)}, np.zeros(5), np.zeros(5))
    donated(graph, {"p": "p"}, np.arange(5.0), np.ones(5))
    assert Plan(graph, {"p": "p"}).memory.buffers <= 80


@pytest.mark.parametrize(
    "function",
    [
        lambda p: {"new": p * 2, "late": np.sum(p)},
        lambda p: {"late": np.cumsum(p), "new": p + 1},
        lambda p: {"new": np.cumsum(p)},
        lambda p: {"new": p[::-1] * 1.0},
        lambda p: {"new": p + p[::-1]},
        lambda p: {"new": p[::-1]},
        lambda p: {"new": p, "other": p * 2},
        lambda p: {"new": p + 1, "view": p[::-1]},
        lambda p: {"new": (p + 1) * np.sum(p)},
        lambda p: {"new": p[::-1] * 2 + 1},
        lambda p: {"new": (p + p[::-1]) * 2},
        lambda p: {"new": np.cumsum(p * 2) + p},
        lambda p: {"new": (t := p * 2) + t[::-1]},
        lambda p: {"new": (t := p * 2 + 1) * 3 - np.cumsum(t)},
    ],
)
def test_a_donated_input_is_read_before_it_is_written(function: object) -> None:
    donated(dt.trace(function, np.zeros(4)), {"p": "new"}, np.arange(4.0) + 1)


def test_two_donated_inputs_that_change_places() -> None:
    donated(dt.trace(lambda a, b: {"a": b, "b": a}, np.zeros(3), np.zeros(3)), {"a": "a", "b": "b"}, np.arange(3.0), -np.ones(3))


def test_a_loop_does_not_write_over_what_it_still_reads() -> None:
    def run(w: Tensor, xs: Tensor) -> dict[str, Tensor]:
        carry, ys = dt.scan(lambda c, x: (c + np.sum(w * x), w * c + x), dt.array(0.5) * 1, xs)
        return {"carry": carry, "ys": ys}

    values = np.arange(15.0).reshape(5, 3), np.arange(75.0).reshape(5, 5, 3)
    graph = dt.trace(run, *values)
    donated(graph, {"xs": "ys"}, *values)

    def last(w: Tensor, xs: Tensor) -> dict[str, Tensor]:
        return {"new": dt.scan(lambda c, x: (np.tanh(c + w * x), None), w * 2, xs)[0]}

    donated(dt.trace(last, np.ones(3), np.ones((4, 3))), {"w": "new"}, np.arange(3.0), np.arange(12.0).reshape(4, 3))

    def stacked(w: Tensor, xs: Tensor) -> dict[str, Tensor]:
        return {"new": dt.scan(lambda c, x: (c + x, w[0] * c + w[4]), dt.array(np.ones(3)) * 1, xs)[1]}

    donated(dt.trace(stacked, np.ones((5, 3)), np.ones((5, 3))), {"w": "new"}, *(np.arange(15.0).reshape(5, 3) + i for i in (1, 2)))


def test_donations_of_unknown_names_are_refused() -> None:
    graph = dt.trace(lambda alpha: {"beta": alpha * 2}, np.zeros(2))
    with pytest.raises(UnknownNameError, match=r"unknown input 'alpa'\. Did you mean 'alpha'"):
        Plan(graph, {"alpa": "beta"})
    with pytest.raises(UnknownNameError, match=r"unknown output 'bet'\. Did you mean 'beta'"):
        Plan(graph, {"alpha": "bet"})


def test_a_pickled_plan_holds_its_source_and_not_its_work_space() -> None:
    size = len(pickle.dumps(Plan(chain(50, 10))))
    assert abs(len(pickle.dumps(Plan(chain(50, 1_000_000)))) - size) < 2000
    assert size < 15_000


def test_gradients_with_respect_to_many_parameters_share_buffers() -> None:
    leaves = [dt.input(f"w{i}", (50, 50), "f4") for i in range(8)]
    x = dt.input("x", (20, 50), "f4")
    h = x
    for w in leaves:
        h = np.tanh(h @ w)
    graph = Graph({str(t.name): t for t in (*leaves, x)}, {f"g{i}": g for i, g in enumerate(gradient(np.sum(h), leaves))})
    memory = Plan(graph).memory
    assert memory.buffers <= 16 * 20 * 50 * 4  # the activations and the cotangents of the layers
    assert memory.needed < 0.6 * memory.intermediates
