"""Detectors learn what is normal from a series alone, with the same bits on a cluster."""

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data.generated import machine_sensors, payment_queue
from dagtrain.errors import ArgumentError, CheckpointError, DataError, ShapeError
from dagtrain.series import AutoencodingDetector, Detector, RecurrentDetector, ranges

from ..each import each

pd = pytest.importorskip("pandas")
dd = pytest.importorskip("dask.dataframe")

TRAINED = machine_sensors(1500, seed=1).values


class Mean(Detector):
    def learn(self, series):
        self.seen = series

    def residuals(self, series):
        return series


class NeverTrained(RecurrentDetector):
    def learn(self, series):
        raise AssertionError("it learns")


def test_a_detector_of_ones_own_is_scaled_and_judged_by_rows_it_did_not_learn():
    draw = np.random.default_rng(0)
    series = draw.normal(size=(20_000, 2)) @ [[3.0, 1.0], [0.0, 0.2]] + 5
    detector = Mean(smooth=1).fit(series)
    assert detector.seen.shape == (14_000, 2)
    np.testing.assert_allclose(detector.seen.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(detector.seen.std(axis=0), 1, atol=1e-4)
    later = draw.normal(size=(100_000, 2)) @ [[3.0, 1.0], [0.0, 0.2]] + 5
    scores = detector.scores(later)
    assert scores.mean() == pytest.approx(2, rel=0.05)  # of chi-squared with two degrees of freedom
    assert 2e-5 < detector.detect(later).mean() < 5e-4
    assert Mean(smooth=3).fit(series).scores(later)[10] == pytest.approx(scores[9:12].mean(), rel=1e-6)


def test_a_detector_has_the_same_bits_on_a_cluster(client):
    def fitted(series, engine):
        return RecurrentDetector(8, 6, epochs=1, batch_size=256, engine=engine).fit(series)

    here, there = fitted(TRAINED, "inline"), fitted(da.from_array(TRAINED, chunks=(400, 4)), "lanes")
    assert here.fingerprint == there.fingerprint
    assert here.threshold == there.threshold
    assert np.array_equal(here.scores(TRAINED), there.scores(da.from_array(TRAINED, chunks=(400, 4))))
    assert (here.scores(TRAINED)[:5] == 0).all()  # nothing is known yet


def test_units_and_offsets_of_channels_change_nothing():
    expected = Mean().fit(TRAINED).scores(TRAINED)  # whose deviations are about 0.4
    for scale, offset in ((1e-12, 0.0), (1e9, 0.0), (1.0, 1e9)):
        series = TRAINED.astype(float) * scale + offset
        np.testing.assert_allclose(Mean().fit(series).scores(series), expected, rtol=1e-3)
        np.testing.assert_allclose(Mean().fit(da.from_array(series, chunks=(400, 4))).scores(series), expected, rtol=1e-3)


@pytest.mark.parametrize("kind", [RecurrentDetector, AutoencodingDetector])
def test_a_detector_comes_back_from_a_folder(kind, tmp_path):
    detector = kind(4, 3, epochs=1, batch_size=512, optimizer=dt.optim.sgd(0.1), smooth=3).fit(pd.DataFrame(TRAINED, columns=list("abcd")))
    detector.save(tmp_path)
    again = kind.load(tmp_path)
    assert (again.fingerprint, again.threshold, again.smooth) == (detector.fingerprint, detector.threshold, 3)
    assert np.array_equal(again.scores(pd.DataFrame(TRAINED, columns=list("abcd"))[list("dcba")]), detector.scores(TRAINED))
    again.fit(TRAINED[:1000]).save(tmp_path)  # with the optimizer and the seed of the first
    assert again.fingerprint == detector.fit(TRAINED[:1000]).fingerprint
    assert len(list(tmp_path.glob("network-*"))) == 1
    (other,) = {RecurrentDetector, AutoencodingDetector} - {kind}
    with pytest.raises(CheckpointError, match="another kind of detector"):
        other.load(tmp_path)
    file = tmp_path / "detector.json"
    file.write_text(file.read_text().replace('"white"', '"black"'))
    with pytest.raises(CheckpointError, match="is not what a"):
        kind.load(tmp_path)
    file.write_text("{}")
    with pytest.raises(CheckpointError, match="describes no detector"):
        kind.load(tmp_path)


def test_generators_plant_what_their_surprise_finds():
    for generator, channels in ((machine_sensors, 4), (payment_queue, 3)):
        clean, planted = generator(4000, seed=3), generator(4000, seed=3, anomalies=12)
        assert clean.values.shape == (4000, channels)
        assert not clean.anomalous.any()
        assert clean.surprise.mean() == pytest.approx(channels, rel=0.1)
        assert len(ranges(planted.anomalous)) == 12
        assert planted.surprise[planted.anomalous].mean() > 5 * channels
        assert planted.surprise[~planted.anomalous].mean() == pytest.approx(channels, rel=0.1)
        assert np.abs(planted.values - planted.values.mean(0)).max() < 1.3 * np.abs(clean.values - clean.values.mean(0)).max()
        again = generator(4000, seed=3, anomalies=12)
        assert np.array_equal(again.values, planted.values)
    with pytest.raises(ArgumentError, match="no room for 30 anomalies"):
        machine_sensors(2000, anomalies=30)


def test_columns_of_a_table_are_known_by_name():
    table = pd.DataFrame(TRAINED, columns=list("abcd"))
    mean = Mean().fit(table)
    assert np.array_equal(mean.scores(table[list("dbca")]), Mean().fit(TRAINED).scores(TRAINED.tolist()))
    with pytest.raises(DataError, match="it comes without 'd'"):
        mean.scores(table[list("abc")])


@each(
    [
        (TRAINED[:, 0], r"Of one channel it is series\[:, None\]"),
        (np.where(np.arange(len(TRAINED))[:, None] == 1400, np.nan, TRAINED), "row 1400 of the series is not finite"),
        (da.from_array(np.where(np.arange(len(TRAINED))[:, None] == 1400, np.inf, TRAINED)), "row 1400 of the series is not finite"),
        (TRAINED[:600], "a series of 600 rows leaves 180 for the threshold by held_out=0.3, and it needs 200"),
        (da.from_array(TRAINED)[da.ones(len(TRAINED), dtype=bool)], "compute_chunk_sizes"),
        (dd.from_array(TRAINED), "to_dask_array"),
        (TRAINED.astype(str), "the series has dtype <U"),
    ]
)
def test_a_series_is_checked_before_anything_is_learnt(series, words):
    with pytest.raises((ArgumentError, DataError, ShapeError), match=words):
        NeverTrained(4).fit(series)


def test_a_held_out_part_holds_a_window():
    with pytest.raises(ArgumentError, match=r"leaves 450 for the threshold by .*, and it needs 502"):
        NeverTrained(500).fit(TRAINED)


def test_mistakes_are_named():
    for use in (lambda: RecurrentDetector().scores(TRAINED), lambda: RecurrentDetector().save(".")):
        with pytest.raises(ArgumentError, match="has learnt nothing yet"):
            use()
    with pytest.raises(CheckpointError, match=r"there is no detector\.json"):
        RecurrentDetector.load("nowhere")
    mean = Mean().fit(TRAINED)
    with pytest.raises(ShapeError, match=r"learnt from \d channels, and the series has the shape"):
        mean.detect(TRAINED[:, :1])
    with pytest.raises(DataError, match="row 7 of the series is not finite"):
        mean.detect(np.where(np.arange(len(TRAINED))[:, None] == 7, np.nan, TRAINED))
    with pytest.raises(DataError, match="needs 1 row to judge one, and the series has 0"):
        mean.detect(TRAINED[:0])
    with pytest.raises(ArgumentError, match="risk is a probability above 0 and below the tail"):
        Mean(risk=0.1)
    with pytest.raises(ArgumentError, match="share above 0"):
        Mean(held_out=0.0)
