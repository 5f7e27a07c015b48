"""Two worlds of squares with known transitions: a frozen lake, and a cliff, as Gymnasium's FrozenLake-v1 and CliffWalking-v1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.graph import Array
from dagtrain.rl.environment import Discrete, Environment

__all__ = ["CliffWalking", "FrozenLake", "GridWorld"]

_MAPS = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": ("SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG"),
}


class GridWorld(Environment):
    """Squares with a table of transitions: from each square and action, outcomes with their probabilities.

    Attributes
    ----------
    probability, following, reward, terminated
        Of shape (squares, actions, outcomes).
    first
        The square in which episodes begin.
    shape
        Rows and columns.
    """

    probability: Array
    following: Array
    reward: Array
    terminated: Array
    first: int
    shape: tuple[int, int]
    draws = True
    _square = 0

    def start(self, random: np.random.Generator) -> Array:
        """The first square; as in Gymnasium a random number is drawn."""
        random.random()
        return np.array([self.first])

    def advance(self, states: Array, actions: Array, draws: Array | None) -> tuple[Array, Array, Array]:
        """The outcome that the random number chooses."""
        assert draws is not None, "it draws"
        where = states[:, 0], actions
        outcome = np.argmax(np.cumsum(self.probability[where], axis=1) > draws[:, None], axis=1)
        chosen = (*where, outcome)
        return self.following[chosen][:, None], self.reward[chosen], self.terminated[chosen]

    def observe(self, states: Array) -> Array:
        """The number of the square, row by row."""
        return states[:, 0]

    @cached_property
    def _outcomes(self) -> list[list[list[tuple[float, int, float, bool]]]]:
        """For each square and action: bounds of the random number, with square, reward and end; plain lists, for speed."""
        columns = np.cumsum(self.probability, axis=2), self.following, self.reward, self.terminated
        bounds, following, reward, terminated = (column.tolist() for column in columns)
        pairs = [
            [(bounds[s][a], following[s][a], reward[s][a], terminated[s][a]) for a in range(len(bounds[s]))] for s in range(len(bounds))
        ]
        return [[list(zip(*of_action, strict=True)) for of_action in of_square] for of_square in pairs]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """See `Environment.reset`."""
        super().reset(seed=seed, options=options)
        self._square = self.first
        return self._square, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """See `Environment.step`."""
        if self._state is None or self._random is None or not self.action_space.contains(action):
            super().step(action)  # an error
        drawn = self._random.random()  # type: ignore[union-attr]  # as checked
        _, self._square, reward, ends = next(each for each in self._outcomes[self._square][action] if each[0] > drawn)
        self._steps += 1
        return self._square, float(reward), ends, self._steps == self.limit, {}

    def _moved(self, moves: Sequence[tuple[int, int]]) -> Array:
        """The square that each move leads to from each square, within the bounds."""
        rows, columns = self.shape
        squares = np.arange(rows * columns)
        return np.stack(
            [np.clip(squares // columns + r, 0, rows - 1) * columns + np.clip(squares % columns + c, 0, columns - 1) for r, c in moves],
            axis=1,
        )


class FrozenLake(GridWorld):
    """Cross a frozen lake to the goal, which gives 1, without falling into a hole; on slippery ice a third of the moves goes as meant.

    Actions are left, down, right, up. An episode has at most 100 steps on the map 4x4, and 200 on 8x8.

    Parameters
    ----------
    map_name
        "4x4" or "8x8".
    is_slippery
        Whether a move slips to either side, each with a third of the probability.
    limit
        Steps after which an episode is truncated.

    Examples
    --------
    >>> from dagtrain import rl
    >>> lake = rl.FrozenLake(is_slippery=False)
    >>> lake.reset(seed=0)[0], [lake.step(action)[0] for action in (1, 1, 2, 1)]
    (0, [4, 8, 9, 13])
    """

    name = "FrozenLake-v1"

    def __init__(self, map_name: str = "4x4", is_slippery: bool = True, limit: int | None = None) -> None:
        if map_name not in _MAPS:
            raise UnknownNameError.of("map", map_name, _MAPS)
        drawn = np.array([list(row) for row in _MAPS[map_name]])
        letters = drawn.reshape(-1)
        self.shape = drawn.shape[0], drawn.shape[1]
        self.limit = (100 if map_name == "4x4" else 200) if limit is None else limit
        self.observation_space, self.action_space = Discrete(letters.size), Discrete(4)
        self.first = int(np.flatnonzero(letters == "S")[0])
        moved = self._moved([(0, -1), (1, 0), (0, 1), (-1, 0)])
        turns = (-1, 0, 1) if is_slippery else (0,)
        outcomes = np.stack([moved[:, (np.arange(4) + turn) % 4] for turn in turns], axis=2)
        ended = np.isin(letters, ["H", "G"])[:, None, None]
        self.following = np.where(ended, np.arange(letters.size)[:, None, None], outcomes)
        self.probability = np.full(outcomes.shape, 1 / len(turns))
        self.reward = np.where(ended, 0.0, letters[self.following] == "G")
        self.terminated = ended | np.isin(letters[self.following], ["H", "G"])


class CliffWalking(GridWorld):
    """Walk along a cliff to the goal; a step gives -1, a fall -100 and leads back to the beginning, which ends no episode.

    Actions are up, right, down, left. Sutton and Barto, "Reinforcement Learning: An Introduction", second edition (2018), example 6.6.

    Parameters
    ----------
    limit
        Steps after which an episode is truncated; there is none by default.

    Examples
    --------
    >>> from dagtrain import rl
    >>> cliff = rl.CliffWalking()
    >>> cliff.reset(seed=0)[0], cliff.step(1)[:3]
    (36, (36, -100.0, False))
    """

    name = "CliffWalking-v1"

    def __init__(self, limit: int | None = None) -> None:
        self.shape, self.limit, self.first = (4, 12), limit, 36
        if limit is not None and limit < 1:
            raise ArgumentError(f"CliffWalking: limit is at least 1, got {limit}.")
        self.observation_space, self.action_space = Discrete(48), Discrete(4)
        moved = self._moved([(-1, 0), (0, 1), (1, 0), (0, -1)])[:, :, None]
        falls = (moved > self.first) & (moved < 47)
        self.following = np.where(falls, self.first, moved)
        self.probability = np.ones(moved.shape)
        self.reward = np.where(falls, -100.0, -1.0)
        self.terminated = moved == 47
