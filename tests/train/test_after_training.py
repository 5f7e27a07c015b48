"""A trainer after fit: history, predictions, metrics of other data."""

import pickle
import threading

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DataError

pytestmark = pytest.mark.combined


@pytest.fixture(scope="module")
def fitted(digits):
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(16, "relu"), dt.nn.Dropout(0.5), dt.nn.Dense(10)]
    trainer = dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", optimizer=dt.optim.adam(1e-2), metrics=["accuracy"], shards=4)
    trainer.fit(digits.x[:400], digits.y[:400], epochs=2, batch_size=64, verbose=0)
    return trainer


def outputs_by_hand(trainer, x):
    """The same network in plain NumPy, from the trainer's parameters."""
    program = trainer.program
    leaves = program.statistics_layout.tree(trainer.step_graph().tasks[state_key(trainer)]().state.statistics)
    p, (mean, variance) = trainer.parameters, (leaves["batch_norm_1"][k] for k in ("mean", "variance"))
    norm = p["batch_norm_1"]
    h = (x - mean) / np.sqrt(variance + 1e-5) * norm["scale"] + norm["offset"]
    h = np.maximum(h @ p["dense_1"]["kernel"] + p["dense_1"]["bias"], 0)
    return h @ p["dense_2"]["kernel"] + p["dense_2"]["bias"]


def state_key(trainer):
    return next(key for key in trainer.step_graph().tasks if str(key).startswith("state-"))


def test_predict_gives_the_outputs_of_the_trained_model(fitted, digits):
    outputs = fitted.predict(digits.x_validation)
    assert outputs.shape == (360, 10)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, outputs_by_hand(fitted, digits.x_validation), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 5000])
def test_predict_in_pieces(fitted, digits, batch_size):
    x = digits.x_validation[:50]
    np.testing.assert_allclose(fitted.predict(x, batch_size=batch_size), fitted.predict(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("x", [[[0.5] * 64], np.full((1, 64), 0.5), np.zeros((3, 64), int)], ids=["list", "wide", "integers"])
def test_predict_takes_what_fit_takes(fitted, x):
    assert fitted.predict(x).shape == (len(x), 10)


def test_predict_of_a_dask_array_is_lazy_and_has_a_known_shape(fitted, digits):
    ran = []
    x = da.from_array(digits.x_validation, chunks=(100, 30)).map_blocks(
        lambda block: (ran.append(1), block)[1], meta=np.empty((0, 0), "f4")
    )
    outputs = fitted.predict(x)
    assert not ran
    assert outputs.shape == (360, 10)
    assert outputs.dtype == np.float32
    assert outputs.chunks == ((100, 100, 100, 60), (10,))
    assert isinstance(outputs._meta, np.ndarray)
    assert outputs._meta.shape == (0, 0)
    np.testing.assert_allclose(outputs.compute(scheduler="threads"), fitted.predict(digits.x_validation), rtol=1e-5, atol=1e-6)


def test_predict_of_many_chunks_on_threads(fitted, digits):
    x = da.from_array(np.vstack([digits.x] * 3), chunks=(61, 64))
    outputs = fitted.predict(x).compute(scheduler="threads", num_workers=8)
    np.testing.assert_allclose(outputs, fitted.predict(x.compute()), rtol=1e-4, atol=1e-5)


def test_predict_of_chunks_of_unknown_size(fitted, digits):
    x = da.from_array(digits.x_validation, chunks=(90, 64))
    bright = x[x.mean(axis=1) > 0.3]
    rows = digits.x_validation[digits.x_validation.mean(axis=1) > 0.3]
    np.testing.assert_allclose(fitted.predict(bright).compute(), fitted.predict(rows), rtol=1e-5, atol=1e-6)


def test_predictions_of_other_weights_have_other_names(digits):
    """Dask takes equal names for equal values."""
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(10)]), loss="cross_entropy", shards=2)
    x = da.from_array(digits.x[:64], chunks=(32, 64))
    names, values = [], []
    for _ in range(2):
        trainer.fit(digits.x[:64], digits.y[:64], batch_size=64, verbose=0)
        names += [trainer.predict(x).name, trainer.predict(x).name]
        values.append(trainer.predict(x).compute())
    assert names[0] == names[1] != names[2] == names[3]
    assert not np.array_equal(*values)


def test_predictions_do_not_follow_the_trainer(digits):
    """A lazy prediction uses the weights of the time of the call."""
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(10)]), loss="cross_entropy", shards=2)
    trainer.fit(digits.x[:64], digits.y[:64], batch_size=64, verbose=0)
    now, later = trainer.predict(digits.x[:8]), trainer.predict(da.from_array(digits.x[:8], chunks=4))
    trainer.fit(digits.x[:64], digits.y[:64], batch_size=64, verbose=0)
    np.testing.assert_allclose(later.compute(), now, rtol=1e-5, atol=1e-6)


def test_outputs_of_several_axes():
    class Grid(dt.nn.Layer):
        def forward(self, c, x):
            return np.expand_dims(x * c.parameter("w", (3,), "ones"), -1) * np.ones(2, "f4")

    x = np.random.default_rng(0).random((12, 3)).astype("f4")
    trainer = dt.Trainer(Grid(), loss="mean_squared_error", optimizer="sgd", shards=2)
    trainer.fit(x, np.zeros((12, 3, 2), "f4"), verbose=0)
    lazy = trainer.predict(da.from_array(x, chunks=(5, 2)))
    assert lazy.shape == (12, 3, 2)
    np.testing.assert_allclose(lazy.compute(), trainer.predict(x), rtol=1e-6)


def test_labels_of_several_axes():
    """A class for each of three positions of a row, as in tagging a sequence."""

    class Tagger(dt.nn.Layer):
        def forward(self, c, x):
            return np.expand_dims(x, -1) * c.parameter("w", (3, 4), "zeros")

    x = np.random.default_rng(0).random((24, 3)).astype("f4") + 0.5
    y = np.broadcast_to(np.array([3, 0, 2]), (24, 3))
    trainer = dt.Trainer(Tagger(), loss="cross_entropy", optimizer=dt.optim.adam(0.1), metrics=["accuracy"], shards=2)
    trainer.fit(x, y, epochs=5, batch_size=8, verbose=0)
    assert trainer.evaluate(x, y)["accuracy"] == 1.0
    with pytest.raises(DataError, match="4 classes"):
        trainer.evaluate(x, y + 2)


def test_evaluate_gives_the_mean_over_the_samples(fitted, digits):
    outputs = fitted.predict(digits.x_validation).astype("f8")
    log_softmax = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
    metrics = fitted.evaluate(digits.x_validation, digits.y_validation)
    assert metrics["loss"] == pytest.approx(-log_softmax[np.arange(360), digits.y_validation].mean(), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx((outputs.argmax(axis=1) == digits.y_validation).mean(), rel=1e-6)
    assert list(metrics) == ["loss", "accuracy"]


def test_evaluate_of_more_rows_than_are_computed_at_once(fitted, digits):
    twice = fitted.evaluate(np.vstack([digits.x] * 2), np.tile(digits.y, 2))
    once = fitted.evaluate(digits.x, digits.y)
    assert twice["loss"] == pytest.approx(once["loss"], rel=1e-5)
    assert twice["accuracy"] == pytest.approx(once["accuracy"], rel=1e-6)


def test_evaluate_of_chunks(fitted, digits):
    chunked = fitted.evaluate(da.from_array(digits.x_validation, chunks=(77, 64)), da.from_array(digits.y_validation, chunks=100))
    once = fitted.evaluate(digits.x_validation, digits.y_validation)
    assert chunked == pytest.approx(once, rel=1e-6)


def test_history_has_a_value_for_each_epoch(digits):
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(10)]), loss="cross_entropy", metrics=["accuracy"], shards=2, seed=5)
    history = trainer.fit(digits.x, digits.y, epochs=3, batch_size=256, validation_data=digits[2:], verbose=0)
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "seconds", "samples_per_second"]
    assert list(history.history) == names
    assert {len(values) for values in history.history.values()} == {3}
    assert history.epochs == 3
    assert all(type(v) is float for values in history.history.values() for v in values)
    assert history.history["val_loss"][-1] == trainer.evaluate(*digits[2:])["loss"]
    assert trainer.history is history
    assert history.info.items() >= {"engine": "inline", "shards": 2, "samples": 1437, "parameters": 650, "seed": 5}.items()
    assert history.fingerprint[:16] in repr(history)
    assert len(history.fingerprint) == 64
    assert pickle.loads(pickle.dumps(history)) == history


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples():
    """Batches of 5, 5 and 1 sample; the rate is 0, so all use the same weights."""
    x = np.arange(11.0).reshape(11, 1)
    trainer = dt.Trainer(lambda w, x: np.mean(x * w), optimizer=dt.optim.sgd(0.0), parameters=np.ones(1, "f4"), shards=1)
    assert trainer.fit(x, batch_size=5, verbose=0).history["loss"] == [pytest.approx(5.0)]


def test_fit_is_silent_with_verbose_0(digits, capfd):
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(10)]), loss="cross_entropy", shards=2)
    trainer.fit(digits.x[:64], digits.y[:64], epochs=2, validation_data=digits[2:], verbose=0)
    assert capfd.readouterr() == ("", "")
    trainer.fit(digits.x[:64], digits.y[:64], verbose=2)
    assert "epoch" in capfd.readouterr().out


def test_parameters_are_to_read(fitted):
    with pytest.raises(ValueError, match="read-only"):
        fitted.parameters["dense_1"]["bias"][...] = 7


def test_the_graph_is_that_of_a_full_batchs_first_shard(fitted):
    assert fitted.graph().inputs["x"].shape == (16, 64)
    assert fitted.graph(5).inputs["x"].shape == (5, 64)


def test_threads_end_with_the_fit(digits):
    before = set(threading.enumerate())
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(10)]), loss="cross_entropy", shards=4, threads=4)
    trainer.fit(digits.x[:64], digits.y[:64], batch_size=64, verbose=0)
    assert {t for t in threading.enumerate() if t.name.startswith("dagtrain")} <= before


def test_summary_of_a_trained_model(digits):
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(10)]), loss="cross_entropy", shards=2)
    with pytest.raises(ArgumentError, match="call fit"):
        trainer.summary()
    trainer.fit(digits.x[:64], digits.y[:64], batch_size=64, verbose=0)
    assert "650" in str(trainer.summary())


def test_summary_of_a_model_that_a_trainer_fitted_or_loaded(digits, tmp_path):
    model = dt.nn.Sequential([dt.nn.Dense(10)])
    with pytest.raises(ArgumentError, match=r"model.summary\(\(1, 64\)\)"):
        model.summary()
    trainer = dt.Trainer(model, loss="cross_entropy", shards=2)
    trainer.fit(digits.x[:64], digits.y[:64], batch_size=64, verbose=0)
    assert trainer.summary().parameters == 650
    trainer.save(tmp_path)
    assert dt.load(tmp_path).summary().parameters == 650


def test_parameters_may_follow_the_cost_function(digits):
    trainer = dt.Trainer(lambda p, x: np.mean((x @ p["w"]) ** 2), {"w": np.ones((64, 1))}, shards=2)
    trainer.fit(digits.x[:64], batch_size=64, verbose=0)
    assert trainer.parameters["w"].shape == (64, 1)
    with pytest.raises(ArgumentError, match="parameters="):
        dt.Trainer(lambda p, x: 0.0, "cross_entropy")


@pytest.mark.parametrize("rows", [64, 1, 37])
def test_evaluation_does_not_depend_on_the_chunks(digits, rows):
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(10)]), loss="cross_entropy", metrics=["accuracy"], shards=2)
    trainer.fit(digits.x[:64], digits.y[:64], batch_size=64, verbose=0)
    whole = trainer.evaluate(digits.x[:64], digits.y[:64])
    x, y = (da.from_array(a[:64], chunks=(rows, *a.shape[1:])) for a in (digits.x, digits.y))
    assert trainer.evaluate(x, y) == whole


def test_probabilities_are_those_that_the_loss_stands_for(fitted, digits):
    logits, found = (fitted.predict(digits.x_validation, probabilities=p) for p in (False, True))
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, exp / exp.sum(axis=1, keepdims=True), rtol=1e-5)
    lazy = fitted.predict(da.from_array(digits.x_validation, chunks=(len(digits.x_validation), 64)), probabilities=True)
    assert np.array_equal(lazy.compute(), found)


def test_probabilities_by_sigmoid_and_none():
    x, y = np.random.default_rng(0).normal(size=(40, 3)).astype("f4"), (np.arange(40) % 2).astype("f4")

    def fit(loss):
        trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(1)]), loss=loss, shards=2, engine="inline")
        trainer.fit(x, y, verbose=0)
        return trainer

    binary = fit("binary_cross_entropy")
    np.testing.assert_allclose(binary.predict(x, probabilities=True), 1 / (1 + np.exp(-binary.predict(x))), rtol=1e-5)
    with pytest.raises(ArgumentError, match=r"mean_squared_error.*no probabilities"):
        fit("mean_squared_error").predict(x, probabilities=True)
