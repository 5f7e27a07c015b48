"""Training in float64: every float of a run has this dtype, gradients are PyTorch's, and bits do not depend on the engine."""

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DataError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 5))
Y = (X.sum(axis=1) > 0).astype("i8")
WEIGHT = RANDOM.uniform(size=90)


def make(dtype="float64", **options):
    layers = [dt.nn.Dense(8, "tanh"), dt.nn.BatchNorm(), dt.nn.Dropout(0.2), dt.nn.Dense(2)]
    model = dt.nn.Sequential(layers, input_shape=(5,))
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2))
    return dt.Trainer(
        model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], dtype=dtype, **{"engine": "inline", "shards": 3} | options
    )


def fit(trainer, x=X, **options):
    return trainer.fit(x, Y, **{"sample_weight": WEIGHT, "class_weight": "balanced", "batch_size": 24, "epochs": 2, "verbose": 0} | options)


@pytest.fixture(scope="module")
def trained():
    trainer = make()
    fit(trainer)
    return trainer


def dtypes(arrays):
    return {array.dtype.name for array in arrays}


def test_all_floats_of_a_run_have_its_dtype(trained):
    state = trained.state
    assert dtypes([state.parameters, *state.slots.values(), *trained.weights().values()]) == {"float64"}
    assert [spec.dtype.name for spec in trained.program.columns.specs] == ["float64", "int64", "float64"]
    assert trained.history.info["dtype"] == trained.dtype.name == "float64"
    assert dtypes([trained.predict(X), trained.predict(X, probabilities=True)]) == {"float64"}
    assert trained.graph().outputs["gradient.dense_1.kernel"].dtype == np.float64
    assert trained.summary().bytes == 8 * len(state.parameters)


def test_training_in_float64_is_not_training_in_float32_with_more_digits_to_show(trained):
    narrow = make("float32")
    fit(narrow)
    assert narrow.history.history["loss"] != trained.history.history["loss"]
    np.testing.assert_allclose(narrow.history.history["loss"], trained.history.history["loss"], rtol=1e-4)


def test_lazy_predictions_are_those_of_arrays(trained):
    lazy = trained.predict(da.from_array(X, chunks=(30, 5)))
    assert lazy.dtype == np.float64
    expected = np.concatenate([trained.predict(X[i : i + 30]) for i in (0, 30, 60)])
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)


def test_numbers_too_large_for_float32_are_trained_on(trained):
    large = np.where(np.arange(90)[:, None] == 7, 1e200, X)
    with pytest.raises(DataError, match=r'too large for float32.*dtype="float64"'):
        make("float32").fit(large, Y)
    model = dt.nn.Sequential([dt.nn.Activation("tanh"), dt.nn.Dense(2)])
    trainer = dt.Trainer(model, loss="cross_entropy", dtype="float64")
    trainer.fit(large, Y, verbose=0)
    assert np.isfinite(trainer.predict(large)).all()
    assert np.isfinite(trainer.predict(da.from_array(large, chunks=(45, 5))).compute(scheduler="sync")).all()


def test_integers_stay_and_meet_parameters_in_float64():
    pixels = (40 * np.abs(X)).astype("u1")
    trainer = make()
    trainer.fit(pixels, Y, verbose=0)
    assert trainer.program.columns.x.dtype == np.uint8
    assert dtypes([trainer.state.parameters, trainer.predict(pixels)]) == {"float64"}


def test_a_saved_run_is_loaded_in_its_dtype(trained, tmp_path):
    trained.save(tmp_path)
    loaded = dt.load(tmp_path)
    assert loaded.dtype == np.float64
    assert loaded.state.fingerprint == trained.state.fingerprint
    np.testing.assert_array_equal(loaded.predict(X), trained.predict(X))


def test_a_run_is_continued_in_its_dtype_alone(tmp_path):
    fit(make(), checkpoint=tmp_path, epochs=1)
    with pytest.raises(ArgumentError, match="dtype of the parameters: float64 there, float32 here"):
        fit(make("float32"), checkpoint=tmp_path, resume=True)
    whole = fit(make())
    assert fit(make(), checkpoint=tmp_path, resume=True).fingerprint == whole.fingerprint


def test_the_parameters_of_a_cost_function_stay_in_float64():
    def cost(p, x, y):
        return (x @ p["w"] - y) ** 2

    third = np.full(5, 1 / 3)
    trainer = dt.Trainer(cost, {"w": third}, optimizer=dt.optim.sgd(0.0), dtype="float64")
    trainer.fit(X, Y.astype(float), verbose=0)
    np.testing.assert_array_equal(trainer.parameters["w"], third)


def test_a_layer_asks_its_context_for_the_dtype():
    class Shift(dt.nn.Layer):
        def forward(self, c, x):
            assert c.dtype == np.float64
            return x + c.parameter("shift", x.shape[-1:], "zeros")

    dt.Trainer(dt.nn.Sequential([Shift(), dt.nn.Dense(2)]), loss="cross_entropy", dtype="float64").fit(X, Y, verbose=0)


@pytest.mark.parametrize("dtype", [None, "float16", "int64", "precise", 3])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ArgumentError, match=r'training computes in dtype "float32" or "float64", got'):
        make(dtype)


def test_the_dtype_is_fixed():
    with pytest.raises(AttributeError, match="dtype is fixed when a trainer is made"):
        make().dtype = "float32"


def test_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is what gradients are compared with")
    model = dt.nn.Sequential([dt.nn.Dense(16, "gelu"), dt.nn.LayerNorm(), dt.nn.Dense(3)], input_shape=(5,))
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.sgd(1.0), dtype="float64", shards=4)
    labels = RANDOM.integers(0, 3, 90)
    before = trainer.weights()
    trainer.fit(X, labels, sample_weight=WEIGHT, batch_size=90, verbose=0)
    gradients = {name: before[name] - value for name, value in trainer.weights().items()}
    p = {name: torch.tensor(value, requires_grad=True) for name, value in before.items()}
    hidden = torch.nn.functional.gelu(torch.tensor(X) @ p["dense_1.kernel"] + p["dense_1.bias"])
    normal = torch.nn.functional.layer_norm(hidden, (16,), p["layer_norm_1.scale"], p["layer_norm_1.offset"], eps=model.layers[1].epsilon)
    logits = normal @ p["dense_2.kernel"] + p["dense_2.bias"]
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="none")
    ((losses * torch.tensor(WEIGHT)).sum() / WEIGHT.sum()).backward()
    for name, value in p.items():
        np.testing.assert_allclose(gradients[name], value.grad.numpy(), rtol=0, atol=1e-12, err_msg=name)


def test_class_weights_and_held_out_samples_have_the_dtype():
    trainer = make()
    trainer.fit(X, Y, class_weight={0: 1 / 3, 1: 1.0}, validation_split=0.2, verbose=0)
    source = trainer._sample[0]
    assert set(np.unique(source.local()[2])) == {1 / 3, 1.0}


@pytest.mark.slow
def test_the_engines_give_the_same_bits(client, trained):
    for engine in ("lanes", "scheduler"):
        history = fit(make(engine=engine, client=client))
        assert history.fingerprint == trained.history.fingerprint, engine
        assert history.history["loss"] == trained.history.history["loss"], engine
