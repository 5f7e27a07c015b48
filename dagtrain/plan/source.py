"""From a graph laid out in memory to straight-line Python: one line a node.

    def build(s, o, c, b):                          once for each thread: names for every piece of memory, all views made
        t4 = b.view(s[0], 'float32', (32, 128))
        def run(x, w, b):
            matmul(x, w, t4)                        # one call a node, nothing allocated
            add(t4, b, o[0])
            yield "wrote", 0                        # a plan with yield_points: output 0 is final
        return run

A plan with yield_points pauses at each: ``"reads", k, …`` before the first use of these inputs, ``"wrote", k, …`` right after these outputs
are written. It yields for all inputs before it writes to any output.

A function of very many lines compiles slowly, so a large graph is written as many functions that share a list ``m`` of values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagtrain.backends import Backend
from dagtrain.errors import GraphError
from dagtrain.graph import LEAVES, Graph, Tensor
from dagtrain.plan.buffers import Layout, Place

__all__ = ["PIECE", "Line", "Written", "write"]

PIECE = 500
"""Calls in one function of a large graph."""
_SAFE = (int, float, bool, str, type(None))


@dataclass(frozen=True)
class Line:
    """The op of a line of the source, for errors."""

    op: str
    spec: str
    origin: str


@dataclass
class Written:
    """Source text, the constants it needs, and the op of each line."""

    source: str = ""
    constants: list[Any] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    lines: dict[int, Line] = field(default_factory=dict)


class _Writer:
    def __init__(self, graph: Graph, layout: Layout, inner: dict[Tensor, Any], backend: Backend, yield_points: bool, piece: int) -> None:
        self.graph, self.layout, self.inner, self.yield_points, self.piece = graph, layout, inner, yield_points, piece
        self.backend = backend
        self.large = len(layout.order) > 8 * piece
        self.count = 0
        self.head: list[str] = []
        self.body: list[tuple[str, Tensor | None]] = []
        self.names: dict[Tensor, str] = {}
        self.shared: dict[str, str] = {}
        self.kernels: set[str] = set()
        self.constants: list[Any] = [t.value for t in layout.constants]
        self.parts: dict[Tensor, list[Tensor]] = {}
        for t in layout.order:
            if t.is_part:
                self.parts.setdefault(t.inputs[0], []).append(t)
        self.unread = {leaf: k for k, leaf in enumerate(graph.inputs.values())} if yield_points else {}
        self.copied: dict[Tensor, list[int]] = {}
        for k, t in layout.final_copies:
            self.copied.setdefault(t, []).append(k)
        self.parameters = [f"x{k}_{re.sub(r'[^0-9A-Za-z_]', '_', name)}" for k, name in enumerate(graph.inputs)]

    def write(self) -> Written:
        for leaf, name in zip(self.graph.inputs.values(), self.parameters, strict=True):
            self.names[leaf] = self.called(name)
        for i, node in enumerate(self.layout.order):
            if node.op == "input":
                continue
            if node.op in LEAVES:
                self.names[node] = self.called(f"c{self.layout.place[node].number}")
                self.head.append(f"{self.names[node]} = c[{self.layout.place[node].number}]")
            elif self.yield_points:
                self.yield_reads(node)
                self.node(i, node)
                self.yield_written(node)
            else:
                self.node(i, node)
        if self.yield_points:
            self.yield_point("reads", self.unread.values())
        for i, node in enumerate(self.layout.overwritten):
            copy = self.called(f"kept{i}")
            self.head.append(f"{copy} = b.empty({node.shape!r}, {node.dtype.str!r})")
            self.body.append((f"copyto({copy}, {self.names[node]})", node))
            self.names[node] = copy
        self.copies([k for k, node in self.layout.final_copies if not self.yield_points or node.op in LEAVES])
        return self.joined()

    def yield_point(self, what: str, numbers: Iterable[int]) -> None:
        """Write a yield point for these inputs or outputs, if there are any."""
        text = ", ".join(map(str, numbers))
        if text:
            self.body.append((f'yield "{what}", {text}', None))

    def outputs_of(self, node: Tensor) -> tuple[list[int], list[int]]:
        """The outputs that a node writes in place, and those that are copies of its values."""
        values = [] if node.is_part else [node, *self.parts.get(node, ())]  # a node writes its parts
        places = [self.layout.place[t] for t in values if t in self.layout.place]
        return [p.number for p in places if p.kind == "output"], [k for t in values for k in self.copied.get(t, ())]

    def yield_reads(self, node: Tensor) -> None:
        """Yield for the inputs that the node is the first to read; for all unread ones if it writes an output."""
        leaves = list(self.unread) if any(self.outputs_of(node)) else [t for t in dict.fromkeys(node.inputs) if t in self.unread]
        self.yield_point("reads", [self.unread.pop(leaf) for leaf in leaves])

    def yield_written(self, node: Tensor) -> None:
        """Yield once for all outputs that the node writes: nothing else is written in between."""
        written, copied = self.outputs_of(node)
        self.copies(copied, written)

    def copies(self, numbers: Sequence[int], written: Sequence[int] = ()) -> None:
        """Copy values to these outputs, and yield for them and for the outputs that are written already."""
        sources = dict(self.layout.final_copies)
        for k in numbers:
            self.body.append((f"copyto(o[{k}], {self.names[sources[k]]})", sources[k]))
        if self.yield_points:
            self.yield_point("wrote", [*written, *numbers])

    def node(self, i: int, node: Tensor) -> None:
        if node.is_part:
            return
        if node.spec.parts:
            self.several(i, node)
            return
        kernel = self.backend.kernel(node.op)
        arguments = [self.names[s] for s in node.inputs]
        if kernel.view and node not in self.layout.copies:
            name = self.names[node] = self.called(f"t{i}")
            self.kernels.add(node.op)
            line = f"{name} = {_call(node.op, arguments, node)}"
            if node in self.layout.dummy:
                self.head.append(line)
            else:
                self.body.append((line, node))
            return
        name = self.names[node] = self.named(f"t{i}", self.memory(self.layout.place[node], node))
        self.kernels.add(node.op)
        arguments += self.scratch(i, node)
        self.body.append((_call(node.op, [*arguments, name if kernel.positional else f"out={name}"], node), node))

    def scratch(self, i: int, node: Tensor) -> list[str]:
        """The argument for the work space that a node takes, if it takes any."""
        work = []
        for j, (buffer, spec) in enumerate(self.layout.scratch.get(node, ())):
            work.append(self.named(f"t{i}_work{j}", f"b.view(s[{buffer}], {spec.dtype.str!r}, {spec.shape!r})"))
        return [f"scratch=({', '.join(work)},)"] if work else []

    def several(self, i: int, node: Tensor) -> None:
        """A node with several outputs, which are its parts; None for those that nothing reads."""
        parts = {p.attribute("index"): p for p in self.parts.get(node, ())}
        buffers = []
        for index in range(len(node.spec.parts)):
            part = parts.get(index)
            if part is None:
                buffers.append("None")
                continue
            self.names[part] = self.named(f"t{i}_{index}", self.memory(self.layout.place[part], part))
            buffers.append(self.names[part])
        arguments, out = [self.names[s] for s in node.inputs], f"[{', '.join(buffers)}]"
        if node in self.inner:
            bound = self.called(f"{node.op}{i}")
            self.head.append(f"{bound} = c[{len(self.constants)}]")
            self.constants.append(self.inner[node])
            self.body.append((f"{bound}([{', '.join(arguments)}], {out})", node))
            return
        self.kernels.add(node.op)
        self.body.append((_call(node.op, [*arguments, *self.scratch(i, node), f"out={out}"], node), node))

    def memory(self, place: Place, node: Tensor) -> str:
        if place.kind == "output":
            return f"o[{place.number}]"
        if place.kind == "buffer":
            return f"b.view(s[{place.number}], {node.dtype.str!r}, {node.shape!r})"
        raise GraphError(f"{node!r} has no memory of its own.")

    def named(self, name: str, memory: str) -> str:
        """The name of a piece of memory; in a large graph, values that follow one another in the same piece share it."""
        if not self.large:
            self.head.append(f"{name} = {memory}")
            return name
        if memory not in self.shared:
            self.shared[memory] = self.called(name)
            self.head.append(f"{self.shared[memory]} = {memory}")
        return self.shared[memory]

    def called(self, name: str) -> str:
        """A value's name in the source: its own, or an item of the list of a large graph."""
        if not self.large:
            return name
        self.count += 1
        return f"m[{self.count - 1}]"

    def joined(self) -> Written:
        written = Written(constants=self.constants, kernels=sorted(self.kernels))
        lines: list[str] = []
        if self.large:
            for start in range(0, len(self.head), self.piece):
                lines += [f"def name_{start}(s, o, c, b, m):", *("    " + h for h in self.head[start : start + self.piece])]
            for start in range(0, len(self.body), self.piece):
                lines.append(f"def run_{start}(o, m):")
                self.calls(self.body[start : start + self.piece], "    ", lines, written)
            lines += ["def build(s, o, c, b):", f"    m = [None] * {self.count}"]
            lines += [f"    name_{start}(s, o, c, b, m)" for start in range(0, len(self.head), self.piece)]
            lines += [f"    def run({', '.join(self.parameters)}):"]
            lines += [f"        m[{k}] = {name}" for k, name in enumerate(self.parameters)]
            for start in range(0, len(self.body), self.piece):
                yield_points = any(text.startswith("yield ") for text, _ in self.body[start : start + self.piece])
                lines.append(f"        {'yield from ' if yield_points else ''}run_{start}(o, m)")
            if not self.body:
                lines.append("        pass")
        else:
            lines += ["def build(s, o, c, b):", *("    " + h for h in self.head), f"    def run({', '.join(self.parameters)}):"]
            self.calls(self.body, "        ", lines, written)
        lines.append("    return run")
        written.source = "\n".join(lines) + "\n"
        return written

    def calls(self, body: list[tuple[str, Tensor | None]], indent: str, lines: list[str], written: Written) -> None:
        """Write calls with a comment each, and record each line's op."""
        width = min(max((len(text) for text, _ in body), default=0) + 10, 90)
        for text, node in body:
            comment = ""
            if node is not None:
                comment = f"  # {node.spec} {'/'.join((*node.origin.scope, node.origin.phase))}"
                written.lines[len(lines) + 1] = Line(node.op, str(node.spec), str(node.origin))
            lines.append(((indent + text).ljust(width) + comment).rstrip())
        if not body:
            lines.append(indent + "pass")


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + "".join(_literal(v) + ", " for v in value) + ")"
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, _SAFE):
        return repr(value)
    raise GraphError(f"an op's attribute is made of numbers, text and tuples of them, not {type(value).__name__}.")


def _call(op: str, arguments: Sequence[str], node: Tensor) -> str:
    words = [*arguments, *(f"{k}={_literal(v)}" for k, v in node.attributes)]
    return f"{op}({', '.join(words)})"


def write(
    graph: Graph, layout: Layout, inner: dict[Tensor, Any], backend: Backend, yield_points: bool = False, piece: int = PIECE
) -> Written:
    """Write the source of a plan; `inner` holds the bodies of each node that has some, `yield_points` says whether it pauses.

    A graph of more than eight times `piece` nodes is written in functions of `piece` calls.
    """
    return _Writer(graph, layout, inner, backend, yield_points, piece).write()
