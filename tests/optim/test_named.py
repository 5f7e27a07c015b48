"""Optimisers by name."""

import pytest

from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.optim import adam
from dagtrain.optim.named import OPTIMIZERS, find


def test_every_name_makes_its_optimiser_with_its_usual_rate():
    optimizers = {name: find(name) for name in OPTIMIZERS}
    assert {name: optimizer.name for name, optimizer in optimizers.items()} == {name: name for name in OPTIMIZERS}
    rates = {"sgd": 1e-2, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "adagrad": 1e-2, "adadelta": 1.0, "lamb": 1e-3, "lars": 1.0}
    rates |= {"amsgrad": 1e-3, "nadam": 2e-3, "radam": 1e-3, "lion": 1e-4}
    assert {name: optimizer.settings["learning_rate"] for name, optimizer in optimizers.items()} == rates


def test_options_are_passed_on():
    assert repr(find("adam", learning_rate=0.5, beta_1=0.8)) == repr(adam(0.5, 0.8))


def test_an_optimiser_is_returned_unchanged():
    optimizer = adam(0.1)
    assert find(optimizer) is optimizer


@pytest.mark.parametrize(("name", "ours"), [("Adam", "adam"), ("SGD", "sgd"), ("rms_prop", "rmsprop"), ("AdamW", "adamw")])
def test_other_spellings_are_taken(name, ours):
    assert find(name).name == ours


def test_errors():
    with pytest.raises(UnknownNameError, match="Did you mean 'rmsprop'"):
        find("rms_propp")
    with pytest.raises(ArgumentError, match="got a float"):
        find(0.1)
