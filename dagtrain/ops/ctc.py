"""Connectionist temporal classification: minus the logarithm of the probability of all paths that read as the labels.

    labels          a     b            states   ␣ a ␣ b ␣        a blank between, before and after
    a path          ␣ a a ␣ ␣ b        in each step it stays in its state, goes to the next, or skips a blank between two labels that differ

Sums over paths are those of the states before (alpha) and after a step (beta), in the logarithm and in float64. Both outputs come of one
pass: the costs, and their derivative by the logarithms of the probabilities, which is minus the probability of being in a state of a class.

Source: Graves, Fernández, Gomez and Schmidhuber, "Connectionist temporal classification" (ICML 2006), section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Spec, Tensor
from dagtrain.ops.bodies import several
from dagtrain.ops.elementwise import cast, exp, logaddexp, where
from dagtrain.ops.index import take_along_axis
from dagtrain.ops.linalg import einsum
from dagtrain.ops.record import Draw, Drawn, Kernel, Op, Sample, as_tensor, part
from dagtrain.ops.recurrent_steps import loop
from dagtrain.ops.shape import broadcast_to, concatenate, reshape, stack, transpose

__all__ = ["ctc"]

_NEVER = -1e30
"""The logarithm of probability 0: finite, so that no difference of two is undefined."""


def _infer(log_probabilities: Spec, labels: Spec, lengths: Spec, label_lengths: Spec, *, blank: int) -> Spec:
    if log_probabilities.dtype.kind != "f":
        raise DTypeError(f"ctc takes logarithms of probabilities in floats, got {log_probabilities.dtype}.")
    if len(log_probabilities.shape) != 3:
        raise ShapeError(f"ctc takes logarithms of probabilities (samples, steps, classes), got {log_probabilities.shape}.")
    rows, _, classes = log_probabilities.shape
    if len(labels.shape) != 2 or labels.shape[0] != rows:
        raise ShapeError(f"ctc takes labels (samples, labels) of {rows} samples, got {labels.shape}.")
    for word, spec in (("lengths", lengths), ("numbers of labels", label_lengths)):
        if spec.shape != (rows,):
            raise ShapeError(f"ctc takes the {word} of {rows} samples, got {spec.shape}.")
    if any(spec.dtype.kind not in "iu" for spec in (labels, lengths, label_lengths)):
        raise DTypeError(f"ctc takes labels and lengths in whole numbers, got {labels.dtype}, {lengths.dtype} and {label_lengths.dtype}.")
    if not 0 <= blank < classes:
        raise ShapeError(f"ctc: the blank is one of the {classes} classes, 0 to {classes - 1}, got {blank}.")
    return several((Spec((rows,), log_probabilities.dtype), log_probabilities))


# ---- NumPy


def _states(labels: Any, blank: int) -> tuple[Any, Any]:
    """The class of each state, and whether a path may skip the one before it."""
    states = np.full((len(labels), 2 * labels.shape[1] + 1), blank, np.int64)
    states[:, 1::2] = np.where(labels < 0, blank, labels)
    skips = np.zeros(states.shape, bool)
    skips[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    return states, skips


def _ends(label_lengths: Any, count: int) -> Any:
    """0 in the two last states of each row, the last label and the blank after it, `_NEVER` in the others."""
    last = 2 * label_lengths.astype(np.int64)[:, None]
    return np.where((np.arange(count) == last) | (np.arange(count) == last - 1), 0.0, _NEVER)


def _shifted(values: Any, skips: Any, step: Any, skip: Any, by: int) -> None:
    """What reaches each state from the one before it (or, for -1, after it), and from the one before that where a path may skip."""
    np.copyto(step, _NEVER)
    np.copyto(skip, _NEVER)
    if by > 0:
        np.copyto(step[:, 1:], values[:, :-1])
        np.copyto(skip[:, 2:], values[:, :-2], where=skips[:, 2:])
    else:
        np.copyto(step[:, :-1], values[:, 1:])
        np.copyto(skip[:, :-2], values[:, 2:], where=skips[:, 2:])


def _log_sum(stay: Any, step: Any, skip: Any, top: Any, out: Any) -> None:
    """The logarithm of the sum of three, given by their logarithms, which are overwritten."""
    np.maximum(stay, step, out=top)
    np.maximum(top, skip, out=top)
    for values in (stay, step, skip):
        np.subtract(values, top, out=values)
        np.exp(values, out=values)
    np.add(stay, step, out=out)
    np.add(out, skip, out=out)
    np.log(out, out=out)
    np.add(out, top, out=out)


def _scratch(log_probabilities: Spec, labels: Spec, *_: Spec, **__: Any) -> list[Spec]:
    """Sums and logarithms by state of all steps, and the work space of a step."""
    rows, steps, count = *log_probabilities.shape[:2], 2 * labels.shape[1] + 1
    return [Spec(shape, np.dtype(np.float64)) for shape in [(steps, rows, count)] * 2 + [(rows, count)] * 6]


def _kernel(
    log_probabilities: Any, labels: Any, lengths: Any, label_lengths: Any, out: Any = None, scratch: Any = None, *, blank: int
) -> tuple[Any, ...]:
    rows, steps, _ = log_probabilities.shape
    if scratch is None:
        scratch = [np.empty(spec.shape) for spec in _scratch(log_probabilities, labels)]
    if out is None:
        out = [np.empty(rows, log_probabilities.dtype), np.empty(log_probabilities.shape, log_probabilities.dtype)]
    costs, slopes = out
    by_state, alphas, alpha, stay, step, skip, top, beta = scratch
    states, skips = _states(labels, blank)
    places = np.arange(rows)[:, None]
    for t in range(steps):
        by_state[t] = log_probabilities[:, t][places, states]
    off = np.arange(steps)[:, None, None] >= lengths[:, None]
    np.copyto(alpha, _NEVER)
    alpha[:, 0] = 0  # as if in a blank before the first step
    for t in range(steps):
        _shifted(alpha, skips, step, skip, 1)
        np.copyto(stay, alpha)
        _log_sum(stay, step, skip, top, alphas[t])
        np.add(alphas[t], by_state[t], out=alphas[t])
        np.copyto(alphas[t], alpha, where=off[t])
        alpha = alphas[t]
    np.copyto(beta, _ends(label_lengths, states.shape[1]))
    totals = np.logaddexp.reduce(alpha + beta, 1)[:, None]
    possible = totals > _NEVER / 2
    if costs is not None:
        costs[...] = np.where(possible, -totals, np.inf)[:, 0]
    if slopes is None:
        return tuple(out)
    slopes[...] = 0
    never = off | ~possible
    for t in range(steps - 1, -1, -1):
        np.add(alphas[t], beta, out=top)
        np.subtract(top, totals, out=top)
        np.minimum(top, 0, out=top)
        np.exp(top, out=top)
        np.copyto(top, 0, where=never[t])
        np.subtract.at(slopes[:, t], (places, states), top.astype(slopes.dtype))  # of one dtype it is several times faster
        np.add(beta, by_state[t], out=stay)
        _shifted(stay, skips, step, skip, -1)
        _log_sum(stay, step, skip, top, by_state[t])
        np.copyto(beta, by_state[t], where=~off[t])
    return tuple(out)


# ---- the same in smaller ops


def _expand(log_probabilities: Tensor, labels: Tensor, lengths: Tensor, label_lengths: Tensor, *, blank: int) -> list[Tensor]:
    rows, steps, classes = log_probabilities.shape
    count, dtype = 2 * labels.shape[1] + 1, log_probabilities.dtype
    numbers = np.arange(count)
    blanks = broadcast_to(as_tensor(np.array(blank, labels.dtype)), (rows, labels.shape[1]))
    pairs = reshape(stack([blanks, where(labels < 0, blanks, labels)], 2), (rows, count - 1))
    states = concatenate([pairs, broadcast_to(as_tensor(np.array(blank, labels.dtype)), (rows, 1))], 1)
    never = as_tensor(np.array(_NEVER, dtype))
    two = broadcast_to(as_tensor(np.zeros((), labels.dtype)), (rows, 2))
    skips = as_tensor((numbers % 2 == 1) & (numbers > 1)) & (states != concatenate([two, states[:, :-2]], 1)) if count > 1 else states < 0
    by_state = transpose(
        take_along_axis(log_probabilities, broadcast_to(reshape(states, (rows, 1, count)), (rows, steps, count)), 2), (1, 0, 2)
    )
    on = as_tensor(np.arange(steps)[:, None]) < lengths

    def shifted(values: Tensor, by: int) -> Tensor:
        edge = broadcast_to(never, (rows, min(abs(by), count)))
        return concatenate([edge, values[:, :-by]] if by > 0 else [values[:, -by:], edge], 1)

    def forward(carries: list[Tensor], elements: list[Tensor], fixed: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (alpha,), (emission, on), (skips,) = carries, elements, fixed
        jumped = where(skips, shifted(alpha, 2), never) if count > 1 else broadcast_to(never, alpha.shape)
        new = logaddexp(logaddexp(alpha, shifted(alpha, 1)), jumped) + emission
        alpha = where(reshape(on, (-1, 1)), new, alpha)
        return [alpha], [alpha]

    def backward(carries: list[Tensor], elements: list[Tensor], fixed: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (beta,), (emission, on), (skips,) = carries, elements, fixed
        sums = beta + emission
        jumped = shifted(where(skips, sums, never), -2) if count > 1 else broadcast_to(never, beta.shape)
        new = logaddexp(logaddexp(sums, shifted(sums, -1)), jumped)
        return [where(reshape(on, (-1, 1)), new, beta)], [beta]

    first = broadcast_to(as_tensor(np.where(numbers == 0, 0.0, _NEVER).astype(dtype)), (rows, count))
    last = reshape(cast(label_lengths, np.dtype(np.int64)) * 2, (rows, 1))
    zero = as_tensor(np.zeros((), dtype))
    ends = where((as_tensor(numbers) == last) | (as_tensor(numbers) == last - 1), zero, never)
    (alpha,), (alphas,) = loop(forward, [first], [by_state, on], [skips], False)
    _, (betas,) = loop(backward, [ends], [by_state, on], [skips], True)
    totals = alpha[:, 0] + ends[:, 0]
    for i in range(1, count):
        totals = logaddexp(totals, alpha[:, i] + ends[:, i])
    possible = totals > _NEVER / 2
    inside = where(
        reshape(on, (steps, rows, 1)) & reshape(possible, (1, rows, 1)),
        exp(alphas + betas - reshape(totals, (1, rows, 1))), zero,
    )  # fmt: skip
    classes_of = cast(reshape(states, (rows, count, 1)) == as_tensor(np.arange(classes)), dtype)
    return [where(possible, -totals, as_tensor(np.array(np.inf, dtype))), -einsum("tbs,bsc->btc", inside, classes_of)]


def _gradient(cotangents: Sequence[Tensor | None], node: Tensor, *_: Tensor, **__: Any) -> list[Tensor | None] | None:
    g, by_slopes = cotangents
    if by_slopes is not None or g is None:
        return None
    return [reshape(g, (-1, 1, 1)) * part(node, index=1), None, None, None]


def _sample(steps: int, labels: int, blank: int) -> Sample:
    draws = (
        Draw((3, steps, 4), -2.0, 0.0),
        Draw((3, labels), 1, 4, "i8"),
        Draw((3,), steps - 1, steps + 1, "i8"),
        Draw((3,), 0, labels + 1, "i8"),
    )
    return Sample(draws, {"blank": blank})


ctc: Op = Op(
    "ctc",
    Kernel(_kernel, scratch=_scratch),
    _infer,
    _gradient,
    (_sample(5, 2, 0), _sample(2, 0, 1)),
    expand=_expand,
    flops=lambda spec, probabilities, labels, *_, **__: 100.0 * probabilities.shape[0] * probabilities.shape[1] * (2 * labels.shape[1] + 1),
    drawn=lambda node: Drawn("ctc", ["costs", "slopes"]),
)
