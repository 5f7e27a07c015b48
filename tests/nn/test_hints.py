"""Names of other libraries lead to the names here."""

import pickle
import re

import pytest

from dagtrain import nn, optim
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.nn import activations, hints, initializers, losses, metrics
from dagtrain.optim.named import HINTS, OPTIMIZERS

TABLES = {
    "losses": (hints.LOSSES, losses.LOSSES),
    "metrics": (hints.METRICS, metrics.METRICS),
    "initializers": (hints.INITIALIZERS, initializers.INITIALIZERS),
    "activations": (hints.ACTIVATIONS, activations.ACTIVATIONS),
    "attributes": (hints.ATTRIBUTES, nn.__all__),
    "model": (hints.MODEL, dir(nn.Sequential)),
    "optimisers": (HINTS, OPTIMIZERS),
}


@pytest.mark.parametrize("table", TABLES)
def test_no_name_of_dagtrain_is_explained_as_foreign(table):
    pairs, known = TABLES[table]
    assert not set(pairs) & set(known)
    assert all(re.fullmatch("[a-z0-9]+", name) and not name.endswith("loss") for name in pairs)


@pytest.mark.parametrize("table", ["losses", "metrics", "initializers", "activations"])
def test_hints_name_what_there_is(table):
    pairs, known = TABLES[table]
    named = {name for hint in pairs.values() for name in re.findall(r"^'(\w+)'", hint)}
    assert named
    assert named <= set(known)


@pytest.mark.parametrize(("module", "pairs"), [(nn, hints.ATTRIBUTES), (optim, HINTS)], ids=["nn", "optim"])
def test_hints_call_what_there_is(module, pairs):
    module_name = module.__name__.rpartition(".")[2]
    named = {name for hint in pairs.values() for name in re.findall(rf"\b{module_name}\.(\w+)", hint)}
    assert named
    assert named <= set(module.__all__)


@pytest.mark.parametrize(
    ("find", "name", "ours"),
    [
        (losses.find, "sparse_categorical_crossentropy", "cross_entropy"),
        (losses.find, "categorical_crossentropy", "cross_entropy"),
        (losses.find, "BinaryCrossentropy", "binary_cross_entropy"),
        (losses.find, "MultiMarginLoss", "categorical_hinge"),
        (initializers.find, "kaiming", "he_uniform"),
    ],
)
def test_the_hint(find, name, ours):
    with pytest.raises(UnknownNameError, match=f"unknown [a-z]+ '{name}'. Here it is '{ours}'"):
        find(name)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("mse", "mean_squared_error"),
        ("MSELoss", "mean_squared_error"),
        ("MAE", "mean_absolute_error"),
        ("Huber", "huber"),
        ("smooth_l1", "huber"),
    ],
)
def test_names_of_losses_that_mean_the_same_are_taken(name, ours):
    assert losses.find(name) is losses.LOSSES[ours]


@pytest.mark.parametrize(
    ("find", "name", "option", "ours"),
    [
        (losses.find, "cross_entropy", "from_logits", "no option: outputs are logits"),
        (losses.find, "mse", "reduction", "no option: the loss is the mean"),
        (losses.find, "binary_cross_entropy", "pos_weight", "'positive_weight'"),
        (metrics.find, "f1", "threshold", "no option: the class"),
    ],
)
def test_options_of_losses_and_metrics(find, name, option, ours):
    with pytest.raises(UnknownNameError, match=f"unknown option of [a-z0-9_]+ '{option}'. Here it is {ours}"):
        find(name, **{option: 1})


def test_one_hot_targets_have_another_hint_than_labels():
    with pytest.raises(UnknownNameError, match="argmax"):
        losses.find("categorical_crossentropy")


@pytest.mark.parametrize(
    ("find", "name", "ours"),
    [
        (activations.find, "ReLU", activations.relu),
        (activations.find, "swish", activations.silu),
        (initializers.find, "GlorotUniform", initializers.glorot_uniform),
        (initializers.find, "kaiming_normal", initializers.he_normal),
    ],
)
def test_other_spellings_and_names_that_mean_the_same_are_taken(find, name, ours):
    assert find(name) is ours


@pytest.mark.parametrize(
    ("module", "name", "hint"), [(nn, "Linear", "nn.Dense"), (nn, "Precision", "see nn.metrics"), (optim, "SGD", "Did you mean 'sgd'")]
)
def test_attributes(module, name, hint):
    with pytest.raises(AttributeError, match=hint):
        getattr(module, name)


def test_what_is_no_name():
    with pytest.raises(UnknownNameError, match="activation"):
        activations.find(["relu"])
    with pytest.raises(ArgumentError, match="an initialiser is a name or a function"):
        initializers.find(["relu"])


def test_methods_of_models_in_other_libraries():
    model = nn.Sequential([nn.Dense(2)])
    with pytest.raises(AttributeError, match=r"unknown attribute of Sequential 'fit'. Here it is done by a trainer: dt.Trainer\(model"):
        model.fit  # noqa: B018  # looked up for its error
    assert not hasattr(model, "get_weights")
    assert pickle.loads(pickle.dumps(model)) == model
