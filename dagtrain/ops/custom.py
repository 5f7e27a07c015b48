"""Gradients that a user gives, and gradients that compute values anew: ops that change no value, only what differentiation finds.

    custom      x ─▶ f ─▶ y ─▶ custom_gradient ─▶ y        the derivative of y by x is what the op's body says
    recompute   x ─▶ f ─▶ y ─▶ recompute ─▶ y              gradients read copies of the nodes of f, on barrier(x, g)

A barrier is its first input; as it takes the cotangent g too, what is computed from it cannot be computed before g is there. So the copies
are no equal nodes of f, and the values of f need no memory in between. Derivatives are added in the order that they would have without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dagtrain.graph import Graph, Tensor, make, topological
from dagtrain.ops.bodies import Body, Vjp, cotangent, several
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, parts

__all__ = ["closed_over", "custom_gradient", "recompute"]


closed_over = Op(
    "closed_over",
    Kernel(lambda a: a, view=True),
    lambda a: a,
    advice="It is a value that a function with a custom gradient closes over: make it an argument of that function, or wrap it in "
    "dt.stop_gradient(...).",
)
_barrier = Op(
    "barrier",
    Kernel(lambda a, *after: a, view=True),
    lambda a, g: a,
    lambda h, y, a, g: (h, None),
    (Sample((Draw(), Draw(()))),),
)


def _bind(bodies: Mapping[str, Sequence[Body]], backend: Any, **_: Any) -> Callable[[Sequence[Any], Sequence[Any]], None]:
    def run(arrays: Sequence[Any], out: Sequence[Any]) -> None:
        for target, value in zip(out, arrays, strict=False):
            if target is not None:
                backend.copy(target, value)

    return run


def _replace(node: Tensor, used: Collection[int], prune: Callable[[Graph], Graph]) -> dict[int, Tensor]:
    """The values themselves: a finished graph is not differentiated again."""
    return {i: node.inputs[i] for i in used}


def _given_gradient(
    cotangents: Sequence[Tensor | None], node: Tensor, *inputs: Tensor, vjp: Vjp, body: Graph, outputs: int
) -> list[Tensor | None]:
    gs = [cotangent(g, spec) for g, spec in zip(cotangents, node.spec.parts, strict=True)]
    return [*[None] * outputs, *body.apply(*inputs[outputs:], *gs)]


_custom_gradient = Op(
    "custom_gradient",
    Kernel(bind=_bind),
    lambda *specs, body, outputs: several(specs[:outputs]),
    _given_gradient,
    repeats=lambda **_: 0.0,
    prune=_replace,
    drawn=lambda node: Drawn("custom gradient"),
)


def custom_gradient(values: Sequence[Tensor], operands: Sequence[Tensor], body: Graph) -> list[Tensor]:
    """The values; the body takes the operands and a cotangent for each value, and gives a cotangent for each operand."""
    return parts(_custom_gradient(*values, *operands, body=body, outputs=len(values)))


def _again(cotangents: Sequence[Tensor | None], node: Tensor, read: Callable[[Tensor], Tensor], outputs: int) -> dict[Tensor, Tensor]:
    """The nodes between operands and values → their copies."""
    last = next(g for g in cotangents if g is not None)
    operands = dict.fromkeys(node.inputs[outputs:])
    copies = {operand: _barrier(read(operand), last) for operand in operands}
    outside = set(topological(operands))
    for inner in topological(node.inputs[:outputs]):
        if inner not in outside and inner.inputs:
            inputs = tuple(copies.get(source, source) for source in inner.inputs)
            origin = inner.origin._replace(phase="gradient")
            copies[inner] = make(inner.op, inputs, dict(inner.attributes), inner.spec, origin)
    return {inner: copy for inner, copy in copies.items() if inner not in operands}


_recompute = Op(
    "recompute",
    Kernel(bind=_bind),
    lambda *specs, outputs: several(specs[:outputs]),
    lambda cotangents, node, *inputs, outputs: [*cotangents, *[None] * (len(inputs) - outputs)],
    prune=_replace,
    again=_again,
)


def recompute(values: Sequence[Tensor], operands: Sequence[Tensor]) -> list[Tensor]:
    """The values; gradients compute what lies between them and the operands anew."""
    return parts(_recompute(*values, *operands, outputs=len(values)))
