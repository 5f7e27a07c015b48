"""Loss and metrics over data that lies elsewhere: partition by partition, to the same bits as over the whole.

partitions   │ 700 rows │ 700 │ 700 │          one task for each fixed piece of 1,024 rows, from the partitions that hold them;
pieces       │ 1024     │ 1024 │ 52 │          the sums of the pieces are added in order
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.plan.blas import one_blas_thread
from dagtrain.train.state import State
from dagtrain.train.step import Program, Scorer, evaluation_pieces

__all__ = ["evaluate_partitions", "partition_cuts"]

Array = np.ndarray[Any, Any]
Cut = tuple[int, int, int]


def evaluate_partitions(program: Program, source: Any, state: State) -> list[Array]:
    """Sums of loss and metrics over each fixed piece of the rows, computed where the scheduler in use computes.

    A partition is let go when the pieces that need it are done.
    """
    from dask.task_spec import DataNode, Task, TaskRef

    graph, data = source.tasks()
    pieces = evaluation_pieces(source.samples)
    scorer = program.for_evaluation([p.stop - p.start for p in pieces])
    name = f"evaluate-{state.fingerprint[:8]}-{data[0][0]}"
    tasks: dict[Any, Any] = {f"scorer-{name}": DataNode(f"scorer-{name}", scorer), f"state-{name}": DataNode(f"state-{name}", state.copy())}
    leading = [TaskRef(key) for key in tasks]
    for i, cuts in enumerate(partition_cuts(pieces, source.sizes)):
        rows = DataNode(None, [(a, b) for _, a, b in cuts])
        tasks[name, i] = Task((name, i), score_task, *leading, rows, *(TaskRef(data[p]) for p, _, _ in cuts))
    with one_blas_thread():
        return list(source.compute({**graph, **tasks}, [(name, i) for i in range(len(pieces))]))


def partition_cuts(pieces: Sequence[slice], sizes: Sequence[int]) -> list[list[Cut]]:
    """For each piece of consecutive rows, the partitions that hold it, and from which of their rows to below which.

    Examples
    --------
    >>> partition_cuts([slice(0, 4), slice(4, 6)], sizes=(3, 3))
    [[(0, 0, 3), (1, 0, 1)], [(1, 1, 3)]]
    """
    ends = np.cumsum(sizes)
    found = []
    for piece in pieces:
        first, last = np.searchsorted(ends, [piece.start, piece.stop - 1], side="right")
        starts = {int(p): int(ends[p] - sizes[p]) for p in range(first, last + 1)}
        found.append([(p, max(piece.start - start, 0), min(piece.stop - start, sizes[p])) for p, start in starts.items()])
    return found


def score_task(scorer: Scorer, state: State, rows: Sequence[tuple[int, int]], *partitions: tuple[Array, Array | None]) -> Array:
    """Sums of loss and metrics over one piece."""
    x = np.concatenate([part[a:b] for (a, b), (part, _) in zip(rows, partitions, strict=True)])
    targets = [part[a:b] for (a, b), (_, part) in zip(rows, partitions, strict=True) if part is not None]
    with one_blas_thread(), np.errstate(all="ignore"):
        return scorer.score(state, x, np.concatenate(targets) if targets else None)
