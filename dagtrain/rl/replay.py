"""A memory of transitions of fixed size, from which minibatches are drawn by keys.

A row is a transition over up to n steps: observation, action, the discounted sum of rewards, the observation after them, and the factor of
its value: γ^m, or 0 if the episode terminated. A truncated episode goes on in the mind of the agent: its last value counts.

Lin, "Self-improving reactive agents based on reinforcement learning, planning and teaching", Machine Learning 8 (1992). Priorities:
Schaul et al., "Prioritized experience replay", arXiv:1511.05952, section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dagtrain.graph import Array
from dagtrain.rl.gathering import Episode

__all__ = ["Replay", "transitions"]


def transitions(episode: Episode, steps: int, discount: float) -> dict[str, Array]:
    """The rows of an episode, each over up to so many steps.

    Examples
    --------
    >>> import numpy as np
    >>> episode = Episode(np.arange(4.0)[:, None], np.zeros(3), np.ones(3), terminated=True)
    >>> rows = transitions(episode, 2, 0.5)
    >>> rows["returns"].tolist(), rows["factors"].tolist(), rows["following"][:, 0].tolist()
    ([1.5, 1.5, 1.0], [0.25, 0.0, 0.0], [2.0, 3.0, 3.0])
    """
    count = len(episode.rewards)
    spans = np.minimum(steps, count - np.arange(count))
    ends = np.arange(count) + spans
    padded = np.concatenate([episode.rewards, np.zeros(steps)])
    returns = np.zeros(count)
    for i in reversed(range(steps)):
        returns = padded[i : i + count] + discount * returns
    factors = np.where((ends == count) & episode.terminated, 0.0, float(discount) ** spans)
    return {
        "observations": episode.observations[:-1],
        "actions": episode.actions,
        "returns": returns.astype(np.float32),
        "following": episode.observations[ends],
        "factors": factors.astype(np.float32),
    }


class Replay:
    """A memory of `capacity` rows; the newest replace the oldest.

    Parameters
    ----------
    capacity
        Most rows.
    priority
        Exponent α of the priorities with which rows are drawn; 0 draws all alike.

    Attributes
    ----------
    columns
        Name → array of `capacity` rows, once there are any.
    size
        Rows in use.
    """

    def __init__(self, capacity: int, priority: float = 0.0) -> None:
        self.capacity, self.priority, self.size, self.place = capacity, priority, 0, 0
        self.columns: dict[str, Array] = {}
        self.priorities = np.zeros(capacity)

    def add(self, rows: Mapping[str, Array]) -> None:
        """Keep these rows; their priority is the greatest so far."""
        count = len(rows["returns"])
        if not self.columns:
            self.columns = {name: np.zeros((self.capacity, *column.shape[1:]), column.dtype) for name, column in rows.items()}
        at = (self.place + np.arange(count)) % self.capacity
        kept = slice(max(0, count - self.capacity), None)
        for name, column in rows.items():
            self.columns[name][at[kept]] = column[kept]
        self.priorities[at[kept]] = self.priorities.max() or 1.0
        self.place, self.size = (self.place + count) % self.capacity, min(self.capacity, self.size + count)

    def draw(self, random: np.random.Generator, updates: int, batch_size: int) -> Array:
        """Numbers of rows for so many batches, of shape (updates, batch_size)."""
        if not self.priority:
            return random.integers(self.size, size=(updates, batch_size))
        sums = np.cumsum(self.priorities[: self.size] ** self.priority)
        drawn = np.searchsorted(sums, random.random((updates, batch_size)) * sums[-1], side="right")
        return np.asarray(np.minimum(drawn, self.size - 1))

    def weights(self, beta: float) -> Array:
        """The weight of each row that makes up for its priority, at most 1."""
        chances = self.priorities[: self.size] ** self.priority
        weights = np.zeros(self.capacity, np.float32)
        weights[: self.size] = (chances / chances.min()) ** -beta
        return weights

    def state(self) -> dict[str, Array]:
        """Everything in it, as arrays by name."""
        columns = {f"columns.{name}": column[: self.size] for name, column in self.columns.items()}
        return {**columns, "priorities": self.priorities[: self.size], "place": np.array([self.place])}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` gave."""
        self.size = len(state["priorities"])
        self.priorities[: self.size], self.place = state["priorities"], int(state["place"][0])
        self.columns = {}
        for name, column in ((name.removeprefix("columns."), c) for name, c in state.items() if name.startswith("columns.")):
            self.columns[name] = np.zeros((self.capacity, *column.shape[1:]), column.dtype)
            self.columns[name][: self.size] = column
