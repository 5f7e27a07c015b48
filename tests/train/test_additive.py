"""A cost must add up over rows, or it would depend on the number of shards."""

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, NotScalarError, ShapeError
from dagtrain.train import additive

RANDOM = np.random.default_rng(8)
X = RANDOM.normal(size=(16, 4)).astype("f4")
X[:, 3] = np.arange(16) % 3 > 0  # a mask
Y = RANDOM.normal(size=16).astype("f4")


def errors(params, x, y):
    return x[:, 3] * (x[:, :3] @ params["w"] - y) ** 2


COSTS = {
    "masked mean": lambda p, x, y: np.sum(errors(p, x, y)) / np.sum(x[:, 3]),
    "sum": lambda p, x, y: np.sum(errors(p, x, y)),
    "mean and rows": lambda p, x, y: (np.mean(errors(p, x, y)), np.sum(x[:, 3])),
    "largest": lambda p, x, y: np.max(errors(p, x, y)),
    "root of the mean": lambda p, x, y: np.sqrt(np.mean(errors(p, x, y))),
    "sum that is 0 at first": lambda p, x, y: -np.sum(y * (x[:, :3] @ (p["w"] - 1))),
    "penalty added to a sum": lambda p, x, y: (np.sum(errors(p, x, y)) + 10 * np.sum((p["w"] - 1) ** 2), x.shape[0]),
}


def trainer(cost, shards=2, **options):
    return dt.Trainer(cost, parameters={"w": np.ones(3, "f4")}, shards=shards, engine="inline", **options)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_a_cost_that_does_not_add_up_is_refused(cost, lazy, shards):
    x = da.from_array(X, chunks=(5, 4)) if lazy else X
    with pytest.raises(NotScalarError, match=r"the cost does not add up over rows.*\(sum, weight\)"):
        trainer(cost, shards).fit(x, Y, batch_size=16, verbose=0)


def test_a_mean_one_value_a_row_and_a_sum_with_its_weight_are_the_same():
    def fit(cost):
        return trainer(cost).fit(X, Y, epochs=2, batch_size=8, verbose=0).history["loss"]

    mean = fit(lambda p, x, y: np.mean(errors(p, x, y)))
    assert fit(errors) == pytest.approx(mean, rel=1e-5)
    assert fit(lambda p, x, y: (np.sum(errors(p, x, y)), x.shape[0])) == pytest.approx(mean, rel=1e-5)


def test_a_penalty_on_parameters_adds_up():
    trainer(lambda p, x, y: np.mean(errors(p, x, y)) + 0.1 * np.sum(p["w"] ** 2)).fit(X, Y, batch_size=8, verbose=0)


def test_a_cost_that_couples_rows_on_purpose(tmp_path):
    coupled = trainer(COSTS["largest"], coupled=True)
    coupled.fit(X, Y, batch_size=16, verbose=0)
    coupled.save(tmp_path)
    dt.load(tmp_path, model=COSTS["largest"]).fit(X, Y, batch_size=16, verbose=0)


def test_losses_and_metrics_of_the_user_are_checked():
    model = dt.nn.Sequential([dt.nn.Dense(1)])

    def fit(loss, metrics=()):
        dt.Trainer(model, loss=loss, metrics=metrics, shards=2, engine="inline").fit(X, Y, batch_size=8, verbose=0)

    def worst(outputs, y):
        return np.max(np.abs(outputs[:, 0] - y))

    fit(lambda outputs, y: (outputs[:, 0] - y) ** 2)
    with pytest.raises(NotScalarError, match="the cost does not add up"):
        fit(lambda outputs, y: np.sum((outputs[:, 0] - y) ** 2))
    with pytest.raises(NotScalarError, match="the metric 'worst' does not add up"):
        fit("mean_squared_error", [worst])
    wrong_parts = dt.nn.metrics.Metric("wrong", lambda outputs, y, w=None: np.stack([np.mean(outputs), 1.0]).astype("f8"))
    with pytest.raises(NotScalarError, match="the metric 'wrong' does not add up"):
        fit("mean_squared_error", [wrong_parts])
    with pytest.raises(NotScalarError, match="the cost does not add up"):
        fit(dt.nn.losses.Loss("mean_squared_error", worst, "like_outputs"))
    with pytest.raises(NotScalarError, match="the metric 'worst' does not add up"):
        fit("mean_squared_error", [dt.nn.losses.find(worst)])


def test_losses_and_metrics_of_dagtrain_are_not_checked():
    names = ["mse", "r2", dt.nn.metrics.find("huber", delta=0.5), dt.nn.losses.find("mean_absolute_error")]
    for loss in ("mse", dt.nn.losses.find("huber", delta=2.0)):
        objective = dt.step.ModelObjective(dt.nn.Sequential([dt.nn.Dense(1)]), loss, names)
        assert not additive._has_functions_of_the_user(objective)


def test_a_column_against_a_vector_of_targets_is_refused_by_its_line():
    cost = trainer(lambda p, x, y: np.mean((x[:, :3] @ p["w"].reshape((3, 1)) - y) ** 2))
    with pytest.raises(ShapeError, match=r"\(8, 1\) and \(8,\) of 8 samples .*test_additive.py:\d+"):
        cost.fit(X, Y, batch_size=16, verbose=0)


@pytest.mark.parametrize("density", [0.5, 0.9])
def test_masked_means_are_seen_in_any_data(density):
    """Also where the mask leaves nearly all rows, and where only late rows are masked."""
    random = np.random.default_rng(int(10 * density))
    for seed in range(10):
        x = random.normal(size=(400, 4)).astype("f4")
        x[:, 3] = random.random(400) < density
        x[:200, 3] = 1 if seed % 2 else x[:200, 3]
        y = random.normal(size=400).astype("f4")
        with pytest.raises(NotScalarError, match="does not add up"):
            trainer(COSTS["masked mean"]).fit(x, y, batch_size=100, verbose=0)


def test_a_fit_continues_from_the_solution():
    x = RANDOM.normal(size=(64, 4)).astype("f4")
    x[:, 3] = 1
    solved = trainer(lambda p, x, y: np.mean(errors(p, x, y)), optimizer=dt.optim.sgd(0.1))
    for _ in range(2):
        solved.fit(x, x[:, :3].sum(axis=1), epochs=40, batch_size=16, verbose=0)


def test_a_refused_trainer_is_untrained():
    refused = trainer(COSTS["sum"])
    with pytest.raises(NotScalarError):
        refused.fit(X, Y, batch_size=16, verbose=0)
    with pytest.raises(ArgumentError, match="before it was fitted"):
        _ = refused.state


def test_metrics_of_coupled_losses_are_checked_and_distances_of_pairs_are_taken():
    def distances(params, x, y):
        z = x[:, :3] * params["w"]
        return np.mean(np.sum(z**2, axis=1, keepdims=True) + np.sum(z**2, axis=1) - 2 * z @ z.T)

    trainer(distances, coupled=True).fit(X, Y, batch_size=8, verbose=0)
    with pytest.raises(ArgumentError, match="coupled is True or False"):
        trainer(distances, coupled="no")
