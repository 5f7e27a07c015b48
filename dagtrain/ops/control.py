"""Choices and loops of unknown length: `switch` runs one of its branches, `while` repeats its body as long as its condition holds.

index ─▶ switch ─▶ branches[index](operands)          carry ─▶ condition ─▶ body ─▶ carry ─▶ condition ─▶ …
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Graph, Spec, Tensor, topological
from dagtrain.ops.bodies import Body, Vjp, restrict, several
from dagtrain.ops.record import Drawn, Kernel, Op, parts

__all__ = ["bare_switch", "bare_while"]

Run = Callable[[Sequence[Any], Sequence[Any]], None]


# ---- switch


def _switch_spec(index: Spec, *operands: Spec, branches: tuple[Graph, ...]) -> Spec:
    if index.shape or index.dtype.kind not in "iu":
        raise DTypeError(f"switch: the index is one whole number, got {index}.")
    outputs = [t.spec for t in branches[0].outputs.values()]
    for number, branch in enumerate(branches):
        if [t.spec for t in branch.inputs.values()] != list(operands):
            raise ShapeError(f"switch: branch {number} takes other operands than {', '.join(map(str, operands))}.")
        if [t.spec for t in branch.outputs.values()] != outputs:
            raise ShapeError(f"switch: branch {number} gives other results than branch 0.")
    return several(outputs)


def _bind_switch(bodies: Mapping[str, Sequence[Body]], backend: Any) -> Run:
    branches = [branch.bind() for branch in bodies["branches"]]

    def run(arrays: Sequence[Any], out: Sequence[Any]) -> None:
        index = int(backend.to_host(arrays[0]))
        if not 0 <= index < len(branches):
            raise IndexError(f"the index is {index}, and there are {len(branches)} branches, counted from 0")
        for target, value in zip(out, branches[index](*arrays[1:]), strict=True):
            if target is not None:
                backend.copy(target, value)

    return run


def _switch_gradient(
    cotangents: Sequence[Tensor | None], node: Tensor, index: Tensor, *operands: Tensor, vjp: Vjp, branches: tuple[Graph, ...]
) -> list[Tensor | None]:
    """The switch between the branches' own gradients."""
    floats = [i for i, operand in enumerate(operands) if operand.dtype.kind in "fc"]
    given = {i: g for i, g in enumerate(cotangents) if g is not None}
    grads = bare_switch(index, [vjp(branch, floats, list(given)) for branch in branches], [*operands, *given.values()])
    by_operand = dict(zip(floats, grads, strict=True))
    return [None, *(by_operand.get(i) for i in range(len(operands)))]


def _prune_switch(node: Tensor, used: Collection[int], prune: Callable[[Graph], Graph]) -> dict[int, Tensor]:
    """The choice without unused outputs, and the operands that only these need."""
    branches, outs = node.attribute("branches"), sorted(used)
    needed: set[int] = set()
    for branch in branches:
        results = list(branch.outputs.values())
        ancestors = set(topological(results[i] for i in outs))
        needed.update(i for i, leaf in enumerate(branch.inputs.values()) if leaf in ancestors)
    ins = sorted(needed)
    smaller = tuple(prune(restrict(branch, ins, outs)) for branch in branches)
    if all(new is old for new, old in zip(smaller, branches, strict=True)):
        return {}
    return dict(zip(outs, bare_switch(node.inputs[0], smaller, [node.inputs[1 + i] for i in ins]), strict=True))


_switch = Op(
    "switch",
    Kernel(bind=_bind_switch),
    _switch_spec,
    _switch_gradient,
    repeats=lambda *, branches: 1 / len(branches),
    prune=_prune_switch,
    drawn=lambda node: Drawn(
        "switch",
        inputs=[None] * (len(node.inputs) - 1),
        bodies=[str(i) for i in range(len(node.attribute("branches")))],
        choice=True,
    ),
)


def bare_switch(index: Tensor, branches: Sequence[Graph], operands: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of the branch at this index; all branches take the operands and give equal specs."""
    return parts(_switch(index, *operands, branches=tuple(branches)))


# ---- while


def _while_spec(*specs: Spec, condition: Graph, body: Graph, carries: int) -> Spec:
    for name, graph in (("condition", condition), ("body", body)):
        if [t.spec for t in graph.inputs.values()] != list(specs):
            raise ShapeError(f"while: the {name} takes other values than {', '.join(map(str, specs))}.")
    results, outcome = [t.spec for t in body.outputs.values()], [t.spec for t in condition.outputs.values()]
    if results != list(specs[:carries]):
        raise ShapeError("while: the body gives the carry back with other shapes or dtypes than it takes it.")
    if len(outcome) != 1 or outcome[0].shape or outcome[0].dtype.kind != "b":
        raise DTypeError("while: the condition gives one boolean.")
    return several(results)


def _bind_while(bodies: Mapping[str, Sequence[Body]], backend: Any, *, carries: int) -> Run:
    condition, body = bodies["condition"][0].bind(), bodies["body"][0]
    first = body.bind()
    steps = (first, body.bind(first))  # the carries of one step are read while the next are written

    def run(arrays: Sequence[Any], out: Sequence[Any]) -> None:
        state, fixed, count = arrays[:carries], arrays[carries:], 0
        while backend.to_host(condition(*state, *fixed)[0]):
            state = steps[count % 2](*state, *fixed)
            count += 1
        for target, value in zip(out, state, strict=True):
            if target is not None:
                backend.copy(target, value)

    return run


def _prune_while(node: Tensor, used: Collection[int], prune: Callable[[Graph], Graph]) -> dict[int, Tensor]:
    """The loop without carries that neither the condition nor a used carry needs."""
    condition, body, carries = (node.attribute(name) for name in ("condition", "body", "carries"))
    ins, outs, tested = list(body.inputs.values()), list(body.outputs.values()), list(condition.inputs.values())
    asked = set(topological(condition.outputs.values()))
    needed = {i for i, leaf in enumerate(tested) if leaf in asked} | set(used)
    while True:
        ancestors = set(topological(outs[i] for i in sorted(needed) if i < carries))
        more = needed | {i for i, leaf in enumerate(ins) if leaf in ancestors}
        if more == needed:
            break
        needed = more
    kept = sorted(needed)
    state = [i for i in kept if i < carries]
    new_body, new_condition = prune(restrict(body, kept, state)), prune(restrict(condition, kept, [0]))
    if new_body is body and new_condition is condition:
        return {}
    made = bare_while(new_condition, new_body, [node.inputs[i] for i in kept], len(state))
    return dict(zip(state, made, strict=True))


_while = Op(
    "while",
    Kernel(bind=_bind_while),
    _while_spec,
    advice="How many steps it takes is not known before it runs, so nothing of them is kept: use dt.scan over the most steps that there "
    "can be, with np.where to leave the carry alone once it is done, or dt.stop_gradient(...).",
    prune=_prune_while,
    drawn=lambda node: Drawn(
        "while",
        inputs=["first" if i < node.attribute("carries") else None for i in range(len(node.inputs))],
        carries=node.attribute("carries"),
        bodies=("step", "condition"),
    ),
)


def bare_while(condition: Graph, body: Graph, values: Sequence[Tensor], carries: int) -> list[Tensor]:
    """The last carries of a loop whose graphs take the carries and then its constants."""
    return parts(_while(*values, condition=condition, body=body, carries=carries))
