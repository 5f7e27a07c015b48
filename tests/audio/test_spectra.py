"""Features are those of Kaldi's code, and of the formulas that were published."""

import numpy as np
import pytest

from dagtrain import audio
from dagtrain.errors import ArgumentError, DataError, DTypeError, ShapeError, UnknownNameError


def sound(rate, seconds=0.3):
    """A tone that rises and its harmonics, in noise, of 16 bits."""
    t = np.arange(int(rate * seconds)) / rate
    tones = sum(np.sin(2 * np.pi * f * t * (1 + 0.1 * t)) / n for n, f in enumerate([140, 700, 1220, 2600], 1))
    noise = np.random.default_rng(0).normal(0, 0.003, len(t))
    return np.rint((0.2 * np.hanning(len(t)) * tones + noise) * 32768) / 32768


def kaldi(kind, samples, rate, style, **options):
    """Features of `kaldi_native_fbank`."""
    library = pytest.importorskip("kaldi_native_fbank")
    made = getattr(library, f"{kind}Options")()
    made.frame_opts.samp_freq, made.frame_opts.dither = rate, 0
    made.frame_opts.window_type = {"htk": "hamming", "kaldi": "povey", "slaney": "hann"}[style]
    made.frame_opts.remove_dc_offset = style == "kaldi"
    made.mel_opts.num_bins = audio.STYLES[style].bands
    made.mel_opts.low_freq = audio.STYLES[style].low
    made.use_energy = False
    if style == "slaney":
        made.mel_opts.is_librosa, made.frame_opts.preemph_coeff = True, 0
    for name, value in options.items():
        setattr(made, name, value)
    online = getattr(library, f"Online{kind}")(made)
    online.accept_waveform(rate, (samples * 32768).astype("f4").tolist())
    online.input_finished()
    return np.array([online.get_frame(i) for i in range(online.num_frames_ready)])


def test_features_are_kaldis():
    for rate in (8000, 16_000, 44_100):
        samples = sound(rate)
        for style in ("htk", "kaldi"):
            np.testing.assert_allclose(audio.log_mel(samples, rate, style), kaldi("Fbank", samples, rate, style), atol=1e-3)
            expected = kaldi("Mfcc", samples, rate, style, htk_compat=style == "htk")
            np.testing.assert_allclose(audio.mfcc(samples, rate, style), expected, atol=3e-3)
        # Slaney's filters on frames that are not centred
        length = rate // 40
        size = 1 << (length - 1).bit_length()
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        power = np.abs(np.fft.rfft(audio.frames(samples, length, rate // 100) * window, size)) ** 2
        expected = kaldi("Fbank", samples, rate, "slaney", use_log_fbank=False) / 32768**2
        np.testing.assert_allclose(power @ audio.mel_filters(rate, size, "slaney"), expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_the_style_slaney_is_that_of_the_formulas():
    """As librosa computes them: centred frames, decibels down to 80 below the largest, an orthonormal transform, the lifter from 1."""
    rate, length, step, size = 16_000, 400, 160, 512
    samples = sound(rate)
    samples[2000:4000] = 0
    around = np.concatenate([np.zeros(200), samples, np.zeros(200)])
    hertz = np.arange(257) * rate / size
    scale = np.linspace(0, 15 + np.log(8) / (np.log(6.4) / 27), 42)  # mel of 0 and of 8000 Hz
    corners = np.where(scale < 15, scale * 200 / 3, 1000 * np.exp((scale - 15) * np.log(6.4) / 27))
    window = np.hanning(length + 1)[:-1]
    rows = []
    for start in range(0, len(samples) + 1, step):
        power = np.abs(np.fft.fft(around[start : start + length] * window, size)[:257]) ** 2
        bands = [np.sum(power * np.interp(hertz, corners[i : i + 3], [0, 2 / (corners[i + 2] - corners[i]), 0])) for i in range(40)]
        rows.append(10 * np.log10(np.maximum(bands, 1e-10)))
    expected = np.maximum(rows, np.max(rows) - 80)
    assert (expected == expected.min()).sum() > 100
    np.testing.assert_allclose(audio.log_mel(samples, rate, "slaney"), expected, atol=1e-4)
    n = np.arange(40)
    for lifter in (0, 22):
        for k in range(20):
            value = expected @ np.cos(np.pi * k * (2 * n + 1) / 80) * np.sqrt((2 if k else 1) / 40)
            value *= 1 + lifter / 2 * np.sin(np.pi * (k + 1) / lifter) if lifter else 1
            np.testing.assert_allclose(audio.mfcc(samples, rate, "slaney", lifter=lifter)[:, k], value, atol=1e-3)


def test_a_louder_sound_has_the_same_shape():
    """Only coefficient 0 tells how loud it is: the first, and in the style "htk" the last."""
    samples = sound(8000)
    for style, loudness in (("htk", 12), ("kaldi", 0)):
        apart = np.abs(audio.mfcc(2 * samples, 8000, style) - audio.mfcc(samples, 8000, style)).max(axis=0)
        assert apart[loudness] > 1
        assert np.delete(apart, loudness).max() < 1e-3


def test_a_long_recording_is_computed_in_pieces():
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 20 * 4200)
    frame = {"length": 0.005, "step": 0.0025, "bands": 8, "coefficients": 8}
    whole, part = audio.mfcc(samples, 8000, **frame), audio.mfcc(samples[20 * 4000 :], 8000, **frame)
    assert len(whole) > 4096 > len(part)
    np.testing.assert_allclose(whole[4000:], part, atol=1e-3)


def test_mistakes_are_named():
    ok = np.zeros(800)
    for function, samples, options, kind, message in (
        (audio.mfcc, ok, {"style": "kaldii"}, UnknownNameError, "unknown style 'kaldii'. Did you mean 'kaldi'"),
        (audio.mfcc, ok, {"coefficients": 24}, ArgumentError, "at most as many as bands, got 24 of 23"),
        (audio.mfcc, ok, {"lifter": -1}, ArgumentError, "mfcc: lifter must be a whole number"),
        (audio.log_mel, ok, {"bands": 120}, ArgumentError, "of 120 bands contain no frequency"),
        (audio.log_mel, ok, {"high": 4100.0}, ArgumentError, "at most 4000"),
        (audio.log_mel, ok, {"length": 0}, ArgumentError, "log_mel: length must be a finite number above 0"),
        (audio.log_mel, ok, {"length": 1e-5}, ArgumentError, "log_mel: length is in seconds, and holds at least two samples"),
        (audio.log_mel, ok[:100], {}, DataError, "there are 100 samples, fewer than the 200 of one frame"),
        (audio.log_mel, np.zeros((800, 2)), {}, ShapeError, "Choose a channel"),
        (audio.level, np.zeros(800, int), {}, DTypeError, "samples are floats from -1 to 1"),
        (audio.pitch, np.full(800, np.inf), {}, DataError, "sample 0 is inf"),
        (audio.pitch, ok, {"low": 20.0}, ArgumentError, "three periods of low"),
    ):
        with pytest.raises(kind, match=message):
            function(samples, 8000, **options)
