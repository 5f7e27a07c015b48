"""The ledger counts exactly how often each sample was used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dagtrain as dt
from dagtrain.data import BatchPlan
from dagtrain.data.ledger import Entry, Ledger
from dagtrain.engines.engine import InlineEngine
from dagtrain.errors import ArgumentError, LedgerError

X, Y = np.random.default_rng(0).normal(size=(50, 3)).astype("f4"), np.arange(50) % 2


def new(engine: Any = "inline") -> Any:
    return dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", shards=3, engine=engine)


def used(*epochs: list[int], samples: int = 6, ended: bool = True, **options: Any) -> Ledger:
    ledger = Ledger(**options)
    for epoch, rows in enumerate(epochs):
        ledger.open(epoch, samples)
        ledger.use(epoch, np.array(rows, int))
        if ended:
            ledger.close(epoch)
    return ledger


def test_a_fit_uses_every_sample_once_an_epoch() -> None:
    trainer = new()
    trainer.fit(X, Y, epochs=3, batch_size=16, verbose=0)
    ledger = trainer.ledger()
    assert ledger.epochs == [0, 1, 2]
    assert all(ledger.complete(e) and ledger.counts(e).tolist() == [1] * 50 for e in ledger.epochs)
    ledger.verify()
    assert "epoch 2 complete, each of 50 samples used once" in repr(ledger)


def test_an_epoch_of_a_checkpoint_takes_no_memory_for_its_samples() -> None:
    """A checkpoint may claim more samples than memory can hold."""
    ledger = Ledger()
    ledger.restore([Entry(0, 1 << 40, True, ())])
    ledger.verify()
    assert ledger.counts(0)[-1] == 1


def test_the_last_few_epochs_are_kept() -> None:
    trainer = new()
    trainer.fit(X, Y, epochs=11, batch_size=25, verbose=0)
    assert trainer.ledger().epochs == list(range(3, 11))
    trainer = new()
    trainer.ledger().keep = 2
    trainer.fit(X, Y, epochs=11, batch_size=25, verbose=0)
    assert trainer.ledger().epochs == [9, 10]
    with pytest.raises(ArgumentError, match="holds no epoch 8; it holds 9, 10"):
        trainer.ledger().counts(8)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 1, 2, 3, 4], "epoch 1, of 6 samples, 1 left out: 5"),
        ([0, 1, 2, 3, 4, 5, 3], "epoch 1, of 6 samples, 1 used twice: 3"),
        ([0, 0, 2, 2, 2], "4 left out: 1, 3, 4, 5 and 2 used twice: 0, 2"),
        ([], "6 left out: 0, 1, 2, 3, 4, …"),
    ],
)
def test_wrong_samples_are_named(rows: list[int], message: str) -> None:
    ledger = used([5, 4, 3, 2, 1, 0], rows)
    assert ledger.complete(0)
    assert not ledger.complete(1)
    with pytest.raises(LedgerError, match=message):
        ledger.verify()


def test_an_epoch_under_way_may_lack_samples_and_not_repeat_them() -> None:
    used([1, 2], ended=False).verify()
    with pytest.raises(LedgerError, match="1 used twice: 2"):
        used([1, 2, 2], ended=False).verify()


def test_counts_do_not_overflow() -> None:
    ledger = used([], ended=False)
    for _ in range(300):
        ledger.use(0, np.array([1]))
    assert ledger.repeated(0).tolist() == [1]
    assert ledger.counts(0)[1] == 255


def test_samples_of_steps_that_do_not_count_are_forgotten() -> None:
    ledger = used([1], ended=False, at_once=1)
    pages = ledger.pages()
    for _ in range(2):
        ledger.use(0, np.array([2, 3]))
        ledger.open(1, 6)
        ledger.use(1, np.array([5]))
        ledger.go_back(pages)
        assert ledger.epochs == [0]
        assert ledger.counts(0).tolist() == [0, 1, 0, 0, 0, 0]


@given(st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=1, max_size=4), st.integers(0, 6))
def test_a_checkpoint_restores_it(epochs: list[list[int]], done: int) -> None:
    """For any use of samples, by the plan or not."""
    *ended, under_way = epochs
    ledger = used(*ended)
    ledger.open(len(ended), 6)
    ledger.use(len(ended), np.array(under_way, int))
    plan = [np.arange(done)]
    again = Ledger()
    again.restore(ledger.entries(plan))
    again.open(len(ended), 6, plan)
    assert again.epochs == ledger.epochs
    assert all(np.array_equal(again.counts(e), ledger.counts(e)) for e in ledger.epochs)
    assert again.entries(plan) == ledger.entries(plan)


class Careless(InlineEngine):
    """Omits a shard, or runs one twice, and reports what it did."""

    def __init__(self, rows: Any) -> None:
        super().__init__(1)
        self.rows = rows

    def session(self, program: Any, source: Any, exact: bool = False) -> Any:
        session = super().session(program, source, exact)
        run = session.run  # type: ignore[attr-defined]

        def careless(start: Any, steps: Any) -> Any:
            return run(start, replace(steps, at=lambda i: self.rows(i, steps.at(i))))

        session.run = careless  # type: ignore[attr-defined]
        return session


def test_an_engine_that_uses_other_samples_than_planned_is_detected() -> None:
    """The ledger counts reported samples, so a correct plan does not hide the engine's fault."""
    engine = Careless(lambda i, batch: (batch[1], *batch[1:]) if i == 1 else batch)
    trainer = new(engine)
    trainer.fit(X, Y, batch_size=16, verbose=0)
    plan = BatchPlan(50, 16, 3, seed=0).step(0, 1)
    assert trainer.ledger().repeated(0).tolist() == sorted(plan[1])
    assert trainer.ledger().missing(0).tolist() == sorted(plan[0])
    with pytest.raises(LedgerError):
        trainer.ledger().verify()
