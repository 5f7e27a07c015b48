"""`scan`: a loop with a body graph, so that recurrent networks need no unrolling.

    carry_0 ─▶ body ─▶ carry_1 ─▶ body ─▶ … ─▶ carry_T
                │ ▲               │ ▲
               y_0 x_0           y_1 x_1          constants reach every step

The node gives three groups of parts: the last carries, the stacked ys, and the stacked carries at the start of each step. The gradient, a
scan in reverse over the body's own gradient, needs the third group. A plan makes room only for the parts that are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import GraphError, ShapeError
from dagtrain.graph import Graph, Spec, Tensor
from dagtrain.ops.record import Op, as_tensor

VOID = np.dtype(bool)


def _infer(*specs: Spec, body: Graph, carries: int, sequences: int, length: int, reverse: bool) -> Spec:
    ins, outs = [t.spec for t in body.inputs.values()], [t.spec for t in body.outputs.values()]
    for i, (spec, expected) in enumerate(zip(specs, ins, strict=True)):
        element = Spec(spec.shape[1:], spec.dtype) if carries <= i < carries + sequences else spec
        if carries <= i < carries + sequences and spec.shape[:1] != (length,):
            raise ShapeError(f"scan: a sequence of shape {spec.shape} does not have length {length} on its first axis.")
        if element != expected:
            raise ShapeError(f"scan: input {i} of the body is {expected}, got {element}.")
    for i in range(carries):
        if outs[i] != ins[i]:
            raise ShapeError(f"scan: the body takes carry {i} as {ins[i]} and gives it back as {outs[i]}; they must be equal.")
    stacked = [Spec((length, *s.shape), s.dtype) for s in (*outs[carries:], *ins[:carries])]
    return Spec((), VOID, (*outs[:carries], *stacked))


def _no_kernel(*arrays: Any, **attributes: Any) -> Any:
    raise GraphError("scan has no kernel: a plan or the interpreter runs its body.")


scan_op = Op("scan", _no_kernel, _infer, None, flops=lambda spec, *_, length, **__: float(length))
part_op = Op(
    "part",
    lambda value, *, index: value[index],
    lambda value, *, index: value.parts[index],
    None,
    view=True,
)


def parts(node: Tensor) -> list[Tensor]:
    """The outputs of a node with several."""
    return [part_op(node, index=i) for i in range(len(node.spec.parts))]


def bare_scan(
    body: Graph, carries: Sequence[Tensor], sequences: Sequence[Tensor], constants: Sequence[Tensor], length: int, reverse: bool
) -> list[Tensor]:
    """Scan with a body graph whose inputs are carries, one element of each sequence, constants; gives all its parts."""
    node = scan_op(
        *carries, *sequences, *constants, body=body, carries=len(carries), sequences=len(sequences), length=length, reverse=reverse
    )
    return parts(node)


def run(node_attributes: dict[str, Any], call: Callable[..., Sequence[Any]], arrays: Sequence[Any], buffers: Sequence[Any]) -> list[Any]:
    """Run the loop; `call` executes the body: arrays in, arrays out.

    `buffers` holds, for each part, an array to fill, or None if nothing reads the part.
    """
    carries, sequences = node_attributes["carries"], node_attributes["sequences"]
    length, reverse = node_attributes["length"], node_attributes["reverse"]
    state, lines = list(arrays[:carries]), arrays[carries : carries + sequences]
    fixed = arrays[carries + sequences :]
    ys = len(buffers) - 2 * carries
    for t in range(length - 1, -1, -1) if reverse else range(length):
        for i in range(carries):
            if buffers[carries + ys + i] is not None:
                buffers[carries + ys + i][t] = state[i]
        results = call(*state, *(line[t] for line in lines), *fixed)
        state = [np.asarray(r) for r in results[:carries]]
        for i in range(ys):
            if buffers[carries + i] is not None:
                buffers[carries + i][t] = results[carries + i]
    for i in range(carries):
        if buffers[i] is not None:
            buffers[i][...] = state[i]
    return list(buffers)


def scan_gradient(
    node: Tensor, cotangents: Sequence[Tensor | None], vjp: Callable[[Graph, Sequence[int], Sequence[int]], Graph]
) -> list[Tensor | None]:
    """Cotangents of the scan's inputs, as a scan in reverse.

    `vjp(body, inputs, outputs)` is the graph (body inputs, one cotangent for each of these outputs) → one gradient for each of these
    inputs; both are lists of positions.
    """
    a = dict(node.attributes)
    body, carries, sequences, length = a["body"], a["carries"], a["sequences"], a["length"]
    ins = list(body.inputs.values())
    specs = [t.spec for t in body.outputs.values()]
    ys = len(specs) - carries
    start_carries = [part_op(node, index=carries + ys + i) for i in range(carries)]
    lines, fixed = node.inputs[carries : carries + sequences], node.inputs[carries + sequences :]
    floats = [i for i, t in enumerate(ins) if t.dtype.kind == "f"]
    outs = [i for i, s in enumerate(specs) if s.dtype.kind == "f"]
    state_ins = [i for i in floats if i < carries]
    line_ins = [i for i in floats if carries <= i < carries + sequences]
    fixed_ins = [i for i in floats if i >= carries + sequences]
    y_outs = [i for i in outs if i >= carries and cotangents[i] is not None]
    start_ins = [i for i in state_ins if cotangents[carries + ys + i] is not None]

    def zeros(shape: Any, dtype: Any) -> Tensor:
        from dagtrain.ops.shape import broadcast_to

        return broadcast_to(as_tensor(np.zeros((), dtype)), shape)

    def cotangent(index: int, shape: Any, dtype: Any) -> Tensor:
        value = cotangents[index]
        return zeros(shape, dtype) if value is None else value

    from dagtrain.graph import input as leaf

    inner = vjp(body, floats, [*state_ins, *y_outs])
    by_state = [leaf(f"g_carry{i}", ins[i].shape, ins[i].dtype) for i in state_ins]
    by_fixed = [leaf(f"g_const{i}", ins[i].shape, ins[i].dtype) for i in fixed_ins]
    by_y = [leaf(f"g_y{i}", specs[i].shape, specs[i].dtype) for i in y_outs]
    by_start = {i: leaf(f"g_start{i}", ins[i].shape, ins[i].dtype) for i in start_ins}
    values = [leaf(f"in{i}", t.shape, t.dtype) for i, t in enumerate(ins)]
    grads = dict(zip(floats, inner.apply(*values, *by_state, *by_y), strict=True))
    results = [grads[i] + by_start[i] if i in by_start else grads[i] for i in state_ins]
    results += [total + grads[i] for i, total in zip(fixed_ins, by_fixed, strict=True)]
    results += [grads[i] for i in line_ins]
    head = [*by_state, *by_fixed, *values[: carries + sequences], *by_y, *by_start.values(), *values[carries + sequences :]]
    back = Graph({str(t.name): t for t in head}, {f"out{i}": t for i, t in enumerate(results)})
    last = [cotangent(i, ins[i].shape, ins[i].dtype) for i in state_ins]
    totals = [zeros(ins[i].shape, ins[i].dtype) for i in fixed_ins]
    stacked_y = [cotangent(i, (length, *specs[i].shape), specs[i].dtype) for i in y_outs]
    stacked_start = [cotangent(carries + ys + i, (length, *ins[i].shape), ins[i].dtype) for i in start_ins]
    outcome = bare_scan(back, [*last, *totals], [*start_carries, *lines, *stacked_y, *stacked_start], list(fixed), length, not a["reverse"])
    grads_of_inputs: list[Tensor | None] = [None] * len(node.inputs)
    for i, t in zip([*state_ins, *fixed_ins, *line_ins], outcome, strict=False):
        grads_of_inputs[i] = t
    return grads_of_inputs
