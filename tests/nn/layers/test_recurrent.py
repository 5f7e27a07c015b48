"""Recurrent layers: values, gradients and numbers of parameters are those of PyTorch's, with masks and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
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
