"""What an environment is: physics as pure functions of many states at once, and Gymnasium's interface to one of them.

    start(random) ─▶ state ─▶ advance(states, actions, draws) ─▶ states, rewards, terminated
                       └────▶ observe(states)

`Environment.reset` and `step` run the physics for one state, `Vector` for several. The interface is that of Gymnasium 1.x; Towers et al.,
"Gymnasium: a standard interface for reinforcement learning environments", arXiv:2407.17032.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Array

__all__ = ["Box", "Discrete", "Environment", "generator"]


@dataclass(frozen=True)
class Discrete:
    """The whole numbers from 0 to below `n`."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one value."""
        return ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of values."""
        return np.dtype(np.int64)

    def contains(self, value: Any) -> bool:
        """Whether this is one of the numbers."""
        if type(value) is int:
            return 0 <= value < self.n
        number = np.asarray(value)
        return number.shape == () and number.dtype.kind in "iu" and 0 <= int(number) < self.n


@dataclass(frozen=True, eq=False)
class Box:
    """Vectors of float32 between `low` and `high`, which are arrays of one shape."""

    low: Array
    high: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one value."""
        return tuple(self.low.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of values."""
        return np.dtype(np.float32)

    def contains(self, value: Any) -> bool:
        """Whether this vector lies between the bounds."""
        vector = np.asarray(value)
        return vector.shape == self.shape and vector.dtype.kind in "fiu" and bool(np.all((vector >= self.low) & (vector <= self.high)))


def generator(seed: Any) -> np.random.Generator:
    """The generator of random numbers that Gymnasium makes from a seed: a whole number, or a list of them."""
    try:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    except (TypeError, ValueError):
        raise ArgumentError(f"a seed is a whole number from 0 up, or a list of them, got {seed!r}.") from None


class Environment(ABC):
    """An environment: its physics for many states at once, and Gymnasium's `reset` and `step` for one.

    Attributes
    ----------
    observation_space, action_space
        `Box` or `Discrete`.
    limit
        Steps after which an episode is truncated; None for no limit.
    draws
        Whether `advance` needs a random number for each state.
    scale
        Sizes that observations usually have, by which agents divide them.
    name
        Name for `make`.
    """

    observation_space: Box | Discrete
    action_space: Box | Discrete
    limit: int | None
    name: str
    draws = False
    scale: Any = 1.0
    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # Gymnasium's name and kind
    render_mode: str | None = None
    _random: np.random.Generator | None = None
    _state: Array | None = None
    _steps = 0
    _ended = False

    @abstractmethod
    def start(self, random: np.random.Generator) -> Array:
        """A first state, as a vector."""

    @abstractmethod
    def advance(self, states: Array, actions: Array, draws: Array | None) -> tuple[Array, Array, Array]:
        """The next states, rewards, and which states end an episode.

        Parameters
        ----------
        states
            One a row.
        actions
            One for each state.
        draws
            A random number from 0 to below 1 for each state, if the environment `draws`.
        """

    def observe(self, states: Array) -> Array:
        """What an agent sees of the states, in the dtype of the observation space."""
        return states.astype(self.observation_space.dtype)

    # ---- one state, as Gymnasium's users know it

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Parameters
        ----------
        seed
            Of all random numbers from here on. Without one they go on from the last seed; at first they are unforeseeable.
        options
            None are known.

        Returns
        -------
        observation, info
        """
        if options:
            raise ArgumentError(f"{self.name}: reset takes no options, got {', '.join(map(str, options))}.")
        if seed is not None or self._random is None:
            self._random = generator(seed)
        self._state, self._steps, self._ended = self.start(self._random)[None], 0, False
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action.

        Returns
        -------
        observation, reward, terminated, truncated, info
            `terminated`: the episode has ended, and what would follow has no value. `truncated`: time is up, and it would.

        Raises
        ------
        ArgumentError
            If the action is not in the action space, or `reset` was not called before the first step or since the end of an episode.
        """
        if self._state is None or self._random is None:
            raise ArgumentError(f"{self.name}: call reset() before step().")
        if self._ended:
            raise ArgumentError(f"{self.name}: the episode has ended: call reset() to begin another.")
        if not self.action_space.contains(action):
            raise ArgumentError(f"{self.name}: an action is in {self.action_space}, got {action!r}.")
        draws = np.array([self._random.random()]) if self.draws else None
        self._state, rewards, ends = self.advance(self._state, np.asarray(action)[None], draws)
        self._steps += 1
        terminated, truncated = bool(ends[0]), self._steps == self.limit
        self._ended = terminated or truncated
        return self._seen(), float(rewards[0]), terminated, truncated, {}

    def _seen(self) -> Any:
        assert self._state is not None, "an episode has begun"
        seen = self.observe(self._state)[0]
        return int(seen) if isinstance(self.observation_space, Discrete) else seen

    def close(self) -> None:  # noqa: B027  # a method of the interface
        """Nothing is to be closed; Gymnasium's users call it."""
