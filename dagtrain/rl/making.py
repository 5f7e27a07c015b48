"""Environments by name."""

from __future__ import annotations

from typing import Any

from dagtrain.errors import ArgumentError, MissingDependencyError, UnknownNameError
from dagtrain.rl.control import CartPole, Pendulum
from dagtrain.rl.environment import Environment
from dagtrain.rl.grids import CliffWalking, FrozenLake

__all__ = ["ENVIRONMENTS", "make"]

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
