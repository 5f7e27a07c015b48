"""Sound cut into frames that overlap, and what is computed of each frame beside its neighbours.

samples   ─────────────────────────────────
frames    ├────────┤
             ├────────┤                      each begins `step` samples after the one before
                ├────────┤
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.arguments import positive, whole
from dagtrain.errors import ArgumentError, DataError, DTypeError, ShapeError
from dagtrain.graph import Array

__all__ = ["context", "deltas", "frames", "standardize"]

_PIECE = 4096
"""Frames of a piece."""
_LOUDEST = 16
"""Largest sample: filters go beyond 1, and whole numbers far beyond this."""


def frames(samples: Any, length: int, step: int, *, centred: bool = False) -> Array:
    """Cut samples, or labels of samples, into frames that overlap.

    Parameters
    ----------
    samples
        An array of shape (samples,).
    length, step
        Samples of a frame, and from the beginning of one to that of the next.
    centred
        Whether the middle of frame i is sample ``i * step``, with zeros before the first sample and behind the last. Else frame i begins at
        sample ``i * step``, and samples that do not fill a last frame are left out.

    Returns
    -------
    Array
        Of shape (frames, length); not to be written to.

    Raises
    ------
    DataError
        If there are fewer samples than one frame has.

    Examples
    --------
    >>> frames(np.arange(7), length=4, step=2)
    array([[0, 1, 2, 3],
           [2, 3, 4, 5]])
    >>> frames(np.arange(7), length=4, step=2, centred=True)
    array([[0, 0, 0, 1],
           [0, 1, 2, 3],
           [2, 3, 4, 5],
           [4, 5, 6, 0]])
    """
    whole("frames: length", length)
    whole("frames: step", step)
    return cut("frames", one_channel("frames", samples), length, step, centred)


def cut(name: str, array: Array, length: int, step: int, centred: bool = False) -> Array:
    """See `frames`."""
    if centred and len(array):
        array = np.pad(array, ((length + 1) // 2, length // 2))
    if len(array) < length:
        raise DataError(f"{name}: there are {len(array)} samples, fewer than the {length} of one frame.")
    return np.lib.stride_tricks.sliding_window_view(array, length)[::step]


def one_channel(name: str, samples: Any) -> Array:
    """The samples of one channel."""
    if np.ma.is_masked(samples):
        raise DataError(f"{name}: a sample is masked: give a number for it, as by .filled(0.0).")
    array = np.asarray(samples)
    if array.ndim != 1:
        hint = " Choose a channel, or take their mean: samples.mean(axis=1)." if array.ndim == 2 else ""
        raise ShapeError(f"{name}: samples have the shape (samples,), got {array.shape}.{hint}")
    return array


def sound_of(name: str, samples: Any) -> Array:
    """The samples of one channel, float64."""
    array = one_channel(name, samples)
    if array.dtype.kind != "f":
        raise DTypeError(f"{name}: samples are floats from -1 to 1, as from read_wav, got {array.dtype}.")
    wrong = np.nonzero(~np.isfinite(array))[0]
    if len(wrong):
        raise DataError(f"{name}: sample {wrong[0]} is {array[wrong[0]]}.")
    if array.size and (loudest := np.abs(array).max()) > _LOUDEST:
        cure = "Divide whole numbers of 16 bits by 32768."
        raise DataError(f"{name}: samples are floats from -1 to 1, as from read_wav, got up to {loudest:g}. {cure}")
    return array.astype(np.float64)


def in_pieces(function: Callable[[Array], Any], cut: Array) -> Array:
    """A function of frames, on some thousands at a time: an hour has 360,000, whose spectra would fill the memory."""
    return np.concatenate([function(cut[start : start + _PIECE]) for start in range(0, len(cut), _PIECE)], axis=0)


def samples_of(name: str, seconds: Any, rate: int) -> int:
    """The samples of a time, rounded down."""
    count = int(positive(name, seconds) * whole("rate", rate) + 1e-6)  # 0.01 s at 44,100 a second are 441
    if count < 2:
        raise ArgumentError(f"{name} is in seconds, and holds at least two samples, got {seconds!r} at {rate} samples a second.")
    return count


def deltas(features: Any, order: int = 2, window: int = 2) -> Array:
    """Features of frames beside their derivatives by time.

    A derivative is the slope of the straight line through ``2 * window + 1`` frames (HTK Book 3.4, equation 5.16); before the first frame
    and behind the last one are equal ones. Kaldi's ``add-deltas`` gives the same.

    Parameters
    ----------
    features
        Of shape (frames, features).
    order
        How many derivatives: with 2 also that of the derivative.
    window
        Frames on either side.

    Returns
    -------
    Array
        Of shape (frames, (order + 1) * features): first all features, then all first derivatives, …

    Examples
    --------
    >>> deltas([[0.0], [1.0], [4.0], [9.0], [16.0]], order=1)[2]
    array([4., 4.])
    """
    array = _numbers_of_frames("deltas", features)
    whole("deltas: order", order, 0)
    whole("deltas: window", window)
    slopes = np.arange(-window, window + 1) / (2 * sum(i * i for i in range(1, window + 1)))
    derived = [array]
    wide = np.pad(array, ((order * window, order * window), (0, 0)), "edge")
    for i in range(order):
        wide = np.einsum("tfw,w->tf", np.lib.stride_tricks.sliding_window_view(wide, 2 * window + 1, axis=0), slopes).astype(array.dtype)
        more = (order - 1 - i) * window
        derived.append(wide[more : len(wide) - more])
    return np.concatenate(derived, axis=1)


def context(features: Any, before: int, after: int) -> Array:
    """Each frame beside those around it; before the first frame and behind the last one are equal ones.

    Returns
    -------
    Array
        Of shape (frames, (before + 1 + after) * features), the earliest frame first.

    Examples
    --------
    >>> context([[1], [2], [3]], before=1, after=1)
    array([[1, 1, 2],
           [1, 2, 3],
           [2, 3, 3]])
    """
    array = _of_frames("context", features)
    whole("context: before", before, 0)
    whole("context: after", after, 0)
    wide = np.pad(array, ((before, after), (0, 0)), "edge")
    return np.concatenate([wide[i : i + len(array)] for i in range(before + 1 + after)], axis=1)


def standardize(features: Any) -> Array:
    """Features of one recording with mean 0 and variance 1 over its frames: it takes away what a microphone adds.

    A feature that is the same in all frames becomes 0. For the mean and variance of all recordings there are `dagtrain.data.moments` and
    `dagtrain.nn.Normalization`.

    Examples
    --------
    >>> standardize([[1.0, 5.0], [3.0, 5.0]])
    array([[-1.,  0.],
           [ 1.,  0.]])
    """
    array = _numbers_of_frames("standardize", features)
    apart = array - array.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(np.mean(apart**2, axis=0))
    same = deviation <= 1e-7 * np.abs(array).max(axis=0)
    standard: Array = np.where(same, 0.0, apart / np.where(same, 1.0, deviation))
    return standard.astype(array.dtype)


def _numbers_of_frames(name: str, features: Any) -> Array:
    """Finite features, as floats."""
    array = _of_frames(name, features)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{name}: features are numbers, got {array.dtype}.")
    if not (finite := np.isfinite(array).all(axis=1)).all():
        raise DataError(f"{name}: frame {int(np.argmin(finite))} holds a number that is not finite.")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _of_frames(name: str, features: Any) -> Array:
    if np.ma.is_masked(features):
        raise DataError(f"{name}: a feature is masked: give a number for it, as by .filled(0.0).")
    try:
        array = np.asarray(features)
    except ValueError as error:
        raise ShapeError(f"{name}: features have the shape (frames, features): {error}") from error
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"{name}: features have the shape (frames, features), got {array.shape}.")
    return array
