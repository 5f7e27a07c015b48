"""Deep Q-networks: double, dueling, over several steps, with priorities, hard or soft targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dagtrain import nn, optim
from dagtrain.arguments import flag, fraction, whole, wholes
from dagtrain.errors import ArgumentError
from dagtrain.functional import compile as compiled
from dagtrain.graph import Array
from dagtrain.ops.elementwise import stop_gradient
from dagtrain.ops.index import one_hot
from dagtrain.rl.agent import Agent
from dagtrain.rl.gathering import Behaviour, Chance, features
from dagtrain.rl.networks import Dueling, applied, first, perceptron
from dagtrain.train import Trainer

__all__ = ["DQN"]

_LEAST = 1e-3
"""Added to priorities, so that every row may be drawn again."""


@dataclass(frozen=True)
class _Greedy(Behaviour):
    """A random action with probability ε, else the best one."""

    network: nn.Layer
    space: Any
    actions: int
    scale: tuple[float, ...]

    def act(self, parameters: Any, observations: Array, exploration: Array, chances: Sequence[Chance]) -> Array:
        values = applied(self.network)(parameters, features(observations, self.space, np.array(self.scale)))
        best = np.argmax(values, axis=1)
        for i in np.flatnonzero(exploration).tolist():
            if chances[i].random.random() < exploration[i]:
                best[i] = chances[i].random.integers(self.actions)
        return np.asarray(best)


@dataclass(frozen=True)
class _TemporalDifference:
    """The mean Huber loss of the differences between values and what they are to be: the cost function of the trainer."""

    network: nn.Layer
    actions: int
    double: bool
    weighted: bool
    __name__ = "temporal_difference"

    def errors(self, parameters: Any, x: Any) -> Any:
        """The differences, of which only the trained network has a gradient."""

        def values(part: str, observations: Any) -> Any:
            return self.network.apply(parameters[part], {}, observations)[0]

        following = values("target", x["following"])
        judged = values("online", x["following"]) if self.double else following
        best = one_hot(np.argmax(judged, axis=1), self.actions)
        wanted = x["returns"] + x["factors"] * np.sum(following * best, axis=1)
        return np.sum(values("online", x["observations"]) * one_hot(x["actions"], self.actions), axis=1) - stop_gradient(wanted)

    def __call__(self, parameters: Any, x: Any) -> Any:
        error = self.errors(parameters, x)
        inner = np.clip(error, -1.0, 1.0)
        losses = inner * (error - 0.5 * inner)
        return np.mean(losses * x["weights"] if self.weighted else losses)


class DQN(Agent):
    """A deep Q-network for numbered actions.

    Q(s, a) is moved towards r₁ + γ r₂ + … + γⁿ Q'(s', a') of a target network Q'; with `double`, Q chooses a'.

    Parameters
    ----------
    environment
        A name (see `dagtrain.rl.make`), or an environment with Gymnasium's interface.
    seed
        Of weights, episodes and batches: equal seeds give equal bits.
    network
        A layer from observations to the values of the actions; by default two hidden layers of `hidden` units.
    hidden
        Units of the hidden layers.
    learning_rate
        Of Adam; it falls linearly to `final_rate` times that over the steps of `learn`, from the part `constant_until` on.
    discount
        The γ.
    returns_over
        The n of n-step returns.
    batch_size, capacity
        Rows of a minibatch, and of the replay.
    random_steps
        Steps of random actions before the first update.
    updates_per_step
        Updates for each step of the environment.
    target_rate, target_every
        After every so many updates the target network moves by this part towards the network: 1 copies it.
    double, dueling
        Whether the network chooses the action that the target network values; and whether values are parted in state and advantage.
    final_epsilon, epsilon_episodes
        The probability of a random action falls from 1 to this over so many episodes.
    priority, priority_correction
        Exponents α and β of prioritised replay; α = 0 draws all rows alike. Priorities are renewed at the end of a round.
    gradient_norm
        Limit of the norm of the gradient.
    episodes_per_round, episodes_per_task
        Episodes that are played with the same weights, and together in one task on a cluster.
    rounds_late
        Play with the weights of so many rounds ago: from 1 on workers of a cluster play while updates are done.
    engine
        Of the updates, as for `Trainer`.

    Raises
    ------
    ArgumentError
        If the actions are not numbered, or an argument is outside its range.

    Notes
    -----
    Mnih et al., "Human-level control through deep reinforcement learning", Nature 518 (2015); van Hasselt, Guez and Silver, "Deep
    reinforcement learning with double Q-learning", arXiv:1509.06461.

    Examples
    --------
    >>> from dagtrain import rl
    >>> agent = rl.DQN("CartPole-v1", seed=0, random_steps=100).learn(300)
    >>> agent.steps, agent.updates, agent.evaluate(episodes=3).shape
    (300, 200, (3,))
    """

    def __init__(
        self,
        environment: Any,
        seed: int = 0,
        *,
        network: nn.Layer | None = None,
        hidden: Sequence[int] = (64, 64),
        learning_rate: float = 1e-3,
        final_rate: float = 0.02,
        constant_until: float = 0.0,
        discount: float = 0.99,
        returns_over: int = 10,
        batch_size: int = 64,
        capacity: int = 50_000,
        random_steps: int = 1000,
        updates_per_step: float = 1.0,
        target_rate: float = 0.01,
        target_every: int = 1,
        double: bool = True,
        dueling: bool = False,
        final_epsilon: float = 0.1,
        epsilon_episodes: int = 200,
        priority: float = 0.0,
        priority_correction: float = 0.4,
        gradient_norm: float = 10.0,
        episodes_per_round: int = 4,
        episodes_per_task: int = 2,
        rounds_late: int = 0,
        engine: Any = "inline",
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in ("self", "environment", "__class__")}
        self.learning_rate, self.gradient_norm = learning_rate, gradient_norm
        self.target_rate, self.target_every = target_rate, target_every
        self.double, self.dueling = flag("double", double), flag("dueling", dueling)
        self.final_epsilon, self.epsilon_episodes = (
            fraction("final_epsilon", final_epsilon, one=True),
            whole("epsilon_episodes", epsilon_episodes),
        )
        self.priority_correction = fraction("priority_correction", priority_correction, one=True)
        if network is not None and dueling:
            raise ArgumentError("dueling is a property of the network: give a network, or dueling=True.")
        self.network, self.hidden = network, wholes("hidden", hidden)
        super().__init__(environment, settings)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_errors"}  # which is compiled again

    @property
    def behaviour(self) -> Behaviour:
        """Greedy, with random actions at times."""
        assert self.network is not None, "it was made"
        return _Greedy(self.network, self.observation_space, int(self.action_space.n), tuple(np.ravel(self.scale).tolist()))

    def _made(self) -> Trainer:
        if not hasattr(self.action_space, "n"):
            raise ArgumentError(
                f"DQN chooses among numbered actions (Discrete), and {self.environment!r} has {self.action_space}: use DDPG."
            )
        actions = int(self.action_space.n)
        if self.network is None:
            self.network = perceptron(self.hidden, actions, last=Dueling(actions) if self.dueling else None)
        seen = features(np.zeros((1, *self.observation_space.shape), self.observation_space.dtype), self.observation_space, self.scale)
        parameters = first(self.network, self.seed, 0, actions, seen)
        cost = _TemporalDifference(self.network, actions, self.double, self.replay.priority > 0)
        rules = {
            "target.*": optim.track("online.*", self.target_rate, self.target_every),
            "*": optim.chain(optim.clip_by_global_norm(self.gradient_norm), optim.adam(self.learning_rate)),
        }
        return Trainer(
            cost,
            parameters={"online": parameters, "target": parameters},
            optimizer=optim.by_name(rules),
            shards=1,
            engine=self.settings["engine"],
        )

    def _policy(self, parameters: Any) -> Any:
        return parameters["online"]

    def _exploration(self, episode: int) -> float:
        return float(max(self.final_epsilon, 1 - (1 - self.final_epsilon) * episode / self.epsilon_episodes))

    def _memory(self) -> Mapping[str, Array]:
        if not self.replay.priority:
            return self.replay.columns
        return {**self.replay.columns, "weights": self.replay.weights(self.priority_correction)}

    def _ranked(self, rows: Array) -> None:
        if self.replay.priority:
            at = np.unique(rows)
            errors = self._errors(self._trainer.parameters, {name: column[at] for name, column in self.replay.columns.items()})
            self.replay.priorities[at] = np.abs(errors) + _LEAST

    @cached_property
    def _errors(self) -> Callable[..., Array]:
        return compiled(self._trainer.model.errors)
