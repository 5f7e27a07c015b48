"""Frames, their derivatives and neighbours are Kaldi's."""

import numpy as np
import pytest

from dagtrain import audio
from dagtrain.errors import DataError, DTypeError, ShapeError

FEATURES = np.random.default_rng(0).normal(3, 2, (40, 5)).astype("f4")


def test_derivatives_neighbours_and_standard_features_are_kaldis():
    kaldi = pytest.importorskip("kaldi_native_fbank")
    for order, window in ((2, 2), (1, 3), (3, 1)):
        options = kaldi.DeltaOptions()
        options.order, options.window = order, window
        for features in (FEATURES, FEATURES[:1]):
            np.testing.assert_allclose(audio.deltas(features, order, window), kaldi.compute_deltas(options, features), atol=1e-5)
    options = kaldi.SpliceOptions()
    options.left_context, options.right_context = 3, 2
    assert np.array_equal(audio.context(FEATURES, 3, 2), kaldi.splice_frames(FEATURES, options))
    options = kaldi.CmvnOptions()
    options.norm_vars = True
    expected = kaldi.apply_cmvn(kaldi.compute_cmvn_stats(FEATURES), options, FEATURES)
    np.testing.assert_allclose(audio.standardize(FEATURES), expected, atol=1e-5)


def test_features_keep_their_dtype_and_constant_ones_become_zero():
    assert {f(FEATURES).dtype for f in (audio.deltas, audio.standardize)} == {np.dtype("f4")}
    for constant in (0.0, 0.1, -7.3, 1e30):
        assert not audio.standardize(np.full((9, 2), constant, "f4")).any()


def test_labels_of_frames_are_those_in_their_middle():
    labels = np.repeat([3, 5, 8], [100, 40, 60])
    assert audio.frames(labels, 40, 20)[:, 20].tolist() == [3, 3, 3, 3, 5, 5, 8, 8, 8]
    assert np.array_equal(audio.frames(labels, 5, 3, centred=True)[:, 3], labels[::3])


def test_whole_numbers_have_real_slopes():
    assert audio.deltas([[0], [1], [4], [9], [16]], order=1)[:, 1].tolist() == pytest.approx([0.9, 2.2, 4.0, 4.2, 3.1])
    assert audio.standardize(np.full((3, 1), -128, "i1")).tolist() == [[0], [0], [0]]


def test_mistakes_are_named():
    for call, kind, message in (
        (lambda: audio.frames(np.zeros(3), 4, 1), DataError, "fewer than the 4 of one frame"),
        (lambda: audio.frames(np.zeros(0), 4, 1, centred=True), DataError, "there are 0 samples"),
        (lambda: audio.deltas(np.zeros(3)), ShapeError, "deltas: features have the shape"),
        (lambda: audio.standardize(np.zeros((0, 3))), ShapeError, "standardize: features have the shape"),
        (lambda: audio.standardize([["a"]]), DTypeError, "standardize: features are numbers, got <U1"),
        (lambda: audio.context([[1.0], [2.0, 3.0]], 1, 1), ShapeError, "context: features have the shape"),
        (lambda: audio.deltas([[0.0], [np.nan]]), DataError, "deltas: frame 1 holds a number that is not finite"),
        (lambda: audio.level(np.full(400, 3e4), 8000), DataError, "level: .* up to 30000. Divide whole numbers of 16 bits by 32768"),
        (lambda: audio.tempo(np.zeros(3), 8000), DataError, "tempo: there are 3 samples"),
        (lambda: audio.level(np.ma.masked_equal(np.zeros(400), 0.0), 8000), DataError, "level: a sample is masked"),
    ):
        with pytest.raises(kind, match=message):
            call()
