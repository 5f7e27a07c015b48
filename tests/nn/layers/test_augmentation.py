"""Pictures changed at random: exact where a map is exact, PyTorch's look-up elsewhere, and a function of the key alone."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, DTypeError, ShapeError, UnknownNameError
from dagtrain.nn.layers.warping import warped
from dagtrain.ops.random import key
from dagtrain.plan.interpret import interpret

from ...each import each

X = np.random.default_rng(0).uniform(size=(6, 5, 5, 3)).astype("f4")
RANDOM = [
    nn.RandomFlip(),
    nn.RandomCrop(3, 4),
    nn.Cutout(2, 0.5),
    nn.RandomBrightness(0.5),
    nn.RandomContrast(0.5, None),
    nn.RandomRotation(0.2),
    nn.RandomTranslation(0.3, 0.2, "wrap", interpolation="nearest"),
    nn.RandomZoom(0.3, (0.0, 0.5), "nearest"),
    nn.RandomAffine(0.1, 0.1, 0.1, 0.2, 0.3, "constant", 0.5),
    nn.MixUp(0.5),
    nn.CutMix(),
]


def changed(layer, x=X, seed=1):
    return layer.apply({}, {}, x, key=key(seed), training=True)[0]


@each([(layer,) for layer in RANDOM])
def test_a_layer_is_a_function_of_the_key_and_does_nothing_outside_training(layer):
    graph = dt.trace(lambda x, k: layer.apply({}, {}, x, key=k, training=True)[0], X, key(0))
    np.testing.assert_allclose(interpret(graph, X, key(1))[0], changed(layer), rtol=1e-6, atol=1e-7)
    assert changed(layer).dtype == np.float32
    assert not np.array_equal(changed(layer), changed(layer, seed=2))
    same = np.broadcast_to(X[:1], X.shape)  # each picture draws numbers of its own
    assert isinstance(layer, nn.MixUp | nn.CutMix) or len(np.unique(changed(layer, same).reshape(6, -1).round(4), axis=0)) > 1
    np.testing.assert_array_equal(layer.apply({}, {}, X)[0], X[:, 1:4, :4] if isinstance(layer, nn.RandomCrop) else X)


@each([
    (nn.RandomRotation((0.25, 0.25)), np.rot90(X, axes=(1, 2))),
    (nn.RandomRotation((0.5, 0.5), interpolation="nearest"), X[:, ::-1, ::-1]),
    (nn.RandomTranslation((0.4, 0.4), (-0.2, -0.2), "wrap"), np.roll(X, (2, -1), (1, 2))),
    (nn.RandomTranslation((0.4, 0.4), 0.0, "constant", 7.0), np.pad(X, ((0, 0), (2, 0), (0, 0), (0, 0)), constant_values=7)[:, :5]),
    (nn.RandomTranslation((0.4, 0.4), 0.0, "nearest"), np.pad(X, ((0, 0), (2, 0), (0, 0), (0, 0)), "edge")[:, :5]),
    (nn.RandomTranslation((0.4, 0.4), 0.0), np.pad(X, ((0, 0), (2, 0), (0, 0), (0, 0)), "symmetric")[:, :5]),
    (nn.RandomZoom((-0.5, -0.5)), nn.RandomAffine(zoom=(-0.5, -0.5))),
    (nn.RandomAffine(), X),
    (nn.RandomAffine(shear=(1.0, 1.0), fill_mode="wrap"), np.stack([np.roll(X[:, i], 2 - i, 1) for i in range(5)], 1)),
    (nn.RandomBrightness((0.5, 0.5), (0.0, 2.0)), np.clip(X + 1, 0, 2)),
    (nn.RandomContrast((-1.0, -1.0)), np.broadcast_to(X.mean((1, 2), keepdims=True), X.shape)),
])  # fmt: skip
def test_exact_maps(layer, expected):
    np.testing.assert_allclose(changed(layer), expected if isinstance(expected, np.ndarray) else changed(expected), atol=2e-6)


@each([(mode, kind) for mode in ("constant", "nearest", "reflect") for kind in ("bilinear", "nearest")])
def test_look_ups_are_those_of_torch(mode, kind):
    torch = pytest.importorskip("torch", reason="PyTorch is what pictures are compared with")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 6, 9, 2))
    matrix, shift = rng.normal(size=(2, 2, 4)), rng.normal(scale=3, size=(2, 4))
    down, across = np.meshgrid(np.arange(6) - 2.5, np.arange(9) - 4.0, indexing="ij")
    places = [
        np.stack([row[0][i] * down + row[1][i] * across + offset[i] + middle for i in range(4)])
        for row, offset, middle in zip(matrix, shift, (2.5, 4.0), strict=True)
    ]
    grid = np.stack([(2 * places[1] + 1) / 9 - 1, (2 * places[0] + 1) / 6 - 1], -1)
    name = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}[mode]
    expected = torch.nn.functional.grid_sample(
        torch.tensor(np.moveaxis(x, -1, 1)), torch.tensor(grid), mode=kind, padding_mode=name, align_corners=False
    )
    np.testing.assert_allclose(warped(x, list(matrix), list(shift), mode, 0.0, kind), np.moveaxis(expected.numpy(), 1, -1), atol=1e-9)


def test_crops_are_parts_and_squares_cover_what_they_should():
    crops = changed(nn.RandomCrop(3, 4), np.broadcast_to(X[:1], (200, 5, 5, 3)))
    parts = [X[0, i : i + 3, j : j + 4] for i in range(3) for j in range(2)]
    which = [next(i for i, part in enumerate(parts) if np.array_equal(part, crop)) for crop in crops]
    assert min(np.bincount(which, minlength=6)) > 10
    covered = changed(nn.Cutout(3), np.ones((500, 8, 9, 1), "f4"))[..., 0] == 0
    np.testing.assert_allclose(covered.sum((1, 2)).max(), 9)
    np.testing.assert_allclose(covered.any(0), True)
    assert covered[:, 0, 0].mean() == pytest.approx(4 / 72, abs=0.04)
    flips = changed(nn.RandomFlip("vertical"), np.broadcast_to(X[:1], (400, 5, 5, 3)))
    mirrored = np.array([np.array_equal(flip, X[0, ::-1]) for flip in flips])
    assert mirrored.mean() == pytest.approx(0.5, abs=0.12)
    np.testing.assert_array_equal(flips[~mirrored], np.broadcast_to(X[:1], flips[~mirrored].shape))


@each([
    (lambda: nn.RandomFlip("left"), UnknownNameError, "unknown mode of RandomFlip: 'left'"),
    (lambda: nn.RandomCrop(0, 3), ArgumentError, "RandomCrop: height must be"),
    (lambda: nn.RandomCrop(6, 3).output_spec((2, 5, 5, 1)), ShapeError, "6 × 3 is larger than pictures of 5 × 5"),
    (lambda: nn.RandomFlip().output_spec((2, 5, 5)), ShapeError, r"RandomFlip takes \(samples, height, width, channels\)"),
    (lambda: nn.Cutout(1.5), ArgumentError, "Cutout: size must be"),
    (lambda: nn.RandomBrightness(-0.1), ArgumentError, "RandomBrightness: factor is a number from 0 up, or a pair of its ends, got -0.1"),
    (lambda: nn.RandomContrast(0.1, (1.0, 0.0)), ArgumentError, "value_range is a number"),
    (lambda: nn.RandomRotation("half"), ArgumentError, "RandomRotation: factor"),
    (lambda: nn.RandomRotation(0.1, "mirror"), UnknownNameError, "unknown fill_mode of RandomRotation: 'mirror'"),
    (lambda: nn.RandomZoom((-1.0, 0.5)), ArgumentError, "RandomZoom: height_factor is above -1"),
    (lambda: nn.RandomAffine(zoom=1.0), ArgumentError, "RandomAffine: zoom is above -1"),
    (lambda: nn.RandomRotation(30), ArgumentError, r"factor is in full turns \(20 degrees are 20 / 360\), from -1 to 1, got 30"),
    (lambda: nn.RandomTranslation(4, 4), ArgumentError, "height_factor is in parts of the height, from -1 to 1, got 4"),
    (lambda: nn.RandomBrightness(0.1).init(dt.key(0), np.ones((1, 2, 2, 3), "u1")), DTypeError, "pictures of uint8 do not fit"),
    (lambda: nn.MixUp(0), ArgumentError, "MixUp: alpha"),
])  # fmt: skip
def test_mistakes_are_named(mistake, kind, words):
    with pytest.raises(kind, match=words):
        mistake()
