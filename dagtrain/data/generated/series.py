"""Series with planted anomalies, of processes that are known: what the normal process would have shown is beside what was seen.

    machine_sensors   load ─▶ power (its square), temperature (power, slowly), vibration (a resonance)
    payment_queue     authorised ─▶ a queue ─▶ settled, slowly at night ─▶ fees

Every planted value is one that the process shows elsewhere: only together with the others, or with what came before, is it wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dagtrain.arguments import seed as checked_seed
from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array

__all__ = ["PlantedSeries", "machine_sensors", "payment_queue"]

_LEAST, _MOST, _APART = 12, 40, 60
"""Rows of an anomaly, and normal rows before the next at least."""


class PlantedSeries(NamedTuple):
    """A series and the truth about it.

    Attributes
    ----------
    values
        (rows, channels) as float32.
    anomalous
        Whether each row is within a planted anomaly.
    surprise
        For each row the squared distance of the values from those of the normal process, in units of its noise, summed over channels: the
        score of a detector that knows the process.
    """

    values: Array
    anomalous: Array
    surprise: Array


def machine_sensors(rows: int, seed: int = 0, anomalies: int = 0, noise: float = 0.03) -> PlantedSeries:
    """Four sensors of a machine: load, power, temperature and vibration.

    Anomalies: the power of another moment, a sensor of vibration that stands still, a temperature that forgets slower, vibration of the
    resonance's other side.

    Parameters
    ----------
    rows, seed
        Length, and what draws it.
    anomalies
        How many are planted.
    noise
        Standard deviation of a sensor's noise.

    Examples
    --------
    >>> series = machine_sensors(1000, seed=1, anomalies=4)
    >>> series.values.shape, int(np.diff(series.anomalous.astype(int)).clip(0).sum())
    ((1000, 4), 4)
    """
    draw = np.random.default_rng([checked_seed(seed), 0x73656E736F72])
    load = _load(draw, whole("rows", rows))
    normal = np.stack([load, _power(load), _temperature(load, 0.08), _vibration(load)], axis=1)
    shown, anomalous = normal.copy(), np.zeros(rows, bool)
    for number, (start, stop) in enumerate(_places(draw, rows, anomalies)):
        here = slice(start, stop)
        anomalous[here] = True
        if number % 4 == 0:
            shown[here, 1] = normal[np.arange(start, stop) - 3 * _APART, 1]
        elif number % 4 == 1:
            shown[here, 3] = normal[start, 3]
        elif number % 4 == 2:
            shown[here, 2] = _temperature(load, 0.01)[here] - _temperature(load, 0.01)[start] + normal[start, 2]
        else:
            shown[here, 3] = _vibration(load[here] + 0.25)
    return _seen(draw, normal, shown, anomalous, noise)


def _load(draw: np.random.Generator, rows: int) -> Array:
    """A smooth way between 0 and 1 that never repeats."""
    steps = np.convolve(draw.normal(size=rows + 400), np.exp(-np.arange(400) / 25.0), "valid")[:rows]
    smooth = np.convolve(np.concatenate([np.zeros(11), steps]), np.ones(12) / 12, "valid")
    return np.asarray(1 / (1 + np.exp(-0.6 * smooth)))


def _power(load: Array) -> Array:
    return np.asarray(3 * (load - 0.4) ** 2)


def _vibration(load: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * load))


def _temperature(load: Array, rate: float) -> Array:
    heat, level = np.empty(len(load)), 0.3
    for i, power in enumerate(_power(load)):
        level += rate * (power - level)
        heat[i] = level
    return heat * 2


def payment_queue(rows: int, seed: int = 0, anomalies: int = 0, noise: float = 0.03) -> PlantedSeries:
    """Payments by the hour: authorised, settled from a queue, slowly at night, and the fees for what was settled.

    Anomalies: a queue that settles half of what it could, payments that are settled without having been authorised, fees of another scale.

    Parameters
    ----------
    rows, seed, anomalies, noise
        As for `machine_sensors`.

    Examples
    --------
    >>> payment_queue(1000, seed=1, anomalies=3).values.shape
    (1000, 3)
    """
    draw = np.random.default_rng([checked_seed(seed), 0x706179])
    hour = (np.arange(whole("rows", rows)) + draw.integers(24)) % 24
    profile = 0.15 + 0.85 * np.exp(-(((hour - 13) / 4.0) ** 2))
    swing = np.convolve(draw.normal(size=rows + 5), np.ones(6) / 6, "valid")[:rows]
    authorised = 0.5 * profile * np.exp(swing)
    capacity = np.where((hour >= 8) & (hour < 22), 0.7, 0.2)
    kinds, anomalous = np.full(rows, -1), np.zeros(rows, bool)
    for number, (start, stop) in enumerate(_places(draw, rows, anomalies)):
        kinds[start:stop] = number % 3
        anomalous[start:stop] = True
    shown, normal = np.empty((rows, 3)), np.empty((rows, 3))
    backlog = 0.0
    for i in range(rows):
        usual = min(capacity[i], backlog)
        settled = usual
        if kinds[i] == 0:
            settled = 0.5 * usual
        elif kinds[i] == 1:
            settled = min(0.7, usual + 0.25)
        backlog = max(0.0, backlog - settled) + authorised[i]
        fees = _fees(settled)
        shown[i] = authorised[i], settled, _fees(0.7 - settled) if kinds[i] == 2 else fees
        normal[i] = authorised[i], usual, fees
    return _seen(draw, normal, shown, anomalous, noise)


def _fees(settled: float) -> float:
    return float(0.8 * np.sin(np.pi * settled / 0.7) ** 2 + 0.5 * settled)


def _places(draw: np.random.Generator, rows: int, count: int) -> list[tuple[int, int]]:
    """Where anomalies begin and end: one in each of as many equal parts of the series."""
    part = rows // max(count, 1)
    if part < _MOST + _APART:
        raise ArgumentError(f"{rows} rows have no room for {count} anomalies: an anomaly needs {_MOST + _APART} rows.")
    lengths = draw.integers(_LEAST, _MOST + 1, count)
    starts = [i * part + _APART // 2 + int(draw.integers(part - _APART - n + 1)) for i, n in enumerate(lengths.tolist())]
    return [(start, start + int(n)) for start, n in zip(starts, lengths, strict=True)]


def _seen(draw: np.random.Generator, normal: Array, shown: Array, anomalous: Array, noise: float) -> PlantedSeries:
    values = shown + noise * draw.normal(size=shown.shape)
    surprise = (((values - normal) / max(noise, 1e-9)) ** 2).sum(axis=1)
    return PlantedSeries(values.astype(np.float32), anomalous, surprise)
