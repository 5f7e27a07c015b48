"""Recurrent sequences and their derivatives in smaller ops: loops over steps, which can be differentiated again.

They define what the kernels of `dagtrain.ops.recurrent` compute, output for output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dagtrain.graph import Graph, Tensor
from dagtrain.graph import input as leaf
from dagtrain.ops.elementwise import sigmoid, tanh, where
from dagtrain.ops.linalg import matmul
from dagtrain.ops.reduce import reduce_sum
from dagtrain.ops.scan import bare_scan
from dagtrain.ops.shape import concatenate, reshape, stack, transpose

__all__ = ["gru", "gru_gradient", "lstm", "lstm_gradient", "rnn", "rnn_gradient"]

Step = Callable[..., tuple[list[Tensor], list[Tensor]]]


def loop(
    step: Step, carries: Sequence[Tensor], lines: Sequence[Tensor], fixed: Sequence[Tensor], reverse: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """The last carries, and what each step gives; ``step(carries, elements, fixed) -> carries, values``."""
    shapes = [*(t.shape for t in carries), *(t.shape[1:] for t in lines), *(t.shape for t in fixed)]
    leaves = [leaf(f"in{i}", shape, t.dtype) for i, (t, shape) in enumerate(zip([*carries, *lines, *fixed], shapes, strict=True))]
    middle, end = len(carries), len(carries) + len(lines)
    following, values = step(leaves[:middle], leaves[middle:end], leaves[end:])
    body = Graph({str(t.name): t for t in leaves}, {f"out{i}": t for i, t in enumerate([*following, *values])})
    results = bare_scan(body, carries, lines, fixed, lines[0].shape[0], reverse)
    return results[:middle], results[middle : middle + len(values)]


def masked(mask: Sequence[Tensor], value: Tensor, before: Any) -> Tensor:
    """The value in the rows of this step's mask, in the others what was before; the value where there is no mask."""
    return where(reshape(mask[0], (-1, 1)), value, before) if mask else value


def blocks(values: Tensor, number: int) -> list[Tensor]:
    """Equal parts of the last axis."""
    units = values.shape[-1] // number
    return [values[..., k * units : (k + 1) * units] for k in range(number)]


def before(values: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """For each step the value of the step before."""
    line = reshape(first, (1, *first.shape))
    return concatenate([values[1:], line] if reverse else [line, values[:-1]])[: values.shape[0]]


def by_product(x: Tensor, dz: Tensor) -> Tensor:
    """The cotangent of the weights that all steps of `x` are multiplied with."""
    return matmul(transpose(reshape(x, (-1, x.shape[-1]))), reshape(dz, (-1, dz.shape[-1])))


def rnn(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor, h: Tensor, *mask: Tensor, reverse: bool) -> list[Tensor]:
    """The outputs and the last one: ``h = tanh(x · kernel + h · recurrent + bias)``."""

    def step(carries: list[Tensor], elements: list[Tensor], fixed: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (h,), (z, *on), (weights,) = carries, elements, fixed
        h = masked(on, tanh(z + h @ weights), h)
        return [h], [h]

    (last,), (outputs,) = loop(step, [h], [x @ kernel + bias, *mask], [recurrent], reverse)
    return [outputs, last]


def rnn_gradient(x: Tensor, kernel: Tensor, recurrent: Tensor, h: Tensor, *rest: Tensor, reverse: bool) -> list[Tensor]:
    """The cotangents of x, kernel, recurrent kernel, bias and first output."""
    *mask, outputs, gy, gh = rest

    def step(carries: list[Tensor], elements: list[Tensor], fixed: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (dh,), (g, y, *on), (weights,) = carries, elements, fixed
        dh = dh + g
        dz = masked(on, dh * (1 - y * y), 0)
        return [masked(on, dz @ transpose(weights), dh)], [dz]

    (first,), (dz,) = loop(step, [gh], [gy, outputs, *mask], [recurrent], not reverse)
    return [dz @ transpose(kernel), by_product(x, dz), by_product(before(outputs, h, reverse), dz), reduce_sum(dz, (0, 1), False), first]


def lstm(
    x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor, h: Tensor, c: Tensor, *mask: Tensor, reverse: bool, keep: bool
) -> list[Tensor]:
    """The outputs, the last one, the last cell; with `keep` also all cells and gates: ``c = f c + i g, h = o tanh(c)``."""

    def step(carries: list[Tensor], elements: list[Tensor], fixed: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (h, c), (z, *on), (weights,) = carries, elements, fixed
        i, f, g, o = blocks(z + h @ weights, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
        new = f * c + i * g
        by_cell = tanh(new)
        h, c = masked(on, o * by_cell, h), masked(on, new, c)
        return [h, c], [h, c, stack([i, f, o, g, by_cell])]

    last, (outputs, *kept) = loop(step, [h, c], [x @ kernel + bias, *mask], [recurrent], reverse)
    return [outputs, *last, *(kept if keep else ())]


def lstm_gradient(x: Tensor, kernel: Tensor, recurrent: Tensor, h: Tensor, c: Tensor, *rest: Tensor, reverse: bool) -> list[Tensor]:
    """The cotangents of x, kernel, recurrent kernel, bias, first output and first cell."""
    *mask, outputs, cells, gates, gy, gh, gc = rest

    def step(carries: list[Tensor], elements: list[Tensor], fixed: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (dh, dc), (gy, last, gates, *on), (weights,) = carries, elements, fixed
        i, f, o, g, t = (gates[k] for k in range(5))
        dh = dh + gy
        d = dc + dh * o * (1 - t * t)
        dz = masked(on, concatenate([d * g * i * (1 - i), d * last * f * (1 - f), d * i * (1 - g * g), dh * t * o * (1 - o)], 1), 0)
        return [masked(on, dz @ transpose(weights), dh), masked(on, d * f, dc)], [dz]

    lines = [gy, before(cells, c, reverse), gates, *mask]
    first, (dz,) = loop(step, [gh, gc], lines, [recurrent], not reverse)
    return [dz @ transpose(kernel), by_product(x, dz), by_product(before(outputs, h, reverse), dz), reduce_sum(dz, (0, 1), False), *first]


def gru(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor, h: Tensor, *mask: Tensor, reverse: bool, keep: bool) -> list[Tensor]:
    """The outputs and the last one; with `keep` also the gates: ``n = tanh(x_n + r q), h = z h + (1 - z) n``."""

    def step(carries: list[Tensor], elements: list[Tensor], fixed: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (h,), (by_x, *on), (weights, bias) = carries, elements, fixed
        (xz, xr, xn), (hz, hr, q) = blocks(by_x, 3), blocks(h @ weights + bias, 3)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        n = tanh(xn + r * q)
        h = masked(on, n + z * (h - n), h)
        return [h], [h, stack([n, z, r, q])]

    (last,), (outputs, gates) = loop(step, [h], [x @ kernel + bias[0], *mask], [recurrent, bias[1]], reverse)
    return [outputs, last, *([gates] if keep else [])]


def gru_gradient(x: Tensor, kernel: Tensor, recurrent: Tensor, h: Tensor, *rest: Tensor, reverse: bool) -> list[Tensor]:
    """The cotangents of x, kernel, recurrent kernel, bias and first output."""
    *mask, outputs, gates, gy, gh = rest

    def step(carries: list[Tensor], elements: list[Tensor], fixed: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (dh,), (gy, last, gates, *on), (weights,) = carries, elements, fixed
        n, z, r, q = (gates[k] for k in range(4))
        dh = dh + gy
        dn = dh * (1 - z) * (1 - n * n)
        by_h = concatenate([dh * (last - n) * z * (1 - z), dn * q * r * (1 - r), dn * r], 1)
        by_h, dn = masked(on, by_h, 0), masked(on, dn, 0)
        return [masked(on, by_h @ transpose(weights) + dh * z, dh)], [by_h, dn]

    states = before(outputs, h, reverse)
    (first,), (by_h, dn) = loop(step, [gh], [gy, states, gates, *mask], [recurrent], not reverse)
    by_x = concatenate([by_h[..., : 2 * h.shape[1]], dn], 2)
    bias = stack([reduce_sum(by_x, (0, 1), False), reduce_sum(by_h, (0, 1), False)])
    return [by_x @ transpose(kernel), by_product(x, by_x), by_product(states, by_h), bias, first]
