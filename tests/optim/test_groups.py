"""Optimisers by the names of parameters: which group each is in, and what is refused."""

import numpy as np
import pytest

from dagtrain import optim
from dagtrain.errors import ArgumentError
from dagtrain.optim.groups import groups_of

NAMES = ["dense_1.kernel", "dense_1.bias", "dense_2.kernel", "dense_2.bias"]


def chosen(optimizer, declared=()):
    return {group.name: group.parameters for group in groups_of(optimizer, NAMES, declared)}


def test_an_optimiser_by_itself_has_one_group_without_a_name():
    assert chosen(optim.adam()) == {"": tuple(NAMES)}


def test_the_first_match_wins_and_groups_stand_in_the_order_of_their_patterns():
    rules = {"*_2.bias": optim.sgd(), "*.bias": "adam", "*": optim.adam()}
    assert chosen(optim.by_name(rules)) == {
        "*_2.bias": ("dense_2.bias",),
        "*.bias": ("dense_1.bias",),
        "*": ("dense_1.kernel", "dense_2.kernel"),
    }


def test_frozen_groups_are_one_at_the_end():
    rules = {"dense_1.kernel": optim.frozen(), "*.kernel": optim.sgd(), "dense_1.*": optim.frozen(), "*": optim.sgd()}
    assert chosen(optim.by_name(rules)) == {
        "*.kernel": ("dense_2.kernel",),
        "*": ("dense_2.bias",),
        "frozen": ("dense_1.kernel", "dense_1.bias"),
    }


def test_each_part_of_a_chain_may_choose():
    decay = optim.by_name({"*.bias": optim.l2(0.0), "*": optim.l2(0.1)})
    rate = optim.by_name({"dense_1.*": optim.sgd(0.1), "*": optim.sgd(1.0)})
    assert list(chosen(optim.chain(decay, rate))) == ["*.bias & dense_1.*", "*.bias & *", "* & dense_1.*", "* & *"]


FIRST = ("dense_1.kernel", "dense_1.bias")


def test_what_a_layer_declares_as_frozen_stays_so_unless_a_pattern_is_for_such_parameters_alone():
    assert chosen(optim.adam(), FIRST)["frozen"] == FIRST
    assert chosen(optim.by_name({"*.bias": optim.sgd(), "*": optim.adam()}), FIRST)["frozen"] == FIRST
    assert chosen(optim.by_name({"dense_2.*": optim.sgd()}), FIRST)["frozen"] == FIRST
    assert "frozen" not in chosen(optim.by_name({"dense_1.*": optim.sgd(), "*": optim.adam()}), FIRST)


def test_a_group_has_slots_of_its_own():
    groups = groups_of(optim.by_name({"*.bias": optim.sgd(0.1, momentum=0.9), "*": optim.adam()}), NAMES)
    assert [list(group.slots) for group in groups] == [["*.bias/velocity"], ["*/first", "*/second"]]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"dens_1.*": "sgd", "*": "adam"},
            r"'dens_1\.\*' matches no parameter; near: dense_1\.\w+, .* The parameters are dense_1\.kernel, ",
        ),
        ({"Dense_1.*": "sgd", "*": "adam"}, r"'Dense_1\.\*' matches no parameter"),
        ({"*": "sgd", "*.bias": "adam"}, r"earlier patterns \('\*'\) take all parameters that '\*\.bias' matches.*write it before"),
        ({"*.kernel": "sgd"}, r"matches the parameter 'dense_1\.bias' \(dense_1\.bias, dense_2\.bias\): add one, such as \"\*\""),
        ({"*": optim.frozen()}, "no parameter is trained: all of dense_1.kernel, dense_1.bias, dense_2.kernel, dense_2.bias are frozen"),
    ],
)
def test_patterns_that_do_not_fit_the_model(rules, message):
    with pytest.raises(ArgumentError, match=message):
        groups_of(optim.by_name(rules), NAMES)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "by_name takes a dict"),
        ([("*", "sgd")], "by_name takes a dict"),
        ({1: "sgd"}, "a pattern is text"),
        ({"*": 0.1}, "an optimiser is a name or made by"),
        ({"*": "adamm"}, "unknown optimiser 'adamm'"),
    ],
)
def test_what_is_no_rule(rules, message):
    with pytest.raises(ArgumentError, match=message):
        optim.by_name(rules)


PAIRS = ["actor.a.w", "actor.a.b", "target.a.w", "target.a.b"]


def test_parameters_follow_those_with_the_same_text_for_the_stars():
    trained, following = groups_of(optim.by_name({"target.*": optim.track("actor.*", 0.1), "*": optim.adam()}), PAIRS)
    assert trained.parameters == ("actor.a.w", "actor.a.b")
    assert (following.name, following.parameters, following.follows) == (
        "target.*",
        ("target.a.w", "target.a.b"),
        ("actor.a.w", "actor.a.b"),
    )
    (_, crossed) = groups_of(optim.by_name({"*.a.b": optim.track("*.a.w", 0.1), "*": optim.adam()}), PAIRS)
    assert crossed.follows == ("actor.a.w", "target.a.w")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"target.*": optim.track("actr.*", 0.1), "*": "sgd"},
            r"would follow 'actr\.a\.w', which does not exist; near: actor",
        ),
        ({"target.*": optim.track("actor.*", 0.1), "*.b": optim.frozen(), "*": "sgd"}, r"follow 'actor\.a\.b', which is not trained"),
        ({"*.w": optim.track("actor.*", 0.1), "*": "sgd"}, r"would follow 'actor\.actor\.a', which does not exist"),
        ({"target.*.*": optim.track("actor.*", 0.1), "*": "sgd"}, r"'target\.\*\.\*' cannot follow 'actor\.\*': both need as many \*"),
        ({"targe?.*": optim.track("actor.*", 0.1), "*": "sgd"}, r"'targe\?\.\*' cannot follow 'actor\.\*'"),
    ],
)
def test_what_cannot_be_followed(rules, message):
    with pytest.raises(ArgumentError, match=message):
        groups_of(optim.by_name(rules), PAIRS)


def test_track_stands_in_by_name_alone():
    with pytest.raises(ArgumentError, match="track stands in by_name"):
        groups_of(optim.track("actor.*", 0.1), PAIRS)


@pytest.mark.parametrize(("arguments", "message"), [(("a.*", 0.0), "rate"), (("a.*", 1.5), "up to 1"), ((3, 0.1), "the pattern is text")])
def test_arguments_of_track(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        optim.track(*arguments)


def test_a_vector_has_no_names_to_choose_by():
    with pytest.raises(ArgumentError, match="a vector has none: give the optimiser itself"):
        optim.apply_once(optim.by_name({"*": "sgd"}), np.ones(2), np.ones(2))
