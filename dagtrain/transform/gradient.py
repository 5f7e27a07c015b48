"""Reverse-mode differentiation of a graph: a graph in, a graph out.

    cost ◀── … ◀── node ◀── … ◀── target          (the walk goes from the cost to the targets and visits nothing else)

Three cases are distinguished: a derivative that is *zero* (the op says so), a target that is *not connected* to the cost, and an op that
has *no rule*. The last two are errors. As every rule is written in ops, the result can be differentiated again.

Method: Griewank and Walther, "Evaluating Derivatives" (2008), chapter 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError, NoGradientError, NotConnectedError, NotScalarError
from dagtrain.graph import Graph, Spec, Tensor, bodies, located, topological
from dagtrain.graph import input as new_input
from dagtrain.ops import ZERO, Op, as_tensor, find
from dagtrain.ops.elementwise import cast, real
from dagtrain.ops.reduce import reduce_sum
from dagtrain.ops.shape import broadcast_to, reshape

__all__ = ["gradient", "unbroadcast", "vjp_graph"]


def unbroadcast(g: Tensor, spec: Spec) -> Tensor:
    """Sum a cotangent over the axes that broadcasting added or stretched, and cast it back; broadcasting is undone here alone.

    The cotangent of a real number that a complex one was made of is the real part.
    """
    if g.shape != spec.shape:
        extra = g.ndim - spec.ndim
        stretched = tuple(i for i in range(g.ndim) if i < extra or (spec.shape[i - extra] == 1 and g.shape[i] != 1))
        if stretched and stretched[-1] < extra:
            g = reduce_sum(g, stretched, False)
        elif stretched:
            g = reduce_sum(g, stretched, True)
        if g.shape != spec.shape:
            # A rule may leave out axes along which the cotangent is constant.
            lengths = g.shape[max(g.ndim - spec.ndim, 0) :]
            fits = len(lengths) == spec.ndim and all(m == n or m == 1 for m, n in zip(lengths, spec.shape, strict=True))
            g = reshape(g, lengths) if g.shape != lengths else g
            g = broadcast_to(g, spec.shape) if fits or g.ndim < spec.ndim else reshape(g, spec.shape)
    return cast(g if spec.dtype.kind == "c" else real(g), spec.dtype)


def gradient(
    cost: Tensor,
    targets: Sequence[Tensor],
    cotangent: Any = None,
    *,
    unconnected: str = "error",
) -> list[Tensor]:
    """Derivatives of a cost by targets.

    Parameters
    ----------
    cost
        One number (shape ``()``), unless a cotangent of its shape is given.
    targets
        Tensors of float dtype that the cost depends on.
    cotangent
        Derivative of a later result by the cost; 1 by default.
    unconnected
        ``"error"``, or ``"zero"`` to give zeros for a target that the cost does not depend on.

    Returns
    -------
    list of Tensor
        One for each target, of its shape and dtype.

    Raises
    ------
    NotScalarError, NotConnectedError, NoGradientError
    """
    grads = cotangents([cost], [_seed(cost, cotangent)], targets)
    connected = set(topological([cost])) if len(grads) < len(set(targets)) else set()
    results = []
    for target in targets:
        g = grads.get(target)
        if g is None:
            zero = target in connected and target.dtype.kind in "fc"  # every path leads through an op whose derivative is zero
            if not zero and unconnected != "zero":
                raise NotConnectedError(_unconnected(cost, target))
            g = broadcast_to(as_tensor(np.zeros((), target.dtype)), target.shape)
        results.append(g)
    return results


def _seed(cost: Tensor, cotangent: Any) -> Tensor:
    if cost.dtype.kind != "f":
        part = " Take np.real, np.imag or np.abs of it." if cost.dtype.kind == "c" else ""
        raise NotScalarError(f"the cost must be a float to be differentiated; {cost!r} ({cost.origin}) is {cost.dtype}.{part}")
    if cotangent is not None:
        seed = as_tensor(cotangent)
        return cast(broadcast_to(seed, cost.shape), cost.dtype)
    if cost.shape:
        raise NotScalarError(
            f"the cost must be one number, got shape {cost.shape} ({cost.origin}). Reduce it with np.mean or np.sum, or "
            "take dt.jacobian(function) for the derivatives of all its elements, dt.vjp(function, x) for their sum with weights."
        )
    return as_tensor(np.ones((), cost.dtype))


def _unconnected(cost: Tensor, target: Tensor) -> str:
    name = f"{target.name!r} " if target.name else ""
    why = "its dtype is not a float" if target.dtype.kind not in "fc" else "no path leads from it to the cost"
    return (
        f"the cost ({cost.origin}) is not connected to the target {name}({target.spec}, {target.origin}): {why}. "
        'Leave it out, or ask for zeros with unconnected="zero".'
    )


def cotangents(outputs: Sequence[Tensor], seeds: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[Tensor, Tensor]:
    """The cotangent of each target; a target that none reaches is absent."""
    for target in targets:
        if not isinstance(target, Tensor):
            raise ArgumentError(f"differentiate by tensors, not by a {type(target).__name__}.")
    order = topological(outputs)
    path = _path([t for t in targets if t.dtype.kind in "fc"], order)
    sums: dict[Tensor, Tensor] = {}
    several: dict[Tensor, list[Tensor | None]] = {}
    copies: dict[Tensor, Tensor] = {}
    for output, seed in zip(outputs, seeds, strict=True):
        if output in path:
            sums[output] = sums[output] + seed if output in sums else seed
    for node in reversed(order):
        if node not in path or not node.inputs:
            continue
        if node not in sums and node not in several:
            continue
        with located(node.origin._replace(phase="gradient")):
            for source, g in _pull(node, sums, several, copies, path):
                if node.is_part:
                    parts = several.setdefault(source, [None] * len(source.spec.parts))
                    i = node.attribute("index")
                    previous = parts[i]
                    parts[i] = g if previous is None else previous + g
                else:
                    g = unbroadcast(g, source.spec)
                    sums[source] = sums[source] + g if source in sums else g
    return {t: sums[t] for t in targets if t in sums}


def _path(targets: Sequence[Tensor], order: Sequence[Tensor]) -> set[Tensor]:
    """The targets and all nodes that depend on one of them by derivatives that are not zero everywhere."""
    path = set(targets)
    for node in order:
        if node not in path and any(source in path for source in node.inputs):
            flat = find(node.op).gradient is ZERO or (node.dtype.kind in "biu" and not node.spec.parts)
            if not flat:
                path.add(node)
    return path


def _pull(
    node: Tensor,
    sums: dict[Tensor, Tensor],
    several: dict[Tensor, list[Tensor | None]],
    copies: dict[Tensor, Tensor],
    path: set[Tensor],
) -> list[tuple[Tensor, Tensor]]:
    """The contributions of one node to its inputs on the path; `copies` has the nodes that are computed anew for gradients."""
    if node.is_part:
        return [(node.inputs[0], sums[node])]
    positions = [i for i, source in enumerate(node.inputs) if source in path and (source.dtype.kind in "fc" or source.spec.parts)]
    if not positions:
        return []
    op = find(node.op)
    rule = op.gradient
    if rule is ZERO or (node.dtype.kind in "biu" and not node.spec.parts):  # a target may be the result of such an op
        return []
    if rule is None and op.expand is None:
        raise NoGradientError(
            f"the op {node.op!r} ({node.spec}, {node.origin}) is on the path from a target to the cost and has no gradient rule. "
            f"{op.advice}"
        )
    transform = {"vjp": vjp_graph} if bodies(node) else {}
    g: Any = several[node] if node.spec.parts else sums[node]
    attributes = dict(node.attributes)
    if op.again is not None:
        copies.update(op.again(g, node, lambda t: copies.get(t, t), **attributes))
    y, *inputs = (copies.get(t, t) for t in (node, *node.inputs))
    grads = None if rule is None else rule(g, y, *inputs, **transform, **attributes)  # type: ignore[operator]  # ZERO is excluded above
    if grads is None:
        return list(zip([node.inputs[i] for i in positions], _expanded(op, inputs, g, positions, attributes), strict=True))
    return [(node.inputs[i], g) for i in positions if (g := grads[i]) is not None]


def _expanded(op: Op, inputs: Sequence[Tensor], g: Any, positions: Sequence[int], attributes: dict[str, Any]) -> Sequence[Tensor]:
    """The cotangents of the inputs at these positions, by the smaller ops that the op can be made of."""
    assert op.expand is not None
    leaves = {f"in{i}": new_input(f"in{i}", t.shape, t.dtype) for i, t in enumerate(inputs)}
    body = Graph(leaves, {f"out{i}": t for i, t in enumerate(op.expand(*leaves.values(), **attributes))})
    seeds = dict(enumerate(g if isinstance(g, list) else [g]))
    outs = [i for i, seed in seeds.items() if seed is not None]
    return vjp_graph(body, positions, outs).apply(*inputs, *(seeds[i] for i in outs))


def vjp_graph(graph: Graph, input_positions: Sequence[int], output_positions: Sequence[int]) -> Graph:
    """Graph (inputs of `graph`, cotangents of outputs by position) → cotangents of inputs by position, zeros where unconnected."""
    ins, outs = list(graph.inputs.values()), list(graph.outputs.values())
    seeds = [new_input(f"cotangent_{i}", outs[i].shape, outs[i].dtype) for i in output_positions]
    targets = [ins[i] for i in input_positions]
    grads = cotangents([outs[i] for i in output_positions], seeds, targets)
    results = {
        f"gradient_{k}": grads[t] if t in grads else broadcast_to(as_tensor(np.zeros((), t.dtype)), t.shape) for k, t in enumerate(targets)
    }
    inputs = {f"{i}_{t.name}": t for i, t in enumerate([*ins, *seeds])}
    return Graph(inputs, results)
