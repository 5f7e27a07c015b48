"""Prediction and evaluation of dask data: lazy, partition by partition, with the bits of arrays."""

import pickle

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dagtrain as dt
from dagtrain.data import open_source
from dagtrain.errors import DataError
from dagtrain.train.predict import Predictor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3000, 6)).astype("f4")
Y = X[:, :3].argmax(axis=1)
CUTS = [700, 701, 1725]


def fit(x=X, y=Y, **options):
    layers = [dt.nn.Dense(40, "relu"), dt.nn.BatchNorm(), dt.nn.Dense(3)]
    fitted = dt.Trainer(dt.nn.Sequential(layers), "cross_entropy", metrics=["accuracy"], engine="inline")
    fitted.fit(x, y, **{"epochs": 1, "batch_size": 100, "verbose": 0, **options})
    return fitted


@pytest.fixture(scope="module")
def trainer():
    return fit()


def split(array, cuts=CUTS):
    return np.split(array, cuts)


def delayed(array):
    return [dask.delayed(part) for part in split(array)]


FORMS = {
    "array": lambda: da.from_array(X, chunks=((700, 1, 1024, 1275), 4)),
    "unknown sizes": lambda: dd.from_pandas(pd.DataFrame(X), npartitions=4).to_dask_array(),
    "frame": lambda: dd.from_pandas(pd.DataFrame(X), npartitions=4),
    "frame of columns of several dtypes": lambda: dd.from_pandas(pd.DataFrame(X).astype({0: "f8"}), npartitions=4),
    "delayed": lambda: delayed(X),
    "delayed tables": lambda: [dask.delayed(pd.DataFrame(part)) for part in split(X)],
    "one delayed": lambda: dask.delayed(X),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_partition_gives_the_bits_of_its_rows_as_an_array(trainer, form):
    outputs = trainer.predict(FORMS[form]())
    assert isinstance(outputs, da.Array)
    blocks = [np.asarray(block) for block in dask.compute(*outputs.to_delayed().ravel())]
    cuts = np.cumsum([len(block) for block in blocks])[:-1]
    assert all(np.array_equal(block, trainer.predict(part)) for block, part in zip(blocks, split(X, cuts), strict=True))
    assert sum(map(len, blocks)) == 3000


def test_partitions_of_whole_batches_give_the_bits_of_the_whole(trainer):
    x = da.from_array(X, chunks=((512, 1024, 512, 952), 6))
    assert np.array_equal(trainer.predict(x, batch_size=256).compute(), trainer.predict(X, batch_size=256))


@pytest.mark.parametrize("form", ["unknown sizes", "frame", "delayed"])
def test_predict_is_lazy(trainer, form):
    computed = []

    def get(*args, **kwargs):
        computed.append(args)
        return dask.get(*args, **kwargs)

    with dask.config.set(scheduler=get):
        outputs = trainer.predict(FORMS[form]())
        assert not computed
        assert np.isnan(outputs.shape[0])
        assert outputs.shape[1:] == (3,)
        assert len(outputs.compute()) == 3000
    assert computed


def test_the_model_is_in_the_graph_once(trainer):
    graph = dict(trainer.predict(da.from_array(X, chunks=(10, 6))).__dask_graph__())
    sizes = sorted(len(pickle.dumps(node)) for key, node in graph.items() if str(key).startswith(("('predict", "model")))
    assert len(sizes) == 301
    assert sizes[-2] < 1000 < sizes[-1]


def test_frames_with_other_columns_are_refused_before_anything_is_computed(trainer):
    with pytest.raises(DataError, match=r"rows of shape \(6,\), got rows of shape \(2,\)"):
        trainer.predict(dd.from_pandas(pd.DataFrame(X[:, :2]), npartitions=2))


def test_delayed_rows_of_another_shape_are_refused_when_they_are_computed(trainer):
    with pytest.raises(DataError, match=r"rows of shape \(6,\), got rows of shape \(2,\)"):
        trainer.predict([dask.delayed(X[:, :2])]).compute()


def test_a_column_that_holds_no_numbers_is_named(trainer):
    with pytest.raises(DataError, match=r"column 'c' of x has dtype category"):
        trainer.predict(dd.from_pandas(pd.DataFrame({"c": pd.Categorical(["a", "b"])}), npartitions=1))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=6).map(sorted))
def test_evaluation_does_not_depend_on_the_partitions(trainer, cuts):
    once = trainer.evaluate(X, Y)
    x = [dask.delayed(part) for part in np.split(X, cuts)]
    assert trainer.evaluate(x, Y) == once


def test_evaluation_of_pairs_and_of_frames(trainer):
    once = trainer.evaluate(X, Y)
    assert trainer.evaluate([dask.delayed((x, y)) for x, y in zip(split(X), split(Y), strict=True)]) == once
    assert trainer.evaluate(dd.from_pandas(pd.DataFrame(X), npartitions=7), da.from_array(Y, chunks=900)) == once


def test_evaluation_keeps_no_partition(trainer):
    source = open_source(da.from_array(X, chunks=(500, 6)), Y, targets="classes")
    session = dt.engines.InlineEngine(1).session(trainer.program, source)
    session.evaluate(source, trainer.progress.state)
    assert not source.in_memory


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (delayed(X), delayed(Y)),
        ([dask.delayed((x, y)) for x, y in zip(split(X), split(Y), strict=True)], None),
        (dd.from_pandas(pd.DataFrame(X), npartitions=4), Y),
        (da.from_array(X, chunks=(700, 6)), delayed(Y)),
    ],
    ids=["two lists", "pairs", "frame and array", "array and list"],
)
def test_fit_takes_partitions_to_the_same_bits(trainer, x, y):
    assert fit(x, y).history.fingerprint == trainer.history.fingerprint


def test_classes_are_known_for_rows_of_unknown_shape():
    with pytest.raises(DataError, match="y holds the label 3, but there are 3 classes"):
        fit(delayed(X), Y + 1)


def test_partitions_without_targets_are_refused():
    with pytest.raises(DataError, match="there is no y"):
        fit(delayed(X), None)


def test_predictions_pickle_with_their_model(trainer):
    program, state = trainer.progress.trained("be pickled")
    again = pickle.loads(pickle.dumps(Predictor(program, state, 64)))
    assert np.array_equal(again(X[:100]), trainer.predict(X[:100], batch_size=64))
