"""A training step against one written by hand: gradients of the sums of shards, the sum tree, the update."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data import BatchPlan
from dagtrain.step.sum_tree import add_tree

ROWS, FEATURES, CLASSES = 23, 5, 3
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(ROWS, FEATURES)).astype("f4")
LABELS = RANDOM.integers(0, CLASSES, ROWS)
Y = RANDOM.normal(size=ROWS).astype("f4")


def squared(params, x, y):
    return np.mean((x @ params["w"] + params["b"] - y) ** 2)


def by_hand(x, y, steps, shards, rate, dtype):
    """Gradient descent on `squared`, its derivatives written out."""
    w, b = np.zeros(FEATURES, dtype), np.zeros((), dtype)
    x, y = x.astype(dtype), y.astype(dtype)
    losses = []
    for rows in steps:
        samples = sum(map(len, rows))
        parts = []
        for shard in rows:
            if not len(shard):
                parts.append(None)
                continue
            off = x[shard] @ w + b - y[shard]
            weight = len(shard) / samples
            parts.append(weight * np.concatenate([[2 * off.mean()], 2 * x[shard].T @ off / len(shard), [(off**2).mean()]]))
        total = add_tree(parts)
        b, w = b - rate * total[0], w - rate * total[1:-1]
        losses.append(total[-1])
    return np.concatenate([[b], w]), losses


def fitted(shards, batch_size, epochs=2, rows=ROWS):
    parameters = {"b": np.zeros((), "f4"), "w": np.zeros(FEATURES, "f4")}
    trainer = dt.Trainer(squared, optimizer=dt.optim.sgd(0.05), shards=shards, engine="inline", parameters=parameters, seed=4)
    history = trainer.fit(X[:rows], Y[:rows], epochs=epochs, batch_size=batch_size, verbose=0)
    return trainer, history


@pytest.mark.parametrize(("shards", "batch_size"), [(1, 23), (4, 23), (3, 8), (8, 10), (7, 7)])
def test_training_follows_the_steps_written_by_hand(shards, batch_size):
    trainer, history = fitted(shards, batch_size)
    plan = BatchPlan(ROWS, batch_size, shards, seed=4)
    steps = [plan.step(epoch, i) for epoch in range(2) for i in range(plan.steps_per_epoch)]
    expected, losses = by_hand(X, Y, steps, shards, 0.05, np.float64)
    parameters = trainer.parameters
    np.testing.assert_allclose([float(parameters["b"]), *parameters["w"]], expected, rtol=2e-5, atol=1e-6)
    samples = np.array([sum(map(len, s)) for s in steps]).reshape(2, -1)
    epoch_losses = (np.reshape(losses, (2, -1)) * samples).sum(axis=1) / ROWS
    np.testing.assert_allclose(history.history["loss"], epoch_losses, rtol=1e-5)


def test_a_step_has_the_bits_of_its_parts():
    """One epoch, computed by hand from the compiled shards."""
    trainer, _ = fitted(shards=4, batch_size=10, epochs=1, rows=20)
    program = trainer.program
    state = program.first_state()
    plan = BatchPlan(20, 10, 4, seed=4)
    for i in range(plan.steps_per_epoch):
        vectors = []
        rows = plan.step(0, i)
        for shard in rows:
            part = np.float32(len(shard) / sum(map(len, rows)))
            leaves = program.layout.views(state.parameters)
            *gradient, _ = program.shard_plan(len(shard))(*leaves, X[shard], Y[shard], part, np.zeros(2, np.uint64))
            vectors.append(np.concatenate([g.ravel() for g in gradient]))
        total = (vectors[0] + vectors[1]) + (vectors[2] + vectors[3])
        mean = total * np.float32(1 / sum(map(len, rows)))
        state.parameters = state.parameters + mean * np.float32(-0.05)
    parameters = program.layout.pack(trainer.parameters)
    assert parameters.tobytes() == state.parameters.tobytes()


@pytest.mark.parametrize("shards", [2, 5, 8])
def test_contributions_sum_to_the_gradient_of_the_whole_batch(shards):
    """Weighted by samples, not by shards: 23 samples in 5 or 8 shards are cut unevenly."""
    model = dt.nn.Sequential([dt.nn.Dense(6, "tanh"), dt.nn.Dense(CLASSES)])
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.sgd(1.0), shards=shards, engine="inline", seed=1)
    trainer.fit(X, LABELS, epochs=1, batch_size=ROWS, verbose=0)
    program = trainer.program
    before = program.first_state()
    change = before.parameters - program.layout.pack(trainer.parameters)

    def cost(params, x, y):
        return dt.nn.losses.cross_entropy(model.apply(params, {}, x)[0], y)

    def wide(tree):
        return {k: wide(v) if isinstance(v, dict) else np.asarray(v, np.float64) for k, v in tree.items()}

    gradient = dt.grad(cost)(wide(program.layout.tree(before.parameters)), X.astype("f8"), LABELS)
    np.testing.assert_allclose(change, program.layout.pack(gradient), rtol=1e-4, atol=1e-6)


def test_the_loss_of_an_uneven_batch_is_the_mean_over_its_samples():
    _, history = fitted(shards=5, batch_size=ROWS, epochs=1)
    assert history.history["loss"][0] == pytest.approx(float(np.mean(Y.astype("f8") ** 2)), rel=1e-6)


def test_running_statistics_are_the_mean_over_the_samples_of_the_batch():
    model = dt.nn.Sequential([dt.nn.BatchNorm(momentum=0.0), dt.nn.Dense(CLASSES)])
    trainer = dt.Trainer(model, loss="cross_entropy", shards=5, engine="inline")
    trainer.fit(X, LABELS, epochs=1, batch_size=ROWS, verbose=0)
    rows = BatchPlan(ROWS, ROWS, 5, seed=0).step(0, 0)
    statistics = trainer.program.statistics_layout
    stepped = trainer.step_graph()  # it begins with the state after one step
    (before,) = [node for key, node in stepped.tasks.items() if str(key).startswith("state-")]
    mean, variance = statistics.views(before().state.statistics)
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, sum(len(r) * X[r].var(axis=0) for r in rows) / ROWS, rtol=1e-4)
