"""Activations against PyTorch and closed forms: values, derivatives, dtypes."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import UnknownNameError
from dagtrain.nn import activations
from dagtrain.plan.interpret import interpret
from dagtrain.transform.gradient import gradient

POINTS = np.array([[-30.0, -3.0, -0.7, -1e-3, 0.0], [1e-3, 0.4, 1.0, 2.5, 30.0]])
IN_TORCH = {
    "relu": lambda t, F: F.relu(t),
    "leaky_relu": lambda t, F: F.leaky_relu(t, 0.01),
    "elu": lambda t, F: F.elu(t),
    "selu": lambda t, F: F.selu(t),
    "relu6": lambda t, F: F.relu6(t),
    "hard_sigmoid": lambda t, F: F.relu6(t + 3) / 6,
    "hard_silu": lambda t, F: F.hardswish(t),
    "hard_tanh": lambda t, F: F.hardtanh(t),
    "mish": lambda t, F: F.mish(t),
    "softsign": lambda t, F: F.softsign(t),
    "log_sigmoid": lambda t, F: F.logsigmoid(t),
    "exponential": lambda t, F: t.exp(),
    "gelu": lambda t, F: F.gelu(t),
    "gelu_tanh": lambda t, F: F.gelu(t, approximate="tanh"),
    "silu": lambda t, F: F.silu(t),
    "sigmoid": lambda t, F: F.sigmoid(t),
    "tanh": lambda t, F: F.tanh(t),
    "softplus": lambda t, F: F.softplus(t, threshold=1e9),
    "softmax": lambda t, F: F.softmax(t, -1),
    "log_softmax": lambda t, F: F.log_softmax(t, -1),
    "linear": lambda t, F: t,
}


def test_every_activation_is_compared():
    assert set(IN_TORCH) == set(activations.ACTIVATIONS)


@pytest.mark.parametrize("name", sorted(IN_TORCH))
def test_value_and_derivative_are_those_of_torch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is what activations are compared with")
    weights = np.linspace(0.5, 2.0, POINTS.size).reshape(POINTS.shape)
    t = torch.tensor(POINTS, requires_grad=True)
    expected = IN_TORCH[name](t, torch.nn.functional)
    (expected * torch.tensor(weights)).sum().backward()

    x = dt.input("x", POINTS.shape, np.float64)
    y = activations.find(name)(x)
    (g,) = gradient((y * weights).sum(), [x])
    value, slope = interpret(dt.Graph({"x": x}, {"y": y, "g": g}), POINTS)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slope, t.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", sorted(IN_TORCH))
def test_arrays_give_what_tensors_give(name):
    graph = dt.trace(activations.find(name), POINTS)
    np.testing.assert_array_equal(activations.find(name)(POINTS), interpret(graph, POINTS)[0])


@pytest.mark.parametrize("name", sorted(IN_TORCH))
def test_float32_stays_float32(name):
    graph = dt.trace(activations.find(name), POINTS.astype("f4"))
    assert {node.dtype for node in graph.nodes if node.dtype.kind == "f"} == {np.dtype("f4")}
    assert activations.find(name)(POINTS.astype("f4")).dtype == np.float32


@pytest.mark.parametrize("name", sorted(set(IN_TORCH) - {"exponential"}))
def test_large_inputs_do_not_overflow(name):
    x = np.array([[-1e4, 1e4]], "f4")
    with np.errstate(over="raise", invalid="raise"):
        assert not np.isnan(activations.find(name)(x)).any()


def test_none_is_linear_and_callables_are_unchanged():
    assert activations.find(None) is activations.linear
    assert activations.find(np.cos) is np.cos


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'relu'"):
        activations.find("rleu")
