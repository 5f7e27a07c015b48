"""The layers of a model, as a table and as the columns of a picture of neurons. Both come from tracing the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dagtrain.graph import LEAVES, Spec, Tensor, rebuild, spec_of, topological
from dagtrain.graph import input as new_input
from dagtrain.nn.context import run_pass
from dagtrain.nn.passes import Call, Pass
from dagtrain.nn.tracing import first_pass
from dagtrain.ops import find as find_op
from dagtrain.ops.random import key as new_key
from dagtrain.trace.tree import leaves

if TYPE_CHECKING:
    from dagtrain.nn.layer import Layer

__all__ = ["Column", "Row", "Summary", "layers_for_drawing", "summarize"]


class Row(NamedTuple):
    """One layer of a summary."""

    name: str
    kind: str
    output: Spec
    parameters: int
    bytes: int
    macs: float
    """Multiplications with an addition for one sample, forwards, not in training: those of its products and convolutions."""
    flops: float
    """Floating point operations for one sample, forwards, not in training."""
    state: int
    """Numbers in the running statistics."""
    detail: str
    connected: bool
    """Whether the layer has weights between neurons: an array of two axes or more."""
    shares: bool
    """Whether it is another call of a layer above, with the same parameters."""
    trainable: bool
    """Whether training changes its parameters."""


class Column(NamedTuple):
    """One column of a picture of neurons."""

    label: str
    width: int
    detail: str


@dataclass(frozen=True, repr=False)
class Summary:
    """The layers of a model and their totals; its text is a table, also at a prompt."""

    inputs: dict[str, Spec]
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Numbers in the parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def frozen(self) -> int:
        """Numbers in the parameters that training does not change."""
        return sum(row.parameters for row in self.rows if not row.trainable)

    @property
    def bytes(self) -> int:
        """Bytes of the parameters."""
        return sum(row.bytes for row in self.rows)

    @property
    def macs(self) -> float:
        """Multiplications with an addition for one sample, forwards, not in training."""
        return sum(row.macs for row in self.rows)

    @property
    def flops(self) -> float:
        """Floating point operations for one sample, forwards, not in training."""
        return sum(row.flops for row in self.rows)

    @property
    def state(self) -> int:
        """Numbers in the running statistics."""
        return sum(row.state for row in self.rows)

    def __repr__(self) -> str:
        head = ("layer", "output", "parameters", "bytes", "MACs", "FLOPs per sample")
        body: list[tuple[str, ...]] = [
            ("input" if len(self.inputs) == 1 else name, _shape(spec), "", "", "", "") for name, spec in self.inputs.items()
        ]
        body += [(_title(row), _shape(row.output), *_numbers(row)) for row in self.rows]
        foot = ("total", "", *_numbers(self))
        first, *rest, last = table_lines([head, *body, foot])
        rule = "─" * max(map(len, (first, *rest, last)))
        lines = [first, rule, *rest, rule, last]
        if self.frozen:
            lines.append(f"of these parameters {self.frozen:,} are frozen")
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


def _numbers(counted: Row | Summary) -> tuple[str, ...]:
    return f"{counted.parameters:,}", f"{counted.bytes:,}", f"{counted.macs:,.0f}", f"{counted.flops:,.0f}"


def _title(row: Row) -> str:
    marks = [text for text, holds in (("shared", row.shares), ("frozen", row.parameters and not row.trainable)) if holds]
    return f"{row.name} ({', '.join(marks)})" if marks else row.name


def _shape(spec: Spec) -> str:
    return "(" + ", ".join(["batch", *map(str, spec.shape[1:])]) + ")"


def _rows(call: Call, evaluated: Mapping[tuple[Any, ...], Call], samples: int) -> Iterator[Row]:
    """A row for each call of a layer that computes or holds anything itself, in order."""
    for inner in call.calls:
        yield from _rows(inner, evaluated, samples)
    again = evaluated.get(_place(call))
    macs = flops = 0.0
    if again is not None:
        of_layers = [_counted(part) for part in again.calls]
        macs, flops = (max(0.0, count - sum(counts[i] for counts in of_layers)) for i, count in enumerate(_counted(again)))
    if call.calls and not (call.parameters or call.states or flops):
        return
    outputs = leaves(call.outputs)
    name = "/".join(call.path) or call.layer.name or type(call.layer).__name__
    yield Row(
        name,
        type(call.layer).__name__,
        spec_of(outputs[0]),
        sum(p.size for p in call.parameters),
        sum(p.spec.nbytes for p in call.parameters),
        macs / samples,
        flops / samples,
        sum(s.size for s in call.states),
        str(getattr(call.layer, "detail", "")),
        any(p.ndim > 1 for p in call.parameters),
        call.shares,
        call.trainable,
    )


def _place(call: Call) -> tuple[Any, ...]:
    """What a call in training has in common with the same call in evaluation: the path, and the calls of it before."""
    return call.path, call.number


def _all(call: Call) -> Iterator[Call]:
    for inner in call.calls:
        yield from _all(inner)
    yield call


def _counted(call: Call) -> tuple[float, float]:
    """Multiplications with an addition, and floating point operations, from the inputs of a call to its outputs."""
    stand_ins = {x: new_input(f"x_{i}", x.shape, x.dtype) for i, x in enumerate(leaves(call.inputs)) if isinstance(x, Tensor)}
    outputs = [output for output in leaves(call.outputs) if isinstance(output, Tensor)]
    nodes = [node for node in topological(rebuild(outputs, stand_ins).values()) if node.op not in LEAVES]
    return sum(find_op(n.op).count_macs(n) for n in nodes), sum(find_op(n.op).count_flops(n) for n in nodes)


def summarize(model: Layer, *inputs: Any, dtype: Any = None) -> Summary:
    """Trace a model layer by layer, and count its parameters, bytes, MACs (multiplications with an addition) and FLOPs.

    Parameters
    ----------
    model
        Layer or model.
    *inputs
        For each input a spec, an array, or a shape (then float32), with the axis of samples; nothing for the declared inputs.
    dtype
        Of the parameters; by default float64 for float64 inputs, else float32.

    Returns
    -------
    Summary
        ``str(summary)`` is a table; `rows`, `parameters`, `bytes`, `macs` and `flops` hold the numbers.

    Raises
    ------
    ArgumentError
        If no inputs are given and none are declared.

    Examples
    --------
    >>> from dagtrain import nn
    >>> print(summarize(nn.Sequential([nn.Dense(128, "relu"), nn.Dense(10)]), (32, 64)))
    layer    output        parameters   bytes   MACs  FLOPs per sample
    ──────────────────────────────────────────────────────────────────
    input    (batch, 64)
    dense_1  (batch, 128)       8,320  33,280  8,192            16,640
    dense_2  (batch, 10)        1,290   5,160  1,280             2,570
    ──────────────────────────────────────────────────────────────────
    total                       9,610  38,440  9,472            19,210
    """
    first = first_pass(model, new_key(0), inputs, dtype, allocate=False)
    traced = first.shared
    again = run_pass(Pass(False, traced.dtype, None, dict(traced.parameters), dict(traced.states)), model, first.call.inputs)
    evaluated = {_place(call): call for call in _all(again)}
    specs = tuple(spec_of(x) for x in leaves(first.call.inputs))
    samples = max(specs[0].shape[0], 1)
    return Summary(dict(zip(model.input_names, specs, strict=False)), tuple(_rows(first.call, evaluated, samples)))


def layers_for_drawing(model: Layer, *inputs: Any) -> list[Column]:
    """Columns of a picture of neurons: the input, then each layer with weights between neurons or a new width.

    The others (activation, dropout, normalisation) go into the details of the column before.

    Parameters
    ----------
    model
        Layer or model.
    *inputs
        As for `summarize`.

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
    summary = summarize(model, *inputs)
    columns = [Column("input", sum(math.prod(s.shape[1:]) for s in summary.inputs.values()), _window(*summary.inputs.values()))]
    for row in summary.rows:
        width = math.prod(row.output.shape[1:])
        if row.connected or width != columns[-1].width:
            columns.append(Column(row.name, width, ", ".join(filter(None, [_window(row.output), row.detail]))))
        else:
            last = columns[-1]
            columns[-1] = last._replace(detail=", ".join(filter(None, [last.detail, row.detail])))
    return columns


def _window(spec: Spec, *others: Spec) -> str:
    return " × ".join(map(str, spec.shape[1:])) if spec.ndim > 2 and not others else ""
