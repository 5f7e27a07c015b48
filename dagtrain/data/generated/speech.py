"""Sound that is like speech, made by a synthesiser of formants: voices that differ, saying syllables of an invented language.

    pulses of the larynx ─▶ resonances of mouth and throat ──┐
                             that glide from phone to phone  ├─▶ microphone ─▶ + noise ─▶ samples, and the phone of each
    noise ─▶ one resonance, for s, f, ʃ and bursts ──────────┘

A model of it says nothing of the speech of people: these voices have one way of speaking, and the language has neither words nor stress.
What it has in common with speech is what makes recognition hard: voices differ in the length of the throat, which moves all formants, and
in pitch, pace and accent; neighbours change each other; p, t and k are silent until they burst; and there is noise.

References: Fant, "Acoustic Theory of Speech Production" (1960); Klatt, "Software for a cascade/parallel formant synthesizer" (1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dagtrain.arguments import seed as checked_seed
from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array

__all__ = ["PHONES", "Recording", "Voice", "draw_speech", "draw_syllables", "draw_voices", "speak"]


class Phone(NamedTuple):
    """How a phone sounds: frequencies in hertz, for a throat of 17 cm.

    Attributes
    ----------
    formants
        The first three resonances.
    voice, noise
        How strong the larynx and the noise are.
    centre
        The resonance of the noise.
    duration
        Compared with other phones.
    closed
        Whether the mouth is closed until a burst at the end.
    """

    formants: tuple[float, float, float]
    voice: float
    noise: float = 0.0
    centre: float = 1000.0
    duration: float = 1.0
    closed: bool = False


PHONES = {
    " ": Phone((500, 1500, 2500), 0.0),
    "i": Phone((300, 2250, 3000), 1.0, duration=1.4),
    "e": Phone((480, 1900, 2550), 1.0, duration=1.4),
    "a": Phone((730, 1250, 2500), 1.0, duration=1.6),
    "o": Phone((500, 900, 2450), 1.0, duration=1.4),
    "u": Phone((320, 750, 2300), 1.0, duration=1.4),
    "m": Phone((260, 1000, 2200), 0.4),
    "n": Phone((260, 1500, 2500), 0.4),
    "l": Phone((370, 1150, 2800), 0.5, duration=0.9),
    "s": Phone((320, 1600, 2600), 0.0, 0.35, 5500, 1.2),
    "ʃ": Phone((320, 1700, 2500), 0.0, 0.35, 2900, 1.2),
    "f": Phone((320, 1000, 2300), 0.0, 0.12, 3800, 1.1),
    "p": Phone((320, 800, 2200), 0.0, 0.3, 1000, 1.0, True),
    "t": Phone((320, 1750, 2700), 0.0, 0.4, 4300, 1.0, True),
    "k": Phone((320, 2000, 2200), 0.0, 0.4, 1900, 1.0, True),
}
"""Symbol → phone; the place of a symbol is its label. The space is silence."""

_SYMBOLS = list(PHONES)
_VOWELS, _CONSONANTS, _ENDS = "ieaou", "mnlsʃfptk", "mnls"
_CONTROL = 0.005
"""Seconds between two settings of the synthesiser."""
_GLIDE, _EDGE = 0.02, 0.004
"""Standard deviations, in seconds, of the kernels that smooth formants and strengths."""
_BURST = 0.015
_RESPONSE = 0.032
"""Seconds of a pulse's response."""
_NOISE = (0.0, 15.0)
_PURPOSE, _VOICES = 0x737065656368, 0x766F69636573


class Voice(NamedTuple):
    """What tells a voice from others.

    Attributes
    ----------
    pitch
        Hertz, on average.
    tract
        What all formants are multiplied by: 1 for a throat of 17 cm, more for a shorter one.
    pace
        Syllables a second, between silences.
    level
        Decibels below the largest possible, of where there is voice.
    tilt
        Hertz above which the sound of the larynx falls.
    breath
        How much of it is noise.
    accent
        What the formants of each phone are multiplied by, beside `tract`: (phones, 3).
    """

    pitch: float
    tract: float
    pace: float
    level: float
    tilt: float
    breath: float
    accent: Array


class Recording(NamedTuple):
    """A voice that said something.

    Attributes
    ----------
    samples
        float32 from -1 to 1, of shape (samples,).
    labels
        The phone of each sample, by its place in `PHONES`.
    voice
        The number of the voice.
    """

    samples: Array
    labels: Array
    voice: int


def stream(seed: int, purpose: int, *numbers: int) -> np.random.Generator:
    """Random numbers of their own for each purpose and each two numbers."""
    counter = np.array([0, 0, *(numbers or (0, 0))], np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([checked_seed(seed), purpose], np.uint64), counter=counter))


def draw_voices(count: int, seed: int = 0) -> list[Voice]:
    """Draw voices; the same for the same seed, and voice i is a function of the seed and i alone.

    Half have long throats and low pitch, the other half short throats and high pitch.

    Examples
    --------
    >>> low, high = draw_voices(2)
    >>> round(low.pitch), round(low.tract, 2), round(high.pitch), round(high.tract, 2)
    (108, 0.98, 188, 1.05)
    """
    whole("draw_voices: count", count)
    voices = []
    for number in range(count):
        random = stream(seed, _VOICES, 0, number)
        high = number % 2
        pitch = (115, 205)[high] * np.exp(0.13 * random.standard_normal())
        tract = (0.97, 1.15)[high] * np.exp(0.05 * random.standard_normal())
        accent = np.exp(0.04 * random.standard_normal((len(PHONES), 3)))
        pace, tilt, breath = random.uniform((3.5, 150, 0.02), (5.5, 450, 0.25))
        voices.append(Voice(float(pitch), float(tract), float(pace), -26.0, float(tilt), float(breath), accent))
    return voices


def draw_syllables(count: int, random: np.random.Generator) -> str:
    """Syllables of one consonant and one vowel, a fifth of them with another consonant, and a silence behind about every fourth.

    Each vowel, and each consonant at a place, is as likely as the others.
    """
    text = ""
    for _ in range(whole("draw_syllables: count", count)):
        text += random.choice(list(_CONSONANTS)) + random.choice(list(_VOWELS))
        text += random.choice(list(_ENDS)) if random.random() < 0.2 else ""
        text += " " if random.random() < 0.25 else ""
    return f" {text.strip()} "


def speak(text: str, voice: Voice, random: np.random.Generator, rate: int = 16_000) -> tuple[Array, Array]:
    """A voice says something in a silent room.

    Parameters
    ----------
    text
        Symbols of `PHONES`, one behind the other.
    voice
        Who says it.
    random
        What is left to chance: durations, melody, noise.
    rate
        Samples a second, 8,000 at least.

    Returns
    -------
    samples, labels
        float64, and the phone of each sample.

    Examples
    --------
    >>> samples, labels = speak(" mata ", draw_voices(1)[0], np.random.default_rng(0))
    >>> "".join(list(PHONES)[label] for i, label in enumerate(labels) if i == 0 or label != labels[i - 1])
    ' mata '
    """
    whole("speak: rate", rate, 8000)
    unknown = sorted(set(text) - set(PHONES))
    if unknown or not set(text) & set(_VOWELS):
        known = "".join(PHONES)
        raise ArgumentError(f"speak: a text has phones of {known!r}, and a vowel among them, got {text!r}.")
    labels = np.array([_SYMBOLS.index(symbol) for symbol in text])
    durations = np.array([PHONES[symbol].duration for symbol in text]) * np.exp(0.15 * random.standard_normal(len(text)))
    durations *= 1 / (2.72 * voice.pace)  # those of a syllable sum to 2.72 on average
    counts = np.maximum(np.rint(durations / _CONTROL), 4).astype(int)
    of_frame = np.repeat(labels, counts)
    formants, voiced, noise, centre = _tracks(labels, counts, of_frame, voice)
    pitch = _melody(counts, voiced > 0.5, voice, random)
    hop = round(_CONTROL * rate)
    tone = _pulses(formants, voiced, pitch, voice, rate, hop, random)
    tone /= np.sqrt(np.mean(tone[np.repeat(voiced > 0.5, hop)] ** 2))
    sound = tone + _hiss(noise, centre, rate, hop, random)
    return sound * 10 ** (voice.level / 20), np.repeat(of_frame, hop)


def _smooth(track: Array, deviation: float) -> Array:
    """The columns of a track under a Gaussian kernel."""
    reach = int(np.ceil(3 * deviation / _CONTROL))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _CONTROL / deviation) ** 2)
    wide = np.pad(track, ((reach, reach), (0, 0)), "edge")
    return np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in wide.T], axis=1)


def _tracks(labels: Array, counts: Array, of_frame: Array, voice: Voice) -> tuple[Array, Array, Array, Array]:
    """Formants in hertz (frames, 3), strengths of voice and noise, and the centre of the noise, each 5 ms."""
    phones = list(PHONES.values())
    of_phone = np.array([p.formants for p in phones]) * voice.accent
    strengths = np.array([[p.voice, p.noise * (not p.closed)] for p in phones])[of_frame]
    for end, label in zip(np.cumsum(counts), labels, strict=True):
        if phones[label].closed:
            strengths[end - round(_BURST / _CONTROL) : end, 1] = phones[label].noise
    voiced, noise = _smooth(strengths, _EDGE).T
    centre = np.array([p.centre for p in phones])[of_frame] * voice.tract
    return _smooth(of_phone[of_frame], _GLIDE) * voice.tract, voiced, noise, centre


def _melody(counts: Array, loud: Array, voice: Voice, random: np.random.Generator) -> Array:
    """Pitch in hertz, each 5 ms: it falls along the text, and each phone has a step of its own; on average it is the voice's."""
    steps = np.repeat(0.05 * random.standard_normal(len(counts)), counts)
    logarithm = _smooth((steps + np.linspace(0.12, -0.12, len(steps)))[:, None], 2 * _GLIDE)[:, 0]
    hertz: Array = voice.pitch * np.exp(logarithm - logarithm[loud].mean())
    return hertz


def _resonance(frequency: Array, width: Array, z: Array, rate: int) -> tuple[Array, Array]:
    """The response of Klatt's resonator to the complex frequencies z as numerator and denominator; it is 1 for frequency 0."""
    decay = np.exp(-np.pi * width / rate)
    c, b = -(decay**2), 2 * decay * np.cos(2 * np.pi * frequency / rate)
    kind = z.real.dtype
    return (1 - b - c), 1 - z * (b.astype(kind) + c.astype(kind) * z)


def _pulses(formants: Array, voiced: Array, pitch: Array, voice: Voice, rate: int, hop: int, random: np.random.Generator) -> Array:
    """The sum of the responses of mouth and throat to each pulse of the larynx."""
    samples = len(pitch) * hop
    turns = np.cumsum(np.repeat(pitch, hop)) / rate
    numbers = np.arange(1, int(turns[-1]))
    times = np.interp(numbers, turns, np.arange(samples))
    times += 0.005 * rate / np.interp(times, np.arange(len(pitch)) * hop, pitch) * random.standard_normal(len(times))
    frame = np.clip((times / hop).astype(int), 0, len(pitch) - 1)
    heard = (voiced[frame] > 1e-3) & (times > 0)
    times, frame = times[heard], frame[heard]
    size = 1 << (round(_RESPONSE * rate) - 1).bit_length()
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    source = (1 - z) / (1 - np.exp(-2 * np.pi * voice.tilt / rate) * z) ** 2
    for higher in range(4, rate // 2000 + 1):
        frequency = np.array((higher - 0.5) * 1000 * voice.tract)
        if frequency < 0.95 * rate / 2:
            source = np.divide(*_resonance(frequency, 50 + frequency / 20, z, rate)) * source
    delay = np.exp(np.outer(times % 1, -2j * np.pi * np.arange(len(z)) / size), dtype=np.complex64)
    hiss = random.standard_normal((len(times), 2 * len(z)), np.float32).view(np.complex64)
    spectra = (1 + np.float32(voice.breath) * hiss) * delay * source.astype(np.complex64)
    gain = voiced[frame]
    for frequency in formants[frame].T:
        numerator, denominator = _resonance(frequency[:, None], 50 + frequency[:, None] / 20, z.astype(np.complex64), rate)
        gain = gain * numerator[:, 0]
        spectra /= denominator
    spectra *= gain[:, None].astype(np.float32)
    sound = np.zeros(samples + size)
    for start, response in zip(times.astype(int).tolist(), np.fft.irfft(spectra, size), strict=True):
        sound[start : start + size] += response
    return sound[:samples]


def _hiss(noise: Array, centre: Array, rate: int, hop: int, random: np.random.Generator) -> Array:
    """Noise of one resonance: windows of 10 ms that overlap by half, each of root mean square `noise`."""
    sound = np.zeros((len(noise) + 1) * hop + 2 * hop)
    frame = np.nonzero(noise > 1e-3)[0]
    if len(frame):
        size = 1 << (4 * hop - 1).bit_length()
        z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
        frequency = np.minimum(centre[frame], 0.45 * rate)[:, None]
        shape = (1 - z) * np.divide(*_resonance(frequency, 300 + 0.3 * frequency, z, rate))
        shape *= noise[frame, None] / np.sqrt(np.mean(np.abs(shape) ** 2, axis=1, keepdims=True))
        window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
        white = random.standard_normal((len(frame), 2 * hop)) * window
        made = np.fft.irfft(np.fft.rfft(white, size) * shape, size)[:, : 3 * hop]
        for start, part in zip((frame * hop).tolist(), made, strict=True):
            sound[start : start + 3 * hop] += part
    return sound[hop // 2 : hop // 2 + len(noise) * hop]


def heard(sound: Array, rate: int, random: np.random.Generator, ratio: float) -> Array:
    """What a microphone records: some frequencies louder than others, and noise, `ratio` decibels below the sound."""
    size = 1 << (len(sound) - 1).bit_length()  # other sizes are transformed several times slower
    spectrum = np.fft.rfft(sound, size)
    share = np.linspace(0, 1, len(spectrum))
    bend = random.normal(0, 4, 3)
    curve = bend[0] * (share - 0.5) + bend[1] * np.cos(2 * np.pi * share) / 2 + bend[2] * np.sin(2 * np.pi * share) / 2
    filtered = np.fft.irfft(spectrum * 10 ** (curve / 20), size)[: len(sound)]
    power = np.sqrt(np.mean(filtered**2)) * 10 ** (-ratio / 20)
    recorded: Array = (filtered + power * random.standard_normal(len(sound))).clip(-1, 1).astype(np.float32)
    return recorded


def draw_speech(voices: Sequence[Voice], count: int, seed: int = 0, syllables: int = 8, rate: int = 16_000) -> list[Recording]:
    """Each voice says some texts, each recorded by another microphone, in noise that is 0 to 15 dB below the sound.

    Parameters
    ----------
    voices
        From `draw_voices`. To judge a model by voices that it never heard, draw those of another seed.
    count
        Texts of each voice.
    seed
        Recording j of voice i is a function of the seed, the voice, i and j.
    syllables, rate
        Syllables of a text, and samples a second.

    Returns
    -------
    list[Recording]
        Those of the first voice, then those of the second, …

    Examples
    --------
    >>> recording = draw_speech(draw_voices(1), 1, syllables=2)[0]
    >>> recording.samples.shape == recording.labels.shape, str(recording.samples.dtype)
    (True, 'float32')
    """
    whole("draw_speech: count", count)
    recordings = []
    for i, voice in enumerate(voices):
        for j in range(count):
            random = stream(seed, _PURPOSE, i, j)
            sound, labels = speak(draw_syllables(syllables, random), voice, random, rate)
            recordings.append(Recording(heard(sound, rate, random, random.uniform(*_NOISE)), labels, i))
    return recordings
