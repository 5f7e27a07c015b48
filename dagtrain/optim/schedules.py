"""Schedules: the learning rate as a function of the number of updates made before (0, 1, ...).

They use NumPy functions, so they work on a number, on an array (to plot them) and inside the graph of a training step. Any other function
of that form works too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dagtrain.arguments import flag, not_negative, positive, whole
from dagtrain.errors import ArgumentError
from dagtrain.hinting import hinted
from dagtrain.optim.optimizer import Rate, rate, rate_at, within_range

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential_decay",
    "join",
    "one_cycle",
    "piecewise",
    "polynomial",
    "step_decay",
    "warmup",
]


@dataclass(frozen=True)
class Schedule:
    """Step → learning rate.

    Examples
    --------
    >>> constant(0.1)
    constant(value=0.1)
    """

    name: str
    function: partial[Any]

    def __call__(self, step: Any) -> Any:
        """The learning rate of the update after `step` updates."""
        return self.function(step)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.function.keywords.items())})"


def _schedule(name: str, function: Callable[..., Any], **settings: Any) -> Schedule:
    return Schedule(name, within_range(name, function, settings))


def _constant(step: Any, *, value: float) -> Any:
    return value + 0.0 * step


@hinted
def constant(value: float) -> Schedule:
    """The same rate at every step."""
    return _schedule("constant", _constant, value=value)


def _exponential(step: Any, *, initial: float, rate: float, every: int, staircase: bool) -> Any:
    exponent = step / every
    return initial * rate ** (np.floor(exponent) if staircase else exponent)


@hinted
def exponential_decay(initial: float, rate: float, every: int = 1, staircase: bool = False) -> Schedule:
    """``initial * rate ** (step / every)``; the exponent rounded down with `staircase`.

    Examples
    --------
    >>> float(exponential_decay(1.0, 0.5, every=10)(20))
    0.25
    """
    flag("exponential_decay: staircase", staircase)
    return _schedule("exponential_decay", _exponential, initial=initial, rate=rate, every=every, staircase=staircase)


@hinted
def step_decay(initial: float, factor: float, every: int) -> Schedule:
    """`initial`, multiplied by `factor` after each `every` steps.

    Examples
    --------
    >>> float(step_decay(1.0, 0.1, every=100)(100))
    0.1
    """
    positive("step_decay: factor", factor)
    return _schedule("step_decay", _exponential, initial=initial, rate=factor, every=every, staircase=True)


def _piecewise(step: Any, *, boundaries: tuple[int, ...], values: tuple[float, ...]) -> Any:
    rate = values[-1] + 0.0 * step
    for boundary, value in zip(reversed(boundaries), reversed(values[:-1]), strict=True):
        rate = np.where(step < boundary, value, rate)
    return rate


@hinted
def piecewise(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """``values[0]`` before step ``boundaries[0]``, ``values[1]`` from it to the next boundary, and so on.

    Raises
    ------
    ArgumentError
        If the boundaries do not rise, or the values are not one more than the boundaries.

    Examples
    --------
    >>> piecewise([10, 20], [1.0, 0.5, 0.1])(np.array([9, 10, 25]))
    array([1. , 0.5, 0.1])
    """
    rising = _rising("piecewise", boundaries, len(values), "values")
    for value in values:
        not_negative("piecewise: each value", value)
    return _schedule("piecewise", _piecewise, boundaries=rising, values=tuple(map(float, values)))


def _rising(name: str, boundaries: Sequence[int], parts: int, kind: str) -> tuple[int, ...]:
    """Boundaries between this many parts."""
    for boundary in boundaries:
        whole(f"{name}: each boundary", boundary)
    if list(boundaries) != sorted(set(boundaries)):
        raise ArgumentError(f"{name}: boundaries must rise, got {list(boundaries)}.")
    if parts != len(boundaries) + 1:
        raise ArgumentError(f"{name}: {len(boundaries)} boundaries need {len(boundaries) + 1} {kind}, got {parts}.")
    return tuple(map(int, boundaries))


def _polynomial(step: Any, *, initial: float, steps: int, final: float, power: float) -> Any:
    return final + (initial - final) * (1 - np.minimum(step / steps, 1.0)) ** power


@hinted
def polynomial(initial: float, steps: int, final: float = 0.0, power: float = 1.0) -> Schedule:
    """From `initial` to `final` along ``(1 - step / steps) ** power``, then `final`; a straight line by default.

    Examples
    --------
    >>> float(polynomial(1.0, 100)(25))
    0.75
    """
    return _schedule("polynomial", _polynomial, initial=initial, steps=steps, final=final, power=power)


def _between(start: float, end: float, progress: Any) -> Any:
    return end + (start - end) * 0.5 * (1 + np.cos(math.pi * progress))


def _cosine(step: Any, *, initial: float, steps: int, final: float, warmup_steps: int) -> Any:
    progress = np.minimum(np.maximum(step - warmup_steps, 0) / (steps - warmup_steps), 1.0)
    rate = _between(initial, final, progress)
    return np.minimum((step + 1) / warmup_steps, 1.0) * rate if warmup_steps else rate


@hinted
def cosine(initial: float, steps: int, final: float = 0.0, warmup_steps: int = 0) -> Schedule:
    """Half a cosine wave from `initial` down to `final` at `steps`, after a straight rise over the first `warmup_steps` updates.

    The first update uses ``initial / warmup_steps``, update number `warmup_steps` uses `initial`.

    Notes
    -----
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", arXiv:1608.03983, equation 5, without restarts.

    Examples
    --------
    >>> cosine(1.0, 10)(np.array([0, 5, 10, 20])).round(6)
    array([1. , 0.5, 0. , 0. ])
    """
    schedule = _schedule("cosine", _cosine, initial=initial, steps=steps, final=final, warmup_steps=warmup_steps)
    if warmup_steps >= steps:
        raise ArgumentError(f"cosine: warmup_steps ({warmup_steps}) must be fewer than steps ({steps}).")
    return schedule


def _cosine_restarts(step: Any, *, initial: float, steps: int, growth: float, factor: float, final: float) -> Any:
    def start(cycle: Any) -> Any:
        return steps * (cycle if growth == 1 else (growth**cycle - 1) / (growth - 1))

    # A logarithm is rounded, so the cycle may be off by one where it begins.
    cycle = np.floor(step / steps if growth == 1 else np.log1p(step / steps * (growth - 1)) / math.log(growth))
    cycle = cycle + np.where(step >= start(cycle + 1), 1.0, 0.0) - np.where(step < start(cycle), 1.0, 0.0)
    progress = (step - start(cycle)) / (steps * growth**cycle)
    return _between(np.maximum(initial * factor**cycle, final), final, progress)


@hinted
def cosine_restarts(initial: float, steps: int, growth: float = 1.0, factor: float = 1.0, final: float = 0.0) -> Schedule:
    """Half a cosine wave from `initial` down to `final` over `steps`, and again, each longer by `growth` and its top lower by `factor`.

    Raises
    ------
    ArgumentError
        If `growth` is below 1, or another argument is outside its range.

    Notes
    -----
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", arXiv:1608.03983, equation 5.

    Examples
    --------
    >>> cosine_restarts(1.0, 10, growth=2.0, factor=0.5)(np.array([0, 5, 10, 20, 30])).round(6)
    array([1.  , 0.5 , 0.5 , 0.25, 0.25])
    """
    if positive("cosine_restarts: growth", growth) < 1:
        raise ArgumentError(f"cosine_restarts: growth must be a number from 1 up, got {growth!r}.")
    return _schedule("cosine_restarts", _cosine_restarts, initial=initial, steps=steps, growth=growth, factor=factor, final=final)


def _one_cycle(step: Any, *, peak: float, steps: int, warmup_fraction: float, start_divisor: float, final_divisor: float) -> Any:
    start = peak / start_divisor
    final = start / final_divisor
    top, end = warmup_fraction * steps - 1, steps - 1
    rising = _between(start, peak, np.minimum(step / top, 1.0)) if top > 0 else peak
    falling = _between(peak, final, np.minimum(np.maximum((step - top) / (end - top), 0.0), 1.0))
    return np.where(step < top, rising, falling)


@hinted
def one_cycle(peak: float, steps: int, warmup_fraction: float = 0.3, start_divisor: float = 25.0, final_divisor: float = 1e4) -> Schedule:
    """Half a cosine wave up to `peak` over the first part of the steps, then half a wave down to almost 0.

    Starts at ``peak / start_divisor`` and ends at ``peak / start_divisor / final_divisor``.

    Notes
    -----
    Smith and Topin, "Super-convergence", arXiv:1708.07120, with cosines instead of straight lines, and without the cycle of momentum.

    Examples
    --------
    >>> float(one_cycle(1.0, 100)(29))
    1.0
    """
    whole("one_cycle: steps", steps, 2)
    settings = {"warmup_fraction": warmup_fraction, "start_divisor": start_divisor, "final_divisor": final_divisor}
    return _schedule("one_cycle", _one_cycle, peak=peak, steps=steps, **settings)


def _warmup(step: Any, *, learning_rate: Rate, steps: int) -> Any:
    return np.minimum((step + 1) / steps, 1.0) * rate_at(learning_rate, step)


@hinted
def warmup(learning_rate: Rate, steps: int) -> Schedule:
    """A schedule (or a number) times a straight rise over the first updates: ``1 / steps`` at the first, 1 at number `steps`.

    Notes
    -----
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", arXiv:1706.02677, section 2.2.

    Examples
    --------
    >>> warmup(1.0, 4)(np.arange(6))
    array([0.25, 0.5 , 0.75, 1.  , 1.  , 1.  ])
    """
    return _schedule("warmup", _warmup, learning_rate=learning_rate, steps=steps)


def _join(step: Any, *, schedules: tuple[Rate, ...], boundaries: tuple[int, ...]) -> Any:
    rate = rate_at(schedules[0], step) + 0.0 * step
    for boundary, schedule in zip(boundaries, schedules[1:], strict=True):
        rate = np.where(step < boundary, rate, rate_at(schedule, np.maximum(step - boundary, 0)))
    return rate


@hinted
def join(schedules: Sequence[Rate], boundaries: Sequence[int]) -> Schedule:
    """``schedules[0]`` before step ``boundaries[0]``, ``schedules[1]`` from it to the next boundary, and so on. Each counts from 0.

    Parameters
    ----------
    schedules
        Schedules or numbers, one more than boundaries.
    boundaries
        Steps, which rise.

    Raises
    ------
    ArgumentError
        If the boundaries do not rise, or the schedules are not one more than the boundaries.

    Examples
    --------
    >>> join([warmup(1.0, 2), polynomial(1.0, 4)], [2])(np.arange(7))
    array([0.5 , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ])
    """
    schedules = tuple(rate(f"join: schedule {i}", schedule) for i, schedule in enumerate(schedules))
    return _schedule("join", _join, schedules=schedules, boundaries=_rising("join", boundaries, len(schedules), "schedules"))
