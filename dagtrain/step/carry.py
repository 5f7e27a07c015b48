"""A state carried over to a program with other groups or optimisers: the parameters by name, and the slots that keep their meaning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dagtrain.graph import Array
from dagtrain.optim.groups import ParameterGroup
from dagtrain.step.program import Program
from dagtrain.step.state import State

__all__ = ["carried"]


def carried(old: Program, new: Program, state: State) -> State:
    """The state of a program as the state of another one with the same parameters.

    A group keeps its slots, and goes on counting its updates, if each of its parameters had the same optimiser, by the same schedules and
    with the same count. Otherwise its slots begin as zeros, and it counts from 0: an optimiser that corrects the bias of young averages,
    such as adam, would take zeros for old ones, and a new schedule would not begin at its beginning.
    """
    slots: dict[str, Array] = {}
    starts: dict[str, int] = {}
    group_of = {name: group for group in old.groups if group.optimizer.trains for name in group.parameters}
    parts = {slot: _parts(old, group, state.slots[slot]) for group in old.groups for slot in group.slots}
    for group in new.groups:
        if not group.optimizer.trains:
            continue
        former = [group_of.get(name) for name in group.parameters]
        distinct = {g.name: _continued(g, group) for g in former if g is not None}
        counts = {state.starts.get(name, 0) for name in distinct}
        if None in former or None in distinct.values() or len(counts) > 1:
            size = new.layout.part(group.parameters).size
            slots |= {name: np.zeros(size, new.layout.dtype) for name in group.slots}
            start = state.step
        else:
            for slot in group.slots:
                sources = [(distinct[g.name] or {})[slot] for g in former if g is not None]
                slots[slot] = np.concatenate([parts[s][name] for s, name in zip(sources, group.parameters, strict=True)])
            start = counts.pop()
        if start:
            starts[group.name] = start
    parameters = new.layout.pack(old.layout.tree(state.parameters))
    return replace(state, parameters=parameters, slots=slots, starts=starts, order=new.layout.order)


def _parts(program: Program, group: ParameterGroup, slot: Array) -> dict[str, Array]:
    """The part of a slot that belongs to each parameter of its group."""
    views = program.layout.part(group.parameters).views(slot)
    return {name: view.ravel() for name, view in zip(group.parameters, views, strict=True)}


def _continued(old: ParameterGroup, new: ParameterGroup) -> dict[str, str] | None:
    """Each slot of a group → the slot of an older group that it continues; None if the group begins anew."""
    if (old.optimizer.period, old.optimizer.schedules) != (new.optimizer.period, new.optimizer.schedules):
        return None
    origins = {old.optimizer.origins[inner]: outer for outer, inner in old.slots.items()}
    known = {outer: origins.get(new.optimizer.origins[inner]) for outer, inner in new.slots.items()}
    return {outer: source for outer, source in known.items() if source is not None} if None not in known.values() else None
