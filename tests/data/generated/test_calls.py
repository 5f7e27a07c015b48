"""The probabilities of tones are exact, and calls sound as they were drawn."""

import numpy as np
import pytest

from dagtrain import audio
from dagtrain.data.generated import CALL_RATE, TONES, draw_calls, draw_prosody, tone_probabilities
from dagtrain.errors import ArgumentError, ShapeError


def test_probabilities_are_frequencies():
    """Among calls of about one probability, that part has the tone."""
    tones, prosody = draw_prosody(200_000, seed=1)
    probabilities = tone_probabilities(prosody)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    for number, tone in enumerate(TONES.values()):
        assert np.mean(tones == number) == pytest.approx(tone.share, abs=0.004)
        parts = np.digitize(probabilities[:, number], np.linspace(0, 1, 11))
        for part in range(1, 11):
            of = parts == part
            assert np.mean(tones[of] == number) == pytest.approx(probabilities[of, number].mean(), abs=2 / np.sqrt(of.sum()))


def test_calls_sound_as_they_were_drawn():
    calls = draw_calls(4, seed=1, syllables=(6, 9))
    tones, prosody = draw_prosody(9, seed=1)
    assert np.array_equal(calls.tones, tones[:4])  # the first calls do not depend on how many there are
    assert np.array_equal(calls.prosody, prosody[:4])
    for sound, (pitch, pace, level) in zip(calls.sounds, calls.prosody, strict=True):
        assert sound.dtype == np.float32
        loud = audio.level(sound, CALL_RATE, length=0.05)
        voiced = (audio.pitch(sound, CALL_RATE).strength > 0.6) & (loud > np.percentile(loud, 95) - 15)
        assert np.median(audio.pitch(sound, CALL_RATE).hertz[voiced]) == pytest.approx(pitch, rel=0.06)
        assert 10 * np.log10(np.mean(10 ** (loud[voiced] / 10))) == pytest.approx(level, abs=2)
        assert audio.tempo(sound, CALL_RATE) == pytest.approx(pace, rel=0.35)


def test_mistakes_are_named():
    with pytest.raises(ArgumentError, match="syllables are at least, and at most"):
        draw_calls(1, syllables=(3, 2))
    with pytest.raises(ShapeError, match="prosody has the shape"):
        tone_probabilities([100.0, 4.0, -20.0])
