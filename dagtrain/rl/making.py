"""Environments by name."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, MissingDependencyError, UnknownNameError
from dagtrain.rl.control import CartPole, Pendulum
from dagtrain.rl.environment import Environment
from dagtrain.rl.grids import CliffWalking, FrozenLake

__all__ = ["ENVIRONMENTS", "check_spaces", "make"]

ENVIRONMENTS = {each.name: each for each in (CartPole, Pendulum, CliffWalking, FrozenLake)}


def make(environment: Any) -> Any:
    """The environment of this name, or what is one.

    Parameters
    ----------
    environment
        A name of this package ("CartPole-v1", "Pendulum-v1", "CliffWalking-v1", "FrozenLake-v1"); "gymnasium:NAME" for one of Gymnasium's;
        or an environment with Gymnasium's interface.

    Raises
    ------
    UnknownNameError
        If there is no such name.
    MissingDependencyError
        If Gymnasium is needed and absent.

    Examples
    --------
    >>> make("Pendulum-v1").limit
    200
    """
    if not isinstance(environment, str):
        missing = [name for name in ("reset", "step", "observation_space", "action_space") if not hasattr(environment, name)]
        if missing or isinstance(environment, type):
            raise ArgumentError(
                f"an environment has Gymnasium's interface, got {environment!r}" + (f" without {', '.join(missing)}." if missing else ".")
            )
        if hasattr(environment, "num_envs"):
            raise ArgumentError("give one environment, not a vector of them: agents make vectors themselves.")
        if not {"seed", "kwargs"} & set(signature(environment.reset).parameters):
            raise ArgumentError(
                f"{environment!r} has the interface of old Gym: in Gymnasium's, reset(seed=...) returns an observation and a dict, and "
                "step returns five values."
            )
        return environment
    source, colon, name = environment.partition(":")
    if source == "gymnasium" and colon:
        try:
            import gymnasium
        except ImportError as error:
            raise MissingDependencyError(f'{environment!r} needs Gymnasium: pip install "dagtrain[rl]"') from error
        return gymnasium.make(name)
    if environment not in ENVIRONMENTS:
        raise UnknownNameError.of("environment", environment, ENVIRONMENTS)
    made: Environment = ENVIRONMENTS[environment]()
    return made


def check_spaces(environment: Any) -> None:
    """ArgumentError unless observations and actions are numbers from 0 up, or arrays of numbers."""
    for title in ("observation", "action"):
        space = getattr(environment, f"{title}_space")
        if hasattr(space, "n"):
            fits = np.ndim(space.n) == 0 and tuple(space.shape) == () and getattr(space, "start", 0) == 0
        else:
            fits = isinstance(space.shape, tuple) and np.dtype(space.dtype).kind in "biuf"
        if not fits:
            wrapper = f"gymnasium.wrappers.Transform{title.capitalize()}"
            raise ArgumentError(
                f"{title}s of agents are numbers from 0 up (Discrete) or arrays (Box), and {environment!r} has {space}: wrap it, as "
                f"by {wrapper}."
            )
