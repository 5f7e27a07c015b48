"""Loss and metrics over data that lies elsewhere: partition by partition, to the same bits as over the whole.

partitions   │ 700 rows │ 700 │ 700 │          one task for each fixed piece of 1,024 rows, from the partitions that hold them;
pieces       │ 1024     │ 1024 │ 52 │          the sums of the pieces are added in order
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.data.pick import Gathered, Partition, assemble, gather_plan
from dagtrain.graph import Array
from dagtrain.plan.blas import one_blas_thread
from dagtrain.train.state import State
from dagtrain.train.step import Program, Scorer, evaluation_pieces

__all__ = ["evaluate_partitions", "score_task"]


def evaluate_partitions(program: Program, source: Any, state: State) -> list[Array]:
    """Sums of loss and metrics over each fixed piece of the rows, computed where the scheduler in use computes.

    A partition is let go when the pieces that need it are done.
    """
    from dask.task_spec import DataNode, Task, TaskRef

    graph, data = source.tasks()
    pieces = evaluation_pieces(source.samples)
    scorer = program.for_evaluation(source.samples)
    name = f"evaluate-{state.fingerprint[:8]}-{data[0][0]}"
    tasks: dict[Any, Any] = {f"scorer-{name}": DataNode(f"scorer-{name}", scorer), f"state-{name}": DataNode(f"state-{name}", state.copy())}
    leading = [TaskRef(key) for key in tasks]
    for i, piece in enumerate(pieces):
        picks = gather_plan(piece, source.sizes)
        tasks[name, i] = Task((name, i), score_task, *leading, DataNode(None, picks), *(TaskRef(data[p.partition]) for p in picks))
    with one_blas_thread():
        return list(source.compute({**graph, **tasks}, [(name, i) for i in range(len(pieces))]))


def score_task(scorer: Scorer, state: State, picks: Sequence[Gathered], *partitions: Partition) -> Array:
    """Sums of loss and metrics over one piece, put together from the partitions that hold it."""
    with one_blas_thread(), np.errstate(all="ignore"):
        return scorer.score(state, *assemble(picks, partitions))
