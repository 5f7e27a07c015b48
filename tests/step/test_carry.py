"""A state carried over to other groups and optimisers: what stays, what begins anew, and from where it counts."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import optim
from dagtrain.step.carry import carried

NAMES = ("a.kernel", "a.bias", "b.kernel")


def program(optimizer):
    nest = {"a": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.arange(3.0)}, "b": {"kernel": np.full(2, 7.0)}}
    objective = dt.step.CostObjective(lambda p, x: np.sum(x) * np.sum(p["a"]["kernel"]), nest)
    return dt.step.Program(objective, optimizer, dt.data.Columns.of(dt.Spec((2,), np.dtype("f4"))), seed=0)


def after(optimizer, steps=5):
    """The program, and a state whose slots tell where they are from."""
    one = program(optimizer)
    state = one.first_state()
    state.step = steps
    for group in one.groups:
        for place, slot in enumerate(group.slots):
            layout = one.layout.part(group.parameters)
            for name, view in zip(group.parameters, layout.views(state.slots[slot]), strict=True):
                view[...] = 10 * place + NAMES.index(name) + 1
    return one, state


def slots_of(one, state):
    """Slot of the optimiser → parameter → its values, which are all alike."""
    found = {}
    for group in one.groups:
        for slot, inner in group.slots.items():
            views = one.layout.part(group.parameters).views(state.slots[slot])
            for name, view in zip(group.parameters, views, strict=True):
                (found.setdefault(inner, {})[name],) = set(view.ravel())
    return found


def change(old, new):
    (before, state), other = after(old), program(new)
    result = carried(before, other, state)
    assert [a.tolist() for a in other.layout.views(result.parameters)] == [a.tolist() for a in before.layout.views(state.parameters)]
    assert result.step == state.step
    return slots_of(other, result), result.starts


ALL = {"first": dict(zip(NAMES, (1, 2, 3), strict=True)), "second": dict(zip(NAMES, (11, 12, 13), strict=True))}
GROUPS = optim.by_name({"*.bias": optim.adam(0.1), "*": optim.adam(0.2)})


def test_another_rate_goes_on():
    assert change(optim.adam(0.1), optim.adam(0.2)) == (ALL, {})


@pytest.mark.parametrize("new", [GROUPS, optim.chain(optim.clip_by_global_norm(1.0), optim.adam()), optim.chain(optim.l2(0.1), GROUPS)])
def test_the_same_optimiser_in_other_groups_and_chains_goes_on(new):
    assert change(optim.adam(0.1), new) == (ALL, {})
    assert change(new, optim.adam(0.1)) == (ALL, {})


@pytest.mark.parametrize("new", [optim.rmsprop(), optim.adam(beta_1=0.8), optim.adam(optim.cosine(0.1, steps=10)), optim.adamw()])
def test_another_optimiser_begins_at_its_beginning(new):
    slots, starts = change(optim.adam(0.1), new)
    assert {value for values in slots.values() for value in values.values()} == {0}
    assert starts == {"": 5}


def test_freezing_keeps_the_rest_and_thawing_begins_anew():
    some = optim.by_name({"a.*": optim.frozen(), "*": optim.adam()})
    assert change(optim.adam(), some) == ({"first": {"b.kernel": 3}, "second": {"b.kernel": 13}}, {})
    slots, starts = change(some, optim.adam())
    assert set(slots["first"].values()) == {0}
    assert starts == {"": 5}


def test_each_group_goes_its_own_way():
    new = optim.by_name({"*.bias": optim.sgd(0.1, momentum=0.9), "*": optim.adam()})
    slots, starts = change(optim.adam(), new)
    assert slots == {"velocity": {"a.bias": 0}, "first": {"a.kernel": 1, "b.kernel": 3}, "second": {"a.kernel": 11, "b.kernel": 13}}
    assert starts == {"*.bias": 5}


def test_a_count_that_went_on_from_elsewhere_goes_on_from_there():
    one, state = after(optim.adam(0.1))
    state.starts = {"": 2}
    other = program(GROUPS)
    assert carried(one, other, state).starts == {"*.bias": 2, "*": 2}
    uneven, state = after(GROUPS)
    state.starts = {"*.bias": 2}
    joined = carried(uneven, one, state)
    assert joined.starts == {"": 5}
    assert set(slots_of(one, joined)["first"].values()) == {0}
