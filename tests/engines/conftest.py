"""Trainers that run on a cluster and in this process, and faults that strike workers in the midst of a step."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import WorkerPlugin

import dagtrain as dt
from dagtrain.engines.client import wait_for_workers
from tests.step.remembering import Remembers


class Recipe:
    """A trainer, its data and how it is fitted; `inline` is the fingerprint that every engine must arrive at."""

    def __init__(self, name: str, digits: Any) -> None:
        self.name, self.digits = name, digits
        self.epochs, self.rows, self.batch_size = (3, len(digits.x), 256) if name == "plain" else (2, 196, 64)
        self._inline: Any = None

    def trainer(self, **options: Any) -> Any:
        """As yet untrained."""
        options = {"loss": "cross_entropy", "metrics": ["accuracy", "f1"], "shards": 8, **options}
        if self.name == "plain":
            model = dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dense(10)])
            return dt.Trainer(model, optimizer=dt.optim.adam(1e-2), **options)
        model = dt.nn.Sequential([dt.nn.BatchNorm(), Remembers(), dt.nn.Dense(1024, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(10)])
        return dt.Trainer(model, optimizer=dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2)), **options)

    def fit(self, trainer: Any, wrap: Any = lambda array: array, **options: Any) -> Any:
        """Train on the digits, or on what `wrap` makes of them."""
        x, y = (wrap(array[: self.rows]) for array in self.digits[:2])
        return trainer.fit(x, y, **{"epochs": self.epochs, "batch_size": self.batch_size, "verbose": 0, **options})

    @property
    def inline(self) -> Any:
        """History of the run in this process, with one thread."""
        if self._inline is None:
            self._inline = self.fit(self.trainer(engine="inline", threads=1))
        return self._inline


@pytest.fixture(scope="session")
def plain(digits: Any) -> Recipe:
    """All digits: six steps an epoch, the last one of 157 samples."""
    return Recipe("plain", digits)


@pytest.fixture(scope="session")
def mixed(digits: Any) -> Recipe:
    """States by each reduction, random numbers and a global norm; the last step of an epoch has 4 samples for 8 shards."""
    return Recipe("mixed", digits)


@pytest.fixture(params=["plain", "mixed"])
def recipe(request: pytest.FixtureRequest) -> Recipe:
    """Each of the two."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]  # pytest types it Any


# ---- faults


class Fault(WorkerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Strikes once on the whole cluster, when its subclass sees the moment; the file `mark` is there from then on."""

    def __init__(self, name: str, mark: str, strike: Callable[[], None]) -> None:
        self.name, self.mark, self.strike = name, mark, strike

    def strike_once(self) -> None:
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        self.strike()


@pytest.fixture
def plant(client: Any) -> Iterator[Callable[[Fault], str]]:
    """``plant(fault)`` puts a fault on every worker; gives its mark."""
    names = []

    def register(fault: Fault) -> str:
        names.append(fault.name)
        client.register_plugin(fault)
        return fault.mark

    yield register
    wait_for_workers(client, 3, 60)
    for name in reversed(names):
        client.unregister_worker_plugin(name)


@pytest.fixture
def killing(client: Any) -> Callable[[int], Callable[[], None]]:
    """``killing(others)``: a strike that kills the worker where it occurs with -9, after so many other workers."""

    def strike_of(others: int) -> Callable[[], None]:
        pids = list(client.run(os.getpid).values())

        def strike() -> None:
            for pid in [pid for pid in pids if pid != os.getpid()][:others]:
                with contextlib.suppress(ProcessLookupError):  # an earlier fault of this test was its end
                    os.kill(pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        return strike

    return strike_of
