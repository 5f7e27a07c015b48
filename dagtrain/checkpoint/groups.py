"""The groups of parameters in a manifest: which parameters lie where in the vector, and whose the slots are."""

from __future__ import annotations

from typing import NamedTuple

from dagtrain.checkpoint.kinds import FLAG, TEXT, record, sequence
from dagtrain.step.layout import VectorLayout
from dagtrain.step.program import Program

__all__ = ["GROUP", "GroupEntry", "group_differences", "group_entries", "grouped"]


class GroupEntry(NamedTuple):
    """A group of parameters: its name, its parameters in the order of the vector, the names of its slots, and whether it is trained."""

    name: str
    parameters: tuple[str, ...]
    slots: tuple[str, ...]
    trained: bool


GROUP = record(GroupEntry, name=TEXT, parameters=sequence(TEXT), slots=sequence(TEXT), trained=FLAG)


def group_entries(program: Program) -> tuple[GroupEntry, ...]:
    """The groups of a program's parameters; none for a single one without a name."""
    groups = program.groups
    if len(groups) < 2 and not any(group.name for group in groups):
        return ()
    return tuple(GroupEntry(g.name, g.parameters, tuple(g.slots), g.optimizer.trains) for g in groups)


def grouped(layout: VectorLayout, groups: tuple[GroupEntry, ...], slots: tuple[str, ...]) -> VectorLayout:
    """The layout with its arrays in the order of the groups; ValueError for groups that do not fit them, or the slots."""
    if not groups:
        return layout
    trained, fixed = ([g for g in groups if g.trained is kind] for kind in (True, False))
    if tuple(slot for g in groups for slot in g.slots) != slots or any(g.slots for g in fixed):
        raise ValueError("its groups have other slots than its tensor file")
    if sorted(n for g in groups for n in g.parameters) != sorted(layout.names) or groups != (*trained, *fixed):
        raise ValueError("its groups do not hold each parameter once, trained ones first")
    return layout.grouped([g.parameters for g in trained], [n for g in fixed for n in g.parameters])


def group_differences(there: tuple[GroupEntry, ...], here: tuple[GroupEntry, ...]) -> list[str]:
    """The parameters that are in other groups, one text each."""
    if there == here:
        return []
    groups = [{n: g.name for g in groups for n in g.parameters} for groups in (there, here)]
    names = dict.fromkeys([*groups[0], *groups[1]])
    texts = [(n, *(f"{g[n]!r}" if g.get(n) else "none" for g in groups)) for n in names]
    differences = [f"group of {n}: {a} there, {b} here" for n, a, b in texts if a != b]
    return differences[:8] or ["the groups of the parameters are in another order"]
