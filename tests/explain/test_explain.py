"""What a model sees: outputs of layers by name, filters, and occlusion, which is highest where the pattern is."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, DataError, ShapeError, UnknownNameError
from dagtrain.explain import activations, filters, layer_graph, occlusion

X = np.random.default_rng(0).normal(size=(7, 6, 6, 2)).astype("f4")


@pytest.fixture(scope="module")
def trainer():
    x = nn.Input((6, 6, 2), name="x")
    shared = nn.Conv2D(2, 3, padding="same", name="shared")
    inner = nn.Input((6, 6, 2))
    module = nn.Model(inner, nn.BatchNorm(name="norm")(shared(inner)), name="module")
    y = nn.Dropout(0.5)(nn.Dense(3)(nn.Flatten()(shared(module(x)))))
    trainer = dt.Trainer(nn.Model(x, y), loss="cross_entropy", shards=1)
    trainer.fit(X, np.arange(7) % 3, epochs=2, verbose=0)
    return trainer


def test_outputs_of_layers_are_those_of_evaluation_at_any_depth(trainer):
    names = ["module", "module.shared", "module.norm", "module.shared#2", "flatten_1", "dense_1", "dropout_1"]
    assert list(layer_graph(trainer).outputs) == names
    found = activations(trainer, X, batch_size=3)
    np.testing.assert_allclose(found["dropout_1"], trainer.predict(X), rtol=1e-5, atol=1e-6)
    kernel, bias = (trainer.weights()[f"module.shared.{name}"] for name in ("kernel", "bias"))
    for name, x in {"module.shared": X, "module.shared#2": found["module"]}.items():
        np.testing.assert_allclose(found[name], nn.spatial.conv(x, kernel, padding="same") + bias, rtol=1e-4, atol=1e-5)
    w = trainer.weights()
    expected = (found["module.shared"] - w["module.norm.mean"]) / np.sqrt(w["module.norm.variance"] + 1e-5)
    np.testing.assert_allclose(found["module.norm"], expected * w["module.norm.scale"] + w["module.norm.offset"], rtol=1e-4, atol=1e-5)


def test_layers_are_chosen_by_name_and_pattern(trainer):
    assert list(activations(trainer, X, "module.*")) == ["module.shared", "module.norm", "module.shared#2"]
    assert list(activations(trainer, X, ["dense_1", "module"])) == ["module", "dense_1"]
    with pytest.raises(UnknownNameError, match=r"unknown layer 'dense_2'\. Did you mean 'dense_1'"):
        activations(trainer, X, "dense_2")
    cost = dt.Trainer(lambda p, x: (x @ p) ** 2, parameters=np.ones(2))
    cost.fit(X[:, 0, 0], verbose=0)
    with pytest.raises(ArgumentError, match="a cost function has no layers"):
        activations(cost, X[:, 0, 0])


def test_filters(trainer):
    assert np.array_equal(filters(trainer, "module.shared")[1], trainer.weights()["module.shared.kernel"][..., 1])
    dense = filters(trainer, "dense_1", (6, 6, 2))
    assert np.array_equal(dense[2].ravel(), trainer.weights()["dense_1.kernel"][:, 2])
    assert filters(trainer, "dense_1", (8, 9)).shape == (3, 8, 9, 1)
    with pytest.raises(UnknownNameError, match=r"Known: dense_1, module\.shared"):
        filters(trainer, "flatten_1")
    with pytest.raises(ShapeError, match="which has 72 features, got None"):
        filters(trainer, "dense_1")
    with pytest.raises(ArgumentError, match="leave shape= out"):
        filters(trainer, "module.shared", (3, 3))


def detector(size):
    """The highest response anywhere to a cross of 3 × 3, and to a full square of it."""
    kernel = np.stack([np.float32([[0, 1, 0], [1, 1, 1], [0, 1, 0]]), np.ones((3, 3), "f4") / 2], axis=-1)[:, :, None]
    model = nn.Sequential([nn.Conv2D(2, 3, use_bias=False), nn.GlobalMaxPooling2D()], input_shape=(size, size, 1))
    trainer = dt.Trainer(model, loss="cross_entropy")
    trainer.load_weights({"conv2d_1.kernel": kernel})
    return trainer


def test_occlusion_is_highest_where_the_pattern_is():
    places = [(0, 0), (2, 6), (7, 3)]
    pictures = np.full((3, 10, 10, 1), 0.1, "f4")
    for picture, (row, column) in zip(pictures, places, strict=True):
        picture[row : row + 3, column : column + 3, 0] += [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    falls = occlusion(detector(10), pictures, size=1)
    assert falls.shape == (3, 10, 10)
    for fall, (row, column) in zip(falls, places, strict=True):
        np.testing.assert_allclose(fall[row : row + 3, column : column + 3], [[0, 1.1, 0], [1.1, 1.1, 1.1], [0, 1.1, 0]], atol=1e-6)
        assert fall.sum() == pytest.approx(5.5)
    # Larger squares: the place with the largest fall is still within the pattern.
    for fall, (row, column) in zip(occlusion(detector(10), pictures, size=3, stride=2), places, strict=True):
        top, left = np.unravel_index(fall.argmax(), fall.shape)
        assert row <= top < row + 3
        assert column <= left < column + 3
    other = occlusion(detector(10), pictures, size=1, target=1)
    assert not np.allclose(other, falls)
    assert np.array_equal(occlusion(detector(10), pictures, size=1, target=[0, 1, 0])[1], other[1])


def test_occlusion_of_one_of_several_inputs_and_outputs():
    a, b = nn.Input((4, 4), name="a"), nn.Input((2,), name="b")
    flat = nn.Flatten()(a)
    model = nn.Model([a, b], {"one": nn.Dense(2)(flat), "two": nn.Dense(2)(nn.Concatenate()([flat, b]))})
    trainer = dt.Trainer(model, loss={"one": "cross_entropy", "two": "cross_entropy"})
    x = {"a": np.ones((3, 4, 4), "f4"), "b": np.ones((3, 2), "f4")}
    kernel = trainer.weights()["dense_2.kernel"][:16, 1].reshape(4, 4)
    np.testing.assert_allclose(occlusion(trainer, x, 1, target=1, output="two", column="a")[0], kernel, atol=1e-6)
    for names, words in (
        ({"column": "a"}, "one, two: name one by output="),
        ({"column": "a", "output": "three"}, "unknown output of the model 'three'"),
        ({"column": "c", "output": "one"}, "unknown input of the model 'c'"),
    ):
        with pytest.raises(ArgumentError, match=words):
            occlusion(trainer, x, 1, **names)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"x": np.zeros((2, 10))}, ShapeError, "pictures are"),
        ({"size": 11}, ArgumentError, "a square of 11 × 11 does not fit a picture of 10 × 10"),
        ({"x": np.zeros((10, 10, 1))}, ShapeError, r"takes samples of shape \(10, 10, 1\)"),
        ({"x": np.zeros((0, 10, 10, 1))}, DataError, "x is empty"),
        ({"x": {"a": np.zeros((2, 10, 10, 1))}}, ArgumentError, "column= names the pictures"),
        ({"output": "a"}, ArgumentError, "one output, which has no name"),
        ({"value": np.nan}, ArgumentError, "value is a finite number"),
        ({"x": np.zeros((2, 10, 10, 1), "u1"), "value": 0.5}, ArgumentError, "value is a whole number, as the pictures hold, got 0.5"),
        ({"target": [0, 1, 0]}, ArgumentError, r"for all 2 rows or one for each, got the shape \(3,\)"),
        ({"target": 2}, ArgumentError, "a whole number from 0 to 1, got 2"),
        ({"stride": 0}, ArgumentError, "stride must be a whole number from 1 up"),
    ],
)
def test_mistakes_are_named(arguments, kind, words):
    with pytest.raises(kind, match=words):
        occlusion(detector(10), **{"x": np.zeros((2, 10, 10, 1)), **arguments})
