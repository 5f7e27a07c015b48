"""Gradient descent, with momentum and with Nesterov's look ahead."""

from __future__ import annotations

from dagtrain.arguments import fraction
from dagtrain.errors import ArgumentError
from dagtrain.hinting import hinted
from dagtrain.optim.optimizer import Context, Optimizer, Rate, Slots, Vector, make, rate_for

__all__ = ["sgd"]


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
    if momentum:
        return make("sgd", ("velocity",), _with_momentum, learning_rate=learning_rate, momentum=momentum, nesterov=bool(nesterov))
    if nesterov:
        raise ArgumentError("sgd: nesterov=True needs momentum above 0, for instance momentum=0.9.")
    return make("sgd", (), _descend, learning_rate=learning_rate)
