"""Windows over a series share its rows: here, in blocks of dask, in sources, in messages; and train to the same bits on each engine."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from dask.sizeof import sizeof

import dagtrain as dt
from dagtrain import nn
from dagtrain.data import open_source, windows
from dagtrain.data.pick import join
from dagtrain.data.windows import WindowRows, shared_rows
from dagtrain.errors import DataError

SERIES = np.random.default_rng(0).normal(size=(300, 2)).astype("f4")


def plainly(series, width, step=1):
    return np.stack([series[i : i + width] for i in range(0, len(series) - width + 1, step)])


def test_windows_are_those_of_a_loop_for_any_blocks():
    draw = np.random.default_rng(1)
    for _ in range(30):
        rows, width, step = int(draw.integers(5, 60)), int(draw.integers(1, 6)), int(draw.integers(1, 9))
        series = draw.normal(size=(rows, *draw.integers(1, 4, draw.integers(0, 3))))
        expected = plainly(series, width, step)
        assert np.array_equal(windows(series, width, step), expected)
        cuts = np.sort(draw.choice(rows - 1, min(rows - 1, int(draw.integers(0, 9))), replace=False)) + 1
        lazy = windows(
            da.from_array(series, chunks=(tuple(np.diff([0, *cuts, rows]).tolist()), *((n,) for n in series.shape[1:]))), width, step
        )
        assert lazy.shape == expected.shape
        assert np.array_equal(lazy.compute(scheduler="sync"), expected)
        blocks = dask.compute(*lazy.to_delayed().ravel().tolist(), scheduler="sync")
        assert [len(block) for block in blocks] == list(lazy.chunks[0])


def test_rows_are_held_once():
    assert np.shares_memory(windows(SERIES, 50), SERIES)
    block = windows(da.from_array(SERIES, chunks=(100, 2)), 50)
    assert block.chunks[0] == (51, 49, 51, 49, 51)  # within the blocks, and across the seams
    wide = SERIES.astype("f8")
    for series in (wide, da.from_array(wide, chunks=(100, 2))):
        source = open_source(windows(series, 50), windows(series, 50)[:, -1], targets="like_outputs")
        (x, _) = source.local()
        shared = shared_rows(x)
        assert shared.rows.shape == (300, 2)
        assert shared.rows.dtype == np.float32
        assert source.held_bytes < 4 * SERIES.nbytes < source.nbytes / 10
        assert source.split(100)[1].held_bytes < 4 * SERIES.nbytes
        graph, keys = source.tasks()
        partitions = dask.threaded.get(graph, keys)
        for partition in partitions:
            assert isinstance(partition, WindowRows)
            copy = pickle.loads(pickle.dumps(partition))
            assert all(np.array_equal(a, b) for a, b in zip(copy, partition, strict=True))
            assert shared_rows(copy[0]) is not None
        if isinstance(series, da.Array):
            sizes = [len(pickle.dumps(partition)) for partition in partitions]
            assert sum(sizes) < 4 * SERIES.nbytes < windows(SERIES, 50).nbytes / 10
            assert sum(map(sizeof, partitions)) < 3 * SERIES.nbytes


def test_only_what_shares_rows_is_a_window():
    for array in (SERIES, SERIES.T, windows(SERIES, 4, 4), windows(SERIES, 4, 7), np.broadcast_to(SERIES, (3, 300, 2)), SERIES[:1, None]):
        assert shared_rows(array) is None
    for array in (windows(SERIES, 4), windows(SERIES, 4, 3)[2:9], windows(SERIES[::2], 4)[:, :, 1:], windows(SERIES[:, 0], 5)[:, 1:]):
        assert np.array_equal(shared_rows(array).view(), array)


def test_a_join_of_other_series_is_a_copy():
    one, two = windows(SERIES[:50], 5), windows(SERIES[100:160], 5)
    together = join([(one[:20], np.arange(20)), (one[20:], np.arange(26))])
    assert np.array_equal(together[0], one)
    assert shared_rows(together[0]) is not None
    apart = join([(one, np.arange(46)), (two, np.arange(56))])
    assert np.array_equal(apart[0], np.concatenate([one, two]))
    assert shared_rows(apart[0]) is None


@pytest.mark.parametrize(
    ("series", "width", "words"),
    [
        ([dask.delayed(SERIES)], 1, "a list of partitions: join them"),
        (SERIES, 301, "a series of 300 rows has no window of 301 rows"),
        (np.float64(3), 1, "first axis must count rows in time"),
        ((SERIES, SERIES), 2, "one array of rows in time, got a tuple"),
        (None, 2, "one array of rows in time, got a NoneType"),
        (np.ma.masked_less(SERIES, 0), 2, "a row of the series is masked"),
        (da.from_array(SERIES)[da.from_array(SERIES[:, 0] > 0)], 5, "unknown lengths"),
    ],
)
def test_mistakes_are_named(series, width, words):
    with pytest.raises(DataError, match=words):
        windows(series, width)


def test_a_bad_row_is_found_in_its_first_window():
    bad = SERIES.copy()
    bad[70, 1] = np.nan
    with pytest.raises(DataError, match=r"x holds nan: row 66, at \(4, 1\) in it|x holds nan: row 66"):
        open_source(windows(bad, 5), targets=None)


def test_training_on_windows_gives_the_same_bits_on_each_engine(client):
    def trained(x, series, engine):
        model = nn.Sequential([nn.Flatten(), nn.Dense(6, "tanh"), nn.Dense(2)])
        trainer = dt.Trainer(model, loss="mean_squared_error", optimizer=dt.optim.adam(1e-2), shards=4, engine=engine)
        trainer.fit(x[:-1], series[8:], epochs=1, batch_size=128, verbose=0)
        return trainer

    blocks = da.from_array(SERIES, chunks=(90, 2)).persist()
    here = trained(windows(SERIES, 8), SERIES, "inline")
    prints = [here.state.fingerprint, trained(plainly(SERIES, 8), SERIES, "inline").state.fingerprint]
    prints += [trained(windows(blocks, 8), blocks, engine).state.fingerprint for engine in ("scheduler", "lanes")]
    assert len(set(prints)) == 1
    assert np.array_equal(here.predict(windows(SERIES, 8)), here.predict(plainly(SERIES, 8)))
    assert here.evaluate(windows(blocks, 8)[:-1], blocks[8:]) == here.evaluate(plainly(SERIES, 8)[:-1], SERIES[8:])
