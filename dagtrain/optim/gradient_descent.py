"""Gradient descent, with momentum, with Nesterov's look ahead, and by signs alone."""

from __future__ import annotations

import numpy as np

from dagtrain.arguments import flag, fraction
from dagtrain.errors import ArgumentError
from dagtrain.hinting import hinted
from dagtrain.optim.optimizer import Context, Optimizer, Rate, Slots, Vector, make, rate_for

__all__ = ["lion", "sgd"]


def _descend(context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, learning_rate: Rate) -> tuple[Vector, Slots]:
    return gradient * context.scalar(-rate_for(learning_rate, context)), {}


def _with_momentum(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, learning_rate: Rate, momentum: float, nesterov: bool
) -> tuple[Vector, Slots]:
    velocity = slots["velocity"] * momentum + gradient
    ahead = velocity * momentum + gradient if nesterov else velocity
    return ahead * context.scalar(-rate_for(learning_rate, context)), {"velocity": velocity}


@hinted
def sgd(learning_rate: Rate = 0.01, momentum: float = 0.0, nesterov: bool = False) -> Optimizer:
    """Stochastic gradient descent: ``v = momentum * v + g``, change ``-learning_rate * v``.

    Parameters
    ----------
    learning_rate
        Number or schedule.
    momentum
        Fraction of the last velocity that is kept, in [0, 1).
    nesterov
        Whether to take the gradient as if one step ahead: change ``-learning_rate * (momentum * v + g)``.

    Raises
    ------
    ArgumentError
        If the learning rate is negative, momentum is not in [0, 1), or `nesterov` is set without momentum.

    Notes
    -----
    Polyak, "Some methods of speeding up the convergence of iteration methods" (1964); Nesterov's method in the form of Sutskever et al.,
    "On the importance of initialization and momentum in deep learning" (ICML 2013), section 2, the parameters taken after the look ahead.

    Examples
    --------
    >>> sgd(0.1, momentum=0.9).slots
    ('velocity',)
    """
    fraction("sgd: momentum", momentum)
    flag("sgd: nesterov", nesterov)
    if momentum:
        return make("sgd", ("velocity",), _with_momentum, learning_rate=learning_rate, momentum=momentum, nesterov=nesterov)
    if nesterov:
        raise ArgumentError("sgd: nesterov=True needs momentum above 0, for instance momentum=0.9.")
    return make("sgd", (), _descend, learning_rate=learning_rate)


def _lion(
    context: Context,
    gradient: Vector,
    parameters: Vector,
    slots: Slots,
    *,
    learning_rate: Rate,
    beta_1: float,
    beta_2: float,
    weight_decay: float,
) -> tuple[Vector, Slots]:
    # The slot is the mean divided by 1 - beta_2, and a sign does not depend on the scale: beta_1 * mean + (1 - beta_1) * gradient.
    sign = np.sign(slots["first"] * (beta_1 * (1 - beta_2) / (1 - beta_1)) + gradient)
    direction = sign + parameters * weight_decay if weight_decay else sign
    change = direction * context.scalar(-rate_for(learning_rate, context))
    return change, {"first": slots["first"] * beta_2 + gradient}


@hinted
def lion(learning_rate: Rate = 1e-4, beta_1: float = 0.9, beta_2: float = 0.99, weight_decay: float = 0.0) -> Optimizer:
    """Lion: each element moves by the learning rate, along the sign of a mean of gradients; one slot in place of Adam's two.

    Parameters
    ----------
    learning_rate
        Number or schedule; about a tenth of Adam's.
    beta_1, beta_2
        Weight of the past in the sign, and in the mean that the slot holds, in [0, 1).
    weight_decay
        From 0 up, decoupled: the parameters also shrink by ``learning_rate * weight_decay`` of themselves.

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Notes
    -----
    Chen et al., "Symbolic discovery of optimization algorithms", arXiv:2302.06675, algorithm 2. The slot holds the mean divided by
    ``1 - beta_2``.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(lion(0.1), np.array([1.0, 1.0]), np.array([5.0, -0.01]))[0]
    array([0.9, 1.1])
    """
    settings = {"beta_1": beta_1, "beta_2": beta_2, "weight_decay": weight_decay}
    return make("lion", ("first",), _lion, learning_rate=learning_rate, **settings)
