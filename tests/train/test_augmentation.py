"""A network of pictures that are changed at random: the same bits on every engine."""

import pytest

import dagtrain as dt
from dagtrain import nn


def network():
    pixels = [nn.RandomBrightness(0.1, None), nn.RandomContrast(0.2, None), nn.GaussianNoise(0.05), nn.Cutout(2)]
    places = [nn.RandomFlip("horizontal"), nn.RandomAffine(0.03, 0.1, 0.1, 0.1, 0.1), nn.ZeroPadding2D(1), nn.RandomCrop(8, 8)]
    return nn.Sequential([nn.Rescaling(1 / 16), *places, *pixels, nn.MixUp(0.4), nn.Conv2D(4, 3, "relu"), nn.Flatten(), nn.Dense(10)])


@pytest.mark.slow
def test_the_engines_give_the_same_bits(client, digits):
    x, y = digits.x[:96].reshape(-1, 8, 8, 1), digits.y[:96]
    trainers = {engine: dt.Trainer(network(), loss="cross_entropy", shards=4, engine=engine) for engine in ("inline", "lanes", "scheduler")}
    histories = {engine: trainer.fit(x, y, epochs=2, batch_size=32, verbose=0) for engine, trainer in trainers.items()}
    assert len({history.fingerprint for history in histories.values()}) == 1
