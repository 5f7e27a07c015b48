"""Tables with text and gaps, as they are: learnt, trained on, saved and predicted with the model."""

from __future__ import annotations

import dask
import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.data import Features
from dagtrain.errors import DataError

pd = pytest.importorskip("pandas")
dd = pytest.importorskip("dask.dataframe")


def test_tables_in_any_form_and_after_loading(tmp_path):
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"age": rng.integers(18, 80, 600).astype("f8"), "city": rng.choice(["Ulm", "Bonn", "Köln"], 600)})
    x.loc[::7, "age"] = np.nan
    x.loc[::5, "city"] = None
    y = ((x["age"].fillna(60) > 45) ^ (x["city"] == "Ulm")).astype(int)
    features = Features.learn(x)

    def trained(*data, **options):
        model = nn.Sequential([nn.FeatureEmbedding(features), nn.Dense(16, "relu"), nn.Dense(1)])
        optimizer = dt.optim.adam(2e-2)
        trainer = dt.Trainer(model, loss="binary_cross_entropy", metrics=["accuracy"], optimizer=optimizer, shards=1)
        trainer.fit(*data, epochs=15, verbose=0, **options)
        return trainer

    parts = [slice(0, 100), slice(100, 300), slice(300, 600)]
    trainer = trained(x, y, validation_data=(x[:100], y[:100]))
    assert trainer.evaluate(x, y)["accuracy"] > 0.95
    for data in (
        (x.sample(frac=1, random_state=0), y),  # rows follow the index
        (dd.from_pandas(x, npartitions=4), dd.from_pandas(y, npartitions=4)),
        ([dask.delayed((x[part], y[part])) for part in parts],),
    ):
        if data[0] is not x and isinstance(data[0], pd.DataFrame):
            assert trainer.evaluate(*data)["accuracy"] == trainer.evaluate(x, y)["accuracy"]
        else:
            assert trained(*data).history.fingerprint == trainer.history.fingerprint
    trainer.save(tmp_path)
    again = dt.load(tmp_path)
    assert again.model.layers[0].features == features
    outputs = trainer.predict(x)
    np.testing.assert_array_equal(again.predict(dd.from_pandas(x[["city", "age"]], npartitions=1)).compute(), outputs)
    np.testing.assert_array_equal(again.predict(lambda: (x[part] for part in parts)), outputs)
    unseen = again.predict(x[:9].assign(city="Oz"))
    assert np.isfinite(unseen).all()
    with pytest.raises(DataError, match="without 'city'"):
        again.predict(x[["age"]])
    table = nn.Input((3,), name="table")
    functional = nn.Model(
        [other := nn.Input((2,), name="other"), table], nn.Dense(1)(nn.Concatenate()([nn.FeatureEmbedding(features)(table), other]))
    )
    several = dt.Trainer(functional, loss="binary_cross_entropy")
    several.fit({"table": x, "other": np.zeros((600, 2))}, y.to_numpy(), verbose=0)
    assert several.predict((np.zeros((600, 2)), x)).shape == (600, 1)


def test_a_gap_where_there_was_none_and_an_unseen_category_have_the_mean_vector():
    features = Features.learn(pd.DataFrame({"city": ["Ulm", "Bonn", "Köln"]}))
    layer = nn.FeatureEmbedding(features, output_dim=2)
    parameters, state = layer.init(dt.key(0), (3, 1))
    new = features.encode(pd.DataFrame({"city": ["Ulm", "Bonn", "Köln", "Oz", None]})).to_numpy(np.float32)
    vectors = layer.apply(parameters, state, new)[0]
    np.testing.assert_allclose(vectors[3:], np.tile(vectors[:3].mean(axis=0), (2, 1)), rtol=1e-6)
    np.testing.assert_array_equal(vectors[:3], np.asarray(parameters["vectors_1"])[[2, 0, 1]])
