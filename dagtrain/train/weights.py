"""Weights by name: which of them fit a model, and the state that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dagtrain.checkpoint.weights import views_of
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.step.layout import VectorLayout
from dagtrain.step.program import Program
from dagtrain.step.state import State
from dagtrain.step.statistics import StatisticsLayout
from dagtrain.trace import flatten

__all__ = ["LoadedWeights", "first_state", "fitting", "with_weights"]

_LISTED = 6
"""Most names of a kind in an error."""


@dataclass(frozen=True)
class LoadedWeights:
    """What fits of some weights.

    Attributes
    ----------
    loaded
        Names of the arrays that the model has now.
    missing
        Names of the model's arrays that are not among the weights.
    unexpected
        Names of weights that are no arrays of the model.
    shapes
        Name → shape there and shape here, for those that differ.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None

    @property
    def problems(self) -> list[str]:
        """What does not fit, in words."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected}
        texts = [f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names]
        return texts + [f"{name}: shape {there} there, {here} here" for name, (there, here) in list((self.shapes or {}).items())[:_LISTED]]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def fitting(weights: Mapping[str, Any], model: Mapping[str, Array], strict: bool) -> tuple[dict[str, Array], LoadedWeights]:
    """The weights that fit the arrays of a model, and the report.

    Raises
    ------
    ArgumentError
        If a weight is no finite number; with `strict`, if anything does not fit.
    """
    if not isinstance(weights, Mapping):
        raise ArgumentError(f"weights are a path, or a mapping from names to arrays, got a {type(weights).__name__}.")
    arrays = {name: _numbers(name, value) for name, value in flatten(dict(weights))[0].items()}
    shapes = {n: (arrays[n].shape, model[n].shape) for n in model if n in arrays and arrays[n].shape != model[n].shape}
    fit = {name: arrays[name] for name in model if name in arrays and name not in shapes}
    for name, array in fit.items():
        if not np.can_cast(array.dtype, model[name].dtype, "same_kind"):
            raise ArgumentError(
                f"the weights {name!r} are {array.dtype}, but the model's are {model[name].dtype}: convert them with .astype."
            )
    missing = tuple(name for name in model if name not in arrays)
    report = LoadedWeights(tuple(fit), missing, tuple(name for name in arrays if name not in model), shapes)
    if strict and report.problems:
        raise ArgumentError(
            f"the weights do not fit the model: {'; '.join(report.problems)}. Rename them, or load those that fit with strict=False."
        )
    return fit, report


def _numbers(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ArgumentError(f"the weights {name!r} are {array.dtype}, and not all finite numbers.")
    return array


def with_weights(parameters: VectorLayout, statistics: StatisticsLayout, state: State, weights: Mapping[str, Array]) -> State:
    """The state with these weights; the optimiser's vectors and the number of steps stay."""
    after = replace(state, parameters=state.parameters.copy(), statistics=state.statistics.copy())
    views = views_of(parameters, statistics, after)
    for name, array in weights.items():
        views[name][...] = array
    return after


def first_state(program: Program, weights: Mapping[str, Array]) -> State:
    """The state before the first step, with weights that were loaded before the rows were known."""
    state, parameters, statistics = program.first_state(), program.layout, program.statistics_layout
    shapes = {name: view.shape for name, view in views_of(parameters, statistics, state).items()}
    if other := [name for name, array in weights.items() if shapes.get(name) != array.shape]:
        raise ArgumentError(f"the weights {other[0]!r} that were loaded do not fit the model for these data: load them after a fit.")
    return with_weights(parameters, statistics, state, weights) if weights else state
