"""What agents with networks have in common: rounds of experience and of updates.

    round   episodes by the weights of an earlier round ─▶ replay ─▶ updates on rows drawn by keys ─▶ weights

A round is a pure function of the state before it: episodes are numbered, updates are steps of a `Stepper`. So a run has the same bits for
any number of workers, through killed ones, and when it is stopped and continued.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from dagtrain.arguments import fraction, not_negative, positive, whole
from dagtrain.arguments import seed as checked_seed
from dagtrain.engines.client import current_client
from dagtrain.errors import ArgumentError, CheckpointError
from dagtrain.graph import Array
from dagtrain.rl.environment import generator
from dagtrain.rl.gathering import Behaviour, Chance, Episode, Plan, features, gathered, played
from dagtrain.rl.making import make
from dagtrain.rl.replay import Replay, transitions
from dagtrain.train import Stepper, Trainer, load

__all__ = ["Agent"]

_STATE, _REPLAY, _LEARNER = "agent.json", "replay.safetensors", "learner"


class Agent(ABC):
    """See `DQN` and `DDPG`, whose settings these are.

    Attributes
    ----------
    steps, episodes, updates
        So far.
    returns
        The undiscounted return of each episode so far, as it was played, with exploration.
    """

    def __init__(
        self,
        environment: Any,
        *,
        seed: int,
        discount: float,
        returns_over: int,
        batch_size: int,
        capacity: int,
        random_steps: int,
        updates_per_step: float,
        final_rate: float,
        constant_until: float,
        episodes_per_round: int,
        episodes_per_task: int,
        rounds_late: int,
        priority: float = 0.0,
        engine: Any = "inline",
    ) -> None:
        self.environment, self.seed = environment, checked_seed(seed)
        self.discount, self.returns_over = fraction("discount", discount, one=True), whole("returns_over", returns_over)
        self.batch_size, self.random_steps = whole("batch_size", batch_size), whole("random_steps", random_steps, 0)
        self.updates_per_step = positive("updates_per_step", updates_per_step)
        self.final_rate = fraction("final_rate", final_rate, one=True)
        self.constant_until = fraction("constant_until", constant_until)
        self.episodes_per_round = whole("episodes_per_round", episodes_per_round)
        self.episodes_per_task = whole("episodes_per_task", episodes_per_task)
        self.rounds_late = whole("rounds_late", rounds_late, 0)
        self.replay = Replay(whole("capacity", capacity), not_negative("priority", priority))
        self.engine = engine
        self.steps = self.episodes = self.updates = self.rounds = 0
        self.begun = self.goal = 0
        self.returns: list[float] = []
        world = make(environment)
        self.observation_space, self.action_space = world.observation_space, world.action_space
        self.scale = np.asarray(getattr(world, "scale", 1.0))
        self._waiting: deque[Any] = deque()
        """Weights that later rounds play with."""
        self._trainer: Trainer = self._made()
        self._weights = self._policy(self._trainer.parameters)

    # ---- what kinds of agents define

    @property
    @abstractmethod
    def behaviour(self) -> Behaviour:
        """How actions follow from observations."""

    @abstractmethod
    def _made(self) -> Trainer:
        """An untrained trainer of all networks."""

    @abstractmethod
    def _policy(self, parameters: Any) -> Any:
        """The parameters that the behaviour needs."""

    @abstractmethod
    def _exploration(self, episode: int) -> float:
        """How far the episode of this number explores."""

    def _remembered(self, actions: Array) -> Array:
        """Actions as the networks see them."""
        return actions

    def _ranked(self, rows: Array) -> None:  # noqa: B027  # few agents have priorities
        """Renew the priorities of these rows."""

    # ---- learning

    def learn(
        self,
        steps: int,
        *,
        client: Any = None,
        checkpoint: Any = None,
        resume: bool = False,
        each_round: Callable[[Self], Any] | None = None,
    ) -> Self:
        """Learn from so many further steps of the environment.

        Parameters
        ----------
        steps
            None is exceeded: the last episodes are cut. The learning rate falls over these steps.
        client
            A Dask client, on whose workers episodes are played; by default the current one, or this process.
        checkpoint
            A folder in which everything is kept after each tenth round, and at the end.
        resume
            Go on from the checkpoint, if there is one, up to the steps that were asked for when it began.
        each_round
            Called after each round.

        Returns
        -------
        The agent.
        """
        whole("steps", steps)
        client = current_client() if client is None else client
        path = None if checkpoint is None else Path(checkpoint)
        if resume and path is None:
            raise ArgumentError("resume=True needs a checkpoint to go on from: learn(steps, checkpoint=FOLDER, resume=True).")
        if resume and path is not None and (path / _STATE).exists():
            self._restore(path)
        else:
            self.begun, self.goal = self.steps, self.steps + steps
        with Stepper(self._trainer) as stepper:
            while self.steps < self.goal:
                self._round(stepper, client)
                if path is not None and (self.rounds % 10 == 0 or self.steps == self.goal):
                    self.save(path)
                if each_round is not None:
                    each_round(self)
        return self

    def _round(self, stepper: Stepper, client: Any) -> None:
        """Play episodes, remember them, update."""
        self._waiting.append(self._weights)
        while len(self._waiting) > self.rounds_late + 1:
            self._waiting.popleft()
        for episode in self._play(self._waiting[0], client):
            self.replay.add(transitions(episode, self.returns_over, self.discount))
            self.returns.append(float(episode.rewards.sum()))
            self.steps, self.episodes = self.steps + len(episode.rewards), self.episodes + 1
        due = int(max(0, self.steps - self.random_steps) * self.updates_per_step) - self.updates
        if due > 0:
            passed = (self.steps - self.begun) / (self.goal - self.begun)
            rest = min(1.0, (1 - passed) / (1 - self.constant_until))
            self._trainer.learning_rate_scale = self.final_rate + (1 - self.final_rate) * rest
            rows = self.replay.draw(generator([self.seed, self.rounds, 2]), due, self.batch_size)
            stepper.run(rows, self._memory())
            self.updates += due
            self._weights = self._policy(self._trainer.parameters)
            self._ranked(rows)
        self.rounds += 1

    def _play(self, weights: Any, client: Any) -> list[Episode]:
        left = self.goal - self.steps
        count = min(self.episodes_per_round, left)
        numbers = range(self.episodes, self.episodes + count)
        exploration = [np.inf if self.steps < self.random_steps else self._exploration(number) for number in numbers]
        plan = Plan(numbers, exploration, left // count)
        episodes = gathered(self.environment, self.behaviour, weights, plan, self.seed, self.episodes_per_task, client)
        return [
            episode._replace(
                observations=features(episode.observations, self.observation_space, self.scale), actions=self._remembered(episode.actions)
            )
            for episode in episodes
        ]

    def _memory(self) -> Mapping[str, Array]:
        return self.replay.columns

    # ---- using it

    def evaluate(self, episodes: int = 100, seed: int = 1, most_steps: int = 10_000) -> Array:
        """The returns of so many episodes without exploration; their beginnings depend on `seed` alone."""
        plan = Plan(range(whole("episodes", episodes)), [0.0] * episodes, whole("most_steps", most_steps))
        return np.array(
            [episode.rewards.sum() for episode in played(self.environment, self.behaviour, self._weights, plan, checked_seed(seed))]
        )

    def act(self, observation: Any) -> Any:
        """The best action known for an observation."""
        action = self.behaviour.act(self._weights, np.asarray(observation)[None], np.zeros(1), [Chance(generator(0))])[0]
        return int(action) if hasattr(self.action_space, "n") else action

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all weights; equal fingerprints mean equal bits."""
        return self._trainer.state.fingerprint

    @property
    def trainer(self) -> Trainer:
        """The trainer of all networks, for pictures and weights."""
        return self._trainer

    # ---- saving

    def save(self, path: Any) -> None:
        """Write everything to a folder: networks, replay, counters; `load` makes an agent of it that learns on to the same bits."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        self._trainer.save(folder / f"{_LEARNER}-{self.rounds}")
        waiting = {f"waiting.{i}.{name}": value for i, tree in enumerate(self._waiting) for name, value in _flat(tree).items()}
        save_file({**self.replay.state(), **waiting}, folder / f"{self.rounds}-{_REPLAY}")
        names = ("steps", "episodes", "updates", "rounds", "begun", "goal", "returns")
        text = json.dumps({"kind": type(self).__name__, **{name: getattr(self, name) for name in names}})
        part = folder / f"{_STATE}.part"
        part.write_text(text)
        part.replace(folder / _STATE)  # from here on the new files count
        for old in folder.glob(f"*-{_REPLAY}"):
            if old.name != f"{self.rounds}-{_REPLAY}":
                old.unlink()

    def _restore(self, folder: Path) -> None:
        try:
            state = json.loads((folder / _STATE).read_text())
            arrays = load_file(folder / f"{state['rounds']}-{_REPLAY}")
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{folder} is no checkpoint of an agent: {error}") from error
        if state.pop("kind", None) != type(self).__name__:
            raise CheckpointError(f"{folder} is a checkpoint of another kind of agent than {type(self).__name__}.")
        self._trainer = self._loaded(folder / f"{_LEARNER}-{state['rounds']}")
        for name, value in state.items():
            if name not in ("steps", "episodes", "updates", "rounds", "begun", "goal", "returns"):
                raise CheckpointError(f"{folder / _STATE} has an unknown entry {name!r}.")
            setattr(self, name, value)
        waiting = {name: value for name, value in arrays.items() if name.startswith("waiting.")}
        self.replay.restore({name: value for name, value in arrays.items() if name not in waiting})
        self._weights = self._policy(self._trainer.parameters)
        count = len({name.split(".")[1] for name in waiting})
        self._waiting = deque(
            _like(self._weights, {n.split(".", 2)[2]: v for n, v in waiting.items() if n.split(".")[1] == str(i)}) for i in range(count)
        )

    def _loaded(self, path: Path) -> Trainer:
        made = self._made()
        return load(path, made.model, optimizer=made.optimizer, engine=self.engine)


def _flat(tree: Any, prefix: str = "") -> dict[str, Array]:
    """The arrays of nested dicts, by paths."""
    if not isinstance(tree, Mapping):
        return {prefix.removesuffix("."): np.ascontiguousarray(tree)}
    return {name: value for key, part in tree.items() for name, value in _flat(part, f"{prefix}{key}.").items()}


def _like(tree: Any, values: Mapping[str, Array], prefix: str = "") -> Any:
    """Nested dicts like `tree`, with these values."""
    if not isinstance(tree, Mapping):
        return values[prefix.removesuffix(".")]
    return {key: _like(part, values, f"{prefix}{key}.") for key, part in tree.items()}
