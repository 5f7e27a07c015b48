"""Steps in buckets of lengths: as many positions as rows need, the same results, the same bits on every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data import BatchPlan, Buckets
from dagtrain.data.buckets import BucketOrder
from dagtrain.errors import ArgumentError, DataError, UnknownNameError

RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(1, 10, 90).astype("i4")
MASK = dt.text.mask_of(LENGTHS, 9)
X = {"frames": RANDOM.normal(size=(90, 9, 3)).astype("f4") * MASK[..., None], "lengths": LENGTHS}
Y = (X["frames"].sum(axis=-1) > 0).astype("i8")
BUCKETS = Buckets("x.lengths", (4, 9), columns=("x.frames", "y", "sample_weight"))


@dataclass(frozen=True)
class Running(dt.nn.Layer):
    """Two logits at each position, from the sums up to it."""

    dense: dt.nn.Layer
    positions: ClassVar[set[int]] = set()  # for which it was traced

    def forward(self, c: Any, frames: Any, lengths: Any) -> Any:
        Running.positions.add(frames.shape[1])
        return c(self.dense, np.cumsum(frames, axis=1))


def trainer(**options: Any) -> dt.Trainer:
    return dt.Trainer(Running(dt.nn.Dense(2)), loss="cross_entropy", optimizer="adam", metrics=["accuracy"], shards=3, **options)


def fit(one: dt.Trainer, shuffle: Any = BUCKETS, **options: Any) -> Any:
    return one.fit(X, Y, sample_weight=MASK, epochs=2, batch_size=20, shuffle=shuffle, verbose=0, **options)


def test_steps_are_computed_on_the_positions_that_they_need_and_padding_does_not_matter():
    Running.positions.clear()
    one, full = trainer(), trainer()
    history = fit(one)
    assert {4, 9} <= Running.positions
    plan = BatchPlan(90, 20, 3, 0, BucketOrder(BUCKETS, BUCKETS.numbers(LENGTHS)))
    with dt.Stepper(full) as steps:  # the same rows, with all positions
        logs = steps.run([np.concatenate(plan.step(*divmod(i, 5))) for i in range(10)], X, Y, sample_weight=MASK)
    np.testing.assert_allclose(one.parameters["dense"]["kernel"], full.parameters["dense"]["kernel"], rtol=1e-5)
    weight = [MASK[np.concatenate(plan.step(0, i))].sum() for i in range(5)]
    assert history.history["loss"][0] == pytest.approx(np.average([log["loss"] for log in logs[:5]], weights=weight), rel=1e-5)


def test_engines_give_the_same_bits(threads, tmp_path):
    reference = fit(trainer(engine="inline", threads=1)).fingerprint
    assert fit(trainer(engine="inline", threads=3)).fingerprint == reference
    assert fit(trainer(engine="scheduler", client=threads)).fingerprint == reference
    assert fit(trainer(engine="lanes", client=threads)).fingerprint == reference
    assert fit(trainer(engine="inline"), shuffle=True).fingerprint != reference
    first = trainer(engine="lanes", client=threads)
    first.fit(X, Y, sample_weight=MASK, epochs=1, batch_size=20, shuffle=BUCKETS, verbose=0, checkpoint=tmp_path)
    assert fit(trainer(engine="inline"), checkpoint=tmp_path, resume=True).fingerprint == reference


def test_an_epoch_has_each_row_once_and_few_batches_of_several_buckets():
    buckets = Buckets("x.1", (4, 6, 9), columns=("x.0",))
    numbers = buckets.numbers(LENGTHS)
    plan = BatchPlan(90, 20, 1, 5, BucketOrder(buckets, numbers))
    orders = [plan.order(epoch).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(90)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    mixed = [len(set(numbers[plan.step(0, i)[0]])) > 1 for i in range(plan.steps_per_epoch)]
    assert sum(mixed) <= 2
    assert BatchPlan(90, 20, 1, 5, BucketOrder(buckets, numbers)).order(1).tolist() == orders[1]
    assert [numbers[plan.step(e, 0)[0]].max() for e in range(6)] != [0] * 6  # short rows do not always come first


def test_mistakes_are_named():
    mistakes = [
        (lambda: Buckets("x.1", (9, 4), columns=("y",)), ArgumentError, "ends rise"),
        (lambda: Buckets("x.1", (), columns=("y",)), ArgumentError, "ends are whole numbers"),
        (lambda: Buckets("x.1", (4,), columns=()), ArgumentError, "names of those to cut"),
        (lambda: fit(trainer(), Buckets("x.length", (9,), columns=("y",))), DataError, "no column 'x.length': the columns are x.frames"),
        (lambda: fit(trainer(), Buckets("x.frames", (9,), columns=("y",))), DataError, "one whole number for each row"),
        (lambda: fit(trainer(), Buckets("x.lengths", (4,), columns=("y",))), DataError, r"shape \(9,\), and the last bucket ends at 4"),
        (lambda: fit(trainer(), "bucket"), UnknownNameError, "unknown shuffle"),
        (
            lambda: trainer().fit({**X, "lengths": LENGTHS + 5}, Y, shuffle=BUCKETS, sample_weight=MASK),
            DataError,
            "lengths are from 0 to 9",
        ),
        (lambda: trainer().fit(lambda: iter([(X, Y)]), shuffle=BUCKETS), ArgumentError, "shuffle goes with arrays"),
    ]
    for call, kind, message in mistakes:
        with pytest.raises(kind, match=message):
            call()
