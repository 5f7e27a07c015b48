"""One pass through a model: what all contexts of it share, and the calls of layers in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.naming import Path
from dagtrain.nn.values import Values

if TYPE_CHECKING:
    from dagtrain.nn.layer import Layer

__all__ = ["Call", "Pass"]


class Call:
    """One call of a layer in a pass: what went in and came out, the calls within, the parameters and states that it asked for first.

    `number` counts the calls of the same layer before.
    """

    def __init__(self, layer: Layer, path: Path, inputs: tuple[Any, ...], number: int, trainable: bool) -> None:
        self.layer, self.path, self.inputs, self.number, self.trainable = layer, path, inputs, number, trainable
        self.outputs: Any = None
        self.calls: list[Call] = []
        self.parameters: list[Values] = []
        self.states: list[Values] = []
        self.shares = False
        """Whether an earlier call asked for its parameters."""


@dataclass
class Pass:
    """One pass through a model: all that its contexts share.

    Attributes
    ----------
    training
        Whether it is a step of training.
    dtype
        Of new parameters.
    key
        Of random layers; None without.
    parameters, states
        By path and name; a pass that makes them begins without.
    make
        Gives the first value of a parameter or state: (dotted name, shape, dtype, initialiser) → value. None where all exist.
    updates
        The states after the batch, by path and name.
    losses
        The values that layers added to the loss, by dotted name.
    auxiliary
        Outputs of the model that exist in training alone.
    parts
        For each row of the outputs, how much of it stands for its own targets and not for those of the next row; None without mixing.
    frozen
        Dotted names of the parameters of layers that are not trainable.
    fixed
        Dotted names of the parameters that are not trained; None where the layers say it.
    most
        Most calls of layers; more are an error.
    reductions
        Dotted name of a state → how its values become one.
    paths
        The layer at each path.
    asked
        The parameters and states that were asked for.
    calls, keys
        Calls and keys so far, by the layer's path.
    fields
        Paths of the layers in the fields of a layer, by their identity.
    """

    training: bool
    dtype: np.dtype[Any]
    key: Values | None = None
    parameters: dict[Path, Values] = field(default_factory=dict)
    states: dict[Path, Values] = field(default_factory=dict)
    make: Callable[[str, tuple[int, ...], np.dtype[Any], Initializer], Values] | None = None
    updates: dict[Path, Values] = field(default_factory=dict)
    losses: dict[str, Values] = field(default_factory=dict)
    auxiliary: dict[str, Values] = field(default_factory=dict)
    parts: Values | None = None
    frozen: set[str] = field(default_factory=set)
    fixed: Collection[str] | None = None
    most: float = math.inf
    reductions: dict[str, str] = field(default_factory=dict)
    _places: dict[int, tuple[Layer, Path]] = field(default_factory=dict)
    paths: dict[Path, Layer] = field(default_factory=dict)
    asked: set[Path] = field(default_factory=set)
    keys: Counter[Path] = field(default_factory=Counter)
    fields: dict[int, dict[int, Path]] = field(default_factory=dict)
    calls: Counter[Path] = field(default_factory=Counter)

    def place(self, layer: Layer, path_of: Callable[[], Path]) -> Path:
        """The path of a layer: that of its first use, else the given one."""
        if id(layer) in self._places:
            return self._places[id(layer)][1]
        path = path_of()
        other = self.paths.setdefault(path, layer)
        if other is not layer:
            raise ArgumentError(f"two layers have the name {path[-1]!r}: give one of them another name=.")
        self._places[id(layer)] = layer, path  # the layer stays alive, so its id stays its own
        return path

    @property
    def unused(self) -> list[str]:
        """Dotted names of the parameters and states that no layer asked for."""
        return [".".join(path) for path in (*self.parameters, *self.states) if path not in self.asked]
