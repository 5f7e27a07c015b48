"""The layers of a model, as a table and as the columns of a picture of neurons. Both come from tracing the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dagtrain.errors import ArgumentError
from dagtrain.graph import LEAVES, Graph, Spec
from dagtrain.nn.layer import Layer, Nest, input_spec, naming, trace_layer
from dagtrain.ops import find as find_op
from dagtrain.ops.random import derive
from dagtrain.ops.random import key as new_key
from dagtrain.trace import leaves

__all__ = ["Column", "Row", "Summary", "known_input", "layers_for_drawing", "summarize"]


class Row(NamedTuple):
    """One layer of a summary."""

    name: str
    kind: str
    output: Spec
    parameters: int
    bytes: int
    flops: float
    """Floating point operations for one sample, forwards, not in training."""
    state: int
    """Numbers in the running statistics."""
    detail: str
    connected: bool
    """Whether the layer has weights between neurons: an array of two axes or more."""


class Column(NamedTuple):
    """One column of a picture of neurons."""

    label: str
    width: int
    detail: str


@dataclass(frozen=True, repr=False)
class Summary:
    """The layers of a model and their totals; its text is a table, also at a prompt."""

    input: Spec
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Numbers that training changes."""
        return sum(row.parameters for row in self.rows)

    @property
    def bytes(self) -> int:
        """Bytes of the parameters."""
        return sum(row.bytes for row in self.rows)

    @property
    def flops(self) -> float:
        """Floating point operations for one sample, forwards, not in training."""
        return sum(row.flops for row in self.rows)

    @property
    def state(self) -> int:
        """Numbers in the running statistics."""
        return sum(row.state for row in self.rows)

    def __repr__(self) -> str:
        head = ("layer", "output", "parameters", "bytes", "FLOPs per sample")
        body = [("input", _shape(self.input), "", "", "")]
        body += [(r.name, _shape(r.output), f"{r.parameters:,}", f"{r.bytes:,}", f"{r.flops:,.0f}") for r in self.rows]
        foot = ("total", "", f"{self.parameters:,}", f"{self.bytes:,}", f"{self.flops:,.0f}")
        first, *rest, last = table_lines([head, *body, foot])
        rule = "─" * max(map(len, (first, *rest, last)))
        lines = [first, rule, *rest, rule, last]
        if self.state:
            lines.append(f"and {self.state:,} numbers of running statistics")
        return "\n".join(lines)


def table_lines(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a table: the first two columns are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    return lines


def _shape(spec: Spec) -> str:
    return "(" + ", ".join(["batch", *map(str, spec.shape[1:])]) + ")"


def _walk(layer: Layer, path: str, key: Any, spec: Spec) -> Iterator[tuple[str, Layer, Nest, Nest, Graph, Spec]]:
    """The innermost layers in order, each with its traced graph and output spec."""
    if hasattr(layer, "layers") and hasattr(layer, "names"):
        for i, (name, part) in enumerate(zip(layer.names, layer.layers, strict=True)):
            for entry in _walk(part, f"{path}/{name}" if path else name, derive(key, i), spec):
                yield entry
                spec = entry[-1]
        return
    name = path or getattr(layer, "name", None) or type(layer).__name__
    with naming(name):
        params, state = layer.init(key, spec)
        graph, out = trace_layer(layer, params, state, spec)
    yield name, layer, params, state, graph, out


def known_input(model: Layer) -> Spec:
    """The spec of the model's input; see `dagtrain.nn.Sequential.input`.

    Raises
    ------
    ArgumentError
        If the model has none yet.
    """
    spec: Spec | None = getattr(model, "input", None)
    if spec is None:
        raise ArgumentError(
            "a model does not know the shape of its input before it is trained: give one with the axis of samples, as in "
            "model.summary((1, 64)), or make the model for samples of a shape, as in Sequential([...], input_shape=(64,))."
        )
    return spec


def summarize(model: Layer, spec: Any = None) -> Summary:
    """Trace a model layer by layer, and count its parameters, bytes and FLOPs.

    Parameters
    ----------
    model
        Layer or model.
    spec
        Spec of the batched input, an array, or a shape (then float32); None for the model's own input.

    Returns
    -------
    Summary
        ``str(summary)`` is a table; `rows`, `parameters`, `bytes` and `flops` hold the numbers.

    Raises
    ------
    ArgumentError
        If `spec` is None and the model has no input yet.

    Examples
    --------
    >>> from dagtrain import nn
    >>> print(summarize(nn.Sequential([nn.Dense(128, "relu"), nn.Dense(10)]), (32, 64)))
    layer    output        parameters   bytes  FLOPs per sample
    ───────────────────────────────────────────────────────────
    input    (batch, 64)
    dense_1  (batch, 128)       8,320  33,280            16,640
    dense_2  (batch, 10)        1,290   5,160             2,570
    ───────────────────────────────────────────────────────────
    total                       9,610  38,440            19,210
    """
    spec = known_input(model) if spec is None else input_spec(spec)
    samples = max(spec.shape[0], 1)
    rows = []
    for name, layer, params, state, graph, out in _walk(model, "", new_key(0), spec):
        arrays = leaves(params)
        flops = sum(find_op(node.op).count_flops(node) for node in graph.nodes if node.op not in LEAVES and node.op != "part")
        rows.append(
            Row(
                name,
                type(layer).__name__,
                out,
                sum(a.size for a in arrays),
                sum(a.nbytes for a in arrays),
                flops / samples,
                sum(a.size for a in leaves(state)),
                str(getattr(layer, "detail", "")),
                any(a.ndim > 1 for a in arrays),
            )
        )
    return Summary(spec, tuple(rows))


def layers_for_drawing(model: Layer, spec: Any = None) -> list[Column]:
    """Columns of a picture of neurons: the input, then each layer with weights between neurons or a new width.

    The others (activation, dropout, normalisation) go into the details of the column before.

    Parameters
    ----------
    model
        Layer or model.
    spec
        Spec of the batched input, an array, or a shape (then float32); None for the model's own input.

    Returns
    -------
    list of Column
        (label, width, detail); width is the number of neurons.

    Examples
    --------
    >>> from dagtrain import nn
    >>> model = nn.Sequential([nn.Dense(128, "relu"), nn.Dropout(0.2), nn.Dense(10)])
    >>> for column in layers_for_drawing(model, (32, 64)):
    ...     print(*column, sep=" | ")
    input | 64 |
    dense_1 | 128 | relu, drops 20 %
    dense_2 | 10 |
    """
    summary = summarize(model, spec)
    columns = [Column("input", math.prod(summary.input.shape[1:]), _window(summary.input))]
    for row in summary.rows:
        width = math.prod(row.output.shape[1:])
        if row.connected or width != columns[-1].width:
            columns.append(Column(row.name, width, ", ".join(filter(None, [_window(row.output), row.detail]))))
        else:
            last = columns[-1]
            columns[-1] = last._replace(detail=", ".join(filter(None, [last.detail, row.detail])))
    return columns


def _window(spec: Spec) -> str:
    return " × ".join(map(str, spec.shape[1:])) if spec.ndim > 2 else ""
