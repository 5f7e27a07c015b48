"""Calls of people in different tones of voice, and the exact probability of each tone given pitch, pace and level.

    tone ─▶ pitch, pace, level ─▶ synthesiser of `speech` ─▶ line ─▶ + noise ─▶ 8,000 samples a second

The sound depends on the tone through pitch, pace and level alone, and these are normally distributed in each tone. So nobody who hears the
call can know more of its tone than `tone_probabilities` of the true three numbers says, and the decision of least cost by these
probabilities is the best possible.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import whole
from dagtrain.data.generated.speech import draw_syllables, draw_voices, speak, stream
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Array

__all__ = ["CALL_RATE", "TONES", "Calls", "Tone", "draw_calls", "draw_prosody", "tone_probabilities"]

CALL_RATE = 8000
"""Samples a second."""
_PURPOSE, _LATENT = 0x63616C6C, 0x746F6E65
_LINE = (-60.0, -45.0)
"""Decibels of the noise of a line, from the best to the worst."""


class Tone(NamedTuple):
    """Share of the calls, and means of the logarithm of the pitch in hertz, of the logarithm of syllables a second, and of decibels."""

    share: float
    pitch: float
    pace: float
    level: float


TONES = {
    "calm": Tone(0.55, np.log(140), np.log(4.0), -30.0),
    "glad": Tone(0.25, np.log(170), np.log(4.8), -27.0),
    "angry": Tone(0.20, np.log(175), np.log(5.4), -21.5),
}
"""A caller's tone → how it sounds."""
_DEVIATIONS = np.array([0.22, 0.16, 4.0])


class Calls(NamedTuple):
    """Calls, one in each row.

    Attributes
    ----------
    sounds
        Samples from -1 to 1, float32, `CALL_RATE` a second, of different lengths.
    tones
        The tone of each, by its place in `TONES`.
    prosody
        The true pitch in hertz, syllables a second and decibels, of shape (calls, 3).
    """

    sounds: list[Array]
    tones: Array
    prosody: Array


def draw_prosody(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Tones of calls, and their pitch, pace and level, of shape (count, 3), without their sound; see `draw_calls`.

    Examples
    --------
    >>> tones, prosody = draw_prosody(4)
    >>> tones.tolist(), prosody.shape
    ([2, 0, 0, 0], (4, 3))
    """
    whole("draw_prosody: count", count)
    random = stream(seed, _LATENT)
    ends = [NormalDist().inv_cdf(share) for share in np.cumsum([tone.share for tone in TONES.values()])[:-1]]
    drawn = random.standard_normal((count, 4))
    tones = np.searchsorted(ends, drawn[:, 0])
    latent = np.array([tone[1:] for tone in TONES.values()])[tones] + _DEVIATIONS * drawn[:, 1:]
    return tones, np.concatenate([np.exp(latent[:, :2]), latent[:, 2:]], axis=1)


def draw_calls(count: int, seed: int = 0, syllables: tuple[int, int] = (8, 16)) -> Calls:
    """Draw calls, each of another voice; the same for the same seed.

    Parameters
    ----------
    count
        How many.
    seed
        Two seeds give calls that are independent of each other; the first calls of a seed do not depend on `count`.
    syllables
        How many a caller says, at least and at most.

    Examples
    --------
    >>> calls = draw_calls(2, syllables=(2, 3))
    >>> len(calls.sounds), calls.tones.tolist(), calls.prosody.shape
    (2, [2, 0], (2, 3))
    """
    least, most = (whole("draw_calls: syllables", number) for number in syllables)
    if least > most:
        raise ArgumentError(f"draw_calls: syllables are at least, and at most, how many, got {syllables}.")
    tones, prosody = draw_prosody(count, seed)
    sounds = []
    for number, (voice, (pitch, pace, level)) in enumerate(zip(draw_voices(count, seed), prosody.tolist(), strict=True)):
        random = stream(seed, _PURPOSE, 0, number)
        text = draw_syllables(int(random.integers(least, most + 1)), random)
        sound, _ = speak(text, voice._replace(pitch=pitch, pace=pace, level=level), random, CALL_RATE)
        noise = 10 ** (random.uniform(*_LINE) / 20) * random.standard_normal(len(sound))
        sounds.append((sound + noise).clip(-1, 1).astype(np.float32))
    return Calls(sounds, tones, prosody)


def tone_probabilities(prosody: Any) -> Array:
    """The exact probability of each tone, given pitch in hertz, syllables a second and decibels.

    Parameters
    ----------
    prosody
        Of shape (calls, 3).

    Returns
    -------
    Array
        Of shape (calls, tones).

    Examples
    --------
    >>> tone_probabilities([[140, 4, -30], [180, 5.5, -20]]).round(3)
    array([[0.889, 0.108, 0.003],
           [0.008, 0.164, 0.828]])
    """
    given = np.array(prosody, np.float64)
    if given.ndim != 2 or given.shape[1] != 3:
        raise ShapeError(f"tone_probabilities: prosody has the shape (calls, 3), got {given.shape}.")
    given[:, :2] = np.log(given[:, :2])
    means = np.array([tone[1:] for tone in TONES.values()])
    logits = -0.5 * np.sum(((given[:, None] - means) / _DEVIATIONS) ** 2, axis=-1) + np.log([tone.share for tone in TONES.values()])
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Array = likely / likely.sum(axis=1, keepdims=True)
    return probabilities
