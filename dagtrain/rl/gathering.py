"""Gathering experience: episodes as pure functions of weights and of their number, so that any worker may run them, and run them again.

    round   weights of an earlier round ─┬─ task: episodes 0–3 ─┐
                                         └─ task: episodes 4–7 ─┴─▶ episodes in the order of their numbers

Random numbers of an episode come from the agent's seed and the number of the episode. A task always runs the same number of episodes
together. So the number of workers, and a worker that is killed, change nothing.
"""

from __future__ import annotations

import copy
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dagtrain.graph import Array
from dagtrain.rl.environment import Discrete, Environment, generator
from dagtrain.rl.making import make
from dagtrain.rl.vector import Vector

__all__ = ["Behaviour", "Chance", "Episode", "Plan", "features", "gathering", "played"]


class Episode(NamedTuple):
    """What was seen and done in one episode."""

    observations: Array
    """One more than steps: the last one follows the last action."""
    actions: Array
    rewards: Array
    terminated: bool
    """Whether it ended; else time was up."""


@dataclass
class Chance:
    """The random numbers of an episode, and the last noise, from which the next may follow."""

    random: np.random.Generator
    noise: Any = 0.0


class Behaviour(ABC):
    """How actions follow from observations; picklable."""

    @abstractmethod
    def act(self, parameters: Any, observations: Array, exploration: Array, chances: Sequence[Chance]) -> Array:
        """Actions of several episodes, each with its own extent of exploration and random numbers; without any where it is 0."""


class Plan(NamedTuple):
    """Episodes of a round."""

    numbers: Sequence[int]
    exploration: Sequence[float]
    """How far each explores; infinite where all actions are random."""
    most_steps: int


def features(seen: Array, space: Any, scale: Any) -> Array:
    """Observations as float32 for a network: numbers as vectors with a single 1, vectors divided by `scale`."""
    if isinstance(space, Discrete) or hasattr(space, "n"):
        return np.asarray(seen[:, None] == np.arange(int(space.n)), np.float32)
    return np.asarray(seen / scale, np.float32)


def gathering(
    environment: Any, behaviour: Behaviour, parameters: Any, plan: Plan, seed: int, size: int, client: Any
) -> Callable[[], list[Episode]]:
    """Begin the episodes of a plan, in tasks of `size` episodes; the result waits for them.

    They are played on the cluster of `client`; if that is None, in this process, as the result is called.
    """
    cuts = [slice(i, i + size) for i in range(0, len(plan.numbers), size)]
    parts = [Plan(plan.numbers[cut], plan.exploration[cut], plan.most_steps) for cut in cuts]
    if client is None:
        return lambda: [episode for part in parts for episode in played(environment, behaviour, parameters, part, seed)]
    from dask.task_spec import DataNode, Task, TaskRef

    from dagtrain.engines.cluster.waiting import collect, submit

    name = f"episodes-{uuid.uuid4().hex}"
    graph: dict[Any, Any] = {f"weights-{name}": DataNode(f"weights-{name}", (environment, behaviour, parameters))}
    for i, part in enumerate(parts):
        graph[name, i] = Task((name, i), _played, TaskRef(f"weights-{name}"), DataNode(None, part), seed)
    futures = submit(client, graph, [(name, i) for i in range(len(parts))])
    return lambda: [episode for result in collect(client, futures) for episode in result]


def _played(given: tuple[Any, Behaviour, Any], plan: Plan, seed: int) -> list[Episode]:
    return played(*given, plan, seed)


def played(environment: Any, behaviour: Behaviour, parameters: Any, plan: Plan, seed: int) -> list[Episode]:
    """Run the episodes of a plan together, until each has ended."""
    world, count = make(environment), len(plan.numbers)
    copies = world if isinstance(world, Environment) else [world, *(_again(environment, world) for _ in range(count - 1))]
    vector = Vector(copies, count, autoreset_mode="disabled")
    chances = [Chance(generator([seed, number, 0])) for number in plan.numbers]
    exploration = np.array(plan.exploration)
    free = np.isinf(exploration)
    seen = vector.reset([[seed, number, 1] for number in plan.numbers])
    observations, actions, rewards, lengths = [seen], [], [], np.zeros(count, int)
    terminated, going = np.zeros(count, bool), np.ones(count, bool)
    for _ in range(plan.most_steps):
        chosen = behaviour.act(parameters, observations[-1], np.where(free, 0.0, exploration), chances)
        for i in np.flatnonzero(free).tolist():
            chosen[i] = _any_action(world.action_space, chances[i].random)
        steps = vector.step(chosen)
        observations.append(steps.final_observations)
        actions.append(chosen)
        rewards.append(steps.rewards)
        lengths += steps.valid
        terminated |= steps.terminated
        going &= ~(steps.terminated | steps.truncated)
        if not going.any():
            break
    seen, done, gained = np.stack(observations), np.stack(actions), np.stack(rewards)
    return [
        Episode(seen[: n + 1, i].copy(), done[:n, i].copy(), gained[:n, i].copy(), bool(terminated[i]))
        for i, n in enumerate(lengths.tolist())
    ]


def _again(environment: Any, world: Any) -> Any:
    return make(environment) if isinstance(environment, str) else copy.deepcopy(world)


def _any_action(space: Any, random: np.random.Generator) -> Any:
    if hasattr(space, "n"):
        return random.integers(int(space.n))
    return random.uniform(space.low, space.high).astype(np.float32)
