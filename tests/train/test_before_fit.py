"""What a trainer can do before its first fit, if its model knows its input: all but what needs data."""

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError

from ..each import each

nn = dt.nn
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 4)).astype("f4")
Y = (X.sum(axis=1) > 0).astype("i8")


def make(loss="cross_entropy", outputs=2, input_shape=(4,), **options):
    model = nn.Sequential([nn.Dense(8, "tanh"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(outputs)], input_shape=input_shape)
    return dt.Trainer(model, loss=loss, **options)


def two_inputs():
    a, b = nn.Input((4,), name="a"), nn.Input((3,), name="b")
    h = nn.Concatenate()([nn.Dense(8, "relu")(a), nn.Dense(8, "relu")(b)])
    return nn.Model([a, b], {"kind": nn.Dense(2)(h)}, auxiliary={"early": nn.Dense(2)(h)})


def test_its_weights_are_those_that_a_fit_begins_with():
    untrained = make(optimizer=dt.optim.sgd(0.0))
    first = untrained.parameters
    untrained.fit(X, Y, verbose=0)
    for layer, arrays in untrained.parameters.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, first[layer][name])


def test_looking_at_it_changes_no_bit():
    seen = make()
    for name, arguments in {"summary": (), "graph": (8,), "predict": (X,), "evaluate": (X, Y)}.items():
        getattr(seen, name)(*arguments)
    assert seen.program.layout.size == len(seen.state.parameters)
    assert seen.fit(X, Y, verbose=0).fingerprint == make().fit(X, Y, verbose=0).fingerprint


def test_its_summary_is_the_models():
    trainer = make()
    assert repr(trainer.summary()) == repr(trainer.model.summary()) == repr(make(input_shape=None).summary(x=X))


@each([("cross_entropy", 2, Y), ("mean_squared_error", 1, X[:, :1]), ("binary_cross_entropy", 1, Y[:, None]), ("hinge", 1, 2 * Y - 1)])
def test_its_graph_is_that_of_a_fit(loss, outputs, y):
    untrained, trained = make(loss, outputs), make(loss, outputs)
    trained.fit(X, y.reshape(60, 1) if outputs == 1 else y, batch_size=20, verbose=0)
    assert untrained.graph(20).key == trained.graph(20).key


def test_the_graph_of_an_auxiliary_output_needs_no_targets_of_its_own():
    trainer = dt.Trainer(two_inputs(), loss={"kind": "cross_entropy", "early": "cross_entropy"})
    assert {"x.a", "x.b", "y.kind"} < set(trainer.graph(5).inputs)


def test_it_predicts_and_evaluates_by_its_first_weights():
    trainer = make()
    outputs = trainer.predict(X)
    np.testing.assert_array_equal(trainer.predict(da.from_array(X, chunks=(60, 4))).compute(scheduler="sync"), outputs)
    assert trainer.predict(X.tolist()).shape == outputs.shape == (60, 2)
    assert 0 < trainer.evaluate(X, Y)["loss"] < 5
    trainer.load_weights({name: np.zeros_like(value) for name, value in trainer.weights().items()})
    np.testing.assert_array_equal(trainer.predict(X), 0)


def test_several_inputs_are_a_dict_or_a_tuple():
    trainer = dt.Trainer(two_inputs(), loss={"kind": "cross_entropy"})
    by_name, in_order = trainer.predict({"a": X, "b": X[:, :3]}), trainer.predict((X, X[:, :3]))
    np.testing.assert_array_equal(by_name["kind"], in_order["kind"])


def test_it_is_saved_and_loaded_untrained(tmp_path):
    trainer = make(seed=3)
    trainer.learning_rate_scale = 0.5
    trainer.load_weights({**trainer.weights(), "dense_1.bias": np.ones(8)})
    trainer.save(tmp_path)
    loaded = dt.load(tmp_path)
    assert (loaded.seed, loaded.learning_rate_scale) == (3, 0.5)
    np.testing.assert_array_equal(loaded.predict(X), trainer.predict(X))
    assert loaded.fit(X, Y, verbose=0).fingerprint == trainer.fit(X, Y, verbose=0).fingerprint


def test_a_model_that_is_loaded_untrained_takes_a_loss_of_any_targets(tmp_path):
    def square(outputs, y):
        return (outputs[:, 0] - y) ** 2

    make(square, 1).save(tmp_path)
    dt.load(tmp_path, custom={"square": square}).fit(X, X[:, 0], verbose=0)


NAMES = ("summary", "graph", "placement", "parameters", "state", "program", "weights", "predict", "evaluate", "save")


@each(NAMES)
def test_without_a_known_input_the_error_says_both_cures(name):
    def use():
        return getattr(make(input_shape=None), name)(*{"predict": (X,), "evaluate": (X, Y), "save": ("nowhere",)}.get(name, ()))

    with pytest.raises(ArgumentError, match=r"before its model knows its input: call fit\(x, y\) first, or .*input_shape=\(64,\)"):
        use()


def square(outputs, y):
    return (outputs[:, 0] - y) ** 2


def kind(key):
    return (key[0] if isinstance(key, tuple) else key).rpartition("-")[0]


def test_its_step_is_drawn_without_data():
    untrained, trained = make(shards=4), make(shards=4)
    trained.fit(X, Y, batch_size=32, verbose=0)
    graph, later = untrained.step_graph(2), trained.step_graph(2)
    assert [kind(key) for key in graph.tasks] == [kind(key) for key in later.tasks]
    assert graph.compute(scheduler="sync").state.step == 2
    assert untrained.fit(X, Y, batch_size=32, verbose=0).fingerprint == trained.progress.state.fingerprint
    assert len(make().step_graph(batch_size=4).tasks) < len(make().step_graph(batch_size=256).tasks)


CASES = {
    "known input": (lambda: make(shards=4), Y),
    "unknown input, targets of any kind": (lambda: make(square, 1, input_shape=None), X[:, 0]),
    "cost function": (lambda: dt.Trainer(lambda p, x, y: (x @ p - y) ** 2, parameters=np.zeros(4, "f4")), X[:, 0]),
}


@each(CASES)
def test_its_step_on_rows_that_are_given_is_that_of_a_fit(case):
    new, y = CASES[case]
    stepped = new().step_graph(2, batch_size=30, x=da.from_array(X, chunks=(20, 4)), y=y).compute(scheduler="sync")
    assert stepped.state.fingerprint == new().fit(X, y, batch_size=30, verbose=0).fingerprint
    assert "sample_weight" in new().graph(x=X, y=y, sample_weight=np.ones(60)).inputs


def test_what_needs_rows_says_how_to_give_them():
    cost = dt.Trainer(lambda p, x, y: (x @ p - y) ** 2, parameters=np.zeros(4, "f4"))
    for name in ("graph", "step_graph", "placement"):
        cure = rf"call fit\(x, y\) first, or give rows .* {name}\(x=x, y=y\)"
        with pytest.raises(ArgumentError, match=f"a loss takes targets of any kind: {cure}"):
            getattr(make(square, 1), name)()
        with pytest.raises(ArgumentError, match=f"before it was fitted: {cure}"):
            getattr(cost, name)()
    with pytest.raises(ArgumentError, match=r"y and sample_weight with the x"):
        cost.graph(y=Y)
    with pytest.raises(ArgumentError, match=r"a picture takes rows"):
        cost.graph(x=iter([X]))


@pytest.mark.slow
def test_it_can_be_placed(client):
    assert len(make(shards=4, client=client).placement().ranks) == 3
    assert len(make(client=client).placement(batch_size=2).ranks) == 1
