"""Several copies of an environment that are stepped together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.rl.environment import Discrete, Environment, generator

__all__ = ["MODES", "Steps", "Vector"]

MODES = ("disabled", "same_step", "next_step")


class Steps(NamedTuple):
    """What a step of several copies gives, one row each."""

    observations: Array
    """After the step; under "same_step" those of a new episode where one has ended."""
    rewards: Array
    terminated: Array
    truncated: Array
    final_observations: Array
    """After the step, before a reset."""
    valid: Array
    """Which rows are steps of an episode; under "next_step" a row that only begins a new episode is none."""


class Vector:
    """Several copies of an environment, stepped together, each with random numbers of its own.

    Parameters
    ----------
    environment
        Of this package, or Gymnasium's: then a list of as many.
    count
        Number of copies, for an environment of this package.
    autoreset_mode
        What happens after the end of an episode. "disabled": nothing, its row is not valid any more until `reset`. "same_step": a new
        episode begins in the same step. "next_step": it begins in the next step, whose action is ignored.

    Attributes
    ----------
    metadata
        ``{"autoreset_mode": ...}``.

    Examples
    --------
    >>> import numpy as np
    >>> from dagtrain import rl
    >>> carts = rl.Vector(rl.CartPole(), 3, autoreset_mode="same_step")
    >>> carts.reset(seeds=[0, 1, 2]).shape
    (3, 4)
    >>> carts.step(np.array([0, 1, 0])).rewards
    array([1., 1., 1.])
    """

    def __init__(self, environment: Any, count: int | None = None, autoreset_mode: str = "next_step") -> None:
        self.mode = one_of("autoreset_mode", autoreset_mode, MODES)
        self.metadata = {"autoreset_mode": self.mode}
        if isinstance(environment, Environment):
            if count is None or count < 1:
                raise ArgumentError(f"Vector: count is at least 1, got {count}.")
            self._copies: _Copies = _Own(environment, count)
        else:
            self._copies = _Foreign(environment)
        self.count = self._copies.count
        self._ended = np.ones(self.count, bool)
        self._observations: Array | None = None

    def reset(self, seeds: Sequence[Any]) -> Array:
        """Begin an episode in each copy, with a seed each; return the observations."""
        if len(seeds) != self.count:
            raise ArgumentError(f"Vector: reset takes a seed for each of {self.count} copies, got {len(seeds)}.")
        self._observations = self._copies.begin(np.ones(self.count, bool), seeds)
        self._ended = np.zeros(self.count, bool)
        return self._observations

    def step(self, actions: Array) -> Steps:
        """Take an action in each copy."""
        if self._observations is None:
            raise ArgumentError("Vector: call reset(seeds) before step(actions).")
        moving, actions = ~self._ended, np.asarray(actions)
        if len(actions.shape) == 0 or len(actions) != self.count:
            raise ArgumentError(f"Vector: step takes an action for each of {self.count} copies, got the shape {actions.shape}.")
        seen, rewards, terminated, truncated = self._copies.advance(actions, moving)
        seen = _where(moving, seen, self._observations)
        rewards, terminated, truncated = rewards * moving, terminated & moving, truncated & moving
        after, ended = seen, terminated | truncated
        if self.mode == "next_step" and self._ended.any():
            after = _where(self._ended, self._copies.begin(self._ended), after)
        if self.mode == "same_step" and ended.any():
            after = _where(ended, self._copies.begin(ended), after)
        self._ended = self._ended | ended if self.mode == "disabled" else ended & (self.mode == "next_step")
        self._observations = after
        return Steps(after, rewards, terminated, truncated, seen, moving)


def _where(rows: Array, yes: Array, no: Array) -> Array:
    return np.where(rows.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


class _Own:
    """Copies of an environment of this package."""

    def __init__(self, environment: Environment, count: int) -> None:
        self.environment, self.count = environment, count
        self._random: list[np.random.Generator] = []
        self._states: Array | None = None
        self._steps = np.zeros(count, int)

    def begin(self, where: Array, seeds: Sequence[Any] | None = None) -> Array:
        if seeds is not None:
            self._random = [generator(seed) for seed in seeds]
        fresh = {i: self.environment.start(self._random[i]) for i in np.flatnonzero(where).tolist()}
        if self._states is None or where.all():
            self._states = np.stack(list(fresh.values()))
        else:
            for i, state in fresh.items():
                self._states[i] = state
        self._steps[where] = 0
        return self.environment.observe(self._states)

    def advance(self, actions: Array, moving: Array) -> tuple[Array, Array, Array, Array]:
        assert self._states is not None, "an episode has begun"
        space = self.environment.action_space
        if isinstance(space, Discrete):
            known = actions.ndim == 1 and actions.dtype.kind in "iu"
            fits = known and bool(((actions >= 0) & (actions < space.n))[moving].all())
        else:
            fits = actions.shape[1:] == space.shape and actions.dtype.kind in "fiu"
        if not fits:
            raise ArgumentError(f"Vector: an action of {self.environment.name} is in {space}, got {actions!r}.")
        draws = None
        if self.environment.draws:
            draws = np.array([random.random() if moves else 0.0 for random, moves in zip(self._random, moving.tolist(), strict=True)])
        self._states, rewards, terminated = self.environment.advance(self._states, actions, draws)
        self._steps += 1
        limit = self.environment.limit
        truncated = np.zeros(self.count, bool) if limit is None else self._steps == limit
        return self.environment.observe(self._states), rewards, terminated, truncated


class _Foreign:
    """Gymnasium's environments."""

    def __init__(self, environments: Sequence[Any]) -> None:
        if not isinstance(environments, list | tuple) or not environments or not all(hasattr(each, "step") for each in environments):
            raise ArgumentError(f"Vector: give an environment of dagtrain.rl, or a list of Gymnasium's, got {environments!r}.")
        self.environments, self.count = environments, len(environments)

    def begin(self, where: Array, seeds: Sequence[Any] | None = None) -> Array:
        for i in np.flatnonzero(where).tolist():
            seed = None if seeds is None else int(np.random.SeedSequence(seeds[i]).generate_state(1)[0])
            seen, _ = self.environments[i].reset(seed=seed)
            if i == 0 and where.all():
                self._seen = np.zeros((self.count, *np.shape(seen)), np.asarray(seen).dtype)
            self._seen[i] = seen
        return self._seen.copy()

    def advance(self, actions: Array, moving: Array) -> tuple[Array, Array, Array, Array]:
        rewards, ends = np.zeros(self.count), np.zeros((2, self.count), bool)
        for i in np.flatnonzero(moving).tolist():
            self._seen[i], rewards[i], ends[0, i], ends[1, i], _ = self.environments[i].step(actions[i])
        return self._seen.copy(), rewards, ends[0], ends[1]


_Copies = _Own | _Foreign
