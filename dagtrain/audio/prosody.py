"""How loud, how high and how fast: level and pitch of each frame, and the tempo of all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import not_negative, positive
from dagtrain.audio.framing import cut, in_pieces, samples_of, sound_of
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.hinting import hinted

__all__ = ["Pitch", "level", "pitch", "tempo"]

_QUIET = 1e-10
_PREFERENCE = 0.1
"""How much more periodic a sound has to be at twice the period, to have that period."""


@hinted
def level(samples: Any, rate: int, *, length: float = 0.025, step: float = 0.01) -> Array:
    """The level of each frame in decibels: 0 for samples of 1 or -1, and -100 at least.

    Parameters
    ----------
    samples
        From -1 to 1, of shape (samples,).
    rate
        Samples a second.
    length, step
        Length of a frame, and time from one to the next, in seconds.

    Returns
    -------
    Array
        Of shape (frames,), float32.

    Examples
    --------
    >>> level(np.full(400, 0.1), 16_000)
    array([-20.], dtype=float32)
    """
    return _level("level", samples, rate, length, step)


def _level(name: str, samples: Any, rate: int, length: float, step: float) -> Array:
    pieces = cut(name, sound_of(name, samples), samples_of(f"{name}: length", length, rate), samples_of(f"{name}: step", step, rate))
    power = np.einsum("tn,tn->t", pieces, pieces) / pieces.shape[1]
    decibels: Array = (10 * np.log10(np.maximum(power, _QUIET))).astype(np.float32)
    return decibels


class Pitch(NamedTuple):
    """The pitch of frames.

    Attributes
    ----------
    hertz
        Periods a second, float32 of shape (frames,), whether the frame is periodic or not.
    strength
        How periodic the frame is: 1 for equal periods, about 0 for noise and for silence.
    """

    hertz: Array
    strength: Array


@hinted
def pitch(samples: Any, rate: int, *, low: float = 60.0, high: float = 500.0, length: float = 0.05, step: float = 0.01) -> Pitch:
    """Pitch by autocorrelation.

    The autocorrelation of the frame under a window, at twice the rate, is divided by that of the window; the pitch is where it is highest,
    between samples by a parabola. Of peaks that are about as high, the one of the shortest period is taken.

    Parameters
    ----------
    samples
        From -1 to 1, of shape (samples,).
    rate
        Samples a second.
    low, high
        The lowest and the highest pitch in hertz.
    length, step
        Length of a frame, at least three periods of `low`, and time from one to the next, in seconds.

    References
    ----------
    Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound" (1993).

    Examples
    --------
    >>> t = np.arange(8000) / 8000
    >>> found = pitch(0.1 * np.sin(2 * np.pi * 123 * t) + 0.1 * np.sin(2 * np.pi * 246 * t), 8000)
    >>> found.hertz[:3].round(1), found.strength[:3].round(2)
    (array([123., 123., 123.], dtype=float32), array([1., 1., 1.], dtype=float32))
    """
    array = sound_of("pitch", samples)
    size, hop = samples_of("pitch: length", length, rate), samples_of("pitch: step", step, rate)
    if not 0 < positive("pitch: low", low) < positive("pitch: high", high) <= rate / 4 or 3 / low > length * (1 + 1e-9):
        wrong = f"got {low!r}, {high!r} and a length of {length!r} s at {rate} samples a second"
        raise ArgumentError(f"pitch: low is below high, high at most a quarter of the rate, and a frame has three periods of low: {wrong}.")
    pieces = cut("pitch", array, size, hop)
    lags, strength = in_pieces(lambda piece: _periods(piece, 2 * rate / high, 2 * rate / low), pieces).T
    return Pitch((2 * rate / lags).astype(np.float32), strength.clip(0, 1).astype(np.float32))


def _periods(piece: Array, shortest: float, longest: float) -> Array:
    """Period, in half samples between two bounds, and strength of each frame: (frames, 2)."""
    size = piece.shape[1]
    piece = piece - piece.mean(axis=1, keepdims=True)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)
    transform = 1 << (size + size // 2).bit_length()
    first, last = int(shortest), min(int(longest) + 2, size)
    of_window, of_frames = (
        np.fft.irfft(np.abs(np.fft.rfft(each, transform)) ** 2, 2 * transform)[..., :last] for each in (window, piece * window)
    )
    correlation = of_frames / (of_window / of_window[0]) / np.maximum(of_frames[:, :1], _QUIET * size)
    inner, before, after = correlation[:, first : last - 1], correlation[:, first - 1 : last - 2], correlation[:, first + 1 : last]
    peak = (inner >= before) & (inner > after)
    bend = np.where(peak, before - 2 * inner + after, -1.0)
    moved = np.where(peak, 0.5 * (before - after) / bend, 0.0)
    height = np.where(peak, inner - 0.25 * (before - after) * moved, 0.0)
    lags = np.arange(first, last - 1) + moved
    best = (height - _PREFERENCE * np.log2(lags / longest)).argmax(axis=1)[:, None]
    return np.concatenate([np.take_along_axis(each, best, axis=1) for each in (lags, height)], axis=1)


@hinted
def tempo(samples: Any, rate: int, *, depth: float = 2.0, floor: float = 30.0, smooth: float = 0.05) -> float:
    """How often a second the level rises and falls again: in speech, about once a syllable.

    Parameters
    ----------
    samples
        From -1 to 1, of shape (samples,).
    rate
        Samples a second.
    depth
        How far it must rise and fall, in decibels.
    floor
        Decibels below the loudest twentieth of the frames; what is still lower is raised to this, so that noise in silence does not count.
    smooth
        Seconds over which the level is averaged.

    Examples
    --------
    >>> t = np.arange(16_000) / 8000
    >>> tempo(np.sin(2 * np.pi * 200 * t) * np.sin(2 * np.pi * 2.5 * t), 8000)  # five times a second, for two seconds
    5.0
    """
    step = 0.01
    levels = _level("tempo", samples, rate, 0.025, step).astype(np.float64)
    positive("tempo: depth", depth)
    levels = np.maximum(levels, np.percentile(levels, 95) - not_negative("tempo: floor", floor))
    width = max(1, round(positive("tempo: smooth", smooth) / step))
    levels = np.convolve(np.pad(levels, (width // 2, (width - 1) // 2), "edge"), np.full(width, 1 / width), "valid")
    rises, rising, turn = 0, False, float(levels[0])
    for now in levels.tolist():
        turn = max(turn, now) if rising else min(turn, now)  # the highest since it rose, or the lowest since it fell
        if abs(now - turn) >= depth:
            rising, turn = not rising, now
            rises += rising
    return rises * rate / len(samples)
