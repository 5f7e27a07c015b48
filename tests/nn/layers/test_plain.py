"""Layers without windows: values, gradients and numbers of parameters are those of PyTorch, in float64 and float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.plan.interpret import interpret
from dagtrain.trace import flatten, unflatten
from dagtrain.transform.gradient import gradient

from ...each import each

FLAT, LINE, PICTURE = (6, 5), (3, 4, 6), (2, 3, 4, 6)
MASK = np.array([[True, True, False, False], [True, False, True, True], [False] * 4])


def first(x: Any) -> Any:
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    return x.movedim(1, -1)


def masked(F: Any, x: Any, mask: Any, scale: Any, offset: Any) -> Any:
    seen = x[mask]
    return (x - seen.mean(0)) / (seen.var(0, correction=0) + 1e-5).sqrt() * scale + offset


# Layer, shapes of its inputs, the same by PyTorch's functions of the inputs and the parameters in order, and the number of parameters.
CASES: list[tuple[nn.Layer, list[Any], Callable[..., Any], int]] = [
    (nn.BatchNorm(), [FLAT], lambda F, x, s, o: F.batch_norm(x, None, None, s, o, True), 10),
    (nn.BatchNorm(epsilon=1e-2), [PICTURE], lambda F, x, s, o: last(F.batch_norm(first(x), None, None, s, o, True, eps=1e-2)), 12),
    (nn.BatchNorm(scale=False, center=False), [FLAT], lambda F, x: F.batch_norm(x, None, None, None, None, True), 0),
    (nn.BatchNorm(), [LINE, MASK], masked, 12),
    (nn.LayerNorm(), [LINE], lambda F, x, s, o: F.layer_norm(x, (6,), s, o), 12),
    (nn.LayerNorm(axis=(-2, -1), epsilon=1e-3), [PICTURE], lambda F, x, s, o: F.layer_norm(x, (4, 6), s, o, 1e-3), 48),
    (nn.LayerNorm(axis=(1, 2, 3), center=False), [PICTURE], lambda F, x, s: F.layer_norm(x, (3, 4, 6), s), 72),
    (nn.LayerNorm(axis=1), [LINE], lambda F, x, s, o: F.layer_norm(x.mT, (4,), s, o).mT, 8),
    (nn.GroupNorm(3), [PICTURE], lambda F, x, s, o: last(F.group_norm(first(x), 3, s, o)), 12),
    (nn.GroupNorm(-1), [LINE], lambda F, x, s, o: last(F.instance_norm(first(x), weight=s, bias=o)), 12),
    (nn.GroupNorm(1, scale=False), [FLAT], lambda F, x, o: F.group_norm(x, 1) + o, 5),
    (nn.RMSNorm(), [LINE], lambda F, x, s: F.rms_norm(x, (6,), s, 1e-6), 6),
    (nn.RMSNorm(axis=(1, 2), scale=False), [LINE], lambda F, x: F.rms_norm(x, (4, 6), None, 1e-6), 0),
    (nn.Add(), [FLAT] * 3, lambda F, a, b, c: a + b + c, 0),
    (nn.Subtract(), [FLAT] * 2, lambda F, a, b: a - b, 0),
    (nn.Multiply(), [FLAT] * 3, lambda F, a, b, c: a * b * c, 0),
    (nn.Average(), [FLAT] * 3, lambda F, a, b, c: (a + b + c) / 3, 0),
    (nn.Maximum(), [FLAT] * 3, lambda F, a, b, c: a.max(b).max(c), 0),
    (nn.Minimum(), [FLAT] * 2, lambda F, a, b: a.min(b), 0),
    (nn.Concatenate(1), [LINE] * 2, lambda F, a, b: F.pad(a, (0, 0, 0, 4)) + F.pad(b, (0, 0, 4, 0)), 0),
    (nn.Residual(nn.Dense(5, "tanh")), [FLAT], lambda F, x, w, b: x + (x @ w + b).tanh(), 30),
    (nn.Residual(nn.Dense(3), nn.Dense(3, use_bias=False)), [FLAT], lambda F, x, w, b, v: x @ w + b + x @ v, 33),
    (nn.Flatten(), [PICTURE], lambda F, x: x.flatten(1), 0),
    (nn.Reshape((2, -1, 3)), [PICTURE], lambda F, x: x.reshape(2, 2, 12, 3), 0),
    (nn.Permute((3, 1, 2)), [PICTURE], lambda F, x: x.permute(0, 3, 1, 2), 0),
    (nn.RepeatVector(4), [FLAT], lambda F, x: x[:, None].repeat(1, 4, 1), 0),
    (nn.Lambda(np.square), [FLAT], lambda F, x: x.square(), 0),
    (nn.Rescaling(0.5, -1.0), [FLAT], lambda F, x: x / 2 - 1, 0),
    (nn.Normalization(np.arange(5), [4, 1, 0, 9, 1]), [FLAT], lambda F, x: (x - x.new_tensor(range(5))) / x.new_tensor([2, 1, 1, 3, 1]), 0),
    (nn.Normalization(1.0, 4.0, axis=None), [PICTURE], lambda F, x: (x - 1) / 2, 0),
    (nn.LeakyReLU(0.2), [FLAT], lambda F, x: F.leaky_relu(x, 0.2), 0),
    (nn.ELU(1.5), [FLAT], lambda F, x: F.elu(x, 1.5), 0),
    (nn.PReLU(shared_axes=(1, 2)), [PICTURE], lambda F, x, a: last(F.prelu(first(x), a.flatten())), 6),
    (nn.PReLU(), [FLAT], lambda F, x, a: F.prelu(x, a), 5),
    (nn.Softmax(1), [LINE], lambda F, x: F.softmax(x, 1), 0),
]  # fmt: skip


def test_every_layer_of_these_rooms_is_compared() -> None:
    rooms = (nn.layers.merging, nn.layers.nonlinear, nn.layers.normalization, nn.layers.reshaping, nn.layers.scaling, nn.layers.wrapping)
    elsewhere = {"LocalResponseNorm", "Temperature"}
    assert {name for room in rooms for name in room.__all__} == {type(layer).__name__ for layer, *_ in CASES} | elsewhere


@pytest.mark.slow
@each([(*case, dtype) for case in CASES for dtype in ("f8", "f4")])
def test_values_gradients_and_parameters_are_those_of_torch(
    layer: nn.Layer, shapes: list[Any], twin: Callable[..., Any], parameters: int, dtype: str
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what layers are compared with")
    rng = np.random.default_rng(0)
    inputs = [shape if isinstance(shape, np.ndarray) else rng.normal(size=shape) for shape in shapes]
    dtypes = [np.dtype(bool) if x.dtype == bool else np.dtype(dtype) for x in inputs]
    specs = [dt.Spec(x.shape, kind) for x, kind in zip(inputs, dtypes, strict=True)]
    params, state = layer.init(dt.key(0), *specs, dtype=dtype)
    assert layer.summary(*specs).parameters == parameters
    names, structure = flatten(params)
    values = [rng.normal(size=value.shape) for value in names.values()]

    twins = [torch.tensor(x, requires_grad=x.dtype != bool) for x in (*inputs, *values)]
    expected = twin(torch.nn.functional, *twins)
    weights = rng.normal(size=tuple(expected.shape))
    (expected * torch.tensor(weights)).sum().backward()

    kinds = [*dtypes, *[np.dtype(dtype)] * len(values)]
    tensors = [dt.input(f"t{i}", x.shape, kind) for i, (x, kind) in enumerate(zip((*inputs, *values), kinds, strict=True))]
    y, _ = layer.apply(unflatten(structure, tensors[len(inputs) :]), state, *tensors[: len(inputs)], training=True)
    assert y.dtype == dtype
    real = [t for t in tensors if t.dtype != bool]
    slopes = gradient((y * weights.astype(dtype)).sum(), real)
    graph = dt.Graph({str(t.name): t for t in tensors}, {"y": y, **{f"g{i}": g for i, g in enumerate(slopes)}})
    assert all(node.dtype != np.float64 for node in graph.nodes if node.inputs) or dtype == "f8"
    results = interpret(graph, *(x.astype(kind) for x, kind in zip((*inputs, *values), kinds, strict=True)))
    close = {"rtol": 1e-9, "atol": 1e-10} if dtype == "f8" else {"rtol": 2e-4, "atol": 2e-4}
    np.testing.assert_allclose(results[0], expected.detach().numpy(), **close)
    for result, other in zip(results[1:], [t for t in twins if t.requires_grad], strict=True):
        np.testing.assert_allclose(result, other.grad.numpy(), **close)


def test_whole_numbers_are_merged_in_the_floats_of_the_model() -> None:
    numbers, floats = np.ones((2, 3), "i8"), np.ones((2, 3), "f4")
    for layer in (nn.Add(), nn.Maximum(), nn.Concatenate()):
        assert layer.apply({}, {}, numbers, floats)[0].dtype == np.float32
        assert layer.apply({}, {}, numbers, numbers)[0].dtype == np.int64


def test_a_mask_of_batch_norm_leaves_out_positions_that_may_hold_anything() -> None:
    x = np.random.default_rng(0).normal(size=LINE)
    hidden = np.where(MASK[..., None], x, np.nan)
    layer = nn.BatchNorm(momentum=0.5)
    params, state = layer.init(dt.key(0), x)
    y, after = layer.apply(params, state, hidden, MASK, training=True)
    of_seen, expected = layer.apply(params, state, x[MASK], training=True)
    np.testing.assert_allclose(y[MASK], of_seen)
    for name in after:
        np.testing.assert_allclose(after[name], expected[name])
    y, after = layer.apply(params, expected, x, np.zeros(LINE[:2], bool), training=True)
    np.testing.assert_allclose(y, layer.apply(params, expected, x)[0])
    np.testing.assert_allclose(after["mean"], expected["mean"])


def test_a_sequential_hands_batch_norm_its_mask() -> None:
    model = nn.Sequential([nn.Dense(3), nn.BatchNorm(), nn.LayerNorm(), nn.RMSNorm(), nn.Residual(nn.Dense(3, "relu"))])
    x = np.random.default_rng(0).normal(size=LINE).astype("f4")
    params, state = model.init(dt.key(0), x)
    masked, plain = (model.apply(params, state, x, *mask, training=True)[1] for mask in ([MASK], []))
    assert not np.allclose(masked["batch_norm_1"]["mean"], plain["batch_norm_1"]["mean"])
    with pytest.raises(ArgumentError, match="LayerNorm would drop the mask"):
        nn.Sequential([nn.BatchNorm(), nn.LayerNorm(axis=(1, 2))]).init(dt.key(0), dt.Spec(LINE, "f4"), dt.Spec(LINE[:2], "?"))


@each([
    (lambda: nn.LayerNorm(axis=0), ArgumentError, "LayerNorm: axis is a whole number other than 0"),
    (lambda: nn.LayerNorm(axis=(1, -1)).output_spec((2, 3)), ShapeError, r"have not each of the axes \(1, -1\) once"),
    (lambda: nn.GroupNorm(0), ArgumentError, r"GroupNorm: groups \(if not -1\) must be a whole number from 1 up, got 0"),
    (lambda: nn.GroupNorm(4).output_spec((2, 6)), ShapeError, "6 channels do not divide into 4 groups"),
    (lambda: nn.BatchNorm().output_spec((2, 3, 4), (2, 4)), ShapeError, r"a mask has the first axes of x, of shape \(2, 3, 4\)"),
    (lambda: nn.Subtract().output_spec((2, 3), (2, 3), (2, 3)), ArgumentError, "Subtract takes two inputs, .* got 3"),
    (lambda: nn.Average().output_spec((2, 3), (2, 4)), ShapeError, r"Average takes inputs of one shape, got \(2, 3\), \(2, 4\)"),
    (lambda: nn.Reshape((-1, -1)), ArgumentError, "-1 at most once"),
    (lambda: nn.Reshape((4, 4)).output_spec((2, 3)), ShapeError, r"have 3 elements, which do not fit \(4, 4\)"),
    (lambda: nn.Permute((0, 1)), ArgumentError, "dims are the axes 1, 2, … in their new order"),
    (lambda: nn.Permute((2, 1)).output_spec((2, 3)), ShapeError, "are those of samples with 2 axes"),
    (lambda: nn.Permute(2, 1), ArgumentError, "Permute: name is a str, got 1: its arguments are dims, name, in this order"),
    (lambda: nn.Dense(3, 4), ArgumentError, "an activation is a name, a function or None, got 4: layers take the number of features from"),
    (lambda: nn.Masking(np.nan), ArgumentError, "Masking: mask_value is a number, got nan"),
    (lambda: nn.RepeatVector(3).output_spec((2, 3, 4)), ShapeError, "takes samples with one axis"),
    (lambda: nn.Residual([nn.Dense(3)]), ArgumentError, r"Residual takes a layer, as in Residual\(Sequential"),
    (lambda: nn.Residual(nn.Dense(3)).output_spec((2, 4)), ShapeError, r"made \(2, 3\), and \(2, 4\) is beside it. Give shortcut="),
    (lambda: nn.Lambda("relu"), ArgumentError, "Lambda takes a function of arrays"),
    (lambda: nn.Rescaling(float("nan")), ArgumentError, "Rescaling: scale is a finite number"),
    (nn.Normalization, ArgumentError, r"takes the mean and the variance of the data: statistics = dagtrain.data.moments\(x\)"),
    (lambda: nn.Normalization([1.0], [1.0, 2.0]), ArgumentError, "finite numbers of one shape"),
    (lambda: nn.Normalization([1.0, 2.0], [1.0, -2.0]), ArgumentError, "the variance not negative"),
    (lambda: nn.Normalization([1.0, 2.0], [1.0, 2.0]).output_spec((2, 3)), ShapeError, r"mean of shape \(2,\) does not fit the axes -1"),
    (lambda: nn.PReLU(shared_axes=(0,)), ArgumentError, "axes of a sample counted from 1"),
    (lambda: nn.PReLU(shared_axes=(3,)).output_spec((2, 3)), ShapeError, "are not all axes of samples"),
    (lambda: nn.LeakyReLU(-1), ArgumentError, "LeakyReLU: negative_slope"),
    (lambda: nn.Softmax(0), ArgumentError, "Softmax: axis is a whole number other than 0"),
    (lambda: nn.Softmax(3).output_spec((2, 3)), ShapeError, "have no axis 3"),
    (lambda: nn.GaussianNoise(-1), ArgumentError, "GaussianNoise: stddev"),
    (lambda: nn.SpatialDropout2D(1.0), ArgumentError, "SpatialDropout2D: rate"),
])  # fmt: skip
def test_mistakes_are_named(mistake: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        mistake()
