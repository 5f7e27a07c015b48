"""Level and pitch of sounds for which they are known."""

import numpy as np

from dagtrain import audio


def test_pitch_is_that_of_the_periods():
    """Of tones with a weak fundamental or many harmonics, in noise; noise and silence have none."""
    random = np.random.default_rng(0)
    for rate in (8000, 16_000):
        t = np.arange(rate // 2) / rate
        for hertz in (71.3, 110, 183.7, 260, 411):
            for falls in (0, 1):  # harmonics of one amplitude, or falling
                tone = sum(np.sin(2 * np.pi * hertz * n * t + n * n) / n**falls for n in range(1, 9) if n * hertz < rate / 2)
                tone += 0.1 * random.normal(size=len(t))
                result = audio.pitch(0.1 * tone, rate)
                np.testing.assert_allclose(result.hertz, hertz, rtol=0.01)
                assert result.strength.min() > 0.9
    assert np.median(audio.pitch(0.1 * random.normal(size=8000), 8000).strength) < 0.4
    assert not audio.pitch(np.zeros(800), 8000).strength.any()


def test_pitch_follows_a_glide():
    hertz = np.linspace(100, 200, 16_000)
    result = audio.pitch(0.1 * np.sign(np.sin(2 * np.pi * np.cumsum(hertz) / 16_000)), 16_000)
    np.testing.assert_allclose(result.hertz, audio.frames(hertz, 800, 160)[:, 400], rtol=0.02)


def test_level_is_in_decibels():
    tone = np.sin(np.arange(8000))
    np.testing.assert_allclose(audio.level(tone, 8000), -3.01, atol=0.05)
    np.testing.assert_allclose(audio.level(0.1 * tone, 8000), -23.01, atol=0.05)
    assert audio.level(0 * tone, 8000).max() == -100


def test_tempo_counts_what_stands_out_of_the_noise():
    t = np.arange(16_000) / 8000
    noise = 1e-3 * np.random.default_rng(0).normal(size=len(t))
    beats = np.sin(2 * np.pi * 300 * t) * np.clip(np.sin(2 * np.pi * 4 * t), 0, None)
    assert audio.tempo(0.3 * beats + noise, 8000) == 4
    assert audio.tempo(noise, 8000) < 1.5
    assert audio.tempo(0.3 * np.sin(2 * np.pi * 300 * t), 8000) == 0
