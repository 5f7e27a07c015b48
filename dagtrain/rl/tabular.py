"""Q-learning and SARSA with a table of values: Q(s, a) += α (r + γ V(s') − Q(s, a)), where V(s') is 0 only if the episode has terminated.

    QLearning       V(s') = the maximum over the actions       the greedy policy's value, whatever the behaviour
    SARSA           V(s') = Q(s', a') of the next action       the value of the behaviour
    ExpectedSARSA   V(s') = its mean under the behaviour       the same with less noise

Watkins and Dayan, "Q-learning", Machine Learning 8 (1992); Rummery and Niranjan, "On-line Q-learning using connectionist systems" (1994);
van Seijen et al., "A theoretical and empirical analysis of expected Sarsa" (2009).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from dagtrain.arguments import fraction, whole
from dagtrain.arguments import seed as checked_seed
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.hinting import Hinted
from dagtrain.rl.environment import generator
from dagtrain.rl.making import check_spaces, make

__all__ = ["SARSA", "ExpectedSARSA", "QLearning", "TabularAgent"]


class TabularAgent(Hinted, ABC):
    """What `QLearning`, `SARSA` and `ExpectedSARSA` have in common: a table of values, and a random action with probability ε.

    Parameters
    ----------
    environment
        One with `Discrete` observations and actions, or its name.
    learning_rate
        The α of the update; a function of the number of the episode for one that falls.
    discount
        The γ.
    epsilon
        Probability of a random action; a function of the number of the episode for one that falls.
    seed
        Of all random numbers: equal seeds give equal bits.

    Attributes
    ----------
    returns
        The undiscounted return of each episode so far.

    Raises
    ------
    ArgumentError
        If observations or actions are not `Discrete`, or an argument is outside its range.

    Examples
    --------
    >>> from dagtrain import rl
    >>> agent = rl.QLearning("CliffWalking-v1", learning_rate=0.5, epsilon=0.1, seed=0).learn(episodes=500)
    >>> float(agent.evaluate(episodes=1)[0])
    -13.0
    """

    def __init__(self, environment: Any, learning_rate: Any = 0.1, discount: float = 1.0, epsilon: Any = 0.1, seed: int = 0) -> None:
        self.environment = make(environment)
        check_spaces(self.environment)
        for what in ("observation", "action"):
            space = getattr(self.environment, f"{what}_space")
            if not hasattr(space, "n"):
                raise ArgumentError(
                    f"a table of values needs numbered {what}s (Discrete), and {environment!r} has {space}: use DQN or DDPG."
                )
        self.discount, self.seed = fraction("discount", discount, one=True), checked_seed(seed)
        self.learning_rate, self.epsilon = (
            value if callable(value) else fraction(name, value, one=True)
            for name, value in (("learning_rate", learning_rate), ("epsilon", epsilon))
        )
        # Plain lists: NumPy is slow for a number at a time.
        self._values = [[0.0] * int(self.environment.action_space.n) for _ in range(int(self.environment.observation_space.n))]
        self.returns: list[float] = []

    @abstractmethod
    def _value(self, following: int, action: int, epsilon: float) -> float:
        """The value of what follows, if the behaviour's next action is `action`."""

    def learn(self, episodes: int, most_steps: int = 10_000) -> Self:
        """Learn from so many episodes, each of at most `most_steps`."""
        for _ in range(whole("episodes", episodes, 1)):
            self._episode(len(self.returns), whole("most_steps", most_steps, 1))
        return self

    def _episode(self, number: int, most_steps: int) -> None:
        rate, epsilon = (
            fraction(name, value(number) if callable(value) else value, one=True)
            for name, value in (("learning_rate", self.learning_rate), ("epsilon", self.epsilon))
        )
        random = generator([self.seed, number, 0]).random
        seen, _ = self.environment.reset(seed=_seed(self.seed, number, 1))
        action, total = self._behaviour(seen, epsilon, random), 0.0
        for _ in range(most_steps):
            following, reward, terminated, truncated, _ = self.environment.step(action)
            next_action = self._behaviour(following, epsilon, random)
            target = reward if terminated else reward + self.discount * self._value(following, next_action, epsilon)
            self._values[seen][action] += rate * (target - self._values[seen][action])
            total += float(reward)
            if terminated or truncated:
                break
            seen, action = following, next_action
        self.returns.append(total)

    def _behaviour(self, seen: int, epsilon: float, random: Callable[[], float]) -> int:
        """A random action with probability ε, else any of the best."""
        values = self._values[seen]
        if random() < epsilon:
            return int(random() * len(values))
        best = max(values)
        actions = [action for action, value in enumerate(values) if value == best]
        return actions[0] if len(actions) == 1 else actions[int(random() * len(actions))]

    @property
    def values(self) -> Array:
        """The values learnt so far, of shape (observations, actions)."""
        return np.array(self._values)

    @property
    def policy(self) -> Array:
        """The best action for each observation, the first of several."""
        return np.asarray(self.values.argmax(axis=1))

    def act(self, observation: int) -> int:
        """The best action known for an observation, the first of several."""
        if not self.environment.observation_space.contains(observation):
            raise ArgumentError(f"an observation is in {self.environment.observation_space}, got {observation!r}.")
        values = self._values[int(observation)]
        return values.index(max(values))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the values; equal fingerprints mean equal bits."""
        return hashlib.sha256(self.values.tobytes()).hexdigest()

    def evaluate(self, episodes: int, seed: int = 1, most_steps: int = 10_000) -> Array:
        """The returns of so many episodes under the best actions."""
        checked_seed(seed)
        returns, policy = np.zeros(whole("episodes", episodes, 1)), self.policy.tolist()
        for i in range(episodes):
            seen, _ = self.environment.reset(seed=_seed(seed, i, 1))
            for _ in range(whole("most_steps", most_steps, 1)):
                seen, reward, terminated, truncated, _ = self.environment.step(policy[seen])
                returns[i] += float(reward)
                if terminated or truncated:
                    break
        return returns


def _seed(*numbers: int) -> int:
    """A seed of 32 bits from several."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class QLearning(TabularAgent):
    """Q-learning: learns the values of the best policy, whatever it does itself. Arguments are those of `TabularAgent`."""

    def _value(self, following: int, action: int, epsilon: float) -> float:
        return max(self._values[following])


class SARSA(TabularAgent):
    """SARSA: learns the values of the policy that it follows, random actions included. Arguments are those of `TabularAgent`."""

    def _value(self, following: int, action: int, epsilon: float) -> float:
        return self._values[following][action]


class ExpectedSARSA(TabularAgent):
    """SARSA with the mean over the next actions in the place of the one taken. Arguments are those of `TabularAgent`."""

    def _value(self, following: int, action: int, epsilon: float) -> float:
        values = self._values[following]
        return (1 - epsilon) * max(values) + epsilon * sum(values) / len(values)
