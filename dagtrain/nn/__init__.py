"""Layers, activations, initialisers, losses and metrics.

model = nn.Sequential([nn.Dense(128, "relu"), nn.Dropout(0.2), nn.Dense(10)])
params, state = model.init(key, spec)               nested dicts of NumPy arrays
y, state = model.apply(params, state, x)            a pure function of tensors or arrays
"""

from typing import Any

from dagtrain.errors import UnknownNameError
from dagtrain.nn import activations, hints, initializers, layers, losses, metrics, models, spatial
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers import *  # noqa: F403  # every layer
from dagtrain.nn.model import Model
from dagtrain.nn.sequential import Sequential
from dagtrain.nn.summary import Summary, layers_for_drawing, summarize
from dagtrain.nn.symbolic import Input

__all__ = [
    "Context",
    "Input",
    "Layer",
    "Model",
    "Sequential",
    "Summary",
    "activations",
    "initializers",
    "layers_for_drawing",
    "losses",
    "metrics",
    "models",
    "spatial",
    "summarize",
]
__all__ += layers.__all__


def __getattr__(name: str) -> Any:
    raise AttributeError(str(UnknownNameError.of("name in dagtrain.nn", name, __all__, hints.ATTRIBUTES)))
