"""Data and trainers of the tests of training: small, each with a feature that could change bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import dagtrain as dt

Fit = Callable[..., Any]


def plain(**options: Any) -> Any:
    """A network of two layers, trained by Adam."""
    model = dt.nn.Sequential([dt.nn.Dense(32, "relu"), dt.nn.Dense(10)])
    return dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-2), metrics=["accuracy"], **{"shards": 8, **options})


def mixed(**options: Any) -> Any:
    """A network with running statistics, random numbers, and an update that needs a norm over all blocks."""
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(1024, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(10)]
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2))
    return dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], **{"shards": 8, **options})


@pytest.fixture(scope="session", params=["plain", "mixed"])
def make(request: pytest.FixtureRequest) -> Fit:
    """Each of the trainers; `mixed` has more parameters than one block of the update."""
    return {"plain": plain, "mixed": mixed}[request.param]


@pytest.fixture(scope="session")
def fit_digits(digits: Any) -> Fit:
    """Fit a trainer on the first 516 digits for 3 epochs: the ninth step of each has 4 samples for 8 shards."""

    def fit(trainer: Any, *, rows: int = 516, epochs: int = 3, batch_size: int = 64, **options: Any) -> Any:
        return trainer.fit(digits.x[:rows], digits.y[:rows], epochs=epochs, batch_size=batch_size, verbose=0, **options)

    return fit
