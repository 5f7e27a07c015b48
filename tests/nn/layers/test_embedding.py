"""Embedding: rows by number, and the same rows as outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, ExecutionError


@dataclass(frozen=True)
class Tied(dt.nn.Layer):
    embedding: dt.nn.Embedding

    def forward(self, c: Any, tokens: Any) -> Any:
        return c(self.embedding, np.tanh(c(self.embedding, tokens)), method="logits")


def test_values_and_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    tokens = np.array([[1, 4, 4], [0, 1, 2]], "i4")
    params, state = Tied(dt.nn.Embedding(6, 3)).init(dt.key(0), tokens)
    table = params["embedding"]["embeddings"]
    weights = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("f4")

    def cost(params: Any) -> Any:
        return np.sum(weights * Tied(dt.nn.Embedding(6, 3)).apply(params, state, tokens)[0])

    value, gradient = dt.value_and_grad(cost)(params)
    there = torch.tensor(table, requires_grad=True)
    other = (torch.tensor(weights) * (torch.tanh(there[torch.tensor(tokens).long()]) @ there.T)).sum()
    other.backward()
    assert value == pytest.approx(other.item(), rel=1e-5)
    np.testing.assert_allclose(gradient["embedding"]["embeddings"], there.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_zero_is_padding_where_the_layer_says_so():
    model = dt.nn.Sequential([dt.nn.Embedding(5, 2, mask_zero=True), dt.nn.LSTM(3)])
    params, state = model.init(dt.key(0), np.zeros((1, 4), "i4"))
    short, long = np.array([[3, 1]], "i4"), np.array([[3, 1, 0, 0]], "i4")
    np.testing.assert_array_equal(model.apply(params, state, short)[0], model.apply(params, state, long)[0])


def test_mistakes_are_named():
    layer = dt.nn.Embedding(5, 2)
    with pytest.raises(DTypeError, match="whole numbers from 0 to 4, got float32"):
        layer.init(dt.key(0), (2, 3))
    params, state = layer.init(dt.key(0), np.zeros((1, 2), "i4"))
    for number in (5, -1):
        with pytest.raises((ExecutionError, IndexError), match=str(number)):
            dt.compile(lambda x: layer.apply(params, state, x)[0])(np.array([[number, 1]], "i4"))
