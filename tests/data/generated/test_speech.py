"""The synthesiser says what it is told, in the voice that it is given."""

import numpy as np
import pytest

from dagtrain import audio
from dagtrain.data.generated import PHONES, draw_speech, draw_syllables, draw_voices, speak
from dagtrain.errors import ArgumentError

VOICES = draw_voices(2, seed=1)
SYMBOLS = list(PHONES)


def random(seed=0):
    return np.random.default_rng(seed)


def test_the_sound_is_as_long_as_its_labels_which_spell_the_text():
    text = draw_syllables(20, random())
    samples, labels = speak(text, VOICES[0], random())
    assert samples.shape == labels.shape
    assert np.abs(samples).max() < 1
    ends = np.append(np.diff(labels) != 0, True)
    assert "".join(SYMBOLS[label] for label in labels[ends]) == text
    assert sum(symbol in "ieaou" for symbol in text) == 20
    assert 20 * 16_000 / np.sum(labels > 0) == pytest.approx(VOICES[0].pace, rel=0.1)


def test_pitch_level_and_tempo_are_those_of_the_voice():
    for voice in VOICES:
        for changes in ({}, {"pitch": 150.0, "level": -18.0}):
            told = voice._replace(**changes)
            samples, labels = speak(draw_syllables(12, random(1)), told, random(1), 8000)
            pitch, level = audio.pitch(samples, 8000), audio.level(samples, 8000, length=0.05)
            voiced = np.isin(audio.frames(labels, 400, 80)[:, 200], [SYMBOLS.index(vowel) for vowel in "ieaou"])
            assert np.median(pitch.hertz[voiced]) == pytest.approx(told.pitch, rel=0.04)
            assert np.median(pitch.strength[voiced]) > 0.8
            assert 10 * np.log10(np.mean(10 ** (level[voiced] / 10))) == pytest.approx(told.level, abs=1)
            assert audio.tempo(samples, 8000) == pytest.approx(told.pace, rel=0.25)


def test_resonances_are_those_of_phone_and_throat():
    """The lower half of the spectrum of a whispering voice has its peak at the first resonance, that of s higher than that of ʃ."""
    for tract in (0.9, 1.2):
        voice = VOICES[0]._replace(tract=tract, pitch=60.0, tilt=2000.0, breath=0.0, accent=np.ones((len(PHONES), 3)))
        peaks = {}
        for symbol in "aiesʃ":
            samples, labels = speak(f"{symbol}a", voice, random())
            spectrum = np.abs(np.fft.rfft(samples[labels == SYMBOLS.index(symbol)] * np.hanning((labels == SYMBOLS.index(symbol)).sum())))
            hertz = np.fft.rfftfreq(2 * len(spectrum) - 2, 1 / 16_000)
            low = hertz < (1000 if symbol in "aie" else 8000)
            peaks[symbol] = hertz[low][spectrum[low].argmax()] / tract
        for symbol in "aie":
            assert abs(peaks[symbol] - PHONES[symbol].formants[0]) < 80, (symbol, peaks)
        assert peaks["s"] > peaks["ʃ"] + 1000


def test_recordings_are_functions_of_their_numbers_and_voices_of_theirs():
    few, many = draw_speech(VOICES, 1, seed=3, syllables=2), draw_speech(VOICES, 2, seed=3, syllables=2)
    assert [recording.voice for recording in many] == [0, 0, 1, 1]
    for a, b in zip(few, many[::2], strict=True):
        assert np.array_equal(a.samples, b.samples)
        assert a.samples.dtype == np.float32
    assert not np.array_equal(few[0].samples[:1000], draw_speech(VOICES, 1, seed=4, syllables=2)[0].samples[:1000])
    voices = draw_voices(40)
    assert all(a.pitch == b.pitch for a, b in zip(voices, draw_voices(2), strict=False))
    pitch, tract = np.array([[voice.pitch, voice.tract] for voice in voices]).T
    assert np.corrcoef(pitch, tract)[0, 1] > 0.5


def test_mistakes_are_named():
    for text in ("", " ", "st", "maX"):
        with pytest.raises(ArgumentError, match="a text has phones of"):
            speak(text, VOICES[0], random())
    with pytest.raises(ArgumentError, match="rate must be a whole number from 8000 up"):
        speak("ma", VOICES[0], random(), 4000)
