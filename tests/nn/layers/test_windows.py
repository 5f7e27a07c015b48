"""Layers of convolution, pooling and resizing: values, gradients and numbers of parameters are those of PyTorch's modules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, ShapeError, UnknownNameError
from dagtrain.plan.interpret import interpret
from dagtrain.transform.gradient import gradient

from ...each import each

LINE, PICTURE, VOLUME = (2, 9, 4), (2, 7, 8, 4), (2, 4, 5, 6, 2)

# Layer, shape of its input, PyTorch's module.
TWINS: list[tuple[nn.Layer, tuple[int, ...], Callable[[Any], Any]]] = [
    (nn.Conv1D(6, 3, strides=2, padding=1), LINE, lambda t: t.Conv1d(4, 6, 3, stride=2, padding=1)),
    (nn.Conv1D(6, 3, dilation_rate=2, padding="causal"), LINE, lambda t: t.Sequential(t.ZeroPad1d((4, 0)), t.Conv1d(4, 6, 3, dilation=2))),
    (nn.Conv1D(5, 2, padding="same"), LINE, lambda t: t.Sequential(t.ZeroPad1d((0, 1)), t.Conv1d(4, 5, 2))),
    (nn.Conv2D(6, 3, "relu"), PICTURE, lambda t: t.Sequential(t.Conv2d(4, 6, 3), t.ReLU())),
    (nn.Conv2D(6, (3, 2), padding=((1, 0), (0, 1)), strides=(1, 2), use_bias=False), PICTURE,
     lambda t: t.Sequential(t.ZeroPad2d((0, 1, 1, 0)), t.Conv2d(4, 6, (3, 2), stride=(1, 2), bias=False))),
    (nn.Conv2D(6, 5, padding="same"), PICTURE, lambda t: t.Conv2d(4, 6, 5, padding="same")),
    (nn.Conv2D(6, 3, groups=2, dilation_rate=2, padding=2), PICTURE, lambda t: t.Conv2d(4, 6, 3, groups=2, dilation=2, padding=2)),
    (nn.Conv2D(6, 1), PICTURE, lambda t: t.Conv2d(4, 6, 1)),
    (nn.Conv2D(6, 1, strides=2), PICTURE, lambda t: t.Conv2d(4, 6, 1, stride=2)),
    (nn.Conv3D(3, (1, 3, 2), strides=(1, 2, 1), padding=(0, 1, 1)), VOLUME,
     lambda t: t.Conv3d(2, 3, (1, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1))),
    (nn.DepthwiseConv1D(3, padding=1), LINE, lambda t: t.Conv1d(4, 4, 3, groups=4, padding=1)),
    (nn.DepthwiseConv2D(3, padding="same"), PICTURE, lambda t: t.Conv2d(4, 4, 3, groups=4, padding="same")),
    (nn.DepthwiseConv2D(3, strides=2, depth_multiplier=2), PICTURE, lambda t: t.Conv2d(4, 8, 3, groups=4, stride=2)),
    (nn.SeparableConv1D(5, 3), LINE, lambda t: t.Sequential(t.Conv1d(4, 4, 3, groups=4, bias=False), t.Conv1d(4, 5, 1))),
    (nn.SeparableConv2D(5, 3, depth_multiplier=2), PICTURE,
     lambda t: t.Sequential(t.Conv2d(4, 8, 3, groups=4, bias=False), t.Conv2d(8, 5, 1))),
    (nn.Conv1DTranspose(5, 3, strides=2), LINE, lambda t: t.ConvTranspose1d(4, 5, 3, stride=2)),
    (nn.Conv2DTranspose(5, 3, padding=1), PICTURE, lambda t: t.ConvTranspose2d(4, 5, 3, padding=1)),
    (nn.Conv2DTranspose(5, 3, strides=2, padding=1, output_padding=1), PICTURE,
     lambda t: t.ConvTranspose2d(4, 5, 3, stride=2, padding=1, output_padding=1)),
    (nn.Conv2DTranspose(5, 4, strides=2, padding="same"), PICTURE, lambda t: t.ConvTranspose2d(4, 5, 4, stride=2, padding=1)),
    (nn.Conv3DTranspose(2, 2, strides=2), VOLUME, lambda t: t.ConvTranspose3d(2, 2, 2, stride=2)),
    (nn.MaxPooling1D(3, 2), LINE, lambda t: t.MaxPool1d(3, 2)),
    (nn.MaxPooling2D(), PICTURE, lambda t: t.MaxPool2d(2)),
    (nn.MaxPooling2D(3, 2, 1), PICTURE, lambda t: t.MaxPool2d(3, 2, 1)),
    (nn.MaxPooling3D(2), VOLUME, lambda t: t.MaxPool3d(2)),
    (nn.AveragePooling1D(3), LINE, lambda t: t.AvgPool1d(3)),
    (nn.AveragePooling2D((3, 2)), PICTURE, lambda t: t.AvgPool2d((3, 2))),
    (nn.AveragePooling2D(3, 2, 1), PICTURE, lambda t: t.AvgPool2d(3, 2, 1, count_include_pad=False)),
    (nn.AveragePooling3D(2), VOLUME, lambda t: t.AvgPool3d(2)),
    (nn.LpPooling1D(3, 2), LINE, lambda t: t.Sequential(Absolute(t), t.LPPool1d(3, 2))),
    (nn.LpPooling2D(2, 2), PICTURE, lambda t: t.LPPool2d(2, 2)),
    (nn.LpPooling3D(1, 2), VOLUME, lambda t: t.Sequential(Absolute(t), t.AvgPool3d(2), Times(t, 8))),
    (nn.AdaptiveAveragePooling1D(3), LINE, lambda t: t.AdaptiveAvgPool1d(3)),
    (nn.AdaptiveAveragePooling2D((3, 5)), PICTURE, lambda t: t.AdaptiveAvgPool2d((3, 5))),
    (nn.AdaptiveAveragePooling3D((2, 5, 4)), VOLUME, lambda t: t.AdaptiveAvgPool3d((2, 5, 4))),
    (nn.AdaptiveMaxPooling1D(9), LINE, lambda t: t.AdaptiveMaxPool1d(9)),
    (nn.AdaptiveMaxPooling2D((3, 5)), PICTURE, lambda t: t.AdaptiveMaxPool2d((3, 5))),
    (nn.AdaptiveMaxPooling3D((2, 3, 4)), VOLUME, lambda t: t.AdaptiveMaxPool3d((2, 3, 4))),
    (nn.GlobalAveragePooling1D(keepdims=True), LINE, lambda t: t.AdaptiveAvgPool1d(1)),
    (nn.GlobalAveragePooling2D(keepdims=True), PICTURE, lambda t: t.AdaptiveAvgPool2d(1)),
    (nn.GlobalAveragePooling3D(keepdims=True), VOLUME, lambda t: t.AdaptiveAvgPool3d(1)),
    (nn.GlobalMaxPooling1D(keepdims=True), LINE, lambda t: t.AdaptiveMaxPool1d(1)),
    (nn.GlobalMaxPooling2D(keepdims=True), PICTURE, lambda t: t.AdaptiveMaxPool2d(1)),
    (nn.GlobalMaxPooling3D(keepdims=True), VOLUME, lambda t: t.AdaptiveMaxPool3d(1)),
    (nn.UpSampling1D(3), LINE, lambda t: t.Upsample(scale_factor=3)),
    (nn.UpSampling2D((2, 3)), PICTURE, lambda t: t.Upsample(scale_factor=(2, 3))),
    (nn.UpSampling2D(2, "bilinear"), PICTURE, lambda t: t.Upsample(scale_factor=2, mode="bilinear")),
    (nn.UpSampling3D(2, "bilinear"), VOLUME, lambda t: t.Upsample(scale_factor=2, mode="trilinear")),
    (nn.ZeroPadding1D((1, 2)), LINE, lambda t: t.ZeroPad1d((1, 2))),
    (nn.ZeroPadding2D(((1, 2), (0, 3))), PICTURE, lambda t: t.ZeroPad2d((0, 3, 1, 2))),
    (nn.ZeroPadding3D(1), VOLUME, lambda t: t.ZeroPad3d(1)),
    (nn.Cropping1D((1, 2)), LINE, lambda t: t.ZeroPad1d((-1, -2))),
    (nn.Cropping2D(((1, 2), (0, 3))), PICTURE, lambda t: t.ZeroPad2d((0, -3, -1, -2))),
    (nn.Cropping3D(1), VOLUME, lambda t: t.ZeroPad3d(-1)),
    (nn.LocalResponseNorm(3, 0.1, 0.6, 1.5), PICTURE, lambda t: t.LocalResponseNorm(3, 0.1, 0.6, 1.5)),
    (nn.LocalResponseNorm(2, 0.1), PICTURE, lambda t: t.LocalResponseNorm(2, 0.1)),
]  # fmt: skip


def Absolute(t: Any) -> Any:  # PyTorch's norms of odd order take no magnitudes
    return type("Absolute", (t.Module,), {"forward": lambda self, x: x.abs()})()


def Times(t: Any, factor: float) -> Any:
    return type("Times", (t.Module,), {"forward": lambda self, x: x * factor})()


def as_weight(name: str, value: Any) -> Any:
    """A parameter in PyTorch's order: channels last to channels first."""
    if value.ndim == 1:
        return value
    if "depthwise" in name:
        value = value.reshape(*value.shape[:-2], 1, -1)
    return np.moveaxis(value, (-1, -2), (0, 1))


@pytest.mark.slow
@each(TWINS)
def test_values_gradients_and_parameters_are_those_of_torch(layer: nn.Layer, shape: tuple[int, ...], twin: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what layers are compared with")
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    params, state = layer.init(dt.key(0), x)
    params = {name: rng.normal(size=value.shape) for name, value in params.items()}
    assert layer.summary(x).parameters == sum(value.size for value in params.values())
    module = twin(torch.nn).double()
    assert sum(p.numel() for p in module.parameters()) == layer.summary(x).parameters
    depthwise = type(layer).__name__.startswith("Depthwise")
    for (name, value), parameter in zip(params.items(), module.parameters(), strict=True):
        parameter.data = torch.tensor(as_weight("depthwise" if depthwise else name, value)).contiguous()
    first = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    expected = module(first)
    weights = rng.normal(size=tuple(np.moveaxis(expected.detach().numpy(), 1, -1).shape))
    (expected * torch.tensor(np.moveaxis(weights, -1, 1).copy())).sum().backward()

    leaves = {name: dt.input(name, value.shape, "f8") for name, value in {"x": x, **params}.items()}
    y, _ = layer.apply({name: leaves[name] for name in params}, state, leaves["x"])
    assert y.shape == weights.shape
    slopes = gradient((y * weights).sum(), list(leaves.values()))
    values = interpret(dt.Graph(leaves, {"y": y, **{f"g{i}": g for i, g in enumerate(slopes)}}), x, *params.values())
    np.testing.assert_allclose(values[0], np.moveaxis(expected.detach().numpy(), 1, -1), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(layer.apply(params, state, x)[0], values[0], rtol=1e-9, atol=1e-11)  # of arrays as of tensors
    np.testing.assert_allclose(values[1], np.moveaxis(first.grad.numpy(), 1, -1), rtol=1e-8, atol=1e-10)
    for name, slope, parameter in zip(params, values[2:], module.parameters(), strict=True):
        np.testing.assert_allclose(as_weight("depthwise" if depthwise else name, slope), parameter.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_every_layer_of_windows_has_a_twin() -> None:
    rooms = (nn.layers.convolution, nn.layers.pooling, nn.layers.global_pooling, nn.layers.resizing)
    assert {name for room in rooms for name in room.__all__} <= {type(layer).__name__ for layer, _, _ in TWINS}


def test_a_model_of_windows_computes_in_float32() -> None:
    layers = [nn.Conv2D(4, 3, "relu", padding="same"), nn.MaxPooling2D(), nn.LocalResponseNorm(), nn.AveragePooling2D(3, padding="same")]
    model = nn.Sequential([*layers, nn.GlobalAveragePooling2D()])
    params, state = model.init(dt.key(0), (2, 8, 8, 3))
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3)).astype("u1")
    assert model.apply(params, state, pixels)[0].dtype == np.float32
    assert model.output_spec((2, 8, 8, 3)) == dt.Spec((2, 4), np.dtype("f4"))


def test_operations_of_a_convolution_are_counted() -> None:
    layer = nn.Conv2D(6, 3, groups=2, use_bias=False)
    assert layer.summary((5, 8, 8, 4)).flops == 2 * 6 * 6 * 6 * math.prod((3, 3, 2))


@each([
    (lambda: nn.Conv2D(0, 3), ArgumentError, "Conv2D: filters must be a whole number from 1 up, got 0"),
    (lambda: nn.Conv2D(4, (3, 3, 3)), ArgumentError, r"Conv2D: kernel_size is one number, or one for each of 2 lengths"),
    (lambda: nn.Conv2D(4, 3, padding="full"), UnknownNameError, "Conv2D: padding 'full'.*Known: same, valid"),
    (lambda: nn.Conv2D(4, 3, padding="causal"), UnknownNameError, "causal"),
    (lambda: nn.Conv2D(3, 16, kernel_size=3), ArgumentError, "kernel_size is given twice: its arguments are filters, kernel_size"),
    (lambda: nn.ZeroPadding2D("same"), ArgumentError, "ZeroPadding2D: padding is a whole number, or for each length"),
    (lambda: nn.Conv2D(4, 3, padding=(1, 2, 3)), ArgumentError, r"for each of 2 lengths a number or a pair \(before, after\)"),
    (lambda: nn.Conv2D(4, 3, 2), ArgumentError, "after kernel_size comes the activation, got 2: write strides=2"),
    (lambda: nn.Conv2D(4, 3, groups=3), ArgumentError, "4 filters do not divide into 3 groups"),
    (lambda: nn.Conv2D(4, 3, groups=2).output_spec((1, 8, 8, 3)), ShapeError, "3 channels do not divide into 2 groups"),
    (lambda: nn.Conv2D(4, 3).output_spec((1, 8, 8)), ShapeError, r"Conv2D takes \(samples, height, width, channels\).*x\[..., None\]"),
    (lambda: nn.Conv2D(4, 9).output_spec((1, 8, 8, 3)), ShapeError, r"window over \(9, 9\) elements does not fit into \(8, 8\)"),
    (lambda: nn.Conv2DTranspose(4, 3, output_padding=1).output_spec((1, 8, 8, 3)), ArgumentError, "output_padding is smaller than"),
    (lambda: nn.MaxPooling2D(2, padding=2).output_spec((1, 8, 8, 3)), ShapeError, "would lie outside of x"),
    (lambda: nn.AdaptiveMaxPooling2D(9).output_spec((1, 8, 8, 3)), ShapeError, r"output_size \(9, 9\) is larger than"),
    (lambda: nn.Cropping2D(4).output_spec((1, 8, 8, 3)), ShapeError, "leaves nothing"),
    (lambda: nn.LpPooling2D(0), ArgumentError, "LpPooling2D: p must be a finite number above 0"),
    (lambda: nn.spatial.conv(np.ones((1, 4, 4, 2)), np.ones((3, 3, 3, 1))), ShapeError, "takes 3 channels, and x .* has 2"),
])  # fmt: skip
def test_mistakes_are_named(mistake: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        mistake()


@pytest.mark.parametrize(("layer", "reduced"), [(nn.GlobalAveragePooling1D, np.mean), (nn.GlobalMaxPooling1D, np.max)])
def test_pooling_over_the_positions_of_a_mask(layer, reduced):
    x, tokens = np.random.default_rng(0).normal(size=(3, 4, 2)) - 5, np.array([[1, 2, 3, 4], [3, 1, 0, 0], [0, 0, 0, 0]])
    x[1, 2:] = np.nan  # what is outside of the mask may be anything
    expected = np.stack([reduced(x[0], axis=0), reduced(x[1, :2], axis=0), np.zeros(2)])
    for mask in (tokens > 0, np.array([4, 2, 0])):
        np.testing.assert_allclose(layer().apply({}, {}, x, mask)[0], expected)
    slopes = dt.grad(lambda x: np.sum(layer(keepdims=True).apply({}, {}, x, tokens > 0)[0]))(x)
    np.testing.assert_allclose(slopes.sum(axis=1), [[1, 1], [1, 1], [0, 0]])
    model = nn.Sequential([nn.Embedding(5, 2, mask_zero=True), layer(), nn.Dense(3)])
    params, state = model.init(dt.key(0), tokens)
    longer = np.pad(tokens, ((0, 0), (0, 3)))
    np.testing.assert_allclose(*(model.apply(params, state, numbers)[0] for numbers in (tokens, longer)), rtol=1e-5)
