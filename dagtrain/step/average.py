"""A state whose parameters are the averages that its optimisers keep; see `dagtrain.optim.averaged`."""

from __future__ import annotations

from dataclasses import replace

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError
from dagtrain.step.program import Program
from dagtrain.step.state import State

__all__ = ["state_of"]


def state_of(program: Program, state: State, weights: str) -> State:
    """The state with its trained parameters, or with their averages; parameters without an average stay.

    Parameters
    ----------
    program, state
        Of the training.
    weights
        "trained" or "average".

    Raises
    ------
    UnknownNameError
        For other weights.
    ArgumentError
        If the optimiser keeps no average.
    """
    if one_of("weights", weights, ("trained", "average")) == "trained":
        return state
    kept = {outer for group in program.groups for outer, slot in group.slots.items() if slot == group.optimizer.average}
    if not kept:
        raise ArgumentError('the optimizer keeps no average of the weights: give the trainer one that does, as in optim.averaged("adam").')
    parameters = state.parameters.copy()
    for update in program.update.groups:
        if update.count(state) >= update.period:  # before its first update an average is zeros
            for slot in kept & update.slots.keys():
                parameters[update.place] = state.slots[slot]
    return replace(state, parameters=parameters)
