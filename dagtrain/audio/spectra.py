"""Features of the spectrum of each frame: logarithms of mel bands, and their cepstrum.

    frame ─▶ − mean ─▶ pre-emphasis ─▶ window ─▶ |FFT|² ─▶ mel bands ─▶ log ─▶ DCT ─▶ lifter
                                                                 log_mel ┘        mfcc ┘

Toolkits differ in each of these steps, so that models trained on features of one do not work with those of another. A `Style` is what one
of them does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import not_negative, one_of, positive, whole
from dagtrain.audio.framing import cut, in_pieces, samples_of, sound_of
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.hinting import hinted

__all__ = ["STYLES", "Style", "log_mel", "mel_filters", "mfcc"]


class Style(NamedTuple):
    """How a toolkit computes its features.

    Attributes
    ----------
    scale
        What samples from -1 to 1 are multiplied by; 32768 makes those of a file of 16 bits.
    centred
        Whether frame i has its middle at sample ``i * step``; else all frames lie within the samples.
    without_mean
        Whether the mean of each frame is taken away.
    emphasis
        How much of the sample before is taken away from each.
    window
        Its name.
    area
        Whether the mel scale is Slaney's, its filters are triangles over frequency, and each has the area of one hertz. Else the scale is
        ``2595 log10(1 + f / 700)``, filters are triangles over it, and each has the height 1.
    low
        The lowest frequency of the filters in hertz.
    bands, coefficients, lifter
        Number of filters, of coefficients, and the lifter's length; 0 for none.
    floor
        What smaller energies are replaced by.
    decibels
        Whether logarithms are ``10 log10``, none below the largest of the recording by more than 80; else natural.
    first_at_end
        Whether the coefficient 0 comes last, and is larger by √2.
    """

    scale: float
    centred: bool
    without_mean: bool
    emphasis: float
    window: str
    area: bool
    low: float
    bands: int
    coefficients: int
    lifter: int
    floor: float
    decibels: bool
    first_at_end: bool


_EPSILON = float(np.finfo(np.float32).eps)

STYLES = {
    #                scale    centred  mean   emph  window     area   low   bands coef lift floor     dB     0 last
    "htk": Style(32768.0, False, False, 0.97, "hamming", False, 0.0, 26, 13, 22, 1.0, False, True),
    "kaldi": Style(32768.0, False, True, 0.97, "povey", False, 20.0, 23, 13, 22, _EPSILON, False, False),
    "slaney": Style(1.0, True, False, 0.0, "hann", True, 0.0, 40, 20, 0, 1e-10, True, False),
}
_DYNAMIC = 80.0
_LINEAR, _BREAK, _STEP = 3.0 / 200.0, 1000.0, np.log(6.4) / 27.0
"""Slaney's scale: mel a hertz up to a frequency, and from there the logarithm of the ratio of frequencies that is one mel."""


def _window(name: str, length: int) -> Array:
    turns = np.arange(length) / (length if name == "hann" else max(length - 1, 1))  # librosa's Hann window is that of a period
    raised = 0.5 - 0.5 * np.cos(2 * np.pi * turns)
    window: Array = {"hann": raised, "povey": raised**0.85, "hamming": 0.08 + 0.92 * raised}[name]
    return window


def _mel(hertz: Any, area: bool) -> Any:
    if not area:
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    with np.errstate(divide="ignore"):
        return np.where(hertz < _BREAK, hertz * _LINEAR, _BREAK * _LINEAR + np.log(hertz / _BREAK) / _STEP)


def _hertz(mel: Any, area: bool) -> Any:
    if not area:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < _BREAK * _LINEAR, mel / _LINEAR, _BREAK * np.exp((mel - _BREAK * _LINEAR) * _STEP))


@hinted
def mel_filters(
    rate: int, size: int, style: str = "kaldi", bands: int | None = None, low: float | None = None, high: float | None = None
) -> Array:
    """The weight of each frequency in each mel band.

    Parameters
    ----------
    rate
        Samples a second.
    size
        Length of the Fourier transform.
    style
        "htk", "kaldi" or "slaney".
    bands, low, high
        Number of bands; the frequencies in hertz where the first begins and the last ends. By default the style's, and half the rate.

    Returns
    -------
    Array
        Of shape (size // 2 + 1, bands), float64.

    Raises
    ------
    ArgumentError
        If a band is so narrow that it contains no frequency of the transform.

    Examples
    --------
    >>> mel_filters(8000, 8, "htk", bands=2).round(2)
    array([[0.  , 0.  ],
           [0.6 , 0.4 ],
           [0.  , 0.87],
           [0.  , 0.38],
           [0.  , 0.  ]])
    """
    rules = STYLES[one_of("style", style, STYLES)]
    whole("mel_filters: rate", rate)
    whole("mel_filters: size", size, 2)
    count = rules.bands if bands is None else whole("mel_filters: bands", bands)
    bottom = rules.low if low is None else not_negative("mel_filters: low", low)
    top = rate / 2 if high is None else positive("mel_filters: high", high)
    if not bottom < top <= rate / 2:
        raise ArgumentError(
            f"mel_filters: frequencies rise from low to high, at most {rate / 2:g} (half the rate), got {bottom:g} and {top:g}."
        )
    hertz = np.arange(size // 2 + 1) * (rate / size)
    edges = np.linspace(_mel(bottom, rules.area), _mel(top, rules.area), count + 2)
    if rules.area:
        at, edges = hertz, _hertz(edges, rules.area)
    else:
        at = _mel(hertz, rules.area)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    filters: Array = np.minimum((at[:, None] - left) / (middle - left), (right - at[:, None]) / (right - middle)).clip(0)
    if rules.area:
        filters *= 2.0 / (right - left)
    empty = np.nonzero(~filters.any(axis=0))[0]
    if len(empty):
        problem = f"{len(empty)} of {count} bands contain no frequency of a Fourier transform of {size} at {rate} samples a second"
        raise ArgumentError(f"mel_filters: {problem}, the first is band {empty[0]}. Take fewer bands, or longer frames.")
    return filters


@hinted
def log_mel(
    samples: Any,
    rate: int,
    style: str = "kaldi",
    *,
    bands: int | None = None,
    low: float | None = None,
    high: float | None = None,
    length: float = 0.025,
    step: float = 0.01,
) -> Array:
    """Logarithms of the energies in mel bands, for each frame.

    The steps are those of HTK (with ``USEPOWER = T``), of Kaldi (without dither), or of librosa, whose filters are Slaney's. Each frame is
    filled up with zeros to a power of two before its Fourier transform.

    Parameters
    ----------
    samples
        From -1 to 1, of shape (samples,).
    rate
        Samples a second.
    style
        "htk", "kaldi" or "slaney".
    bands, low, high
        Number of bands; the frequencies in hertz where the first begins and the last ends. By default the style's (26, 23 or 40 bands), and
        half the rate.
    length, step
        Length of a frame, and time from one to the next, in seconds.

    Returns
    -------
    Array
        Of shape (frames, bands), float32.

    Raises
    ------
    DataError
        If the samples are fewer than a frame has, or not finite.
    DTypeError, ShapeError
        If they are no floats, or of several channels.

    Examples
    --------
    >>> tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    >>> features = log_mel(tone, 16_000)
    >>> features.shape, int(features[0].argmax())
    ((98, 23), 7)
    """
    return _log_mel("log_mel", samples, rate, style, (bands, low, high), length, step).astype(np.float32)


def _log_mel(name: str, samples: Any, rate: int, style: str, filters: tuple[Any, Any, Any], length: float, step: float) -> Array:
    rules = STYLES[one_of("style", style, STYLES)]
    size, hop = samples_of(f"{name}: length", length, rate), samples_of(f"{name}: step", step, rate)
    transform = 1 << (size - 1).bit_length()
    window, weights = _window(rules.window, size), mel_filters(rate, transform, style, *filters)

    def energies_of(piece: Array) -> Array:
        if rules.without_mean:
            piece = piece - piece.mean(axis=1, keepdims=True)
        if rules.emphasis:
            piece = piece - rules.emphasis * np.concatenate([piece[:, :1], piece[:, :-1]], axis=1)
        energies: Array = np.abs(np.fft.rfft(piece * window, transform)) ** 2 @ weights
        return energies

    pieces = cut(name, sound_of(name, samples) * rules.scale, size, hop, rules.centred)
    energies = np.maximum(in_pieces(energies_of, pieces), rules.floor)
    logs: Array = 10.0 * np.log10(energies) if rules.decibels else np.log(energies)
    return logs.clip(logs.max() - _DYNAMIC) if rules.decibels else logs


@hinted
def mfcc(
    samples: Any,
    rate: int,
    style: str = "kaldi",
    *,
    coefficients: int | None = None,
    lifter: int | None = None,
    bands: int | None = None,
    low: float | None = None,
    high: float | None = None,
    length: float = 0.025,
    step: float = 0.01,
) -> Array:
    """Mel-frequency cepstral coefficients: the cosine transform of `log_mel`, whose first coefficients tell the shape of the mouth.

    Coefficient 0 is the mean of the logarithms, up to a factor; none is replaced by the frame's energy (``use-energy=false`` in Kaldi,
    ``MFCC_0`` in HTK, which puts it last).

    Parameters
    ----------
    samples, rate, style, bands, low, high, length, step
        As for `log_mel`.
    coefficients
        How many, coefficient 0 included; by default 13, in the style "slaney" 20.
    lifter
        L: coefficient n is multiplied by ``1 + L / 2 sin(π n / L)``, in the style "slaney" with n + 1 for n. By default 22, in the style
        "slaney" 0, which is none.

    Returns
    -------
    Array
        Of shape (frames, coefficients), float32.

    References
    ----------
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition" (1980); the HTK Book 3.4, section
    5.6; Slaney, "Auditory Toolbox" (1998).

    Examples
    --------
    >>> noise = np.random.default_rng(0).uniform(-0.1, 0.1, 8000)
    >>> mfcc(noise, 8000, "htk").shape, mfcc(noise, 8000, "slaney", bands=20).shape
    ((98, 13), (101, 20))
    """
    rules = STYLES[one_of("style", style, STYLES)]
    logs = _log_mel("mfcc", samples, rate, style, (bands, low, high), length, step)
    count = rules.coefficients if coefficients is None else whole("mfcc: coefficients", coefficients)
    bent = rules.lifter if lifter is None else whole("mfcc: lifter", lifter, 0)
    number = logs.shape[1]
    if count > number:
        raise ArgumentError(f"mfcc: coefficients are at most as many as bands, got {count} of {number} bands.")
    order = np.arange(count)
    cosines = np.sqrt(2.0 / number) * np.cos(np.pi / number * np.outer(np.arange(number) + 0.5, order))
    if not rules.first_at_end:
        cosines[:, 0] /= np.sqrt(2.0)  # so that the transform is orthonormal
    if bent:
        cosines *= 1.0 + bent / 2 * np.sin(np.pi * (order + (style == "slaney")) / bent)
    cepstrum: Array = (logs @ cosines).astype(np.float32)
    return np.roll(cepstrum, -1, axis=1) if rules.first_at_end else cepstrum
