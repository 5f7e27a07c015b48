"""A loss of NaN or infinity: the error names the step, the shard, the op and the user's line, and the trainer keeps the last good state."""

import inspect

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data import BatchPlan
from dagtrain.errors import NotFiniteError
from dagtrain.train.diagnose import first_not_finite

X = np.random.default_rng(0).random((48, 3)).astype("f4") + 0.5
LABELS = np.arange(48) % 3


def logarithms(w, x):
    """NaN where a row and w have a negative product."""
    products = x @ w
    return np.mean(np.log(products))


def line_of(function, text):
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


def spoilt(row):
    x = X.copy()
    x[row] = -10.0
    return x


def log_trainer(**options):
    optimizer = dt.optim.sgd(1e-3)
    return dt.Trainer(logarithms, optimizer=optimizer, parameters=np.ones(3, "f4"), **{"shards": 4, "engine": "inline", **options})


@pytest.mark.parametrize("row", [0, 20, 47])
def test_the_error_names_op_step_shard_and_line(row):
    plan = BatchPlan(48, 16, 4, seed=0)
    ((step, shard),) = [(i, s) for i in range(3) for s, rows in enumerate(plan.step(0, i)) if row in rows]
    with pytest.raises(NotFiniteError) as caught:
        log_trainer().fit(spoilt(row), batch_size=16, verbose=0)
    message = str(caught.value)
    assert "'log'" in message
    assert f"step {step}, shard {shard} " in message
    assert f"{__file__}:{line_of(logarithms, 'np.log')} in logarithms" in message


def test_the_cause_is_named_and_not_its_consequence():
    """Exp overflows; the difference of two infinities is the NaN of the loss."""

    def cost(w, x):
        large = np.exp(x @ w)
        return np.mean(large - large / 2)

    with pytest.raises(NotFiniteError, match=f"'exp'.*:{line_of(cost, 'np.exp')} in "):
        dt.Trainer(cost, parameters=np.full(3, 100.0, "f4"), shards=2).fit(X, verbose=0)


def test_intended_infinities_are_not_the_cause():
    def cost(w, x):
        masked = np.where(x > 0, x, -np.inf)
        return np.mean(np.max(masked, axis=1)) + np.mean(np.log(x @ w))

    with pytest.raises(NotFiniteError, match=f"'log'.*:{line_of(cost, 'np.log')} in "):
        dt.Trainer(cost, parameters=np.full(3, -1.0, "f4"), shards=2).fit(np.vstack([X, -X[:1]]), verbose=0)


def test_a_constant_is_not_the_cause():
    def cost(w, x):
        return np.mean((x - x) * np.inf) + np.sum(w)

    with pytest.raises(NotFiniteError, match="'multiply'"):
        dt.Trainer(cost, parameters=np.ones(3, "f4"), shards=2).fit(X, verbose=0)


def test_a_gradient_that_breaks_before_the_loss_does():
    """The square root of zero is zero, its derivative infinite."""

    def cost(w, x):
        return np.mean(np.sqrt(np.abs(x @ w)))

    with pytest.raises(NotFiniteError, match=r"step 0, shard 0 .*gradient of"):
        dt.Trainer(cost, optimizer="sgd", parameters=np.zeros(3, "f4"), shards=2).fit(X, batch_size=48, verbose=0)


def test_a_huge_learning_rate_is_named():
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(3)]), loss="mean_squared_error", optimizer=dt.optim.sgd(1e30), shards=2)
    with pytest.raises(NotFiniteError, match="learning rate"):
        trainer.fit(X, X, epochs=5, batch_size=48, verbose=0)


def test_an_update_that_breaks_the_weights_in_the_very_last_step():
    """All losses that fit reports are finite."""
    trainer = dt.Trainer(lambda w, x: -np.mean(x @ w), optimizer=dt.optim.sgd(1e38), parameters=np.zeros(3, "f4"), shards=2)
    with pytest.raises(NotFiniteError, match=r"update of step 0 \(sgd\).*learning rate"):
        trainer.fit(X * 100, batch_size=48, verbose=0)


def test_the_layer_of_a_model_is_named():
    model = dt.nn.Sequential([dt.nn.Dense(4), dt.nn.Dense(3)])
    trainer = dt.Trainer(model, loss="mean_squared_error", optimizer=dt.optim.sgd(1e20), shards=2)
    with pytest.raises(NotFiniteError, match=r"of (dense_1|dense_2|loss)"):
        trainer.fit(X, X, epochs=9, batch_size=24, verbose=0)


def test_the_state_stays_that_of_the_last_good_epoch():
    trainer, other = log_trainer(), log_trainer()
    trainer.fit(X, epochs=2, batch_size=16, verbose=0)
    with pytest.raises(NotFiniteError):
        trainer.fit(spoilt(20), epochs=2, batch_size=16, verbose=0)
    other.fit(X, epochs=2, batch_size=16, verbose=0)
    assert np.array_equal(trainer.parameters, other.parameters)
    history, expected = (t.fit(X, epochs=1, batch_size=16, verbose=0) for t in (trainer, other))
    assert history.fingerprint == expected.fingerprint


def test_a_first_epoch_that_breaks_leaves_an_untrained_trainer():
    trainer = log_trainer()
    with pytest.raises(NotFiniteError):
        trainer.fit(spoilt(20), batch_size=16, verbose=0)
    assert trainer.fit(X, batch_size=16, verbose=0).fingerprint == log_trainer().fit(X, batch_size=16, verbose=0).fingerprint


def test_finite_values_have_no_cause():
    graph = dt.trace(np.log, dt.Spec((2,), np.dtype("f8")))
    assert first_not_finite(graph, [np.array([1.0, 2.0])]) is None
    assert first_not_finite(graph, [np.array([1.0, -2.0])]).op == "log"
