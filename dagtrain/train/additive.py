"""Whether the user's cost, loss and metrics add up over rows, as training needs it: checked before the first step.

    sums(rows)  =  sums(some of them) + sums(others)

One number for a batch counts as a mean, so its sum is that number times the rows. A sum over the rows is no mean, nor is a masked sum
divided by the sum of its own mask: their values would depend on the number of shards and on the batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from dagtrain.backends.blas import guard
from dagtrain.data.columns import Rows
from dagtrain.data.source import Source
from dagtrain.errors import NotScalarError
from dagtrain.nn.losses import LOSSES
from dagtrain.nn.metrics import METRICS
from dagtrain.step.model import ModelObjective
from dagtrain.step.objective import Objective
from dagtrain.step.program import Program
from dagtrain.step.scores import Scorer
from dagtrain.step.state import State

__all__ = ["check_additive"]

PIECES = (1, 2, 5, 8, 16)
"""Rows of the pieces that a group of rows is cut into: small and uneven, so that a value that depends on the batch shows."""
GROUPS = 8
"""Most groups."""
TOLERANCE = 1e-4
"""Relative: the rounding of float32, far below the error of a sum that is taken for a mean."""


def check_additive(program: Program, source: Source, state: State) -> None:
    """Raise NotScalarError unless the sums of loss and metrics over groups of rows are those over their pieces, in evaluation.

    The parameters are moved by fixed random numbers: at the first or the final ones, a cost may add up by chance.
    """
    rows, objective = min(source.samples, GROUPS * sum(PIECES)), program.objective
    if isinstance(objective, ModelObjective) and not {head.name for head in objective.heads} - objective.training_only(source.columns.x):
        return  # evaluation has no loss
    if rows < 2 or objective.random or not _has_functions_of_the_user(objective) or (objective.coupled and len(program.reported) == 1):
        return
    ends = [0, *sorted({min(end, rows) for end in accumulate(PIECES)})]
    columns, size = source.some(rows), ends[-1]
    scorer = program.scorer({size, *(b - a for a, b in pairwise(ends))})
    moved = state.copy()
    moved.parameters += np.random.default_rng(0).standard_normal(len(moved.parameters)).astype(moved.parameters.dtype) / 10
    for begin in range(0, rows - size + 1, size):
        group = tuple(column[begin : begin + size] for column in columns)
        for each in (moved, state):  # where the moved ones give no numbers, the others may
            _check(program, scorer, each, group, ends)


def _check(program: Program, scorer: Scorer, state: State, group: Rows, ends: Sequence[int]) -> None:
    with guard():
        whole = scorer.score(state, group).sums
        parts = np.array([scorer.score(state, tuple(column[a:b] for column in group)).sums for a, b in pairwise(ends)])
    total = parts.sum(axis=0)
    wrong = np.abs(whole - total) > TOLERANCE * (np.abs(whole) + np.abs(parts).sum(axis=0) + 0.01 * ends[-1])
    wrong |= np.isfinite(whole) != np.isfinite(total)  # where neither is finite, training names the op
    for figure in program.reported:
        name, is_loss = figure.name, figure.name == "loss" or figure.name.endswith("_loss")
        if figure.training_only or (is_loss and program.objective.coupled):
            continue
        if wrong[figure.parts].any():
            what = "the cost" if name == "loss" else f"{'the loss' if is_loss else 'the metric'} {name!r}"
            one, several = (np.array2string(np.asarray(program.evaluated(sums)[name]), precision=6) for sums in (whole, total))
            rows = ", ".join(str(b - a) for a, b in pairwise(ends))
            raise NotScalarError(
                f"{what} does not add up over rows: it is {one} for {ends[-1]} rows, but {several} by the sums over their parts of {rows} "
                "rows. So it would depend on the number of shards. One number for a batch must be the mean over its rows; else return one "
                "value a row, or a pair (sum, weight), as in np.sum(mask * errors), np.sum(mask). For a cost that couples rows on purpose, "
                "pass Trainer(..., coupled=True): it is then computed in each shard alone."
            )


def _has_functions_of_the_user(objective: Objective) -> bool:
    """Whether a loss or a metric may not add up; those of dagtrain do."""
    if not isinstance(objective, ModelObjective):
        return True
    known = {loss.function for loss in LOSSES.values()} | {metric.parts for metric in METRICS.values()}
    return any(
        _plain(call) not in known
        for call in (*(loss.function for loss in objective.losses), *(metric.parts for metric in objective.metrics))
    )


def _plain(call: Any) -> Any:
    """The function that gives the values of a loss or the parts of a metric, without its options."""
    keywords = getattr(call, "keywords", {})
    return _plain(keywords["loss"].function) if "loss" in keywords else getattr(call, "func", call)
