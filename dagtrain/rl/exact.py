"""Exact values of worlds with known transitions: the bounds that learning is compared with.

Q(s, a) = Σ p (r + γ V(s')) over the outcomes, where V(s') is 0 if the episode has ended. The best policy takes the maximum over the actions
(value iteration); a soft one takes a random action with probability ε, and the best of such policies is what SARSA tends to.

Bellman, "Dynamic Programming" (1957); Sutton and Barto, "Reinforcement Learning: An Introduction", second edition (2018), chapter 4.
"""

from __future__ import annotations

import numpy as np

from dagtrain.arguments import fraction, whole
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.rl.grids import GridWorld

__all__ = ["policy_return", "value_iteration"]

_SWEEPS, _WITHIN = 10_000, 1e-12


def value_iteration(world: GridWorld, discount: float = 1.0, steps: int | None = None, epsilon: float = 0.0) -> Array:
    """The values of each action in each square under the best policy.

    Parameters
    ----------
    world
        With a table of transitions, such as `FrozenLake` and `CliffWalking`.
    discount
        Factor of the value of what follows.
    steps
        So many steps are left; None for no limit.
    epsilon
        Probability with which every policy takes a random action.

    Returns
    -------
    array
        Of shape (squares, actions); its maximum over the actions is the value of a square under a policy without random actions.

    Raises
    ------
    ArgumentError
        If no policy has a finite value, as where an episode without discount may never end.

    Examples
    --------
    >>> from dagtrain import rl
    >>> float(value_iteration(rl.FrozenLake(), steps=100)[0].max().round(4))
    0.7442
    >>> float(value_iteration(rl.CliffWalking())[36].max())
    -13.0
    """
    _check(world, discount)
    fraction("epsilon", epsilon, one=True)
    if steps is not None:
        whole("steps", steps, 0)
    values = np.zeros(world.probability.shape[:2])
    for _ in range(_SWEEPS if steps is None else steps):
        after = _backup(world, discount, (1 - epsilon) * values.max(axis=1) + epsilon * values.mean(axis=1))
        if steps is None and np.abs(after - values).max() < _WITHIN:
            return after
        values = after
    if steps is None:
        raise ArgumentError(f"{world.name} has no finite values: give a discount below 1, or a number of steps.")
    return values


def policy_return(world: GridWorld, policy: Array, steps: int, discount: float = 1.0) -> float:
    """The exact mean return of episodes of at most so many steps.

    Parameters
    ----------
    world
        With a table of transitions.
    policy
        The action in each square, or the probability of each action there, of shape (squares, actions).
    steps
        Limit of an episode.
    discount
        Factor of the reward of each later step.

    Examples
    --------
    >>> from dagtrain import rl
    >>> world = rl.CliffWalking()
    >>> policy_return(world, value_iteration(world).argmax(axis=1), steps=100)
    -13.0
    """
    _check(world, discount)
    shape, policy = world.probability.shape[:2], np.asarray(policy)
    if policy.dtype.kind in "iu" and policy.shape == shape[:1] and ((policy >= 0) & (policy < shape[1])).all():
        chances = np.eye(shape[1])[policy]
    elif policy.shape == shape and (policy >= 0).all() and np.allclose(policy.sum(axis=1), 1):
        chances = policy
    else:
        raise ArgumentError(
            f"a policy of {world.name} has an action from 0 to {shape[1] - 1} for each of {shape[0]} squares, or probabilities of shape "
            f"{shape} that sum to 1, got {policy.dtype} of shape {policy.shape}."
        )
    value = np.zeros(len(chances))
    for _ in range(whole("steps", steps, 0)):
        value = (chances * _backup(world, discount, value)).sum(axis=1)
    return float(value[world.first])


def _check(world: GridWorld, discount: float) -> None:
    if not isinstance(world, GridWorld):
        raise ArgumentError(f"exact values are those of a world with a table of transitions, as rl.CliffWalking(), got {world!r}.")
    fraction("discount", discount, one=True)


def _backup(world: GridWorld, discount: float, value: Array) -> Array:
    """The values of actions, given those of squares."""
    following = np.where(world.terminated, 0.0, value[world.following])
    return np.asarray((world.probability * (world.reward + discount * following)).sum(axis=2))
