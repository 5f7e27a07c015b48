"""A graph for one row made into a graph for a batch of rows: what `vmap` and `jacobian` do.

    x ──op──▶ y        becomes        x[rows, …] ──rule of the op──▶ y[rows, …]

Every node that depends on a row gets a new first axis; nodes that do not stay as they are, without it. There is one rule an op, in
`dagtrain.transform.batching_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagtrain.errors import ArgumentError, GraphError, UnsupportedError
from dagtrain.graph import Graph, Spec, Tensor, ancestors_of, bodies, located, topological
from dagtrain.graph import input as new_input
from dagtrain.ops import Op, find
from dagtrain.ops.record import parts
from dagtrain.ops.scan import bare_scan
from dagtrain.ops.shape import broadcast_to, reshape

__all__ = ["RULES", "Batch", "Rule", "batched", "one_by_one"]

DRAWS = "random_"
"""Names of ops that draw random numbers begin so."""


@dataclass(frozen=True)
class Batch:
    """A node, and its inputs for all rows.

    Attributes
    ----------
    node
        The node for one row.
    inputs
        Its inputs: with the rows as first axis, or as they were.
    rows
        For each input, whether it has that axis.
    size
        Number of rows.
    """

    node: Tensor
    inputs: Sequence[Tensor]
    rows: Sequence[bool]
    size: int

    @property
    def op(self) -> Op:
        """The node's op."""
        return find(self.node.op)

    @property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes."""
        return dict(self.node.attributes)

    def full(self, position: int) -> Tensor:
        """An input with the rows as first axis, repeated if it had none."""
        tensor = self.inputs[position]
        return tensor if self.rows[position] else broadcast_to(tensor, (self.size, *tensor.shape))

    def wide(self, position: int, ndim: int) -> Tensor:
        """An input that has, behind the rows, as many axes as the widest, so that broadcasting does not take the rows for another axis."""
        tensor = self.inputs[position]
        if not self.rows[position] or tensor.ndim > ndim:
            return tensor
        return reshape(tensor, (self.size, *(1,) * (ndim + 1 - tensor.ndim), *tensor.shape[1:]))


Rule = Callable[[Batch], "Tensor | Sequence[Tensor]"]
"""The node's result for all rows (all its results, if it has several), each with the rows as first axis."""
RULES: dict[str, Rule] = {}


def batched(
    outputs: Sequence[Tensor], leaves: Mapping[Tensor, Tensor], size: int, born: Collection[Tensor] | None = None
) -> list[tuple[Tensor, bool]]:
    """The outputs for all rows, each with whether it has the rows as first axis: it has not if it is the same for all.

    Parameters
    ----------
    outputs
        Tensors for one row.
    leaves
        Leaves for one row → the same for all rows, with the rows as first axis.
    size
        Number of rows.
    born
        The nodes that were made for a row; draws of random numbers that are older may be the same for all rows. By default all nodes.

    Raises
    ------
    UnsupportedError
        If an op has no rule.
    ArgumentError
        If random numbers are drawn by a key that is the same for all rows.
    """
    became: dict[Tensor, Any] = dict(leaves)
    for node in topological(outputs):
        if node in became:
            continue
        if node.is_part:
            if node.inputs[0] in became:
                became[node] = became[node.inputs[0]][node.attribute("index")]
            continue
        rows = [source in became for source in node.inputs]
        if not any(rows):
            if born is None or node in born:
                _refuse_shared_draws(node)
            continue
        rule = RULES.get(node.op)
        if rule is None:
            raise UnsupportedError(
                f"vmap has no rule for the op {node.op!r} ({node.spec}, {node.origin}). Use dt.scan over the rows instead."
            )
        with located(node.origin):
            result = rule(Batch(node, [became.get(source, source) for source in node.inputs], rows, size))
            if isinstance(result, Tensor) and result.spec.parts:
                result = parts(result)
        _check(node, result, size)
        became[node] = result
    return [(became.get(t, t), t in became) for t in outputs]


def _refuse_shared_draws(node: Tensor) -> None:
    if node.op.startswith(DRAWS):
        raise ArgumentError(
            f"under vmap, {node.op} ({node.origin}) draws by a key that is the same for all rows, so that all rows would have the same "
            "numbers. Give each row a key of its own: map over np.stack([dt.fold_in(key, i) for i in range(n)]), or draw for all rows "
            "outside of the function."
        )


def _check(node: Tensor, result: Any, size: int) -> None:
    pairs = zip(node.spec.parts, result, strict=True) if node.spec.parts else [(node.spec, result)]
    for spec, tensor in pairs:
        if tensor.spec != Spec((size, *spec.shape), spec.dtype):
            raise GraphError(f"the batching rule of {node.op!r} gives {tensor.spec} for {size} rows of {spec}.")


def one_by_one(b: Batch) -> Tensor | Sequence[Tensor]:
    """The op on one row after the other, in a loop: for ops that work on one row only."""
    for graphs in bodies(b.node).values():
        for graph in graphs:
            has_row = b.rows[len(b.rows) - len(graph.inputs) :]
            with_rows = ancestors_of([t for t, has in zip(graph.inputs.values(), has_row, strict=True) if has], graph.nodes)
            for node in graph.nodes:
                if node not in with_rows:
                    _refuse_shared_draws(node)
    rows = [i for i, r in enumerate(b.rows) if r]
    fixed = [i for i, r in enumerate(b.rows) if not r]
    leaves = {i: new_input(f"in{i}", t.shape, t.dtype) for i, t in enumerate(b.node.inputs)}
    inner = b.op(*leaves.values(), **b.attributes)
    results = parts(inner) if inner.spec.parts else [inner]
    body = Graph({f"in{i}": leaves[i] for i in [*rows, *fixed]}, {f"out{i}": t for i, t in enumerate(results)})
    outcome = bare_scan(body, [], [b.inputs[i] for i in rows], [b.inputs[i] for i in fixed], b.size, reverse=False)
    return outcome if inner.spec.parts else outcome[0]
