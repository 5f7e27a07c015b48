"""Optimisers that scale each element's step by the size of its past gradients.

Their slots hold decayed sums, ``sum = decay * sum + g``, where the papers write averages, ``mean = decay * mean + (1 - decay) * g``.
The two differ by the constant factor ``1 - decay``, which goes into the scalars computed once for all elements: so adam makes nine passes
over a block, and the formulas as written fourteen. The results are the same up to rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagtrain.arguments import flag
from dagtrain.hinting import hinted
from dagtrain.optim.optimizer import Context, Optimizer, Rate, Slots, Vector, make, rate_for

__all__ = ["adadelta", "adagrad", "adam", "adam_change", "adamw", "rmsprop"]


def adam_change(
    context: Context, gradient: Vector, slots: Slots, rate: Any, beta_1: float, beta_2: float, epsilon: float
) -> tuple[Vector, Slots]:
    """The change of the parameters by `adam` at a learning rate, and the slots after it."""
    # With first = m / (1 - beta_1) and second = v / (1 - beta_2), and c1, c2 the corrections of bias by 1 - beta^t:
    #   rate * (m / c1) / (sqrt(v / c2) + epsilon)
    #     = (rate * (1 - beta_1) / c1 / k) * first / (sqrt(second) + epsilon / k)        where k = sqrt((1 - beta_2) / c2)
    count = context.step + 1
    k = np.sqrt((1 - beta_2) / (1 - beta_2**count))
    rate = rate * (1 - beta_1) / (1 - beta_1**count)
    first = slots["first"] * beta_1 + gradient
    second = slots["second"] * beta_2 + np.square(gradient)
    change = first / (np.sqrt(second) + context.scalar(epsilon / k)) * context.scalar(-rate / k)
    return change, {"first": first, "second": second}


def _adam(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, learning_rate: Rate, **constants: float
) -> tuple[Vector, Slots]:
    return adam_change(context, gradient, slots, rate_for(learning_rate, context), **constants)


@hinted
def adam(learning_rate: Rate = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Adam: steps along the mean gradient, each element's divided by the root of its mean square.

    Parameters
    ----------
    learning_rate
        Number or schedule.
    beta_1, beta_2
        Decay of the mean of gradients and of the mean of their squares, in [0, 1).
    epsilon
        Added to the root.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Kingma and Ba, "Adam: a method for stochastic optimization", arXiv:1412.6980, algorithm 1.
    The slots hold the means divided by ``1 - beta``.

    Examples
    --------
    >>> from dagtrain import optim
    >>> parameters, slots = optim.apply_once(adam(0.1), np.array([1.0, 1.0]), np.array([5.0, -0.01]))
    >>> parameters.round(6)
    array([0.9, 1.1])
    """
    return make("adam", ("first", "second"), _adam, learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)


def _adamw(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, learning_rate: Rate, weight_decay: float, **settings: Any
) -> tuple[Vector, Slots]:
    change, after = _adam(context, gradient, parameters, slots, learning_rate=learning_rate, **settings)
    return change - parameters * context.scalar(rate_for(learning_rate, context) * weight_decay), after


@hinted
def adamw(
    learning_rate: Rate = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8, weight_decay: float = 0.01
) -> Optimizer:
    """Adam with decoupled weight decay: the parameters also shrink by ``learning_rate * weight_decay`` of themselves.

    All parameters decay, biases too.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        As for `adam`.
    weight_decay
        From 0 up.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv:1711.05101, algorithm 2,
    with the decay also scaled by the learning rate.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(adamw(0.1, weight_decay=0.5), np.array([2.0]), np.array([0.0]))[0]
    array([1.9])
    """
    settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "weight_decay": weight_decay}
    return make("adamw", ("first", "second"), _adamw, learning_rate=learning_rate, **settings)


def _rmsprop(
    context: Context,
    gradient: Vector,
    parameters: Vector,
    slots: Slots,
    *,
    learning_rate: Rate,
    decay: float,
    epsilon: float,
    momentum: float,
    centered: bool,
) -> tuple[Vector, Slots]:
    # With second = mean of squares / k² and first = mean / k², k = sqrt(1 - decay): the variance is k² * (second - k² * first²).
    k = math.sqrt(1 - decay)
    second = slots["second"] * decay + np.square(gradient)
    after = {"second": second}
    variance = second
    if centered:
        after["first"] = slots["first"] * decay + gradient
        # Rounding can take the difference below zero.
        variance = np.maximum(second - np.square(after["first"]) * (1 - decay), 0)
    change = gradient / (np.sqrt(variance) + epsilon / k)
    rate = rate_for(learning_rate, context) / k
    if momentum:
        change = after["velocity"] = slots["velocity"] * momentum + change
    return change * context.scalar(-rate), after


@hinted
def rmsprop(
    learning_rate: Rate = 1e-3, decay: float = 0.9, epsilon: float = 1e-8, momentum: float = 0.0, centered: bool = False
) -> Optimizer:
    """RMSprop: each element's step is divided by the root of the mean square of its gradients.

    Parameters
    ----------
    learning_rate
        Number or schedule.
    decay
        Decay of the mean of squares, in [0, 1).
    epsilon
        Added to the root.
    momentum
        Fraction of the last velocity that is kept, in [0, 1).
    centered
        Divide by the standard deviation of the gradients instead.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Tieleman and Hinton, "Lecture 6.5: rmsprop", Neural networks for machine learning (2012); centred as in Graves, arXiv:1308.0850,
    equations 38-45 (epsilon outside the root). The slots hold the means divided by ``1 - decay``.

    Examples
    --------
    >>> rmsprop(1e-3, momentum=0.9, centered=True).slots
    ('second', 'first', 'velocity')
    """
    slots = ("second", *(["first"] if centered else []), *(["velocity"] if momentum else []))
    settings = {"decay": decay, "epsilon": epsilon, "momentum": momentum, "centered": flag("rmsprop: centered", centered)}
    return make("rmsprop", slots, _rmsprop, learning_rate=learning_rate, **settings)


def _adagrad(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, learning_rate: Rate, epsilon: float
) -> tuple[Vector, Slots]:
    total = slots["total"] + np.square(gradient)
    return gradient / (np.sqrt(total) + epsilon) * context.scalar(-rate_for(learning_rate, context)), {"total": total}


@hinted
def adagrad(learning_rate: Rate = 0.01, epsilon: float = 1e-10) -> Optimizer:
    """Adagrad: each element's step is divided by the root of the sum of its squared gradients.

    Parameters
    ----------
    learning_rate
        Number or schedule.
    epsilon
        Added to the root.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12 (2011), figure 1.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(adagrad(0.5), np.array([1.0]), np.array([4.0]))[0]
    array([0.5])
    """
    return make("adagrad", ("total",), _adagrad, learning_rate=learning_rate, epsilon=epsilon)


def _adadelta(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, learning_rate: Rate, decay: float, epsilon: float
) -> tuple[Vector, Slots]:
    small = epsilon / (1 - decay)
    second = slots["second"] * decay + np.square(gradient)
    step = np.sqrt((slots["steps"] + small) / (second + small)) * gradient
    steps = slots["steps"] * decay + np.square(step)
    return step * context.scalar(-rate_for(learning_rate, context)), {"second": second, "steps": steps}


@hinted
def adadelta(learning_rate: Rate = 1.0, decay: float = 0.9, epsilon: float = 1e-6) -> Optimizer:
    """Adadelta: as RMSprop, with the root of the mean square of past steps in place of a learning rate.

    Parameters
    ----------
    learning_rate
        Number or schedule that the steps are multiplied by; 1 in the paper.
    decay
        Decay of both means, in [0, 1).
    epsilon
        Added to both means.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, algorithm 1. The slots hold the means divided by ``1 - decay``.

    Examples
    --------
    >>> adadelta().slots
    ('second', 'steps')
    """
    return make("adadelta", ("second", "steps"), _adadelta, learning_rate=learning_rate, decay=decay, epsilon=epsilon)
