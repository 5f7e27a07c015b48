"""Optimisers for large batches, whose step for each parameter follows that parameter's own norm.

``context.norm(vector, per="parameter")`` is the norm over the parameter that an element belongs to: see `dagtrain.step.group_update`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.hinting import hinted
from dagtrain.optim.adaptive import adam_change
from dagtrain.optim.optimizer import Context, Optimizer, Rate, Slots, Vector, make, rate_for

__all__ = ["lamb", "lars"]


def _norm(context: Context, vector: Vector) -> Any:
    return context.norm(vector, per="parameter").astype(np.float64)


def _ratio(usable: Any, numerator: Any, denominator: Any) -> Any:
    """A quotient; 1 where it is not usable."""
    return np.where(usable, numerator / np.where(usable, denominator, 1.0), 1.0)


def _lamb(
    context: Context,
    gradient: Vector,
    parameters: Vector,
    slots: Slots,
    *,
    learning_rate: Rate,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Vector, Slots]:
    change, slots = adam_change(context, gradient, slots, 1.0, beta_1, beta_2, epsilon)
    direction = parameters * weight_decay - change
    weights, directions = _norm(context, parameters), _norm(context, direction)
    ratio = _ratio(np.logical_and(weights > 0, directions > 0), weights, directions)
    return direction * context.scalar(-rate_for(learning_rate, context) * ratio), slots


@hinted
def lamb(
    learning_rate: Rate = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-6, weight_decay: float = 0.01
) -> Optimizer:
    """LAMB: the direction of `adamw`, scaled for each parameter to the parameter's norm times the learning rate.

    Biases and scales mostly have an optimiser of their own: ``by_name({"*.bias": adam(1e-3), "*": lamb(1e-2)})``.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        As for `adam`.
    weight_decay
        From 0 up; part of the direction.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", arXiv:1904.00962, algorithm 2. Where a norm is
    zero, the direction is not scaled.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(lamb(0.1, weight_decay=0.0), np.array([3.0, 4.0]), np.array([1.0, 1.0]))[0].round(4)
    array([2.6464, 3.6464])
    """
    settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "weight_decay": weight_decay}
    return make("lamb", ("first", "second"), _lamb, learning_rate=learning_rate, **settings)


def _lars(
    context: Context,
    gradient: Vector,
    parameters: Vector,
    slots: Slots,
    *,
    learning_rate: Rate,
    momentum: float,
    weight_decay: float,
    trust: float,
) -> tuple[Vector, Slots]:
    weights, gradients = _norm(context, parameters), _norm(context, gradient)
    rate = _ratio(np.logical_and(weights > 0, gradients > 0), trust * weights, gradients + weight_decay * weights)
    direction = gradient + parameters * weight_decay
    velocity = slots["velocity"] * momentum + direction * context.scalar(rate_for(learning_rate, context) * rate)
    return -velocity, {"velocity": velocity}


@hinted
def lars(learning_rate: Rate = 1.0, momentum: float = 0.9, weight_decay: float = 1e-4, trust: float = 1e-3) -> Optimizer:
    """LARS: `sgd` with momentum whose step for each parameter is a fixed fraction of the parameter's norm.

    Biases and scales mostly have an optimiser of their own: ``by_name({"*.bias": sgd(0.1, momentum=0.9), "*": lars(8.0)})``.

    Parameters
    ----------
    learning_rate
        Number or schedule; multiplies the rate of each parameter.
    momentum
        Fraction of the last velocity that is kept, in [0, 1).
    weight_decay
        From 0 up; added to the gradient.
    trust
        The fraction of the parameter's norm.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    You, Gitman and Ginsburg, "Large batch training of convolutional networks", arXiv:1708.03888, algorithm 1. Where the norm of a parameter
    or of its gradient is zero, the rate of the parameter is 1.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(lars(1.0, weight_decay=0.0, trust=0.1), np.array([3.0, 4.0]), np.array([10.0, 0.0]))[0]
    array([2.5, 4. ])
    """
    settings = {"momentum": momentum, "weight_decay": weight_decay, "trust": trust}
    return make("lars", ("velocity",), _lars, learning_rate=learning_rate, **settings)
