"""Deep deterministic policy gradients for actions that are vectors, with the three switches of TD3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain import nn, optim
from dagtrain.arguments import flag, not_negative, one_of, wholes
from dagtrain.errors import ArgumentError
from dagtrain.functional import value_and_grad
from dagtrain.graph import Array
from dagtrain.ops.elementwise import stop_gradient
from dagtrain.ops.random import normal
from dagtrain.rl.agent import Agent
from dagtrain.rl.gathering import Behaviour, Chance, features
from dagtrain.rl.networks import applied, first, perceptron
from dagtrain.step import Contribution
from dagtrain.trace import map_leaves
from dagtrain.train import Trainer

__all__ = ["DDPG"]

NOISES = ("gaussian", "ornstein_uhlenbeck")
_PULL = 0.15
"""The θ of the Ornstein-Uhlenbeck process: how much of itself the noise loses in a step."""


@dataclass(frozen=True)
class _Noisy(Behaviour):
    """The actor's action, with noise; actions are from -1 to 1 within networks and the replay."""

    actor: nn.Layer
    space: Any
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    noise: str

    def act(self, parameters: Any, observations: Array, exploration: Array, chances: Sequence[Chance]) -> Array:
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        actions = np.array(applied(self.actor)(parameters, features(observations, self.space, np.array(self.scale))))
        for i in np.flatnonzero(exploration).tolist():
            drawn = exploration[i] * chances[i].random.standard_normal(actions.shape[1])
            if self.noise == "ornstein_uhlenbeck":
                drawn = chances[i].noise = (1 - _PULL) * chances[i].noise + drawn
            actions[i] += drawn
        return np.asarray(low + (np.clip(actions, -1, 1) + 1) / 2 * (high - low), np.float32)


class DDPG(Agent):
    """An actor that acts and critics that value, for actions that are vectors between bounds.

    Q(s, a) is moved towards r + γ Q'(s', μ'(s')) of target networks, and μ uphill on Q(s, μ(s)).

    Parameters
    ----------
    environment, seed, learning_rate, final_rate, constant_until, discount, returns_over
        As for `DQN`; one rate for all networks.
    batch_size, capacity, random_steps, updates_per_step
        As for `DQN`.
    actor, critic
        Layers: from observations to actions from -1 to 1, and from observations and actions to values of shape (batch, 1). By default each
        has two hidden layers of `hidden` units.
    hidden
        Units of the hidden layers.
    target_rate
        After each update the target networks move by this part.
    noise, noise_size
        "gaussian", independent in each step, or "ornstein_uhlenbeck", which wanders; what a step adds has this standard deviation, for
        actions from -1 to 1.
    twin
        Two critics, of which the smaller value counts (TD3).
    actor_every
        Update the actor, and the targets, after every so many updates of the critics (TD3 has 2).
    target_noise, target_noise_limit
        Standard deviation and limit of noise on the actions that the target network values (TD3 has .2 and .5).
    episodes_per_round, episodes_per_task, rounds_late, engine
        As for `DQN`.

    Raises
    ------
    ArgumentError
        If the actions are no vectors between finite bounds, or an argument is outside its range.

    Notes
    -----
    Lillicrap et al., "Continuous control with deep reinforcement learning", arXiv:1509.02971; Fujimoto, van Hoof and Meger, "Addressing
    function approximation error in actor-critic methods" (TD3), arXiv:1802.09477.

    Examples
    --------
    >>> from dagtrain import rl
    >>> agent = rl.DDPG("Pendulum-v1", seed=0, random_steps=200).learn(300)
    >>> agent.updates, agent.act([1.0, 0.0, 0.0]).shape
    (100, (1,))
    """

    def __init__(
        self,
        environment: Any,
        seed: int = 0,
        *,
        actor: nn.Layer | None = None,
        critic: nn.Layer | None = None,
        hidden: Sequence[int] = (128, 128),
        learning_rate: float = 1e-3,
        final_rate: float = 0.02,
        constant_until: float = 0.5,
        discount: float = 0.98,
        returns_over: int = 1,
        batch_size: int = 128,
        capacity: int = 200_000,
        random_steps: int = 1000,
        updates_per_step: float = 1.0,
        target_rate: float = 0.005,
        noise: str = "gaussian",
        noise_size: float = 0.1,
        twin: bool = False,
        actor_every: int = 1,
        target_noise: float = 0.0,
        target_noise_limit: float = 0.5,
        episodes_per_round: int = 1,
        episodes_per_task: int = 1,
        rounds_late: int = 0,
        engine: Any = "inline",
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in ("self", "environment", "__class__")}
        self.learning_rate, self.target_rate, self.actor_every = learning_rate, target_rate, actor_every
        self.twin = flag("twin", twin)
        self.noise, self.noise_size = one_of("noise", noise, NOISES), not_negative("noise_size", noise_size)
        self.target_noise = not_negative("target_noise", target_noise), not_negative("target_noise_limit", target_noise_limit)
        self.actor, self.critic, self.hidden = actor, critic, wholes("hidden", hidden)
        super().__init__(environment, settings)

    @property
    def behaviour(self) -> Behaviour:
        """The actor's actions, with noise."""
        assert self.actor is not None, "it was made"
        space = self.action_space
        low, high = (tuple(np.ravel(bound).tolist()) for bound in (space.low, space.high))
        return _Noisy(self.actor, self.observation_space, tuple(np.ravel(self.scale).tolist()), low, high, self.noise)

    def _made(self) -> Trainer:
        space = self.action_space
        vectors = not hasattr(space, "n") and len(space.shape) == 1 and np.dtype(space.dtype).kind == "f"
        if not vectors or not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ArgumentError(
                f"DDPG acts by vectors between finite bounds (Box), and {self.environment!r} has {space}: use DQN for numbers."
            )
        count = int(space.shape[0])
        if self.actor is None:
            self.actor = perceptron(self.hidden, count, "tanh")
        if self.critic is None:
            self.critic = _joined(self.observation_space, count, self.hidden)
        seen = features(np.zeros((1, *self.observation_space.shape), self.observation_space.dtype), self.observation_space, self.scale)
        action = np.zeros((1, count), np.float32)
        critics = {f"critic_{i}": first(self.critic, self.seed, i, 1, seen, action) for i in range(1, 3 if self.twin else 2)}
        networks = {"actor": first(self.actor, self.seed, 0, count, seen), **critics}
        rule = Contribution(_Ascent(self.actor, self.critic, tuple(critics), *self.target_noise))
        rules = {
            "target.*": optim.track("online.*", self.target_rate, self.actor_every),
            "online.actor.*": optim.every(self.actor_every, optim.adam(self.learning_rate)),
            "*": optim.adam(self.learning_rate),
        }
        parameters = {"online": networks, "target": networks}
        return Trainer(
            rule, parameters=parameters, optimizer=optim.by_name(rules), shards=1, engine=self.settings["engine"], seed=self.seed
        )

    def _policy(self, parameters: Any) -> Any:
        return parameters["online"]["actor"]

    def _exploration(self, episode: int) -> float:
        return float(self.noise_size)

    def _remembered(self, actions: Array) -> Array:
        low, high = self.action_space.low, self.action_space.high
        return np.asarray((actions - low) / (high - low) * 2 - 1, np.float32)


def _joined(space: Any, actions: int, hidden: Sequence[int]) -> nn.Model:
    """A critic: observations and actions side by side, hidden layers, a value."""
    if not hasattr(space, "n") and len(space.shape) != 1:
        raise ArgumentError(f"the critic that DDPG makes takes vectors, and observations are {space}: give critic=, a layer of your own.")
    size = int(space.n) if hasattr(space, "n") else int(space.shape[0])
    observation, action = nn.Input((size,), name="observations"), nn.Input((actions,), name="actions")
    joined = nn.Concatenate()([observation, action])
    for units in hidden:
        joined = nn.Dense(units, "relu")(joined)
    return nn.Model([observation, action], nn.Dense(1)(joined))


@dataclass(frozen=True)
class _Ascent:
    """Gradients of the critics' squared errors, and of the actor's value, which is to rise."""

    actor: nn.Layer
    critic: nn.Layer
    critics: tuple[str, ...]
    noise: float
    limit: float
    __name__ = "actor_and_critic"

    def __call__(self, parameters: Any, x: Any, key: Any) -> Any:
        online, target = parameters["online"], parameters["target"]
        actions = self.actor.apply(target["actor"], {}, x["following"])[0]
        if self.noise:
            drawn = np.clip(self.noise * normal(key, actions.shape), -self.limit, self.limit).astype(actions.dtype)
            actions = np.clip(actions + drawn, -1, 1)
        values = [self.critic.apply(target[name], {}, x["following"], actions)[0][:, 0] for name in self.critics]
        following = np.minimum(*values) if len(values) > 1 else values[0]
        wanted = x["returns"] + x["factors"] * following

        def cost(networks: Any) -> Any:
            judged = [self.critic.apply(networks[name], {}, x["observations"], x["actions"])[0][:, 0] for name in self.critics]
            chosen = self.actor.apply(networks["actor"], {}, x["observations"])[0]
            fixed = map_leaves(stop_gradient, networks[self.critics[0]])
            gained = self.critic.apply(fixed, {}, x["observations"], chosen)[0]
            return sum(np.sum((each - wanted) ** 2) for each in judged) - np.sum(gained)

        value, gradients = value_and_grad(cost)(online)
        none = map_leaves(np.zeros_like, target)
        return {"online": gradients, "target": none}, {"loss": (value, x["returns"].shape[0])}
