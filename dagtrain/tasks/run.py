"""The functions that run inside tasks: all that workers import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Spec, spec_of
from dagtrain.plan import Plan

__all__ = ["check_value", "run_fragment", "run_plan"]


def run_plan(plan: Plan, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """Run a plan once, with memory of its own and under its backend's guard; no other array shares memory with the results."""
    arrays = plan.check(arrays)
    with plan.backend.guard(warnings=True):
        return plan.run_on_host(plan.bind(), arrays)


def run_fragment(plan: Plan, picks: Sequence[int | None], *values: Any) -> Any:
    """A task: one array, or a tuple of them if the fragment has several results.

    `picks` has, for each value, the index of the array in a tuple, or None if the value is the array itself.
    """
    results = run_plan(plan, [value if i is None else value[i] for i, value in zip(picks, values, strict=True)])
    return results[0] if len(results) == 1 else results


def check_value(name: str, spec: Spec, exact: bool, value: Any) -> Any:
    """A value that Dask computed, as an array, if it has the spec of the leaf of this name.

    Raises
    ------
    ArgumentError
        If its shape or dtype differs.
    """
    spec = Spec(*spec)
    actual = spec_of(np.asarray(value))
    if actual.shape != spec.shape:
        raise ArgumentError(f"the value of {name!r} was declared as {spec} and came as {actual}: declare the shape that it has.")
    if exact and actual.dtype != spec.dtype and not _is_weak(value, spec):
        raise ArgumentError(f"the value of {name!r} was declared as {spec} and came as {actual}: declare that dtype, or convert the value.")
    return np.asarray(value, spec.dtype, order="C")


def _is_weak(value: Any, spec: Spec) -> bool:
    """Whether this is a Python number that NumPy would promote to this dtype."""
    return type(value) in (bool, int, float, complex) and bool(np.result_type(type(value)(0), spec.dtype) == spec.dtype)
