"""Recurrent networks: a whole sequence of a simple RNN, an LSTM or a GRU as one op, and their derivatives as ops of their own.

    lstm            x, kernel, recurrent kernel, bias, h, c (, mask)    ──▶  y of all steps, last h, last c (, cells, gates)
    lstm_gradient   x, …, what lstm kept, a cotangent for y, h and c    ──▶  a cotangent for x, kernel, …, h, c

Sequences are (steps, rows, features), a mask is (steps, rows): in a step whose mask is off a row's state stays as it is, and its output is
that state. With `reverse` the steps are made from the last to the first; each output has the position of its input. Where no gradient reads
what was kept, `prune` takes `keep` back. The same in smaller ops, in `dagtrain.ops.recurrent_steps`, is what second derivatives go through.

Sources: Hochreiter and Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers, Schmidhuber and Cummins (2000); Cho et
al., arXiv:1406.1078, with the reset after the product; the gates of the weights are i, f, g, o and z, r, n.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Graph, Spec, Tensor
from dagtrain.ops import gru_kernels, lstm_kernels, recurrent_steps, rnn_kernels
from dagtrain.ops.bodies import cotangent, several
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, part, parts

__all__ = ["gru", "gru_gradient", "lstm", "lstm_gradient", "rnn", "rnn_gradient"]


def _check(name: str, gates: int, states: int, x: Spec, kernel: Spec, recurrent: Spec, bias: Spec, *rest: Spec) -> None:
    """Raise unless these are the inputs of a cell with so many gates and states."""
    if len(x.shape) != 3:
        raise ShapeError(f"{name}: a sequence is (steps, rows, features), got {x.shape}.")
    (steps, rows, features), units = x.shape, recurrent.shape[0] if recurrent.shape else 0
    width = gates * units
    shapes = [(kernel, (features, width)), (recurrent, (units, width)), (bias, (2, width) if name == "gru" else (width,))]
    words = ["kernel", "recurrent kernel", "bias"]
    shapes += [(state, (rows, units)) for state in rest[:states]]
    words += ["first output", "first cell"][:states]
    if len(rest) > states:
        shapes.append((rest[states], (steps, rows)))
        words.append("mask")
    for word, (spec, shape) in zip(words, shapes, strict=True):
        if spec.shape != shape:
            raise ShapeError(f"{name}: for {x.shape} and {units} units the {word} has the shape {shape}, got {spec.shape}.")
        if word == "mask" and spec.dtype != bool:
            raise DTypeError(f"{name}: a mask is of booleans, got {spec.dtype}.")
        if word != "mask" and (spec.dtype != x.dtype or x.dtype.kind != "f"):
            raise DTypeError(f"{name}: x and the {word} are floats of one dtype, got {x.dtype} and {spec.dtype}.")


def _work_space(shapes: Callable[..., list[tuple[int, ...]]]) -> Callable[..., list[Spec]]:
    """The work space of a kernel, from its shapes."""
    return lambda x, kernel, recurrent, *_, reverse, **a: [Spec(shape, x.dtype) for shape in shapes(x, recurrent, **a)]


def _cell(
    name: str,
    gates: int,
    states: int,
    kept: Sequence[int],
    kernels: Any,
    steps: tuple[Callable[..., list[Tensor]], Callable[..., list[Tensor]]],
) -> tuple[Op, Op]:
    """The records of a cell and of its derivative.

    Parameters
    ----------
    name, gates, states
        States are the output, and a cell where there is one.
    kept
        How many arrays (rows, units) are kept of each step for the derivative, besides the outputs: 0 stands for one without an axis.
    kernels
        The module of its kernels.
    steps
        The same two in smaller ops.
    """
    keeps = bool(kept)
    last = 1 + states

    def lines(length: int, each: tuple[int, ...], dtype: Any) -> list[Spec]:
        return [Spec((length, *((count,) if count else ()), *each), dtype) for count in kept]

    def infer(x: Spec, kernel: Spec, recurrent: Spec, bias: Spec, *rest: Spec, keep: bool = False, **_: Any) -> Spec:
        _check(name, gates, states, x, kernel, recurrent, bias, *rest)
        length, rows, units = *x.shape[:2], recurrent.shape[0]
        each = Spec((rows, units), x.dtype)
        return several((Spec((length, *each.shape), x.dtype), *[each] * states, *(lines(length, each.shape, x.dtype) if keep else ())))

    def gradient(cotangents: Sequence[Tensor | None], node: Tensor, *inputs: Tensor, **a: Any) -> list[Tensor | None] | None:
        if any(g is not None for g in cotangents[last:]):  # as of second derivatives, which read what was kept
            return None
        x, kernel, recurrent, _, *rest = inputs
        whole = node if not keeps or a["keep"] else op(*inputs, **{**a, "keep": True})
        outputs = parts(whole)
        gs = [cotangent(g, y.spec) for g, y in zip(cotangents[:last], outputs, strict=False)]
        back = slope(x, kernel, recurrent, *rest, outputs[0], *outputs[last:], *gs, reverse=a["reverse"])
        return [*parts(back), *[None] * (len(rest) - states)]

    def prune(node: Tensor, used: Collection[int], prune: Callable[[Graph], Graph]) -> dict[int, Tensor]:
        a = dict(node.attributes)
        if not a.get("keep") or any(i >= last for i in used):
            return {}
        smaller = op(*node.inputs, **{**a, "keep": False})
        return {i: part(smaller, index=i) for i in used}

    def infer_slopes(x: Spec, kernel: Spec, recurrent: Spec, *rest: Spec, **_: Any) -> Spec:
        bias = Spec((2, kernel.shape[1]) if name == "gru" else kernel.shape[1:], x.dtype)
        return several((x, kernel, recurrent, bias, *rest[:states]))

    def macs(spec: Spec, x: Spec, kernel: Spec, recurrent: Spec, *_: Spec, **__: Any) -> float:
        return float(x.shape[0] * x.shape[1] * (kernel.size + recurrent.size))

    def samples(masked: bool, reverse: bool) -> tuple[Sample, Sample]:
        length, rows, features, units = 3, 3, 2, 2
        wide = gates * units
        x, weights, bias = Draw((length, rows, features)), (Draw((features, wide)), Draw((units, wide))), Draw((2, wide)[name != "gru" :])
        state, each = Draw((rows, units)), Draw((length, rows, units))
        mask = (Draw((length, rows), dtype="?"),) * masked
        attributes = {"reverse": reverse}
        inside = [Draw(spec.shape, 0.1, 0.9) for spec in lines(length, (rows, units), np.dtype("f8"))]
        return (
            Sample((x, *weights, bias, *(state,) * states, *mask), {**attributes, "keep": not reverse} if keeps else attributes),
            Sample((x, *weights, *(state,) * states, *mask, each, *inside, each, *(state,) * states), attributes),
        )

    cases = [samples(masked, reverse) for masked, reverse in ((False, False), (True, True))]
    words = ["outputs", "last output", "last cell"][:last]
    op = Op(
        name,
        Kernel(kernels.forward, scratch=_work_space(kernels.forward_shapes)),
        infer,
        gradient,
        tuple(first for first, _ in cases),
        expand=steps[0],
        macs=macs,
        prune=prune if keeps else None,
        drawn=lambda node: Drawn(f"{name} × {node.inputs[0].shape[0]}", [*words, *["kept"] * (len(node.spec.parts) - last)]),
    )
    slope = Op(
        f"{name}_gradient",
        Kernel(kernels.gradient, scratch=_work_space(kernels.gradient_shapes)),
        infer_slopes,
        None,
        tuple(second for _, second in cases),
        expand=steps[1],
        macs=lambda *specs, **a: 2 * macs(*specs, **a),
        drawn=lambda node: Drawn(
            f"{name} gradient × {node.inputs[0].shape[0]}",
            ["x", "kernel", "recurrent kernel", "bias", "first output", "first cell"][: 4 + states],
        ),
    )
    return op, slope


rnn, rnn_gradient = _cell("rnn", 1, 1, (), rnn_kernels, (recurrent_steps.rnn, recurrent_steps.rnn_gradient))
lstm, lstm_gradient = _cell("lstm", 4, 2, (0, 5), lstm_kernels, (recurrent_steps.lstm, recurrent_steps.lstm_gradient))
gru, gru_gradient = _cell("gru", 3, 1, (4,), gru_kernels, (recurrent_steps.gru, recurrent_steps.gru_gradient))
