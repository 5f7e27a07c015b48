"""A model of layers of many kinds, on pictures that change at random: the same bits on every engine, and back from a checkpoint."""

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.data import moments
from dagtrain.errors import ArgumentError


def doubled(x):
    return 2 * x


def network(x):
    statistics = moments(x)
    block = nn.Sequential([nn.GroupNorm(2), nn.Dense(8, "mish"), nn.GaussianDropout(0.1), nn.Dense(8)])
    pixels = [nn.RandomBrightness(0.1, None), nn.RandomContrast(0.2, None), nn.Cutout(2)]
    places = [nn.RandomFlip("horizontal"), nn.RandomAffine(0.03, 0.1, 0.1, 0.1, 0.1), nn.ZeroPadding2D(1), nn.RandomCrop(8, 8)]
    layers = [
        nn.Normalization(statistics.mean, statistics.variance),
        nn.Reshape((8, 8, 1)),
        *places,
        *pixels,
        nn.CutMix(),
        nn.Rescaling(0.5),
        nn.GaussianNoise(0.1),
        nn.Reshape((8, 8)),
        nn.Permute((2, 1)),
        nn.SpatialDropout1D(0.2),
        nn.Residual(block),
        nn.LayerNorm(axis=(1, 2)),
        nn.PReLU(),
        nn.Residual(nn.Dense(4), nn.Dense(4)),
        nn.RMSNorm(),
        nn.BatchNorm(center=False),
        nn.LeakyReLU(0.1),
        nn.ELU(),
        nn.Lambda(doubled),
        nn.Flatten(),
        nn.Dense(10),
    ]
    return nn.Sequential(layers)


@pytest.mark.slow
def test_the_engines_give_the_same_bits(client, digits, tmp_path):
    x, y = digits.x[:96], digits.y[:96]
    trainers = {
        engine: dt.Trainer(network(data), loss="cross_entropy", optimizer=dt.optim.averaged("nadam"), shards=4, engine=engine)
        for engine, data in (("inline", x), ("lanes", da.from_array(x, chunks=(35, 64))), ("scheduler", x))
    }
    histories = {engine: trainer.fit(x, y, epochs=1, batch_size=32, verbose=0) for engine, trainer in trainers.items()}
    assert len({history.fingerprint for history in histories.values()}) == 1
    averages = [trainer.weights("average")["dense_1.kernel"] for trainer in trainers.values()]
    assert all(np.array_equal(average, averages[0]) for average in averages)
    trainers["inline"].save(tmp_path / "run")
    loaded = dt.load(tmp_path / "run", custom={"doubled": doubled})
    assert np.array_equal(loaded.predict(x, weights="average"), trainers["lanes"].predict(x, weights="average"))
    with pytest.raises(ArgumentError, match="doubled"):
        dt.load(tmp_path / "run")


def test_a_function_without_a_name_is_not_saved(tmp_path):
    trainer = dt.Trainer(nn.Sequential([nn.Lambda(lambda x: 2 * x), nn.Dense(2)]), loss="cross_entropy", engine="inline")
    with pytest.raises(ArgumentError, match=r"a checkpoint cannot hold layers\[0\].function, <function .*Write a function with def"):
        trainer.fit(np.ones((4, 3)), np.arange(4) % 2, verbose=0, checkpoint=tmp_path)
