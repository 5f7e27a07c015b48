"""Training with shuffle="local": same bits on threads and through a resume, dependent on the partitions, and refused when misspelt."""

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, UnknownNameError

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
X = RNG.normal(size=(203, 6)).astype("f4")
Y = (X[:, :3].argmax(axis=1)).astype("i8")


def trainer(**options):
    model = dt.nn.Sequential([dt.nn.Dense(12, "tanh"), dt.nn.Dense(3)])
    return dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-2), **{"shards": 3, "engine": "inline", **options})


def fit(trainer, *, rows=40, epochs=3, shuffle="local", **options):
    x, y = da.from_array(X, chunks=(rows, 6)), da.from_array(Y, chunks=rows)
    return trainer.fit(x, y, epochs=epochs, batch_size=32, shuffle=shuffle, verbose=0, **options)


def test_threads_change_no_bit():
    assert fit(trainer(threads=1)).fingerprint == fit(trainer(threads=3)).fingerprint


def test_partitions_change_the_order():
    assert len({fit(trainer(), **o).fingerprint for o in ({}, {"rows": 50}, {"shuffle": True}, {"shuffle": False})}) == 4


def test_partitions_do_not_matter_where_the_order_is_global():
    assert fit(trainer(), shuffle="global").fingerprint == fit(trainer(), shuffle=True, rows=50).fingerprint


def test_it_learns():
    assert fit(trainer(), epochs=40).history["loss"][-1] < 0.2


def test_a_run_resumes_to_the_same_bits(tmp_path):
    fit(trainer(), epochs=2, checkpoint=tmp_path)
    assert fit(trainer(), epochs=4, checkpoint=tmp_path, resume=True).fingerprint == fit(trainer(), epochs=4).fingerprint


def test_a_run_over_other_partitions_is_not_resumed(tmp_path):
    fit(trainer(), checkpoint=tmp_path)
    with pytest.raises(ArgumentError, match=r"shuffle: local over 6 partitions \(\w{8}\) there, local over 5 partitions \(\w{8}\) here"):
        fit(trainer(), rows=50, checkpoint=tmp_path, resume=True, epochs=4)


def test_its_checkpoint_loads(tmp_path):
    fitted = trainer()
    fit(fitted)
    fitted.save(tmp_path / "a")
    assert np.array_equal(dt.load(tmp_path / "a").predict(X), fitted.predict(X))


def test_an_unknown_order_is_refused_before_the_data_is_opened():
    with pytest.raises(UnknownNameError, match="Did you mean 'local'"):
        trainer().fit(None, None, shuffle="locally", verbose=0)
