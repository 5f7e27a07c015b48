"""What agents with networks have in common: rounds of experience and of updates.

    round   episodes by the weights of an earlier round ─▶ replay ─▶ updates on rows drawn by keys ─▶ weights

A round is a pure function of the state before it: episodes are numbered, updates are steps of a `Stepper`. So a run has the same bits for
any number of workers, through killed ones, and when it is stopped and continued.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dagtrain.arguments import flag, fraction, not_negative, positive, whole
from dagtrain.arguments import seed as checked_seed
from dagtrain.engines.client import current_client
from dagtrain.errors import ArgumentError, CheckpointError
from dagtrain.graph import Array
from dagtrain.hinting import Hinted
from dagtrain.rl.environment import generator
from dagtrain.rl.gathering import Behaviour, Chance, Episode, Plan, features, gathering, played
from dagtrain.rl.making import check_spaces, make
from dagtrain.rl.replay import Replay, transitions
from dagtrain.train import Stepper, Trainer, load

__all__ = ["Agent"]

_STATE, _REPLAY, _LEARNER, _ROUND = "agent.json", "replay.safetensors", "learner", "round-"
_COUNTERS = ("steps", "episodes", "updates", "rounds", "begun", "goal")
_OFTEN = 10
"""Rounds between two checkpoints."""


class Agent(Hinted, ABC):
    """See `DQN` and `DDPG`, whose settings these are.

    Attributes
    ----------
    steps, episodes, updates
        So far.
    returns
        The undiscounted return of each episode so far, as it was played, with exploration.
    """

    def __init__(self, environment: Any, settings: dict[str, Any]) -> None:
        self.environment, self.settings = environment, settings
        self.seed, self.discount = checked_seed(settings["seed"]), fraction("discount", settings["discount"], one=True)
        for name in ("returns_over", "batch_size", "capacity", "episodes_per_round", "episodes_per_task"):
            whole(name, settings[name])
        for name in ("random_steps", "rounds_late"):
            whole(name, settings[name], 0)
        positive("updates_per_step", settings["updates_per_step"])
        fraction("final_rate", settings["final_rate"], one=True)
        fraction("constant_until", settings["constant_until"])
        self.replay = Replay(settings["capacity"], not_negative("priority", settings.get("priority", 0.0)))
        self.steps = self.episodes = self.updates = self.rounds = 0
        self.begun = self.goal = 0
        self.returns: list[float] = []
        world = make(environment)
        check_spaces(world)
        self.observation_space, self.action_space = world.observation_space, world.action_space
        self.scale = np.asarray(getattr(world, "scale", 1.0))
        self._trainer: Trainer = self._made()
        self._weights = deque([self._policy(self._trainer.parameters)])
        """Those after the last rounds, as many as may be played with."""
        self._next: Callable[[], list[Episode]] | None = None
        """The episodes under way."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_next": None}  # episodes under way are played again

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

    def _ranked(self, rows: Array) -> None:  # few agents have priorities
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
            A Dask client, on whose workers episodes are played; by default the current one, if there is any. False: in this process.
        checkpoint
            A folder in which everything is kept after each tenth round, and at the end. Rounds of another run there are an error.
        resume
            Go on from the checkpoint, if there is one, up to the steps that were asked for when it began.
        each_round
            Called after each round.

        Returns
        -------
        The agent.
        """
        whole("steps", steps)
        if each_round is not None and not callable(each_round):
            raise ArgumentError(f"each_round is a function of the agent, got {each_round!r}.")
        client = current_client() if client is None else client or None
        path = None if checkpoint is None else _folder(checkpoint)
        if flag("resume", resume) and path is None:
            raise ArgumentError("resume=True needs a checkpoint to go on from: learn(steps, checkpoint=FOLDER, resume=True).")
        self._next = None  # of a call that was interrupted
        if resume and path is not None and _saved(path):
            self._restore(path)
        else:
            if path is not None and (kept := max(map(_round_of, _saved(path)), default=0)) > self.rounds:
                raise ArgumentError(
                    f"{path} already holds a run, up to round {kept}. Continue it with resume=True, or give another folder."
                )
            self.begun, self.goal = self.steps, self.steps + steps
        with Stepper(self._trainer) as stepper:
            while self.steps < self.goal:
                self._round(stepper, client)
                if path is not None and (self.rounds % _OFTEN == 0 or self.steps == self.goal):
                    self.save(path)
                if each_round is not None:
                    each_round(self)
        return self

    def _round(self, stepper: Stepper, client: Any) -> None:
        """Play episodes, remember them, update; with weights of earlier rounds the next episodes are played meanwhile."""
        late = self.settings["rounds_late"]
        if self._next is None:
            self._next = self._begin(client, late + 1)
        episodes, self._next = self._next(), None
        for episode in episodes:
            seen = features(episode.observations, self.observation_space, self.scale)
            kept = episode._replace(observations=seen, actions=self._remembered(episode.actions))
            self.replay.add(transitions(kept, self.settings["returns_over"], self.discount))
            self.returns.append(float(episode.rewards.sum()))
            self.steps, self.episodes = self.steps + len(episode.rewards), self.episodes + 1
        if late and self.steps < self.goal:
            self._next = self._begin(client, late)
        due = int(max(0, self.steps - self.settings["random_steps"]) * self.settings["updates_per_step"]) - self.updates
        if due > 0:
            passed = (self.steps - self.begun) / (self.goal - self.begun)
            rest = min(1.0, (1 - passed) / (1 - self.settings["constant_until"]))
            self._trainer.learning_rate_scale = self.settings["final_rate"] + (1 - self.settings["final_rate"]) * rest
            rows = self.replay.draw(generator([self.seed, self.rounds, 2]), due, self.settings["batch_size"])
            stepper.run(rows, self._memory())
            self.updates += due
            self._ranked(rows)
        self._weights.append(self._policy(self._trainer.parameters))
        while len(self._weights) > late + 1:
            self._weights.popleft()
        self.rounds += 1

    def _begin(self, client: Any, back: int) -> Callable[[], list[Episode]]:
        """The episodes of the next round, played with the weights that were the last ones so many rounds ago."""
        weights = self._weights[-min(back, len(self._weights))]
        left = self.goal - self.steps
        count = min(self.settings["episodes_per_round"], left)
        numbers = range(self.episodes, self.episodes + count)
        exploration = [np.inf if self.steps < self.settings["random_steps"] else self._exploration(number) for number in numbers]
        plan, size = Plan(numbers, exploration, left // count), self.settings["episodes_per_task"]
        return gathering(self.environment, self.behaviour, weights, plan, self.seed, size, client)

    def _memory(self) -> Mapping[str, Array]:
        return self.replay.columns

    # ---- using it

    def evaluate(self, episodes: int = 100, seed: int = 1, most_steps: int = 10_000) -> Array:
        """The returns of so many episodes without exploration; their beginnings depend on `seed` alone."""
        plan = Plan(range(whole("episodes", episodes)), [0.0] * episodes, whole("most_steps", most_steps))
        return np.array(
            [episode.rewards.sum() for episode in played(self.environment, self.behaviour, self._weights[-1], plan, checked_seed(seed))]
        )

    def act(self, observation: Any) -> Any:
        """The best action known for an observation.

        Raises
        ------
        ArgumentError
            If it is not of the observation space's shape, or not finite.
        """
        seen = np.asarray(observation)
        if seen.shape != tuple(self.observation_space.shape) or seen.dtype.kind not in "biuf" or not np.isfinite(seen).all():
            raise ArgumentError(f"an observation is in {self.observation_space}, got {observation!r}.")
        action = self.behaviour.act(self._weights[-1], seen[None], np.zeros(1), [Chance(generator(0))])[0]
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
        """Write networks, replay, settings and counters to a folder; an older state there counts until this one is whole.

        An agent that is loaded again, or goes on by ``learn(..., checkpoint=path, resume=True)``, comes to the same bits.
        """
        folder = _folder(path)
        try:
            self._write(folder)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{folder}: cannot be written: {error}") from error

    def _write(self, folder: Path) -> None:
        part, whole_one = folder / f"{_ROUND}{self.rounds}.part", folder / f"{_ROUND}{self.rounds}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        if self.updates:  # before the first, all weights follow from the seed
            self._trainer.save(part / _LEARNER)
        weights = {f"weights.{i}.{name}": value for i, tree in enumerate(self._weights) for name, value in _flat(tree).items()}
        save_file({**self.replay.state(), **weights}, part / _REPLAY)
        counters = {name: getattr(self, name) for name in _COUNTERS}
        text = {"kind": type(self).__name__, "settings": self._described, "counters": counters, "returns": self.returns}
        (part / _STATE).write_text(json.dumps(text, indent=1))
        older = _saved(folder)
        if whole_one in older:  # saved twice after the same round
            shutil.rmtree(whole_one)
        part.replace(whole_one)
        for each in older:
            if each != whole_one:
                shutil.rmtree(each, ignore_errors=True)

    @property
    def _described(self) -> dict[str, Any]:
        """The settings as text and numbers; of layers and environments their descriptions."""
        plain = (str, int, float, bool, type(None))
        described = {"environment": self.environment, **self.settings}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in described.items() if name != "engine"}
        return {name: value if isinstance(value, (*plain, list)) else repr(value) for name, value in listed.items()}

    @classmethod
    def load(cls, path: Any, **given: Any) -> Self:
        """The agent that `save` wrote.

        Parameters
        ----------
        path
            The folder.
        given
            What a file cannot hold: ``environment=`` if it was no name, layers, and ``engine=``.

        Raises
        ------
        CheckpointError
            If it is no whole checkpoint of an agent of this kind, or another setting was given.
        """
        settings = _read(_last(Path(path)), cls.__name__)["settings"]
        agent = cls(**{**settings, **given})
        agent._restore(Path(path))
        return agent

    def _restore(self, path: Path) -> None:
        folder = _last(path)
        state = _read(folder, type(self).__name__)
        differing = [name for name, value in self._described.items() if state["settings"].get(name) != value]
        if differing:
            name = differing[0]
            raise CheckpointError(
                f"{path} is of an agent with {name}={state['settings'].get(name)!r}, and this one has {self._described[name]!r}: "
                "use the same settings, or another folder."
            )
        try:
            arrays = load_file(folder / _REPLAY)
            for name in _COUNTERS:
                setattr(self, name, whole(name, state["counters"][name], 0))
            self.returns = [float(value) for value in state["returns"]]
            weights = {name: value for name, value in arrays.items() if name.startswith("weights.")}
            self.replay.restore({name: value for name, value in arrays.items() if name not in weights})
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} is no whole checkpoint of an agent: {type(error).__name__}: {error}") from error
        made = self._made()
        self._trainer = load(folder / _LEARNER, made.model, optimizer=made.optimizer, engine=made.engine) if self.updates else made
        like, count = self._policy(self._trainer.parameters), len({name.split(".")[1] for name in weights})
        values = [{n.split(".", 2)[2]: v for n, v in weights.items() if n.startswith(f"weights.{i}.")} for i in range(count)]
        self._weights, self._next = deque(_like(like, each) for each in values), None


def _last(path: Path) -> Path:
    """The folder of the last state that is whole."""
    if not (rounds := _saved(path)):
        raise CheckpointError(f"{path} holds no checkpoint of an agent.")
    return max(rounds, key=_round_of)


def _folder(path: Any) -> Path:
    """The folder of this path, made where there is none."""
    try:
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
    except TypeError:
        raise ArgumentError(f"a checkpoint's path is text or a pathlib.Path, got {path!r}.") from None
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be made a folder: {error.strerror}. A checkpoint is a folder: choose another path."
        ) from error
    return folder


def _round_of(folder: Path) -> int:
    return int(folder.name.removeprefix(_ROUND))


def _saved(path: Path) -> list[Path]:
    """The folders of states that are whole."""
    return [each for each in path.glob(f"{_ROUND}*") if each.name.removeprefix(_ROUND).isdecimal()]


def _read(folder: Path, kind: str) -> dict[str, Any]:
    """What the file of settings and counters says."""
    try:
        state = json.loads((folder / _STATE).read_text())
        known = state["kind"] if isinstance(state["settings"], dict) and isinstance(state["counters"], dict) else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is no whole checkpoint of an agent: {type(error).__name__}: {error}") from error
    if known != kind:
        raise CheckpointError(f"{folder} is a checkpoint of another kind of agent than {kind}: {known!r}.")
    return dict(state)


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
