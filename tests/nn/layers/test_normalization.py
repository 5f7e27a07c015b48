"""BatchNorm and LayerNorm."""

import functools

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.ops.random import key
from dagtrain.plan.interpret import interpret
from dagtrain.transform.gradient import gradient

X = np.random.default_rng(0).normal(3, 2, size=(64, 5))
SPEC = dt.Spec(X.shape, np.dtype("f8"))


def initialized(layer, spec=SPEC):
    params, state = layer.init(key(0), spec)
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=p.shape) for name, p in params.items()}, state


def test_batch_norm_in_training_uses_the_batch():
    layer = nn.BatchNorm()
    params, state = layer.init(key(0), SPEC)
    y, _ = layer.apply(params, state, X, training=True)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-5)


def test_batch_norm_follows_the_statistics_and_uses_them():
    layer = nn.BatchNorm(momentum=0.8)
    params, state = initialized(layer)
    for _ in range(100):
        _, state = layer.apply(params, state, X, training=True)
    np.testing.assert_allclose(state["mean"], X.mean(0), rtol=1e-6)
    np.testing.assert_allclose(state["variance"], X.var(0), rtol=1e-6)
    y, unchanged = layer.apply(params, state, X)
    np.testing.assert_allclose(y, params["scale"] * (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-5) + params["offset"], rtol=1e-6, atol=1e-6)
    assert all(unchanged[name] is state[name] for name in state)


def test_one_step_of_the_running_statistics():
    _, after = nn.BatchNorm(momentum=0.75).apply(*initialized(nn.BatchNorm()), X, training=True)
    np.testing.assert_allclose(after["mean"], 0.25 * X.mean(0))
    np.testing.assert_allclose(after["variance"], 0.75 + 0.25 * X.var(0))


def test_batch_norm_of_images_is_over_all_axes_but_the_last():
    x = X.reshape(4, 4, 4, 5)
    layer = nn.BatchNorm()
    params, state = initialized(layer, dt.Spec(x.shape, np.dtype("f8")))
    y, _ = layer.apply(params, state, x, training=True)
    np.testing.assert_allclose(y.reshape(64, 5), layer.apply(params, state, X, training=True)[0])


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_values_and_gradients_are_those_of_torch(kind):
    torch = pytest.importorskip("torch", reason="PyTorch is what normalisation is compared with")
    layer = nn.BatchNorm() if kind == "batch" else nn.LayerNorm()
    params, state = initialized(layer)
    weights = np.random.default_rng(2).normal(size=X.shape)
    t = {name: torch.tensor(value, requires_grad=True) for name, value in {"x": X, **params}.items()}
    if kind == "batch":
        expected = torch.nn.functional.batch_norm(t["x"], None, None, t["scale"], t["offset"], training=True)
    else:
        expected = torch.nn.functional.layer_norm(t["x"], (5,), t["scale"], t["offset"])
    (expected * torch.tensor(weights)).sum().backward()

    leaves = {name: dt.input(name, value.shape, "f8") for name, value in {"x": X, **params}.items()}
    y, _ = layer.apply({name: leaves[name] for name in params}, state, leaves["x"], training=True)
    slopes = gradient((y * weights).sum(), list(leaves.values()))
    value, *gradients = interpret(dt.Graph(leaves, {"y": y, **{f"g{i}": g for i, g in enumerate(slopes)}}), X, *params.values())
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    for name, slope in zip(leaves, gradients, strict=True):
        np.testing.assert_allclose(slope, t[name].grad.numpy(), rtol=1e-8, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("layer", [nn.BatchNorm(), nn.LayerNorm()])
def test_float32_stays_float32(layer):
    params, state = layer.init(key(0), dt.Spec((8, 5), np.dtype("f4")))
    for training in (False, True):
        graph = dt.trace(lambda p, s, x, t=training: layer.apply(p, s, x, training=t), params, state, dt.Spec((8, 5), np.dtype("f4")))
        assert {node.dtype for node in graph.nodes if not node.spec.parts} == {np.dtype("f4")}


@pytest.mark.parametrize("epsilon", [np.float32(0.125), np.float64(0.125)])
def test_settings_may_be_numbers_of_numpy(epsilon):
    layer, x = nn.LayerNorm(epsilon=epsilon), np.random.default_rng(0).normal(size=(2, 4)).astype("f4")
    params, state = layer.init(key(0), x)
    outputs = dt.compile(lambda x: layer.apply(params, state, x)[0])(x)
    np.testing.assert_allclose(outputs, nn.LayerNorm(epsilon=0.125).apply(params, state, x)[0], rtol=1e-6)


def test_a_mask_may_be_the_lengths():
    x, lengths = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f4"), np.array([1, 3])
    layer = nn.BatchNorm()
    params, state = layer.init(key(0), x, lengths)
    outputs, after = layer.apply(params, state, x, lengths, training=True)
    masked, same = layer.apply(params, state, x, np.arange(3) < lengths[:, None], training=True)
    np.testing.assert_array_equal(outputs, masked)
    np.testing.assert_array_equal(after["mean"], same["mean"])


def test_errors():
    for layer in (nn.LayerNorm, nn.RMSNorm, functools.partial(nn.GroupNorm, 4)):
        with pytest.raises(ArgumentError, match="the number of features is that of the input"):
            layer(64)
    with pytest.raises(ArgumentError, match="momentum must be"):
        nn.BatchNorm(momentum=1.0)
    with pytest.raises(ArgumentError, match="epsilon must be"):
        nn.LayerNorm(epsilon=0.0)
    with pytest.raises(ShapeError, match=r"'scale' has the shape \(5,\), but for these inputs the layer asks for \(3,\)"):
        nn.BatchNorm().apply(*initialized(nn.BatchNorm()), np.zeros((2, 3)), training=True)
    with pytest.raises(ShapeError, match="samples and features"):
        nn.LayerNorm().init(key(0), dt.Spec((3,), np.dtype("f4")))
