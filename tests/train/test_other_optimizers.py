"""The optimiser is assigned, and the learning rate scaled, before and between fits."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import optim
from dagtrain.errors import ArgumentError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 6)).astype("f4")
Y = (X.sum(axis=1) > 0).astype("i8")


def new(optimizer="adam", **options):
    model = dt.nn.Sequential([dt.nn.Dense(8, "tanh"), dt.nn.Dense(2)], input_shape=(6,))
    return dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, shards=2, **{"engine": "inline", **options})


def fit(trainer, epochs=2, **options):
    return trainer.fit(X, Y, epochs=epochs, batch_size=20, verbose=0, **options)


def test_adam_after_sgd_is_adam_from_these_weights():
    """Its averages are young, whatever the number of steps before."""
    trainer = new(optim.sgd(0.1))
    fit(trainer)
    fresh = new(optim.adam(0.01), seed=0)
    fresh.load_weights(trainer.weights())
    trainer.optimizer = optim.adam(0.01)
    assert trainer.optimizer.name == "adam"
    fit(trainer, shuffle=False)
    fit(fresh, shuffle=False)
    for name, array in fresh.weights().items():
        np.testing.assert_array_equal(trainer.weights()[name], array)


def test_the_same_optimiser_assigned_changes_nothing():
    whole = fit(new(), 4).fingerprint
    trainer = new()
    fit(trainer)
    trainer.optimizer = optim.adam()
    assert fit(trainer).fingerprint == whole


def test_the_history_of_the_optimiser_is_in_the_checkpoint(tmp_path):
    trainer = new(optim.sgd(0.1))
    fit(trainer)
    trainer.optimizer = optim.by_name({"*.bias": optim.sgd(0.1), "*": optim.adam(0.01)})
    fit(trainer, checkpoint=tmp_path)
    loaded = dt.load(tmp_path, engine="inline")
    assert loaded.state.starts == {"*": 4}
    assert fit(loaded).fingerprint == fit(trainer).fingerprint


def test_before_a_fit_any_optimiser_may_be_assigned():
    trainer = new("sgd")
    trainer.optimizer = "adam"
    assert fit(trainer).fingerprint == fit(new("adam")).fingerprint


@pytest.mark.parametrize(
    ("optimizer", "message"), [(0.1, "an optimiser is a name or made by"), (optim.by_name({"x.*": "sgd"}), "no parameter")]
)
def test_an_optimiser_that_does_not_fit_is_refused_and_changes_nothing(optimizer, message):
    whole = fit(new(), 4).fingerprint
    trainer = new()
    fit(trainer)
    with pytest.raises(ArgumentError, match=message):
        trainer.optimizer = optimizer
    assert fit(trainer).fingerprint == whole


def test_not_during_a_fit():
    class Assign(dt.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            self.trainer.optimizer = "sgd"

    with pytest.raises(ArgumentError, match="cannot be replaced during a fit"):
        fit(new(), callbacks=[Assign()])


def test_weights_of_other_groups_are_not_restored_by_place():
    trainer = new("sgd")
    fit(trainer)
    before = trainer.state
    trainer.optimizer = optim.by_name({"*.bias": "sgd", "*": "sgd"})
    with pytest.raises(ArgumentError, match=r"other groups of parameters: use weights\(\)"):
        trainer.restore_weights(before)


def test_a_scale_before_the_first_fit_is_that_of_the_first_step():
    trainer = new(optim.sgd(0.2))
    trainer.learning_rate_scale = 0.5
    assert trainer.learning_rate_scale == 0.5
    assert fit(trainer).fingerprint == fit(new(optim.sgd(0.1))).fingerprint
    assert trainer.learning_rate_scale == 0.5


def test_an_optimiser_without_a_rate_refuses_a_scale_at_the_latest_when_it_begins():
    trainer = new(optim.clip_by_value(1.0))
    trainer.learning_rate_scale = 0.5
    with pytest.raises(ArgumentError, match="has no learning rate to scale"):
        fit(trainer)


def test_the_rules_resume_to_the_same_bits_in_groups(tmp_path):
    rates = [optim.amsgrad(0.01), optim.nadam(0.01), optim.radam(0.01, beta_2=0.9), optim.lion(0.001), optim.lookahead("sgd", 3)]
    for i, rate in enumerate(rates):
        rule = optim.averaged(optim.scaled(optim.by_name({"*.bias": "adam", "*": rate}), optim.join([optim.warmup(1.0, 3), 0.5], [5])))
        whole, stopped = new(rule), new(rule)
        fit(stopped, checkpoint=tmp_path / str(i))
        resumed = dt.load(tmp_path / str(i), engine="inline")
        assert fit(whole, 4).fingerprint == fit(resumed).fingerprint
        np.testing.assert_array_equal(whole.weights("average")["dense_1.kernel"], resumed.weights("average")["dense_1.kernel"])
