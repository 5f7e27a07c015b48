"""Networks of agents, and how to compute them for many observations in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dagtrain import nn
from dagtrain.errors import ArgumentError
from dagtrain.functional import compile as compiled
from dagtrain.graph import Array
from dagtrain.ops.random import derive, key

__all__ = ["Dueling", "applied", "first", "perceptron"]


@dataclass(frozen=True)
class Dueling(nn.Layer):
    """The value of a state and the advantage of each action, from which those of the actions follow.

    Q(s, a) = V(s) + A(s, a) − mean A(s, ·); Wang et al., "Dueling network architectures for deep reinforcement learning", arXiv:1511.06581.

    Parameters
    ----------
    actions
        How many there are.
    """

    actions: int
    name: str | None = None
    trainable: bool = True

    def forward(self, c: nn.Context, x: Any) -> Any:
        """The values of the actions, of shape (batch, actions)."""
        value, advantage = c(nn.Dense(1), x, name="value"), c(nn.Dense(self.actions), x, name="advantage")
        return value + advantage - np.mean(advantage, axis=1, keepdims=True)


def perceptron(hidden: Sequence[int], outputs: int, activation: str | None = None, last: Any = None) -> nn.Sequential:
    """Hidden layers of relu units, and an output; `last` is a layer in the place of the dense one."""
    return nn.Sequential([*(nn.Dense(units, "relu") for units in hidden), last or nn.Dense(outputs, activation)])


def first(network: nn.Layer, seed: int, number: int, outputs: int, *inputs: Array) -> Any:
    """The first parameters of a network with so many outputs; `number` tells networks of one agent apart."""
    if not isinstance(network, nn.Layer):
        raise ArgumentError(f"a network of an agent is a layer, as nn.Sequential((...)), got {network!r}.")
    try:
        hash(network)
    except TypeError as error:  # its compiled form is found again by its value
        raise ArgumentError(f"networks of agents have tuples in the place of lists: {error} in {network!r}.") from None
    parameters, state = network.init(derive(key(seed), number), *inputs)
    if state:
        raise ArgumentError("networks of agents keep no state of their own: use no BatchNorm; LayerNorm works.")
    if (shape := tuple(network.apply(parameters, {}, *inputs)[0].shape)) != (1, outputs):
        taken = " and ".join(str(each.shape) for each in inputs)
        raise ArgumentError(f"a network of this agent gives arrays of shape (batch, {outputs}), and this one gives {shape} of {taken}.")
    return parameters


@lru_cache(maxsize=32)
def applied(network: nn.Layer) -> Callable[..., Array]:
    """The network as a compiled function of parameters and inputs."""
    return compiled(lambda parameters, *inputs: network.apply(parameters, {}, *inputs)[0])
