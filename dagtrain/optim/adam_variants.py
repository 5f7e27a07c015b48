"""Variants of Adam: another second moment (AMSGrad), a look ahead (Nadam), and a careful beginning (RAdam).

Their slots hold decayed sums in place of means, as those of `dagtrain.optim.adaptive` do.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.hinting import hinted
from dagtrain.optim.optimizer import Context, Optimizer, Rate, Slots, Vector, make, rate_for

__all__ = ["amsgrad", "momenta", "nadam", "radam"]


def _moments(gradient: Vector, slots: Slots, beta_1: float, beta_2: float) -> tuple[Vector, Vector]:
    return slots["first"] * beta_1 + gradient, slots["second"] * beta_2 + np.square(gradient)


def _amsgrad(
    context: Context,
    gradient: Vector,
    parameters: Vector,
    slots: Slots,
    *,
    learning_rate: Rate,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[Vector, Slots]:
    count = context.step + 1
    k = np.sqrt((1 - beta_2) / (1 - beta_2**count))
    rate = rate_for(learning_rate, context) * (1 - beta_1) / (1 - beta_1**count)
    first, second = _moments(gradient, slots, beta_1, beta_2)
    most = np.maximum(slots["most"], second)
    change = first / (np.sqrt(most) + context.scalar(epsilon / k)) * context.scalar(-rate / k)
    return change, {"first": first, "second": second, "most": most}


@hinted
def amsgrad(learning_rate: Rate = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """AMSGrad: `adam` divided by the root of the largest mean square so far, so that no element's step grows again.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        As for `adam`.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Reddi, Kale and Kumar, "On the convergence of Adam and beyond", arXiv:1904.09237, algorithm 2, with Adam's corrections of bias, as in
    Keras and PyTorch (``amsgrad=True``).

    Examples
    --------
    >>> amsgrad().slots
    ('first', 'second', 'most')
    """
    settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    return make("amsgrad", ("first", "second", "most"), _amsgrad, learning_rate=learning_rate, **settings)


_TERMS = np.arange(1.0, 53.0)
"""Terms of the series of `_momenta`, the last of which is below the rounding of float64."""


def momenta(count: Any, beta_1: float, momentum_decay: float) -> Any:
    """The product of ``beta_1 * (1 - 0.96**(momentum_decay * i) / 2)`` for i = 1 ... count, as a function of count alone.

    Its logarithm is the sum of ``log(1 - q**i / 2) = -(q**i / 2) - (q**i / 2)**2 / 2 - ...`` for q = ``0.96**momentum_decay``. For each
    power the sum over i is that of a geometric series.
    """
    if momentum_decay == 0:
        return (beta_1 * 0.5) ** count
    logs = momentum_decay * math.log(0.96) * _TERMS
    sums = np.exp(logs) / np.expm1(logs) * np.expm1(logs * count)
    return beta_1**count * np.exp(np.sum(-(0.5**_TERMS) / _TERMS * sums))


def _nadam(
    context: Context,
    gradient: Vector,
    parameters: Vector,
    slots: Slots,
    *,
    learning_rate: Rate,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    momentum_decay: float,
) -> tuple[Vector, Slots]:
    count = context.step + 1
    k = np.sqrt((1 - beta_2) / (1 - beta_2**count))
    now, ahead = (beta_1 * (1 - 0.5 * 0.96 ** (momentum_decay * at)) for at in (count, count + 1))
    product = momenta(count, beta_1, momentum_decay)
    rate = rate_for(learning_rate, context) / k
    first, second = _moments(gradient, slots, beta_1, beta_2)
    of_first = context.scalar(-rate * ahead * (1 - beta_1) / (1 - product * ahead))
    of_gradient = context.scalar(-rate * (1 - now) / (1 - product))
    change = (first * of_first + gradient * of_gradient) / (np.sqrt(second) + context.scalar(epsilon / k))
    return change, {"first": first, "second": second}


@hinted
def nadam(
    learning_rate: Rate = 2e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8, momentum_decay: float = 4e-3
) -> Optimizer:
    """Nadam: `adam` with Nesterov's look ahead, and a momentum that grows from ``beta_1 / 2`` to `beta_1`.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        As for `adam`.
    momentum_decay
        How fast the momentum grows, from 0 up: at update t it is ``beta_1 * (1 - 0.96**(momentum_decay * t) / 2)``.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Dozat, "Incorporating Nesterov momentum into Adam" (ICLR workshop 2016), algorithm 2, with the momentum of Keras and PyTorch. The
    product of momenta is computed anew from the number of updates, so no slot holds it.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(nadam(0.1), np.array([1.0]), np.array([5.0]))[0].round(4)
    array([0.8944])
    """
    settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "momentum_decay": momentum_decay}
    return make("nadam", ("first", "second"), _nadam, learning_rate=learning_rate, **settings)


def _radam(
    context: Context,
    gradient: Vector,
    parameters: Vector,
    slots: Slots,
    *,
    learning_rate: Rate,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[Vector, Slots]:
    count = context.step + 1
    power = beta_2**count
    longest = 2 / (1 - beta_2) - 1
    length = longest - 2 * count * power / (1 - power)
    is_long = length > 5
    usable = np.where(is_long, length, 6.0)
    rectified = np.sqrt((usable - 4) * (usable - 2) * longest / ((longest - 4) * (longest - 2) * usable)) if longest > 5 else 1.0
    rate = rate_for(learning_rate, context) * (1 - beta_1) / (1 - beta_1**count)
    correction = np.sqrt(1 - power)
    first, second = _moments(gradient, slots, beta_1, beta_2)
    # The divisor is the root only once the mean of squares is over enough updates; before, it is 1.
    of_root, added = np.where(is_long, math.sqrt(1 - beta_2) / correction, 0.0), np.where(is_long, epsilon / correction, 1.0)
    divisor = np.sqrt(second) * context.scalar(of_root) + context.scalar(added)
    change = first / divisor * context.scalar(-rate * np.where(is_long, rectified, 1.0))
    return change, {"first": first, "second": second}


@hinted
def radam(learning_rate: Rate = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """RAdam: `adam` whose rate rises as its mean of squares becomes reliable; in the first updates, descent along the mean gradient.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        As for `adam`.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Liu et al., "On the variance of the adaptive learning rate and beyond", arXiv:1908.03265, algorithm 2, with the threshold 5 of the
    authors' code and PyTorch in place of 4. With `beta_2` up to 2/3, the mean of squares is never used.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(radam(0.1), np.array([1.0]), np.array([5.0]))[0]
    array([0.5])
    """
    settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    return make("radam", ("first", "second"), _radam, learning_rate=learning_rate, **settings)
