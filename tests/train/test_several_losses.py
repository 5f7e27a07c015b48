"""Several losses, each divided by a weight of its own in the whole batch: the same for any shards and as in PyTorch, on every engine."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, NotFiniteError

ROWS, BATCH = 13, 8  # the second batch has 5 rows: three of eight shards are empty
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(ROWS, 4)).astype("f4"), {"kind": RNG.integers(0, 3, ROWS), "size": RNG.normal(size=ROWS).astype("f4")}
MASK = np.ones(ROWS, "f4")
MASK[[0, 1, 5, 9]] = 0
FIRST_MASKED = (np.arange(ROWS) >= BATCH).astype("f4")
CLASSES = (0.5, 1.0, 3.0)
SOME, OTHERS = RNG.uniform(0, 3, ROWS).astype("f4"), RNG.uniform(0, 3, ROWS).astype("f4")


@dataclass(frozen=True)
class Penalised(nn.Layer):
    def forward(self, c: nn.Context, x: Any) -> Any:
        w = c.parameter("w", x.shape[1:], "ones")
        c.add_loss("weights", 0.1 * np.sum(w**2))
        c.add_loss("activity", 0.2 * np.sum((x * w) ** 2, axis=1))
        return x * w


@dataclass(frozen=True)
class Case:
    weights: dict[str, Any] | None = None
    classes: tuple[float, ...] | None = None
    penalised: bool = False

    def trainer(self, **options: Any) -> dt.Trainer:
        x = nn.Input((4,), name="x")
        h = nn.Dense(6, "tanh")(x)
        h = Penalised()(h) if self.penalised else h
        model = nn.Model(x, {"kind": nn.Dense(3)(h), "size": nn.Dense(1)(h)})
        kind = nn.losses.find("cross_entropy", class_weights=self.classes) if self.classes else "cross_entropy"
        optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.sgd(0.1))
        settings = {"loss": {"kind": kind, "size": "mean_squared_error"}, "loss_weights": {"size": 0.3}, "seed": 3}
        settings |= {"metrics": {"kind": ["accuracy"]}, "optimizer": optimizer, "engine": "inline"}
        return dt.Trainer(model, **{**settings, **options})

    def fit(self, trainer: dt.Trainer, **options: Any) -> Any:
        return trainer.fit(X, Y, sample_weight=self.weights, **{"batch_size": BATCH, "shuffle": False, "verbose": 0, **options})

    def weight(self, name: str) -> Any:
        weight = np.ones(ROWS) if self.weights is None else np.asarray(self.weights.get(name, np.ones(ROWS)))
        return weight * np.array(self.classes)[Y["kind"]] if name == "kind" and self.classes else weight


CASES = {
    "a mask on one": Case({"size": MASK}),
    "weights of each": Case({"kind": SOME, "size": OTHERS}),
    "weights of classes": Case(classes=CLASSES),
    "one masked in a batch": Case({"size": FIRST_MASKED}),
    "penalties": Case(penalised=True),
    "penalties and masks": Case({"kind": MASK, "size": FIRST_MASKED}, CLASSES, penalised=True),
}


def in_torch(case: Case) -> tuple[dict[str, Any], dict[str, float]]:
    """The weights after an epoch in PyTorch, in float64, and the figures."""
    torch = pytest.importorskip("torch", reason="PyTorch is what steps are compared with")
    first = case.trainer().model.init(dt.ops.random.derive(dt.key(3), 0))[0]
    flat = {f"{a}.{n}": torch.tensor(v.astype("f8"), requires_grad=True) for a, part in first.items() for n, v in part.items()}
    optimizer = torch.optim.SGD(flat.values(), lr=0.1)
    weights = {name: torch.tensor(case.weight(name)) for name in Y}
    sums, penalty, hits = dict.fromkeys(Y, 0.0), 0.0, 0.0
    accuracy_weight = torch.tensor(Case(case.weights).weight("kind"))
    for rows in (slice(0, BATCH), slice(BATCH, ROWS)):
        h = torch.tanh(torch.tensor(X[rows].astype("f8")) @ flat["dense_1.kernel"] + flat["dense_1.bias"])
        total = torch.zeros((), dtype=torch.float64)
        if case.penalised:
            w = flat["penalised_1.w"]
            h = h * w
            total = 0.1 * (w**2).sum() + 0.2 * (h**2).sum(dim=1).mean()
            penalty += float(total.detach()) * len(h) / ROWS
        kind, size = (h @ flat[f"{name}.kernel"] + flat[f"{name}.bias"] for name in ("dense_2", "dense_3"))
        labels = torch.tensor(Y["kind"][rows])
        costs = {
            "kind": torch.nn.functional.cross_entropy(kind, labels, reduction="none"),
            "size": (size[:, 0] - torch.tensor(Y["size"][rows])) ** 2,
        }
        hits += float(((kind.argmax(dim=1) == labels) * accuracy_weight[rows]).sum())
        for name, factor in (("kind", 1.0), ("size", 0.3)):
            weighted, weight = (costs[name] * weights[name][rows]).sum(), weights[name][rows].sum()
            sums[name] += float(weighted.detach())
            if weight > 0:
                total = total + factor * weighted / weight
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(flat.values(), 0.5)
        optimizer.step()
    means = {name: sums[name] / float(weights[name].sum()) for name in Y}
    figures = {"loss": means["kind"] + 0.3 * means["size"] + penalty, **{f"{name}_loss": mean for name, mean in means.items()}}
    figures |= {"kind_accuracy": hits / float(accuracy_weight.sum())} | ({"penalty": penalty} if case.penalised else {})
    return {name: value.detach().numpy() for name, value in flat.items()}, figures


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_steps_are_those_of_the_whole_batch_and_of_pytorch(case: Case) -> None:
    """Each loss is divided first, so that the norm that is clipped is that of the whole gradient."""
    expected, figures = in_torch(case)
    for shards in (1, 2, 3, 5, 8):
        trainer = case.trainer(shards=shards)
        history = case.fit(trainer)
        assert trainer.program.weight_count == (2 + case.penalised if case.weights or case.classes else 0)
        for name, array in trainer.weights().items():
            np.testing.assert_allclose(array, expected[name], rtol=2e-5, atol=1e-6)
        row = {name: values[0] for name, values in history.history.items() if name in figures or "loss" in name}
        assert row == pytest.approx(figures, rel=1e-5)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("penalised", [False, True])
def test_a_batch_that_masks_all_losses_changes_no_parameter(shards: int, penalised: bool) -> None:
    case = Case({"kind": 0 * MASK, "size": 0 * MASK}, penalised=penalised)
    trainer = case.trainer(shards=shards)
    trainer.fit(X, Y, sample_weight=case.weights, batch_size=BATCH, verbose=0)
    first = trainer.program.first_state()
    assert trainer.state.fingerprint == first.fingerprint
    assert trainer.state.step == 2


def test_weights_that_differ_in_name_alone_have_the_bits_of_one() -> None:
    """Rows per unit of weight are 1 then, and the weight of a step is its number of rows."""
    one, each = Case(), Case({"kind": np.ones(ROWS), "size": np.ones(ROWS)})
    trainers = [case.trainer(shards=3) for case in (one, each)]
    prints = [case.fit(trainer).fingerprint for case, trainer in zip((one, each), trainers, strict=True)]
    assert [trainer.program.weight_count for trainer in trainers] == [0, 2]
    assert prints[0] == prints[1]


def test_evaluation_and_history_agree() -> None:
    case = CASES["penalties and masks"]
    trainer = case.trainer(shards=3)
    history = case.fit(trainer, validation_data=(X, Y, case.weights), epochs=2)
    values = trainer.evaluate(X, Y, sample_weight=case.weights)
    assert values == pytest.approx({name: history.history[f"val_{name}"][-1] for name in values}, rel=1e-12)
    assert values["loss"] == pytest.approx(values["kind_loss"] + 0.3 * values["size_loss"] + values["penalty"], rel=1e-12)


def test_the_step_as_a_dask_graph_has_tasks_for_weights() -> None:
    case = CASES["penalties and masks"]
    trainer = case.trainer(shards=8)
    case.fit(trainer)
    graph = trainer.step_graph(2)  # of five rows the last step has five shards
    kinds = Counter(key[0].rsplit("-", 1)[0] for key in graph.tasks if isinstance(key, tuple))
    assert (kinds["weight"], kinds["scales"], kinds["gradient"]) == (13, 2, 13)
    assert {"weight", "scales"} <= {node.lines[0].text.split("[")[0].split(" ")[0] for node in graph.diagram().nodes}
    after = graph.compute(scheduler="sync").state.fingerprint
    assert after == case.fit(trainer, epochs=1).fingerprint


def test_a_gradient_that_is_not_finite_is_found() -> None:
    case = Case({"size": MASK})
    with pytest.raises(NotFiniteError, match="shard"):
        case.trainer(shards=3, loss_weights={"size": 1e38}).fit(X, {**Y, "size": 1e30 * Y["size"]}, sample_weight=case.weights, verbose=0)


def test_a_weight_of_one_of_several_losses_that_depends_on_parameters_is_refused() -> None:
    case = Case()
    trainer = case.trainer(shards=2)
    x = nn.Input((4,), name="x")
    loss = {"kind": "cross_entropy", "size": lambda outputs, targets: (np.sum(outputs[:, 0] - targets), np.sum(outputs**2))}
    trainer = dt.Trainer(nn.Model(x, {"kind": nn.Dense(3)(x), "size": nn.Dense(1)(x)}), loss=loss, engine="inline", shards=2)
    with pytest.raises(ArgumentError, match="function of the data alone"):
        case.fit(trainer)
