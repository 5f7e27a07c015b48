"""Networks that everyone knows: the parameters and operations that their papers and the field count."""

import re

import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError

# Table 1 of arXiv:1409.4842: weights without biases, biases, millions of multiplications with an addition. Exact by the channels; three of
# the own counts of the table are not.
GOOGLENET = {
    "conv_1": (9_408, 64, 118),
    "conv_2": (114_688, 256, 360),
    "inception_3a": (163_328, 368, 128),
    "inception_3b": (388_096, 640, 304),
    "inception_4a": (375_552, 624, 74),
    "inception_4b": (448_512, 648, 88),
    "inception_4c": (509_440, 664, 100),
    "inception_4d": (604_672, 704, 119),
    "inception_4e": (867_328, 1_024, 170),
    "inception_5a": (1_042_432, 1_024, 51),
    "inception_5b": (1_442_816, 1_264, 71),
    "logits": (1_024_000, 1_000, 1),
}


@pytest.mark.slow
def test_googlenet_has_the_parameters_and_operations_of_its_paper():
    model = nn.models.GoogLeNet(classes=1000)
    summary = model.summary()
    parameters, macs = dict.fromkeys(GOOGLENET, 0), dict.fromkeys(GOOGLENET, 0.0)
    for row in summary.rows:
        layer = row.name.partition("/")[0].removesuffix("_reduce")
        if layer in GOOGLENET:
            parameters[layer] += row.parameters
            macs[layer] += row.macs / 1e6
    assert parameters == {name: weights + biases for name, (weights, biases, _) in GOOGLENET.items()}
    assert {name: round(count) for name, count in macs.items()} == {name: count for name, (_, _, count) in GOOGLENET.items()}
    heads = [sum(row.parameters for row in summary.rows if row.name.startswith(head)) for head in ("aux1/", "aux2/")]
    assert heads == [3_188_840, 3_190_888]
    assert summary.parameters == 13_378_280
    assert nn.models.GoogLeNet(auxiliary=False).summary().parameters == 6_998_552
    # With batch normalisation, scale and offset are in the place of the bias of each of its filters.
    filters = sum(biases for _, biases, _ in GOOGLENET.values()) - 1000
    assert nn.models.GoogLeNet(auxiliary=False, batch_norm=True).summary().parameters == 6_998_552 + filters
    # Evaluation computes nothing of the heads.
    assert all(row.flops == 0 for row in summary.rows if row.name.startswith("aux"))


@pytest.mark.parametrize(
    ("model", "parameters", "macs"),
    [
        (nn.models.LeNet5(), 61_706, 25 * 784 * 6 + 150 * 100 * 16 + 400 * 120 + 120 * 84 + 84 * 10),
        (nn.models.LeNet5(input_shape=(32, 32, 1)), 61_706, 25 * 784 * 6 + 150 * 100 * 16 + 400 * 120 + 120 * 84 + 84 * 10),
        (nn.models.MLP((256, 128), input_shape=(784,)), 235_146, 784 * 256 + 256 * 128 + 1280),
        (nn.models.ResNet(), 272_474, 40_813_184),
    ],
)
def test_parameters_and_operations(model, parameters, macs):
    assert (model.summary().parameters, model.summary().macs) == (parameters, macs)


def test_a_residual_network_learns(digits):
    model = nn.models.ResNet((1, 1), 8, input_shape=(8, 8, 1))
    x, y = digits.x[:200].reshape(-1, 8, 8, 1), digits.y[:200]
    losses = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-2), shards=1).fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]


def test_pictures_have_a_box_for_each_module_and_the_heads_in_training_alone():
    model = nn.models.GoogLeNet(10, (64, 64, 3), width=0.1)
    shown = model.visualize().dot
    assert all(name in shown for name in GOOGLENET)
    assert "aux1" not in shown
    assert "aux1" in model.visualize(training=True).dot
    picture = nn.models.ResNet((1,), 4).visualize(collapse=True)
    titles = re.findall("<B>(.*?)</B>", picture.dot)
    assert not any(title.startswith("statistics") for title in titles)  # they belong to their layers


def test_widths_that_are_none_are_refused():
    with pytest.raises(ArgumentError, match=r"MLP: units is a list of whole numbers from 1 up, as \[64, 64\], got 64"):
        nn.models.MLP(64)
    with pytest.raises(ArgumentError, match=r"ResNet: blocks is a list .*got 18"):
        nn.models.ResNet(18)
    with pytest.raises(ArgumentError, match="GoogLeNet: width must be a finite number above 0"):
        nn.models.GoogLeNet(width=0)
