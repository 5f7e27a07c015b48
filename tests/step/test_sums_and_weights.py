"""A loss is a sum and a weight: any number of shards gives the loss, the gradient and the update of the whole batch."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DataError

SHARDS = [1, 2, 3, 5, 8]
ROWS, FEATURES = 16, 4
RANDOM = np.random.default_rng(5)
Y = RANDOM.normal(size=ROWS).astype("f4")
MASK = np.ones(ROWS, "f4")
MASK[[0, 1, 5, 9, 10]] = 0
WEIGHTS = {
    "mask": MASK,
    "weights": RANDOM.uniform(0, 3, ROWS).astype("f4"),
    "all but one masked": np.eye(1, ROWS, 3, dtype="f4")[0],
    "none": np.ones(ROWS, "f4"),
}
UPDATES = {
    "plain": lambda: dt.optim.sgd(1.0),
    "clipped": lambda: dt.optim.chain(dt.optim.clip_by_global_norm(0.05), dt.optim.sgd(1.0)),
    "decayed": lambda: dt.optim.chain(dt.optim.l2(0.3), dt.optim.sgd(1.0)),
}
START = RANDOM.normal(size=FEATURES).astype("f4")


def data(weights):
    """Features, with the weight of each row in the last column."""
    return np.concatenate([np.random.default_rng(6).normal(size=(ROWS, FEATURES)), weights[:, None]], axis=1).astype("f4")


def cost(params, x, y):
    weight = x[:, -1]
    return np.sum(weight * (x[:, :-1] @ params["w"] - y) ** 2), np.sum(weight)


def fitted(x, shards, optimizer, batch_size=ROWS, **options):
    trainer = dt.Trainer(cost, parameters={"w": START}, optimizer=optimizer, shards=shards, engine="inline", seed=2)
    history = trainer.fit(x, Y, epochs=1, batch_size=batch_size, verbose=0, **options)
    return trainer, history.history["loss"][0]


@pytest.mark.slow
@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_a_step_is_that_of_the_whole_batch(shards, weights, update):
    """Divided by the weight of the whole batch, as PyTorch does; then clipped and decayed."""
    x = data(weights)
    trainer, loss = fitted(x, shards, update())
    w = START.astype("f8")
    residual = x[:, :-1].astype("f8") @ w - Y
    total = weights.astype("f8").sum()
    gradient = 2 * (weights * residual) @ x[:, :-1].astype("f8") / total
    name = next(name for name, each in UPDATES.items() if each is update)
    if name == "clipped":
        gradient *= min(1, 0.05 / np.linalg.norm(gradient))
    elif name == "decayed":
        gradient += 0.3 * w
    assert loss == pytest.approx((weights * residual**2).sum() / total, rel=1e-5)
    np.testing.assert_allclose(trainer.parameters["w"], w - gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shards", SHARDS)
def test_a_step_is_that_of_pytorch(shards):
    torch = pytest.importorskip("torch")
    x = data(WEIGHTS["weights"])
    trainer, loss = fitted(x, shards, dt.optim.sgd(0.1, momentum=0.9))
    w = torch.tensor(START, requires_grad=True)
    weight = torch.tensor(x[:, -1])
    expected = (weight * (torch.tensor(x[:, :-1]) @ w - torch.tensor(Y)) ** 2).sum() / weight.sum()
    expected.backward()
    torch.optim.SGD([w], 0.1, momentum=0.9).step()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(trainer.parameters["w"], w.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shards", SHARDS)
def test_the_loss_of_an_epoch_divides_the_sum_by_the_weight_of_all_steps(shards):
    x = data(WEIGHTS["mask"])
    _, loss = fitted(x, shards, dt.optim.sgd(0.0), batch_size=8)
    assert loss == pytest.approx(float(sum(cost({"w": START}, x, Y)[0:1]) / x[:, -1].sum()), rel=1e-5)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_batch_without_weight_changes_no_parameter_and_counts_as_a_step(shards):
    x = data(np.zeros(ROWS, "f4"))
    trainer, loss = fitted(x, shards, dt.optim.adam(0.1))
    assert np.array_equal(trainer.parameters["w"], START)
    assert not trainer.state.slots["first"].any()
    assert trainer.state.step == 1
    assert np.isnan(loss)
    half = x.copy()
    half[: ROWS // 2, -1] = 1  # one of two batches has weight
    trainer, loss = fitted(half, shards, dt.optim.sgd(0.0), batch_size=8, shuffle=False)
    assert loss == pytest.approx(float(np.mean((half[:8, :-1] @ START - Y[:8]) ** 2)), rel=1e-5)


def test_a_weight_that_depends_on_parameters_is_refused():
    def wrong(params, x, y):
        return np.sum((x @ params["w"] - y) ** 2), np.sum(params["w"] ** 2)

    with pytest.raises(ArgumentError, match="function of the data alone"):
        dt.Trainer(wrong, parameters={"w": np.ones(5, "f4")}, engine="inline", shards=2).fit(data(MASK), Y, verbose=0)


def test_negative_weights_are_refused():
    with pytest.raises(DataError, match="must not be negative"):
        fitted(data(-np.ones(ROWS, "f4")), 2, dt.optim.sgd(0.1))
