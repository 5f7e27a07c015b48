"""`scan`: a loop with a body graph, so that recurrent networks need no unrolling.

    carry_0 ─▶ body ─▶ carry_1 ─▶ body ─▶ … ─▶ carry_T
                │ ▲               │ ▲
               y_0 x_0           y_1 x_1          constants reach every step

The node gives three groups of parts: the last carries, the stacked ys, and the stacked carries at the start of each step. The gradient, a
scan in reverse over the body's own gradient, needs the third group. A plan makes room only for the parts that are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dagtrain.errors import ShapeError
from dagtrain.graph import Graph, Spec, Tensor, topological
from dagtrain.graph import input as leaf
from dagtrain.ops.bodies import Body, Vjp, cotangent, restrict, several
from dagtrain.ops.record import Drawn, Kernel, Op, part, parts


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
    return several((*outs[:carries], *stacked))


def _bind(
    bodies: Mapping[str, Sequence[Body]], backend: Any, *, carries: int, sequences: int, length: int, reverse: bool
) -> Callable[[Sequence[Any], Sequence[Any]], None]:
    """The loop, to run on arrays and to fill arrays for the parts that are used."""
    (body,) = bodies["body"]
    first = body.bind()
    steps = (first, body.bind(first))  # the carries of one step are read while the next are written

    def run(arrays: Sequence[Any], out: Sequence[Any]) -> None:
        state, lines, fixed = arrays[:carries], arrays[carries : carries + sequences], arrays[carries + sequences :]
        ys = len(out) - 2 * carries
        kept = [(i, a) for i, a in enumerate(out[carries + ys :]) if a is not None]
        stacked = [(carries + i, a) for i, a in enumerate(out[carries : carries + ys]) if a is not None]
        for count, t in enumerate(range(length - 1, -1, -1) if reverse else range(length)):
            for i, array in kept:
                array[t] = state[i]
            results = steps[count % 2](*state, *(line[t] for line in lines), *fixed)
            state = results[:carries]
            for i, array in stacked:
                array[t] = results[i]
        for array, value in zip(out, state, strict=False):
            if array is not None:
                array[...] = value

    return run


def bare_scan(
    body: Graph, carries: Sequence[Tensor], sequences: Sequence[Tensor], constants: Sequence[Tensor], length: int, reverse: bool
) -> list[Tensor]:
    """Scan with a body graph whose inputs are carries, one element of each sequence, constants; gives all its parts."""
    node = scan_op(
        *carries, *sequences, *constants, body=body, carries=len(carries), sequences=len(sequences), length=length, reverse=reverse
    )
    return parts(node)


def _gradient(
    cotangents: Sequence[Tensor | None],
    node: Tensor,
    *inputs: Tensor,
    vjp: Vjp,
    body: Graph,
    carries: int,
    sequences: int,
    length: int,
    reverse: bool,
) -> list[Tensor | None]:
    """Cotangents of the scan's inputs, as a scan in reverse."""
    ins = list(body.inputs.values())
    specs = [t.spec for t in body.outputs.values()]
    ys = len(specs) - carries
    start_carries = [part(node, index=carries + ys + i) for i in range(carries)]
    lines, fixed = inputs[carries : carries + sequences], inputs[carries + sequences :]
    floats = [i for i, t in enumerate(ins) if t.dtype.kind in "fc"]
    outs = [i for i, s in enumerate(specs) if s.dtype.kind in "fc"]
    state_ins = [i for i in floats if i < carries]
    line_ins = [i for i in floats if carries <= i < carries + sequences]
    fixed_ins = [i for i in floats if i >= carries + sequences]
    y_outs = [i for i in outs if i >= carries and cotangents[i] is not None]
    start_ins = [i for i in state_ins if cotangents[carries + ys + i] is not None]

    def of_output(i: int) -> Tensor:
        return cotangent(cotangents[i], node.spec.parts[i])

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
    last = [of_output(i) for i in state_ins]
    totals = [cotangent(None, ins[i].spec) for i in fixed_ins]
    stacked_y = [of_output(i) for i in y_outs]
    stacked_start = [of_output(carries + ys + i) for i in start_ins]
    outcome = bare_scan(back, [*last, *totals], [*start_carries, *lines, *stacked_y, *stacked_start], list(fixed), length, not reverse)
    grads_of_inputs: list[Tensor | None] = [None] * len(inputs)
    for i, t in zip([*state_ins, *fixed_ins, *line_ins], outcome, strict=False):
        grads_of_inputs[i] = t
    return grads_of_inputs


def _prune(node: Tensor, used: Collection[int], prune: Callable[[Graph], Graph]) -> dict[int, Tensor]:
    """The loop without unused outputs, and the carries and inputs that only these need."""
    a = dict(node.attributes)
    body: Graph = a["body"]
    carries, sequences = a["carries"], a["sequences"]
    ins, outs = list(body.inputs.values()), list(body.outputs.values())
    ys = len(outs) - carries
    used_ys = [i for i in range(ys) if carries + i in used]
    state = {i for i in range(carries) if i in used or carries + ys + i in used}
    while True:  # a carry that another needed result reads is needed too
        results = [outs[i] for i in sorted(state)] + [outs[carries + i] for i in used_ys]
        ancestors = set(topological(results))
        more = state | {i for i in range(carries) if ins[i] in ancestors}
        if more == state:
            break
        state = more
    used_carries = sorted(state)
    lines = [i for i in range(carries, carries + sequences) if ins[i] in ancestors]
    fixed = [i for i in range(carries + sequences, len(ins)) if ins[i] in ancestors]
    used_ins, used_outs = [*used_carries, *lines, *fixed], [*used_carries, *(carries + i for i in used_ys)]
    smaller = prune(restrict(body, used_ins, used_outs))
    if smaller is body:
        return {}
    changed = {"body": smaller, "carries": len(used_carries), "sequences": len(lines)}
    made = scan_op(*(node.inputs[i] for i in used_ins), **{**a, **changed})
    order = [*used_outs, *(carries + ys + i for i in used_carries)]
    return dict(zip(order, parts(made), strict=True))


def _drawn(node: Tensor) -> Drawn:
    a = dict(node.attributes)
    carries, sequences = a["carries"], a["sequences"]

    def several(name: str, count: int) -> list[str]:
        return [name] if count == 1 else [f"{name} {i}" for i in range(count)]

    outputs = [*several("last carry", carries), *several("outputs", len(node.spec.parts) - 2 * carries), *several("carries", carries)]
    inputs = [*["first"] * carries, *["each"] * sequences, *[None] * (len(node.inputs) - carries - sequences)]
    return Drawn(f"scan × {a['length']}{' backwards' if a['reverse'] else ''}", outputs, inputs, carries)


scan_op = Op(
    "scan",
    Kernel(bind=_bind),
    _infer,
    _gradient,
    repeats=lambda *, length, **_: float(length),
    prune=_prune,
    drawn=_drawn,
)
