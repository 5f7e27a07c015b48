"""Where scores of normal rows end: a threshold from training data alone, beyond what it holds, by its tail."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.arguments import fraction, is_number
from dagtrain.errors import ArgumentError

__all__ = ["FEWEST", "checked_risk", "tail_threshold"]

_FEWEST, _TAIL = 10, 0.05
"""Scores in a tail, and share of all scores that it has."""
FEWEST = 200
"""Scores that have such a tail."""


def checked_risk(name: str, risk: Any, tail: float = _TAIL) -> float:
    """The risk, if it is a probability below the tail's."""
    if not is_number(risk) or not 0 < risk < tail:
        raise ArgumentError(f"{name}: risk is a probability above 0 and below the tail's {tail}, got {risk!r}.")
    return float(risk)


def tail_threshold(scores: Any, risk: float = 1e-4, tail: float = _TAIL) -> float:
    """The score that normal rows exceed with this probability.

    The excesses over a high quantile have a generalised Pareto distribution (Pickands, 1975), whose two parameters follow from their first
    two probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987, equations 5 and 6). So a threshold may be rarer than one
    in the number of scores, as in Siffer et al., "Anomaly detection in streams with extreme value theory" (KDD 2017).

    Parameters
    ----------
    scores
        Of rows that are normal, not those that a model was trained on.
    risk
        How often a normal row may exceed it.
    tail
        Share of the scores that the distribution is fitted to.

    Examples
    --------
    >>> scores = -np.log((np.arange(10_000) + 0.5) / 10_000)  # of an exponential distribution
    >>> round(tail_threshold(scores, 1e-5), 1), round(float(-np.log(1e-5)), 1)
    (11.5, 11.5)
    """
    given = np.asarray(scores)
    if given.dtype.kind not in "biuf":
        raise ArgumentError(f"tail_threshold: scores are numbers, got {given.dtype}.")
    values = np.sort(given.astype(np.float64).ravel())
    checked_risk("tail_threshold", risk, fraction("tail_threshold: tail", tail))
    if not np.isfinite(values).all():
        raise ArgumentError("tail_threshold: a score is not finite.")
    count = int(tail * len(values))
    if count < _FEWEST:
        raise ArgumentError(f"tail_threshold: {len(values)} scores have {count} in a tail of {tail}: give {int(_FEWEST / tail)} at least.")
    high = values[-count - 1]
    excess = values[-count:] - high
    first = excess.mean()
    second = np.mean(excess * (1 - (np.arange(1, count + 1) - 0.35) / count))
    if first <= 0 or first <= 2 * second:
        return float(values[-1])
    shape, scale = 2 - first / (first - 2 * second), 2 * first * second / (first - 2 * second)
    times = risk * len(values) / count
    return float(high + (scale * -np.log(times) if abs(shape) < 1e-6 else scale / shape * (times**-shape - 1)))
