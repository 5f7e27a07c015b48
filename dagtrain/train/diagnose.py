"""Explain why a loss is not finite.

Repeat the steps from the last good state, and run the shard that broke op by op in the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.backends.blas import guard
from dagtrain.engines.inline import StepRunner
from dagtrain.errors import DataError, NotFiniteError
from dagtrain.graph import LEAVES, Array, Graph, Tensor
from dagtrain.plan import node_values
from dagtrain.step.parts import StepParts
from dagtrain.step.state import State
from dagtrain.step.statistics import state_leaves

__all__ = ["check_weight", "explain_not_finite", "first_not_finite"]


def check_weight(sums: Array) -> None:
    """Raise DataError for the sums of a step whose loss has a negative weight."""
    if sums[1] < 0:
        raise DataError(
            f"the total weight of the loss is {sums[1]:g} in a batch: weights must not be negative. Check masks and sample weights."
        )


def first_not_finite(graph: Graph, inputs: Sequence[Any]) -> Tensor | None:
    """The node that made the first NaN or infinity of an output: a search backwards ends at one with finite (or constant) inputs."""
    with np.errstate(all="ignore"):
        values = node_values(graph, inputs)
    node = next((t for t in graph.outputs.values() if _broken(values[t])), None)
    while node is not None:
        # NaN before infinity: an infinity next to a NaN may be intended, as in a mask.
        broken = sorted((t for t in node.inputs if t.op not in LEAVES and _broken(values[t])), key=lambda t: -_broken(values[t]))
        if not broken:
            break
        node = broken[0]
    return node


def _broken(value: Any) -> int:
    """2 if there is NaN, 1 if there is infinity, else 0."""
    parts = [np.asarray(v) for v in (value if isinstance(value, list) else [value])]
    floats = [p for p in parts if p.dtype.kind == "f"]
    return 2 if any(np.isnan(p).any() for p in floats) else int(any(np.isinf(p).any() for p in floats))


def explain_not_finite(program: Any, source: Any, state: State, batches: Sequence[Sequence[Array]], first_row: int = 0) -> NotFiniteError:
    """Repeat steps from a good state until one breaks; the error names the step, the shard, the op and the user's line.

    `first_row` is the number of the source's first row.
    """
    columns = source.local()
    parts = program.for_workers(len(s) for batch in batches for s in batch)
    with guard(), StepRunner(parts, state.copy(), len(batches[0])) as runner:
        for batch in batches:
            before = runner.state.copy()
            shards = [tuple(column[s] for column in columns) if len(s) else None for s in batch]
            for s, contribution in enumerate(runner.contribute(shards)):
                if contribution is not None and not runner.runners[s].is_finite:
                    return _name_op(program, before, s, shards, first_row + int(batch[s][0]), parts)
            runner.step(shards)
            if not np.isfinite(runner.state.parameters).all():
                return NotFiniteError(
                    f"the update of step {before.step} ({program.optimizer_name}) made a parameter NaN or infinite, although the "
                    "gradient is finite. Lower the learning rate."
                )
    return NotFiniteError("the loss is NaN or infinite, but the steps gave finite numbers when repeated in this process.")


def _name_op(program: Any, state: State, shard: int, shards: Sequence[Any], first: int, parts: StepParts) -> NotFiniteError:
    columns = shards[shard]
    part = len(columns[0]) / sum(len(b[0]) for b in shards if b is not None)
    graph = program.shard_graph(len(columns[0]))
    leaves = state_leaves(program.layout, program.statistics_layout, state, shard)
    scales = parts.scales(shards)
    inputs = [*leaves, *columns, part, parts.shard_key(state.step, shard), *(() if scales is None else (scales,))]
    node = first_not_finite(graph, inputs)
    where = f"at step {state.step}, shard {shard} (first of its rows: {first})"
    if node is None:
        return NotFiniteError(f"the loss turned NaN or infinite {where}, in a sum of finite numbers, which are too large.")
    layer = "/".join(node.origin.scope) or "the cost function"
    return NotFiniteError(
        f"NaN or infinity first appeared {where} in the op {node.op!r} ({node.spec}, {node.origin.phase} of {layer}), "
        f"written at {node.origin}. Lower the learning rate, clip the gradient (dt.optim.clip_by_global_norm), scale the data, "
        "or keep that op's arguments in its domain."
    )
