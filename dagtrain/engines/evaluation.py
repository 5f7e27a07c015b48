"""Loss and metrics over data outside this process: partition by partition, with the same bits as over the whole.

partitions   │ 700 rows │ 700 │ 700 │          one task for each fixed piece of 1,024 rows, from the partitions that hold them;
pieces       │ 1024     │ 1024 │ 52 │          the scores of the pieces are joined in order
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagtrain.backends.blas import guard, one_blas_thread
from dagtrain.data.columns import Rows
from dagtrain.data.pick import Gathered, assemble, gather_plan
from dagtrain.step.program import Program
from dagtrain.step.scores import Scorer, Scores, evaluation_pieces
from dagtrain.step.state import State

__all__ = ["evaluate_partitions", "score_tasks"]


def evaluate_partitions(program: Program, source: Any, state: State) -> list[Scores]:
    """The scores of each fixed piece of the rows, computed by the Dask scheduler in use.

    A partition is released when the pieces that need it are done.
    """
    from dask.task_spec import DataNode

    graph, data = source.tasks()
    name = f"evaluate-{state.fingerprint[:8]}-{data[0][0]}"
    scorer_key, state_key = f"scorer-{name}", f"state-{name}"
    tasks = score_tasks(name, scorer_key, state_key, data, source.sizes)
    graph = {
        **graph,
        scorer_key: DataNode(scorer_key, program.for_evaluation(source.samples, source.columns)),
        state_key: DataNode(state_key, state.copy()),
    }
    with one_blas_thread():
        return list(source.compute({**graph, **tasks}, list(tasks)))


def score_tasks(name: str, scorer: Any, state: Any, data: Sequence[Any], sizes: Sequence[int]) -> dict[Any, Any]:
    """A task for each piece, in order; `scorer`, `state` and `data` are keys, `sizes` the rows of each partition."""
    from dask.task_spec import DataNode, Task, TaskRef

    tasks = {}
    for i, piece in enumerate(evaluation_pieces(sum(sizes))):
        picks = gather_plan(piece, sizes)
        rows = (TaskRef(data[p.partition]) for p in picks)
        tasks[name, i] = Task((name, i), score_task, TaskRef(scorer), TaskRef(state), DataNode(None, picks), *rows)
    return tasks


def score_task(scorer: Scorer, state: State, picks: Sequence[Gathered], *partitions: Rows) -> Scores:
    """The scores of one piece, assembled from the partitions that hold its rows."""
    with guard():
        return scorer.score(state, assemble(picks, partitions))
