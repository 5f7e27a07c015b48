"""Whether the user's cost, loss and metrics add up over rows, as training needs it: checked before the first step.

    sums(all rows)  =  sums(first rows) + sums(other rows)

One number for a batch counts as a mean, so its sum is that number times the rows. A sum over the rows is no mean, nor is a masked sum
divided by the sum of its own mask: their values would depend on the number of shards and on the batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.data.source import Source
from dagtrain.errors import NotScalarError
from dagtrain.nn.losses import LOSSES
from dagtrain.nn.metrics import METRICS
from dagtrain.plan.blas import guard
from dagtrain.step.objective import ModelObjective, Objective
from dagtrain.step.program import Program
from dagtrain.step.state import State

__all__ = ["check_additive"]

ROWS = 256
"""Most rows of the check."""
TOLERANCE = 1e-3
"""Relative: beyond the rounding of float32, and far below the error of a sum that is taken for a mean."""


def check_additive(program: Program, source: Source, state: State) -> None:
    """Raise NotScalarError unless loss and metrics add up over the first rows and two unequal parts of them, in evaluation."""
    rows = min(source.samples, ROWS)
    if rows < 2 or program.objective.coupled or not _has_functions_of_the_user(program.objective):
        return
    columns, cut = source.head(rows), max(rows // 3, 1)
    scorer = program.scorer((rows, cut, rows - cut))
    with guard():
        whole, first, other = (scorer.score(state, tuple(c[part] for c in columns)) for part in (np.s_[:], np.s_[:cut], np.s_[cut:]))
    size = np.abs(whole) + np.abs(first) + np.abs(other)
    wrong = np.abs(whole - first - other) > TOLERANCE * size  # NaN is not wrong here: training names the op that made it
    for name, part in zip(program.names, program.slices, strict=True):
        if wrong[part].any():
            values = [np.array2string(np.asarray(program.values(sums)[name]), precision=6) for sums in (whole, first, other, first + other)]
            what = "the cost" if name == "loss" else f"the metric {name!r}"
            raise NotScalarError(
                f"{what} does not add up over rows: it is {values[0]} for the first {rows} rows, but {values[1]} for {cut} of them and "
                f"{values[2]} for the rest, together {values[3]}. So it would depend on the number of shards. One number for a batch must "
                "be the mean over its rows; else return one value a row, or a pair (sum, weight), as in np.sum(mask * errors), "
                "np.sum(mask). For a cost that couples rows on purpose, pass Trainer(..., coupled=True): it is then computed in each "
                "shard alone."
            )


def _has_functions_of_the_user(objective: Objective) -> bool:
    """Whether a loss or a metric may not add up; those of dagtrain do."""
    if not isinstance(objective, ModelObjective):
        return True
    known = {loss.function for loss in LOSSES.values()} | {metric.parts for metric in METRICS.values()}
    return any(_plain(call) not in known for call in (objective.loss.function, *(metric.parts for metric in objective.metrics)))


def _plain(call: Any) -> Any:
    """The function that gives the values of a loss or the parts of a metric, without its options."""
    keywords = getattr(call, "keywords", {})
    return _plain(keywords["loss"].function) if "loss" in keywords else getattr(call, "func", call)
