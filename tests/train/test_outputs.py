"""Training of several outputs: losses and metrics by name, penalties of layers, auxiliary outputs, targets and weights by output."""

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from dask import delayed

import dagtrain as dt
from dagtrain import nn
from dagtrain.data import open_source
from dagtrain.data.class_weights import weigh_classes
from dagtrain.errors import ArgumentError, DagtrainError, DataError, NotConnectedError, UnknownNameError

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(60, 4)).astype("f4"), RNG.normal(size=(60, 3)).astype("f4")
KIND, SIZE = (A.sum(axis=1) > 0).astype("i8"), B.sum(axis=1)
X, Y = {"a": A, "b": B}, {"kind": KIND, "size": SIZE}
LOSSES = {"kind": "cross_entropy", "size": "mean_squared_error"}


def model() -> nn.Model:
    a, b = nn.Input((4,), name="a"), nn.Input((3,), name="b")
    h = nn.Concatenate()([nn.Dense(8, "tanh")(a), nn.Dense(8, "tanh")(b)])
    return nn.Model(inputs=[a, b], outputs={"kind": nn.Dense(2)(h), "size": nn.Dense(1)(h)})


def trainer(**options: Any) -> dt.Trainer:
    settings = {"loss": LOSSES, "loss_weights": {"size": 0.1}, "metrics": {"kind": ["accuracy", "f1"]}, "optimizer": dt.optim.sgd(0.1)}
    return dt.Trainer(model(), **{**settings, "engine": "inline", **options})


def in_torch(steps: int, first: Any, batch: int) -> tuple[dict[str, np.ndarray[Any, Any]], list[float]]:
    """The same training in PyTorch: parameters by name, and the mean of the losses of each step."""
    torch = pytest.importorskip("torch", reason="PyTorch is what steps are compared with")
    flat = {f"{layer}.{name}": torch.tensor(array, requires_grad=True) for layer, part in first.items() for name, array in part.items()}
    a, b, kind, size = torch.tensor(A), torch.tensor(B), torch.tensor(KIND), torch.tensor(SIZE)
    optimizer, losses = torch.optim.SGD(flat.values(), lr=0.1), []

    def dense(name: str, x: Any) -> Any:
        return x @ flat[f"{name}.kernel"] + flat[f"{name}.bias"]

    for step in range(steps):
        rows = slice(step * batch, (step + 1) * batch)
        h = torch.cat([torch.tanh(dense("dense_1", a[rows])), torch.tanh(dense("dense_2", b[rows]))], dim=1)
        error = torch.nn.functional.mse_loss(dense("dense_4", h)[:, 0], size[rows])
        loss = torch.nn.functional.cross_entropy(dense("dense_3", h), kind[rows]) + 0.1 * error
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return {name: value.detach().numpy() for name, value in flat.items()}, losses


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_two_losses_with_weights_train_as_in_pytorch(shards: int) -> None:
    made = trainer(shards=shards, seed=3)
    first = made.model.init(dt.ops.random.derive(dt.key(3), 0))[0]
    history = made.fit(X, Y, batch_size=20, shuffle=False, verbose=0)
    expected, losses = in_torch(3, first, 20)
    for name, array in made.weights().items():
        np.testing.assert_allclose(array, expected[name], rtol=2e-5, atol=1e-6)
    assert history.history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)
    row = {name: values[0] for name, values in history.history.items()}
    assert row["loss"] == pytest.approx(row["kind_loss"] + 0.1 * row["size_loss"], rel=1e-6)


def test_history_evaluation_and_predictions_have_the_names_of_outputs() -> None:
    made = trainer(shards=2)
    history = made.fit(X, Y, epochs=2, validation_data=(X, Y), verbose=0)
    figures = ["loss", "kind_loss", "size_loss", "kind_accuracy", "kind_f1"]
    assert [name for name in history.history if name not in ("seconds", "samples_per_second")] == [*figures, *(f"val_{n}" for n in figures)]
    values = made.evaluate(X, {"size": SIZE, "kind": KIND})
    assert list(values) == figures
    assert values["loss"] == pytest.approx(history.history["val_loss"][-1], rel=1e-6)
    assert values["kind_accuracy"] == np.mean(made.predict(X)["kind"].argmax(axis=1) == KIND)
    chances = made.predict(X, probabilities=True)
    np.testing.assert_allclose(chances["kind"].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(chances["size"], made.predict(X)["size"])


def test_lazy_predictions_of_several_outputs_are_those_of_arrays() -> None:
    made = trainer(shards=2)
    made.fit(X, Y, verbose=0)
    lazy = made.predict({name: da.from_array(array, chunks=(25, -1)) for name, array in X.items()})
    now = [made.predict({name: array[part] for name, array in X.items()}) for part in (slice(0, 25), slice(25, 50), slice(50, 60))]
    for name in Y:
        np.testing.assert_array_equal(lazy[name].compute(scheduler="sync"), np.concatenate([part[name] for part in now]))


def test_a_saved_model_of_several_outputs_loads_and_resumes(tmp_path: Any) -> None:
    whole = trainer(shards=2).fit(X, Y, epochs=4, verbose=0)
    trainer(shards=2).fit(X, Y, epochs=2, checkpoint=tmp_path, verbose=0)
    resumed = trainer(shards=2)
    assert resumed.fit(X, Y, epochs=4, checkpoint=tmp_path, resume=True, verbose=0).fingerprint == whole.fingerprint
    again = dt.load(tmp_path)
    assert again.evaluate(X, Y) == resumed.evaluate(X, Y)
    with pytest.raises(DagtrainError, match=r"loss_weights.size: 0.1 there, 0.2 here"):
        trainer(shards=2, loss_weights={"size": 0.2}).fit(X, Y, epochs=5, checkpoint=tmp_path, resume=True, verbose=0)


# ---- weights


def test_one_sample_weight_counts_for_all_outputs() -> None:
    weights = np.tile([1.0, 0.0, 2.0], 20)
    kept = np.repeat(np.arange(60), weights.astype(int))
    made = trainer(shards=3)
    made.fit(X, Y, sample_weight=weights, batch_size=60, epochs=3, shuffle=False, verbose=0)
    repeated = trainer(shards=3)
    repeated.fit({n: a[kept] for n, a in X.items()}, {n: y[kept] for n, y in Y.items()}, batch_size=60, epochs=3, shuffle=False, verbose=0)
    for name, array in made.weights().items():
        np.testing.assert_allclose(array, repeated.weights()[name], rtol=1e-4, atol=1e-6)


# ---- penalties


@dataclass(frozen=True)
class Penalised(nn.Layer):
    factor: float
    by_sample: bool = False

    def forward(self, c: nn.Context, x: Any) -> Any:
        w = c.parameter("w", (x.shape[-1], 1), "ones")
        y = x @ w
        c.add_loss("size", self.factor * (np.sum(y**2, axis=1) if self.by_sample else np.sum(w**2)))
        return y


@pytest.mark.parametrize("by_sample", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_what_layers_add_to_the_loss_counts_whatever_the_shards(by_sample: bool, shards: int) -> None:
    x, y = A[:10], SIZE[:10]
    w = np.ones((4, 1))
    error, penalty = x @ w - y[:, None], 0.5 * (np.mean(np.sum((x @ w) ** 2, axis=1)) if by_sample else np.sum(w**2))
    gradient = 2 * x.T @ error / 10 + 0.5 * 2 * (x.T @ (x @ w) / 10 if by_sample else w)
    made = dt.Trainer(Penalised(0.5, by_sample), loss="mean_squared_error", optimizer=dt.optim.sgd(0.1), shards=shards, engine="inline")
    history = made.fit(x, y, batch_size=10, shuffle=False, verbose=0).history
    np.testing.assert_allclose(made.weights()["w"], w - 0.1 * gradient, rtol=1e-5)
    assert history["penalty"][0] == pytest.approx(penalty, rel=1e-5)
    assert history["loss"][0] == pytest.approx(np.mean(error**2) + penalty, rel=1e-5)
    values = made.evaluate(x, y)
    assert values["loss"] == pytest.approx(np.mean((made.predict(x)[:, 0] - y) ** 2) + values["penalty"], rel=1e-5)


def test_a_layer_may_add_to_the_loss_in_training_alone() -> None:
    @dataclass(frozen=True)
    class Trained(nn.Layer):
        def forward(self, c: nn.Context, x: Any) -> Any:
            w = c.parameter("w", (x.shape[-1], 1), "ones")
            if c.training:
                c.add_loss("size", np.sum(w**2))
            return x @ w

    made = dt.Trainer(Trained(), loss="mean_squared_error", shards=2, engine="inline")
    assert made.fit(A, SIZE, batch_size=60, verbose=0).history["penalty"] == [4.0]
    values = made.evaluate(A, SIZE)
    assert values["penalty"] == 0
    assert values["loss"] == pytest.approx(np.mean((made.predict(A)[:, 0] - SIZE) ** 2), rel=1e-5)


def test_a_penalty_of_another_shape_is_refused() -> None:
    @dataclass(frozen=True)
    class Wrong(nn.Layer):
        def forward(self, c: nn.Context, x: Any) -> Any:
            c.add_loss("all", x**2)
            return x * c.parameter("w", ())

    with pytest.raises(ArgumentError, match=r"the loss 'all' that a layer added is one number, or one for each of \d+ samples, got shape"):
        dt.Trainer(Wrong(), loss="mean_squared_error", engine="inline").fit(A, A, verbose=0)


# ---- auxiliary outputs


def with_auxiliary() -> nn.Model:
    x = nn.Input((4,), name="x")
    h = nn.Dense(8, "tanh")(x)
    return nn.Model(x, {"main": nn.Dense(2)(nn.Dense(8, "tanh")(h))}, auxiliary={"aux": nn.Dense(2)(h)})


def test_auxiliary_heads_train_on_the_targets_of_the_main_one_and_are_absent_afterwards() -> None:
    losses = {"main": "cross_entropy", "aux": "cross_entropy"}
    metrics = {"main": ["accuracy"], "aux": ["accuracy"]}
    made = dt.Trainer(with_auxiliary(), loss=losses, loss_weights={"aux": 0.3}, metrics=metrics, shards=2, engine="inline")
    before = made.weights()
    history = made.fit(A, KIND, epochs=2, validation_data=(A, KIND), verbose=0).history
    row = {name: values[0] for name, values in history.items()}
    assert row["loss"] == pytest.approx(row["main_loss"] + 0.3 * row["aux_loss"], rel=1e-6)
    assert {"aux_accuracy", "main_accuracy", "val_main_accuracy"} < set(row)
    assert not [name for name in row if name.startswith("val_aux")]
    assert not np.array_equal(made.weights()["dense_4.kernel"], before["dense_4.kernel"])
    assert list(made.predict(A)) == ["main"]
    assert [name for name in made.evaluate(A, KIND) if "aux" in name] == []


def test_evaluation_needs_no_targets_of_outputs_that_exist_in_training_alone() -> None:
    x = nn.Input((4,), name="x")
    h = nn.Dense(4)(x)
    made = nn.Model(x, {"a": nn.Dense(2)(h), "b": nn.Dense(2)(h)}, auxiliary={"aux": nn.Dense(2)(h)})
    losses = dict.fromkeys(("a", "b", "aux"), "cross_entropy")
    main, every = {"a": KIND, "b": KIND}, dict.fromkeys(losses, KIND)
    trained = dt.Trainer(made, loss=losses, engine="inline")
    assert trained.evaluate(A, main).keys() == {"loss", "a_loss", "b_loss"}
    trained.fit(A, every, sample_weight=dict.fromkeys(losses, np.ones(60)), validation_data=(A, main), verbose=0)
    values = trained.evaluate(A, main)
    assert values == trained.evaluate(A, every) == trained.evaluate(lambda: iter([(A, main)]))
    assert values == trained.evaluate(A, (KIND, KIND), sample_weight=(np.ones(60), np.ones(60)))
    alone = dt.Trainer(nn.Model(x, {"a": h}, auxiliary={"aux": nn.Dense(2)(h)}), loss={"aux": "cross_entropy"}, engine="inline")
    alone.fit(A, {"aux": KIND}, verbose=0)
    with pytest.raises(ArgumentError, match="the losses are for aux alone, which exist in training alone: to evaluate"):
        alone.evaluate(A, {"aux": KIND})


@dataclass(frozen=True)
class Changing(nn.Layer):
    """Returns other outputs in training than outside."""

    in_training: bool

    def forward(self, c: nn.Context, x: Any) -> Any:
        y = x @ c.parameter("w", (4, 4))
        if self.in_training:
            return {"y": y, "z": y} if c.training else {"y": y}
        return y if c.training else {"y": y}


def test_outputs_that_evaluation_lacks_are_named() -> None:
    made = dt.Trainer(Changing(True), loss=dict.fromkeys(("y", "z"), "mse"), metrics={"z": ["mae"]}, engine="inline")
    with pytest.raises(ArgumentError, match=r"returns the output 'z', which has a loss, in training alone: .*c\.auxiliary\('z', value\)"):
        made.fit(A, {"y": A, "z": A}, validation_split=0.5, verbose=0)
    with pytest.raises(ArgumentError, match="returns one output in training, and a dict of outputs outside"):
        dt.Trainer(Changing(False), loss="mse", engine="inline").fit(A, A, validation_split=0.5, verbose=0)


def test_lists_and_tuples_stand_for_dicts_in_the_order_of_the_model() -> None:
    forms: list[Any] = [X, (A, B), [A, B], {"b": B, "a": A}]
    made = trainer(loss=["cross_entropy", "mse"], loss_weights=[1.0, 0.1], metrics=[["accuracy", "f1"], []])
    expected = trainer().fit(X, Y, verbose=0).fingerprint
    assert made.fit(X, (KIND, SIZE), verbose=0).fingerprint == expected
    for fitted in (X, [A, B]):
        again = trainer()
        assert again.fit(fitted, [KIND, SIZE], verbose=0).fingerprint == expected
        for x in forms:
            np.testing.assert_array_equal(again.predict(x)["kind"], made.predict(X)["kind"])
        assert again.evaluate((A, B), Y) == made.evaluate(X, Y)
    lazy = made.predict([da.from_array(A, chunks=(25, -1)), da.from_array(B, chunks=(30, -1))])
    np.testing.assert_allclose(lazy["size"].compute(scheduler="sync"), made.predict(X)["size"], rtol=1e-5)
    pairs = [
        tuple((delayed(one[rows]), delayed(other[rows])) for one, other in ((A, B), (KIND, SIZE))) for rows in (slice(40), slice(40, 60))
    ]
    assert trainer().fit(pairs, verbose=0).fingerprint == expected
    table = pd.DataFrame(Y)
    assert again.evaluate(X, table) == made.evaluate(X, Y)
    with pytest.raises(ArgumentError, match="predict takes one x: give several inputs as a tuple or a dict by name"):
        made.predict(A, B)
    with pytest.raises(ArgumentError, match=r"y has the columns kind, size: class_weight is a dict of weights by these"):
        trainer().fit(X, Y, class_weight={0: 2.0}, verbose=0)
    with pytest.raises(DataError, match=r"x\.a has 60 samples and x\.b has 50: every sample needs one row of each"):
        made.predict({"a": da.from_array(A), "b": da.from_array(B[:50])})


def test_parameters_that_no_loss_needs_are_named_unless_they_are_frozen() -> None:
    alone = dt.Trainer(with_auxiliary(), loss={"main": "cross_entropy"}, shards=2, engine="inline")
    with pytest.raises(NotConnectedError, match=r"does not depend on the parameter 'dense_4.kernel' \(nor on 1 others\).*optim.frozen\(\)"):
        alone.fit(A, {"main": KIND}, verbose=0)
    rules = {"dense_4.*": dt.optim.frozen(), "*": dt.optim.adam()}
    alone = dt.Trainer(with_auxiliary(), loss={"main": "cross_entropy"}, optimizer=dt.optim.by_name(rules), shards=2, engine="inline")
    assert len(alone.fit(A, {"main": KIND}, verbose=0).history["loss"]) == 1


# ---- errors


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": "cross_entropy", "metrics": (), "loss_weights": None}, r"the model has the outputs kind, size: give a loss by name"),
        ({"loss": {}}, "loss is an empty dict"),
        ({"metrics": ["accuracy"]}, "metrics are given by output"),
        ({"metrics": {"kid": ["accuracy"]}}, "unknown output with a loss in metrics 'kid'"),
        ({"loss_weights": {"sise": 1.0}}, "unknown output with a loss in loss_weights 'sise'"),
        ({"loss_weights": {"size": -1}}, "the weight of the loss of size must be a finite number from 0 up"),
        ({"loss_weights": 0.5}, "loss_weights is a dict by the names of outputs"),
        ({"loss": ["mse"]}, "loss is a list of 1, but the outputs are kind, size: give one for each in this order, or loss as a dict"),
    ],
)
def test_wrong_losses(options: dict[str, Any], says: str) -> None:
    with pytest.raises((ArgumentError, UnknownNameError), match=says):
        trainer(**options).fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (KIND, "there are losses for kind, size: give y as a dict"),
        ((KIND, SIZE, SIZE), "there are losses for kind, size, but 3 columns of y in a tuple: give a dict"),
        ({"kind": KIND}, "y has no column 'size', which a loss needs"),
        ({**Y, "more": SIZE}, "y has the column 'more', which no loss needs"),
        ({"kind": SIZE, "size": SIZE}, "y.kind holds the label .* which is not a whole number"),
        ({"kind": KIND + 5, "size": SIZE}, r"y.kind holds the label \d, but there are 2 classes"),
    ],
)
def test_wrong_targets(y: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        trainer().fit(X, y, verbose=0)


def test_two_metrics_of_one_name() -> None:
    x = nn.Input((4,), name="x")
    made = nn.Model(x, {"a": nn.Dense(2)(x), "a_b": nn.Dense(2)(x)})
    clash = {"a": [dt.nn.metrics.find("accuracy", name="b_c")], "a_b": [dt.nn.metrics.find("accuracy", name="c")]}
    with pytest.raises(ArgumentError, match="two figures have one name"):
        dt.Trainer(made, loss=dict.fromkeys(("a", "a_b"), "cross_entropy"), metrics=clash).fit(A, {"a": KIND, "a_b": KIND}, verbose=0)


@pytest.mark.parametrize("form", ["arrays", "partitions"])
@pytest.mark.parametrize("weights", [None, "one", "by output"])
def test_class_weights_by_output_multiply_the_weights_of_samples(form: str, weights: Any) -> None:
    rng = np.random.default_rng(1)
    of_kind, of_size = rng.random(60), rng.random(60)
    given = {None: None, "one": of_kind, "by output": {"kind": of_kind, "size": of_size}}[weights]
    y = {"kind": KIND, "size": (SIZE > 0).astype("f4")}

    def wrap(nest: Any) -> Any:
        if isinstance(nest, dict):
            return {name: wrap(part) for name, part in nest.items()}
        return da.from_array(nest, chunks=(25, *nest.shape[1:])) if form == "partitions" and nest is not None else nest

    source = open_source(wrap(X), wrap(y), wrap(given), targets={"kind": "classes", "size": "binary"})
    weighed = weigh_classes(source, {"kind": {0: 2.0}, "size": "balanced"})
    nests = weighed.columns.bind(weighed.local())[2]
    base = {None: (1, 1), "one": (of_kind, of_kind), "by output": (of_kind, of_size)}[weights]
    np.testing.assert_allclose(nests["kind"], np.where(KIND == 0, 2.0, 1.0) * base[0], rtol=1e-6)
    share = y["size"].mean()
    np.testing.assert_allclose(nests["size"], np.where(y["size"] == 1, 0.5 / share, 0.5 / (1 - share)) * base[1], rtol=1e-6)
    if weights is None:
        only = weigh_classes(source, {"kind": {0: 2.0}})
        np.testing.assert_array_equal(only.columns.bind(only.local())[2]["size"], np.ones(60))
    with pytest.raises(UnknownNameError, match="unknown output in class_weight 'kid'"):
        weigh_classes(source, {"kid": "balanced"})


def test_a_loss_that_a_layer_adds_in_one_mode_alone() -> None:
    @dataclass(frozen=True)
    class Adds(nn.Layer):
        when: bool

        def forward(self, c: nn.Context, x: Any) -> Any:
            if c.training == self.when:
                c.add_loss("l2", 0.1 * np.mean(x**2))
            return x

    def made(when: bool) -> dt.Trainer:
        x = nn.Input((4,))
        h = Adds(when)(x)
        outputs = {"y": nn.Dense(4)(h), "z": nn.Dense(4)(h)}
        losses = dict.fromkeys(outputs, "mean_squared_error")
        return dt.Trainer(nn.Model(x, outputs), loss=losses, metrics={"y": ["mean_absolute_error"]}, engine="inline")

    trained = made(True)
    assert trained.fit(A, {"y": A, "z": A}, verbose=0).history["penalty"][0] > 0
    values = trained.evaluate(A, {"y": A, "z": A})
    assert values["penalty"] == 0
    assert values["y_mean_absolute_error"] == pytest.approx(np.mean(abs(trained.predict(A)["y"] - A)), rel=1e-5)
    with pytest.raises(ArgumentError, match="outside training alone"):
        made(False).fit(A, {"y": A, "z": A}, verbose=0, validation_data=(A, {"y": A, "z": A}))


def test_an_output_whose_figures_would_look_like_validation_is_refused() -> None:
    x = nn.Input((4,))
    outputs = {"val": nn.Dense(4)(x), "b": nn.Dense(4)(x)}
    with pytest.raises(ArgumentError, match="'val_loss' would look like one of validation"):
        dt.Trainer(nn.Model(x, outputs), loss=dict.fromkeys(outputs, "mean_squared_error"), engine="inline").fit(
            A, {"val": A, "b": A}, verbose=0
        )
