"""Layers as users write them, for tests."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagtrain import nn
from dagtrain.ops.random import key
from dagtrain.trace import flatten

__all__ = ["DENSE", "Pair", "Scale", "Stack", "X", "layer_of", "names"]

X = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")


def names(layer: nn.Layer, *inputs: Any) -> list[str]:
    return list(flatten(layer.init(key(0), *(inputs or (X,)))[0])[0])


@dataclass(frozen=True)
class Scale(nn.Layer):
    initializer: Any = "ones"
    name: str | None = None
    trainable: bool = True

    def forward(self, c: nn.Context, x: Any) -> Any:
        return x * c.parameter("scale", x.shape[-1:], self.initializer)


@dataclass(frozen=True)
class Pair(nn.Layer):
    """Two layers in fields."""

    first: nn.Layer
    second: nn.Layer

    def forward(self, c: nn.Context, x: Any) -> Any:
        return c(self.second, c(self.first, x))


@dataclass(frozen=True)
class Stack(nn.Layer):
    """Layers in a list, in a dict and in a field."""

    blocks: Any
    heads: Any
    last: nn.Layer

    def forward(self, c: nn.Context, x: Any) -> Any:
        for block in self.blocks:
            x = c(block, x)
        return c(self.last, sum(c(head, x) for head in self.heads.values()))


def layer_of(forward: Any, **attributes: Any) -> nn.Layer:
    made: nn.Layer = type("Mine", (nn.Layer,), {"forward": forward, **attributes})()
    return made


DENSE = nn.Dense(3)
