"""Recurrent layers: values, gradients and numbers of parameters are those of PyTorch's, with masks and without."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, DTypeError, ShapeError, UnknownArgumentError, UnknownNameError
from dagtrain.transform.gradient import gradient

from ...each import each

ROWS, STEPS, FEATURES, UNITS = 3, 5, 2, 4
CELLS: list[Any] = [nn.SimpleRNN, nn.LSTM, nn.GRU]
MASKS: dict[str, Any] = {
    "none": None,
    "all on": np.ones((ROWS, STEPS), bool),
    "partly on": np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1]], bool),
    "one row off": np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool),
    "lengths": np.array([2, 0, 5]),
}


def weights_of_torch(layer: Any, params: dict[str, Any]) -> list[Any]:
    """PyTorch's parameters from those of a layer: transposed, of a GRU r before z, with the bias of RNN and LSTM as the first of two."""
    values = [params["kernel"].T, params["recurrent_kernel"].T, *(params["bias"] if isinstance(layer, nn.GRU) else (params["bias"], None))]
    if isinstance(layer, nn.GRU):
        order = np.r_[UNITS : 2 * UNITS, :UNITS, 2 * UNITS : 3 * UNITS]
        values = [value[order] for value in values]
    return [np.zeros_like(values[2]) if value is None else np.ascontiguousarray(value) for value in values]


def run_torch(torch: Any, layer: Any, weights: Sequence[Any], x: Any, mask: Any, states: Sequence[Any]) -> tuple[Any, list[Any]]:
    """All outputs and the last states: by PyTorch's module, with a mask step by step."""
    name = {nn.SimpleRNN: "RNN", nn.LSTM: "LSTM", nn.GRU: "GRU"}[type(layer)]
    if mask is None and not layer.go_backwards:
        module = getattr(torch.nn, name)(FEATURES, UNITS, batch_first=True, dtype=torch.float64)
        both = tuple(state[None] for state in states)
        y, last = torch.func.functional_call(
            module, dict(zip(dict(module.named_parameters()), weights, strict=True)), (x, both if name == "LSTM" else both[0])
        )
        return y, [state[0] for state in (last if name == "LSTM" else (last,))]
    cell = {"RNN": torch.rnn_tanh_cell, "LSTM": torch.lstm_cell, "GRU": torch.gru_cell}[name]
    outputs: list[Any] = []
    on = torch.ones((ROWS, STEPS), dtype=torch.bool) if mask is None else torch.tensor(mask)
    for t in range(STEPS)[:: -1 if layer.go_backwards else 1]:
        after = cell(x[:, t], tuple(states) if name == "LSTM" else states[0], *weights)
        after = after if name == "LSTM" else (after,)
        states = [torch.where(on[:, t, None], new, old) for new, old in zip(after, states, strict=True)]
        outputs.append(states[0])
    return torch.stack(outputs, 1), list(states)


CASES = [(cell(UNITS), mask) for cell in CELLS for mask in MASKS if cell is nn.LSTM or mask != "lengths"]
CASES += [(cell(UNITS, go_backwards=True), "partly on") for cell in CELLS]


@each(CASES)
def test_values_and_gradients_are_those_of_torch(layer: Any, mask: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what layers are compared with")
    layer, rng = replace(layer, return_sequences=True, return_state=True), np.random.default_rng(1)
    x, on = rng.normal(size=(ROWS, STEPS, FEATURES)), MASKS[mask]
    states = [rng.normal(size=(ROWS, UNITS)) for _ in layer.states]
    params, _ = layer.init(dt.key(0), x)
    params = {name: rng.normal(size=value.shape) for name, value in params.items()}
    twice = params["bias"].size if not isinstance(layer, nn.GRU) else 0  # PyTorch has a second bias there
    assert layer.summary(x).parameters + twice == sum(value.size for value in weights_of_torch(layer, params))

    leaves = {name: dt.input(name, value.shape, "f8") for name, value in {"x": x, **params}.items()}
    firsts = [dt.input(f"state{i}", value.shape, "f8") for i, value in enumerate(states)]
    (y, *last), _ = layer.apply({name: leaves[name] for name in params}, {}, leaves["x"], on, *firsts)
    factors = [rng.normal(size=value.shape) for value in (y, *last)]
    cost = sum(((value * factor).sum() for value, factor in zip((y, *last), factors, strict=True)), start=dt.array(0.0))
    leaves |= {str(leaf.name): leaf for leaf in firsts}
    graph = dt.Graph(leaves, {str(i): value for i, value in enumerate([y, *last, *gradient(cost, list(leaves.values()))])})
    bound = graph.plan().bind()
    for _ in range(2):
        for buffer in bound.buffers:
            buffer.fill(255)  # not a number: what is read before it is written shows
        values = [value.copy() for value in bound(x, *params.values(), *states)]

    tensors = [torch.tensor(value, requires_grad=True) for value in (x, *weights_of_torch(layer, params), *states)]
    if on is not None and on.ndim == 1:
        on = np.arange(STEPS) < on[:, None]
    expected, ends = run_torch(torch, layer, tensors[1:5], tensors[0], on, tensors[5:])
    sum((value * torch.tensor(factor)).sum() for value, factor in zip([expected, *ends], factors, strict=True)).backward()
    np.testing.assert_allclose(values[0], expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    for value, end in zip(values[1:], ends, strict=False):
        np.testing.assert_allclose(value, end.detach().numpy(), rtol=1e-9, atol=1e-11)
    gx, *slopes = values[1 + len(last) :]
    slopes, by_state = slopes[: len(params)], slopes[len(params) :]
    np.testing.assert_allclose(gx, tensors[0].grad.numpy(), rtol=1e-8, atol=1e-10)
    for slope, tensor in zip(weights_of_torch(layer, dict(zip(params, slopes, strict=True))), tensors[1:5], strict=True):
        if slope.any():
            np.testing.assert_allclose(slope, tensor.grad.numpy(), rtol=1e-8, atol=1e-10)
    for slope, tensor in zip(by_state, tensors[5:], strict=True):
        np.testing.assert_allclose(slope, tensor.grad.numpy(), rtol=1e-8, atol=1e-10)
    of_arrays, _ = layer.apply(params, {}, x, MASKS[mask], *states)
    for value, right in zip(of_arrays, values, strict=False):
        np.testing.assert_allclose(value, right, rtol=1e-12, atol=1e-14)


def test_padding_does_not_matter() -> None:
    rng, lengths = np.random.default_rng(0), np.array([7, 3, 0, 5, 1, 7])
    x = rng.normal(size=(6, 7, 3)) * (np.arange(7) < lengths[:, None])[..., None]
    layers = [nn.Masking(), nn.Bidirectional(nn.GRU(4, return_sequences=True)), nn.Dense(5), nn.LSTM(6, return_sequences=True)]
    model = nn.Sequential([*layers, nn.SimpleRNN(4, go_backwards=True), nn.Dense(2)])
    params, _ = model.init(dt.key(0), x)
    y, _ = model.apply(params, {}, x)
    for before, after in ((0, 4), (3, 1)):
        padded = np.pad(x, ((0, 0), (before, after), (0, 0)))
        np.testing.assert_allclose(model.apply(params, {}, padded)[0], y, rtol=1e-12, atol=1e-14)
    with_lengths, leaf = nn.Sequential(model.layers[1:]), dt.input("x", x.shape, "f8")
    slopes = gradient(with_lengths.apply(params, {}, leaf, lengths)[0].sum(), [leaf])
    np.testing.assert_allclose(with_lengths.apply(params, {}, x, lengths)[0], y, rtol=1e-12, atol=1e-14)
    x[np.arange(7) >= lengths[:, None]] = np.nan
    np.testing.assert_allclose(with_lengths.apply(params, {}, x, lengths)[0], y, rtol=1e-12, atol=1e-14)
    (slope,) = dt.Graph({"x": leaf}, {"g": slopes[0]}).plan()(x)
    assert np.isfinite(slope).all()
    x[np.isnan(x)] = 0
    y, _ = nn.Sequential([*layers, nn.SimpleRNN(4, go_backwards=True, return_sequences=True), nn.GRU(3)]).apply(
        {**params, "gru_1": nn.GRU(3).init(dt.key(1), np.zeros((1, 1, 4)))[0]}, {}, x
    )
    assert not y[2].any()  # a sequence without steps, and the mask of what goes backwards goes backwards too
    assert (y[[0, 1, 3]] != 0).all()
    square = nn.Sequential([nn.GRU(7), nn.Dense(3), nn.BatchNorm()])  # as many units as steps: the mask ends all the same
    square.output_spec((6, 7, 3), dt.Spec((6,), np.dtype(int)))


@each([(cell, mask) for cell in CELLS for mask in ("none", "partly on")])
def test_steps_in_a_loop_give_what_the_op_gives(cell: Any, mask: str) -> None:
    options = {"return_sequences": True, "return_state": True, "go_backwards": True}
    plain = cell(UNITS, **options)
    loop = cell(UNITS, np.tanh, **options)  # a function that the op does not know
    x = np.random.default_rng(0).normal(size=(ROWS, STEPS, FEATURES))
    params, _ = plain.init(dt.key(0), x)
    leaf, factor = dt.input("x", x.shape, "f8"), np.random.default_rng(1).normal(size=(ROWS, STEPS, UNITS))
    results = []
    for layer in (plain, loop):
        y, *last = layer.apply(params, {}, leaf, MASKS[mask])[0]
        (slope,) = gradient((y * factor).sum() + last[0].sum() + np.square(last[-1]).sum(), [leaf])
        results.append(dt.Graph({"x": leaf}, {str(i): t for i, t in enumerate((y, *last, slope))}).plan()(x))
    for right, value, of_arrays in itertools.zip_longest(*results, loop.apply(params, {}, x, MASKS[mask])[0]):
        np.testing.assert_allclose(value, right, rtol=1e-10, atol=1e-14)
        if of_arrays is not None:
            np.testing.assert_allclose(of_arrays, right, rtol=1e-12, atol=1e-14)


def test_reset_before_the_product_and_dropout_of_the_state() -> None:
    layer, x = nn.GRU(3, reset_after=False), np.random.default_rng(0).normal(size=(2, 4, 2))
    params, _ = layer.init(dt.key(0), x)
    assert params["bias"].shape == (9,)
    h, sigmoid = np.zeros((2, 3)), lambda z: 1 / (1 + np.exp(-z))
    for t in range(4):
        by_x, r = x[:, t] @ params["kernel"] + params["bias"], params["recurrent_kernel"]
        update, reset = (sigmoid(by_x[:, part] + h @ r[:, part]) for part in (slice(0, 3), slice(3, 6)))
        h = update * h + (1 - update) * np.tanh(by_x[:, 6:] + (reset * h) @ r[:, 6:])
    np.testing.assert_allclose(layer.apply(params, {}, x)[0], h, rtol=1e-12)
    dropped = nn.LSTM(8, recurrent_dropout=0.5, dropout=0.5)
    params, _ = dropped.init(dt.key(0), x)
    a, b, c = (
        dropped.apply(params, {}, x, key=dt.key(seed), training=training)[0] for seed, training in ((0, True), (1, True), (1, False))
    )
    assert (a != b).any()
    np.testing.assert_array_equal(c, nn.LSTM(8).apply(params, {}, x)[0])


@each([("concat", lambda a, b: np.concatenate([a, b], -1)), ("sum", np.add), ("mul", np.multiply), ("ave", lambda a, b: (a + b) / 2)])
def test_both_directions_are_those_of_torch(mode: str, merge: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what layers are compared with")
    layer = nn.Bidirectional(nn.LSTM(UNITS, return_sequences=True, return_state=True), merge_mode=mode)
    x, rng = np.random.default_rng(0).normal(size=(ROWS, STEPS, FEATURES)), np.random.default_rng(1)
    params, _ = layer.init(dt.key(0), x)
    states = [rng.normal(size=(ROWS, UNITS)) for _ in range(4)]
    (y, *last), _ = layer.apply(params, {}, x, None, *states)
    module = torch.nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=True, dtype=torch.float64)
    weights = [w for name in ("forward", "backward") for w in weights_of_torch(layer.layer, params[name])]
    for parameter, weight in zip(module.parameters(), weights, strict=True):
        parameter.data = torch.tensor(weight)
    expected, (h, cell) = module(torch.tensor(x), tuple(torch.tensor(np.stack(pair)) for pair in (states[::2], states[1::2])))
    expected = expected.detach().numpy()
    np.testing.assert_allclose(y, merge(expected[..., :UNITS], expected[..., UNITS:]), rtol=1e-9)
    for value, right in zip(last, (h[0], cell[0], h[1], cell[1]), strict=True):
        np.testing.assert_allclose(value, right.detach().numpy(), rtol=1e-9)
    assert nn.Bidirectional(nn.GRU(3), merge_mode=None).output_spec((2, 5, 4))[1].shape == (2, 3)


def test_states_connect_an_encoder_and_a_decoder() -> None:
    x, y = nn.Input((5, 3), name="x"), nn.Input((4, 2), name="y")
    _, *states = nn.LSTM(6, return_state=True)(x)
    model = nn.Model([x, y], nn.Dense(2)(nn.LSTM(6, return_sequences=True)(y, *states)))
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(3, 5, 3)).astype("f4"), "y": rng.normal(size=(3, 4, 2)).astype("f4")}
    params, _ = model.init(dt.key(0))
    decoded, _ = model.apply(params, {}, arrays)
    assert decoded.shape == (3, 4, 2)
    assert (model.apply(params, {}, {**arrays, "x": -arrays["x"]})[0] != decoded).all()


def test_a_layer_at_each_step_is_the_layer_on_each_step() -> None:
    inner = nn.Sequential([nn.Conv1D(2, 3), nn.Flatten()])
    layer, x = nn.TimeDistributed(inner), np.random.default_rng(0).normal(size=(3, 4, 6, 2))
    params, state = layer.init(dt.key(0), x)
    y, _ = layer.apply(params, state, x)
    for t in range(4):
        np.testing.assert_allclose(y[:, t], inner.apply(params["layer"], {}, x[:, t])[0], rtol=1e-12)


def test_a_state_goes_on_in_the_next_batch_but_where_a_row_begins_anew() -> None:
    layer, x = nn.Stateful(nn.LSTM(3, return_sequences=True), rows=2), np.random.default_rng(0).normal(size=(2, 6, 2))
    params, state = layer.init(dt.key(0), x)
    whole, _ = layer.layer.apply(params["layer"], {}, x)
    parts = []
    for start in range(0, 6, 2):
        y, state = layer.apply(params, state, x[:, start : start + 2], training=True)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-12)
    anew, state = layer.apply(params, state, x[:, :2], np.array([True, False]), training=True)
    np.testing.assert_allclose(anew[0], whole[0, :2], rtol=1e-12)
    assert (anew[1] != whole[1, :2]).all()
    np.testing.assert_allclose(layer.apply(params, state, x[:1])[0], whole[:1], rtol=1e-12)  # evaluation begins with zeros
    _, after = layer.apply(params, state, x[:1], training=True)  # a smaller last batch
    np.testing.assert_array_equal(after["initial_state"][1], state["initial_state"][1])


@each([
    (lambda: nn.LSTM(0), ArgumentError, "LSTM: units must be a whole number from 1 up, got 0"),
    (lambda: nn.LSTM(3, "tanh", "sigmoid"), ArgumentError, "use_bias is True or False, got 'sigmoid'"),
    (lambda: nn.GRU(3, dropout=1.0), ArgumentError, "GRU: dropout"),
    (lambda: nn.GRU(3, num_layers=2), UnknownArgumentError, "all but the last with return_sequences=True"),
    (lambda: nn.LSTM(3, stateful=True), UnknownArgumentError, r"nn\.Stateful\(layer, rows\)"),
    (lambda: nn.LSTM(3).output_spec((2, 5)), ShapeError, r"LSTM takes \(samples, steps, features\), got \(2, 5\): reshape x"),
    (lambda: nn.LSTM(3).output_spec((2, 5, 4), dt.Spec((2, 4), np.dtype(bool))), ShapeError, r"\(2, 5\), and lengths.*got bool \(2, 4\)"),
    (lambda: nn.LSTM(3).output_spec((2, 5, 4), (2, 4)), ShapeError, r"initial_state is .*\(2, 3\), got float32 \(2, 4\)"),
    (lambda: nn.Sequential([nn.LSTM(5)]).output_spec((2, 5, 4), (2, 5)), DTypeError, "the second input is a mask .* got float32"),
    (lambda: nn.Bidirectional(nn.Dense(3)), ArgumentError, "Bidirectional takes an LSTM, a GRU or a SimpleRNN that goes forwards"),
    (lambda: nn.Bidirectional(nn.GRU(3), "add"), UnknownNameError, "merge_mode of Bidirectional 'add'.*Known: ave, concat, mul, sum"),
    (lambda: nn.Bidirectional(nn.GRU(3), backward_layer=nn.GRU(3)), ArgumentError, "with go_backwards=True, got GRU"),
    (lambda: nn.TimeDistributed(np.tanh), ArgumentError, "TimeDistributed takes a layer"),
    (lambda: nn.Stateful(nn.GRU(3), 2).output_spec((4, 5, 2)), ShapeError, "rows=2, but a shard has 4"),
    (lambda: nn.Sequential([nn.GRU(5, return_sequences=True, return_state=True), nn.Dense(2)]).output_spec((4, 5, 2)), ArgumentError,
     "several outputs"),
])  # fmt: skip
def test_mistakes_are_named(mistake: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        mistake()
