"""Weights by name: given, saved, and loaded into the same model and into others."""

import io

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, CheckpointError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(40, 6)).astype("f4"), RANDOM.integers(0, 2, 40)


def new(units=8, **options):
    layers = [dt.nn.Dense(units, "tanh"), dt.nn.BatchNorm(), dt.nn.Dense(2)]
    return dt.Trainer(dt.nn.Sequential(layers, input_shape=(6,)), loss="cross_entropy", engine="inline", **options)


@pytest.fixture(scope="module")
def trained():
    trainer = new(optimizer=dt.optim.by_name({"*.bias": "sgd", "*": "adam"}))
    trainer.fit(X, Y, epochs=2, verbose=0)
    return trainer


def same(a, b):
    assert list(a) == list(b)
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name])


def test_names_are_those_of_layers_and_statistics_come_last(trained):
    weights = trained.weights()
    assert {name: array.shape for name, array in weights.items()} == {
        "dense_1.kernel": (6, 8),
        "dense_1.bias": (8,),
        "batch_norm_1.scale": (8,),
        "batch_norm_1.offset": (8,),
        "dense_2.kernel": (8, 2),
        "dense_2.bias": (2,),
        "batch_norm_1.mean": (8,),
        "batch_norm_1.variance": (8,),
    }
    np.testing.assert_array_equal(weights["dense_1.bias"], trained.parameters["dense_1"]["bias"])
    weights["dense_1.bias"][...] = 7
    assert not (trained.weights()["dense_1.bias"] == 7).any()


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz", "deep/w.NPZ", "checkpoint"])
def test_there_and_back(trained, tmp_path, name):
    (trained.save if name == "checkpoint" else trained.save_weights)(tmp_path / name)
    fresh = new()
    report = fresh.load_weights(tmp_path / name)
    same(fresh.weights(), trained.weights())
    assert report.loaded == tuple(trained.weights())
    assert report.problems == []
    np.testing.assert_array_equal(_fit(fresh, 0.0).predict(X), trained.predict(X))


def _fit(trainer, rate):
    """Steps that change no parameter, so that it may predict."""
    trainer.optimizer = dt.optim.sgd(rate)
    statistics = {n: v for n, v in trainer.weights().items() if n.endswith(("mean", "variance"))}
    trainer.fit(X, Y, verbose=0)
    trainer.load_weights(statistics, strict=False)
    return trainer


def test_other_libraries_write_files_that_are_read(tmp_path, trained):
    from safetensors.numpy import save_file

    save_file(trained.weights(), tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", **trained.weights())
    for name in ("w.safetensors", "w.npz"):
        fresh = new()
        fresh.load_weights(str(tmp_path / name))
        same(fresh.weights(), trained.weights())


def test_a_mapping_may_be_nested_and_of_any_numbers(trained):
    fresh = new()
    nest = {layer: {n: a.astype("f8") for n, a in arrays.items()} for layer, arrays in trained.parameters.items()}
    report = fresh.load_weights(nest, strict=False)
    assert report.missing == ("batch_norm_1.mean", "batch_norm_1.variance")
    np.testing.assert_array_equal(fresh.weights()["dense_2.kernel"], trained.parameters["dense_2"]["kernel"])


def test_what_does_not_fit_is_named_and_the_rest_is_loaded_only_without_strict(trained):
    other, weights = new(units=5), trained.weights()
    weights["head.kernel"] = weights.pop("dense_2.bias")
    before = other.weights()
    with pytest.raises(
        ArgumentError, match=r"missing: dense_2\.bias; unexpected: head\.kernel; dense_1\.kernel: shape \(6, 8\) there, \(6, 5\)"
    ):
        other.load_weights(weights)
    same(other.weights(), before)
    report = other.load_weights(weights, strict=False)
    assert report.loaded == ()
    assert report.shapes["dense_2.kernel"] == ((8, 2), (5, 2))


def test_after_a_fit_the_optimiser_and_the_steps_stay(trained):
    trainer = new()
    trainer.fit(X, Y, verbose=0)
    before = trainer.state
    trainer.load_weights(trained.weights())
    same(trainer.weights(), trained.weights())
    assert trainer.state.step == before.step
    assert trainer.state.slots["first"].tobytes() == before.slots["first"].tobytes()


def test_weights_for_other_data_than_the_fit_has_are_refused_before_the_first_step():
    trainer = dt.Trainer(lambda p, x: np.mean(np.sum(x @ p["w"], axis=1) ** 2), {"w": np.ones((6, 2))}, engine="inline")
    assert trainer.load_weights({"w": np.zeros((6, 2))}).loaded == ("w",)
    trainer.fit(X, verbose=0)
    np.testing.assert_array_equal(trainer.parameters["w"], 0)


def test_a_model_that_does_not_know_its_input_has_no_weights_yet(trained):
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy")
    for ask in (trainer.weights, lambda: trainer.load_weights(trained.weights())):
        with pytest.raises(ArgumentError, match=r"before its model knows its input: call fit\(x, y\) first, or .*input_shape=\(64,\)"):
            ask()


@pytest.mark.parametrize("value", [np.nan, "text", None, 1j], ids=str)
def test_values_that_are_no_finite_numbers(trained, value):
    with pytest.raises(ArgumentError, match=r"the weights 'dense_1\.bias' are"):
        trained.load_weights({"dense_1.bias": np.array([value])}, strict=False)


def test_files_that_cannot_be_used(trained, tmp_path):
    with pytest.raises(ArgumentError, match=r"ends in \.safetensors or \.npz, got '.*w\.pt'"):
        trained.save_weights(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="there is no such file"):
        trained.load_weights(tmp_path / "none.npz")
    with pytest.raises(CheckpointError, match=r"is neither a file .* nor a folder with a checkpoint"):
        trained.load_weights(tmp_path / "w.pt")
    with pytest.raises(ArgumentError, match="a mapping from names to arrays, got a list"):
        trained.load_weights([1])
    pickled = io.BytesIO()
    np.savez(pickled, w=np.array([object()]))
    (tmp_path / "w.npz").write_bytes(pickled.getvalue())
    (tmp_path / "w.safetensors").write_bytes(b"\x00" * 20)
    for name in ("w.npz", "w.safetensors"):
        with pytest.raises(CheckpointError, match="holds no arrays that can be read"):
            trained.load_weights(tmp_path / name)
