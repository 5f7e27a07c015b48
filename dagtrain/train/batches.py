"""Batches that come one after the other, for a trainer: opened for a fit, evaluated, predicted.

Evaluation cuts their rows into the same pieces as those of arrays, across batches, so it has the same bits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.backends.blas import guard
from dagtrain.data.batches import check_shuffle
from dagtrain.data.class_weights import weigh_classes
from dagtrain.data.columns import Columns, Rows
from dagtrain.data.open import open_source
from dagtrain.data.rounds import BatchStream
from dagtrain.data.source import Source
from dagtrain.data.stream import BatchReader, is_iterator, is_stream, open_iterator
from dagtrain.engines.engine import Session
from dagtrain.errors import ArgumentError, DataError
from dagtrain.step.objective import Objective
from dagtrain.step.program import Program
from dagtrain.step.scores import EVALUATED, Scores, join_scores
from dagtrain.step.state import State
from dagtrain.trace.tree import flatten, unflatten
from dagtrain.train.names import bind_inputs, for_evaluation
from dagtrain.train.predict import Predictor
from dagtrain.train.rows import check_alike, open_rows

__all__ = [
    "Batches",
    "check_arguments",
    "evaluate",
    "only_for_arrays",
    "open_batches",
    "predict_batches",
    "refuse_arrays",
    "validation_batches",
]

INSTEAD = {
    "y": "each batch brings its own, as in yield x, y",
    "sample_weight": "each batch brings its own, as in yield x, y, sample_weight",
    "batch_size": "each batch is one step. Yield batches of that size",
    "shuffle": "its batches are taken as they come. Shuffle where they are made: a function with an argument gets the number of the "
    "epoch, as in def batches(epoch): order = np.random.default_rng(epoch).permutation(n)",
    "validation_split": "its end is not known. Give arrays, or a function of other batches, as validation_data",
    "class_weight": "the labels of all batches are not known yet. Give the weight of each label, as in class_weight={0: 1.0, 1: 3.0}",
}
"""Arguments that go with arrays, and what to do instead with a stream."""


def check_arguments(x: Any, steps_per_epoch: int | None, epochs: int, resume: bool, arguments: Mapping[str, Any]) -> None:
    """Raise ArgumentError for arguments of fit that do not go with x, an array or a stream."""
    if not is_stream(x):
        if steps_per_epoch is not None:
            raise ArgumentError(
                "steps_per_epoch cuts a stream into epochs; an epoch of arrays uses every sample once. Leave it out, or give batches: a "
                "function that yields (x, y), or an iterator."
            )
        return
    refuse_arrays(**arguments)
    if steps_per_epoch is not None:
        whole("steps_per_epoch", steps_per_epoch)
    if is_iterator(x) and resume:
        raise ArgumentError(
            "resume=True reads the epoch under way from its beginning, which an iterator cannot give again: give a function of batches, "
            "as in fit(batches, resume=True) instead of fit(batches(), resume=True)."
        )
    if is_iterator(x) and steps_per_epoch is None and epochs > 1:
        raise ArgumentError(
            f"an iterator can be read once, so epochs={epochs} need the steps of each: fit(batches(), steps_per_epoch=100, ...). "
            "Or give the function that makes it, which is called for each epoch: fit(batches, ...)."
        )


def refuse_arrays(**arguments: Any) -> None:
    """Raise ArgumentError if one of these arguments is given with a stream."""
    for name, value in arguments.items():
        if value is not None:
            raise ArgumentError(f"{name} goes with arrays, and x is a stream of batches: {INSTEAD[name]}.")


def only_for_arrays(
    y: Any, sample_weight: Any, batch_size: int | None, shuffle: Any, validation_split: float, class_weight: Any
) -> dict[str, Any]:
    """The values of arguments that go with arrays alone; None for those that say nothing."""
    by_output = class_weight.values() if isinstance(class_weight, Mapping) else [class_weight]
    ordered = shuffle is None or check_shuffle(shuffle) == "none"
    return {
        "y": y,
        "sample_weight": sample_weight,
        "batch_size": batch_size,
        "shuffle": None if ordered else shuffle,
        "validation_split": validation_split or None,
        "class_weight": next((weights for weights in by_output if isinstance(weights, str)), None),
    }


def open_batch(
    objective: Objective,
    class_weight: Mapping[float, float] | None,
    training_only: Collection[str],
    x: Any,
    y: Any,
    weight: Any,
    expected: Columns | None,
) -> Source:
    """The source of one batch, with the columns of the trainer or of the batches before."""
    source = open_rows(objective, x, y, weight, expected, training_only)
    if class_weight is not None:
        source = weigh_classes(source, class_weight, objective.dtype, whole=False)
    if expected is not None:
        check_alike(expected, source.columns)
    return source


def open_batches(
    objective: Objective,
    batches: Any,
    shards: Any,
    steps: int | None,
    class_weight: Any,
    expected: Columns | None,
    epoch: int,
    earlier: BatchStream | None,
) -> BatchStream:
    """The stream of a fit, which goes on from an `earlier` one of the same iterator."""
    stream = BatchStream(batches, partial(open_batch, objective, class_weight, ()), shards, steps, expected, epoch=epoch)
    stream.class_weight = class_weight
    if earlier is not None and stream.once and earlier.batches is stream.batches:
        if earlier.pulled and earlier.class_weight != class_weight:
            raise ArgumentError(
                f"{earlier.pulled} batches of this iterator were read ahead with class_weight={earlier.class_weight}: give the same, or "
                "another iterator."
            )
        stream.adopt(earlier)
    return stream


@dataclass(frozen=True)
class Batches:
    """A stream to evaluate, as often as it can be read."""

    objective: Objective
    batches: Any
    columns: Columns
    name: str = "batch"

    def read(self) -> BatchReader:
        """The rows of each batch, from the beginning."""
        columns, training_only = for_evaluation(self.objective, self.columns)
        open_one = partial(open_batch, self.objective, None, training_only)
        return BatchReader(open_iterator(self.batches), open_one, columns, name=self.name)

    def scores(self, program: Program, state: State) -> Scores:
        """The scores of all rows, computed in this process: the bits are those of the same rows as arrays."""
        reader = self.read()
        scores = []
        with guard():
            for rows in pieces(reader, EVALUATED):
                assert reader.form is not None, "a batch was read"
                scores.append(program.scorer([len(rows[0])], reader.form.columns).score(state, rows))
        if not scores:
            raise DataError(f"there is no {self.name}: the iterator ended before the first one.")
        return join_scores(scores)


def validation_batches(objective: Objective, batches: Any, columns: Columns) -> Batches:
    """A stream to evaluate after each epoch; its first batch is checked now."""
    if is_iterator(batches):
        raise ArgumentError("validation_data is used after each epoch, and an iterator can be read once: give a function of batches.")
    stream = Batches(objective, batches, columns, "validation_data: batch")
    if next(stream.read(), None) is None:
        raise DataError("validation_data has no batches: its iterator ended before the first one.")
    return stream


def pieces(batches: Iterator[Rows], size: int) -> Iterator[Rows]:
    """The rows of all batches in pieces of this size, and a last one of the rest.

    Examples
    --------
    >>> [piece[0].tolist() for piece in pieces(iter([(np.arange(3),), (np.arange(3, 5),)]), 2)]
    [[0, 1], [2, 3], [4]]
    """
    waiting: Rows = ()
    for rows in batches:
        waiting = tuple(map(np.concatenate, zip(waiting, rows, strict=True))) if waiting else rows
        full = len(waiting[0]) // size * size
        for start in range(0, full, size):
            yield tuple(column[start : start + size] for column in waiting)
        waiting = tuple(column[full:] for column in waiting)
    if waiting and len(waiting[0]):
        yield waiting


def evaluate(session: Session, program: Program, data: Source | Batches, state: State) -> Scores:
    """The scores of all rows of a source or a stream."""
    return data.scores(program, state) if isinstance(data, Batches) else session.evaluate(data, state)


def predict_batches(program: Program, batches: Any, predictor: Predictor) -> Any:
    """The outputs for the rows of all batches, each computed as a partition."""

    def open_x(x: Any, y: Any, weight: Any, expected: Columns | None) -> Source:
        x = bind_inputs(program.objective, x, program.columns)
        source = open_source(x, targets=None, dtype=program.objective.dtype, expected=expected)
        check_alike(program.columns, source.columns, ["x"])
        return source

    outputs = [predictor.compute(*rows) for rows in BatchReader(open_iterator(batches), open_x, program.columns, only_x=True)]
    if not outputs:
        raise DataError("there are no batches: the iterator ended before the first one.")
    parts = zip(*(flatten(output)[0].values() for output in outputs), strict=True)
    return unflatten(predictor.structure, [np.concatenate(part) for part in parts])
