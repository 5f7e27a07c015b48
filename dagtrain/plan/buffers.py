"""The memory of each value of a plan: values whose lifetimes do not overlap share buffers.

    node        0   1   2   3   4   5
    buffer A      matmul──add──relu            on an input's last use, an elementwise op writes over it
    buffer B                  mask──mul        freed memory is used again
    output                        └──▶ o0    outputs have memory of their own, which the caller may choose

A view lives in the memory of its *root*, the value that it is a view of; a root lives until the last use of any of its views.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dagtrain.backends import NUMPY, Backend
from dagtrain.graph import LEAVES, PART, Spec, Tensor, topological
from dagtrain.ops import Kernel

__all__ = ["Layout", "Memory", "Place", "lay_out"]


class Memory(NamedTuple):
    """Bytes that a plan works in.

    Attributes
    ----------
    buffers
        Work space shared by the intermediate values.
    outputs
        Memory of the results.
    intermediates
        Bytes of all intermediate values and results without sharing.
    """

    buffers: int
    outputs: int
    intermediates: int

    @property
    def needed(self) -> int:
        """Work space and results together."""
        return self.buffers + self.outputs

    def __str__(self) -> str:
        fraction = self.needed / self.intermediates if self.intermediates else 1.0
        parts = f"{self.buffers:,} in buffers, {self.outputs:,} in outputs"
        return f"{self.needed:,} bytes needed ({parts}), {fraction:.0%} of all intermediates ({self.intermediates:,})"


class Place(NamedTuple):
    """Where a root lives: ``("buffer", number)``, ``("output", number)``, ``("input", number)`` or ``("constant", number)``."""

    kind: str
    number: int


@dataclass
class Layout:
    """Where each value of a graph is in memory."""

    order: list[Tensor]
    backend: Backend
    root: dict[Tensor, Tensor]
    place: dict[Tensor, Place] = field(default_factory=dict)
    scratch: dict[Tensor, list[tuple[int, Spec]]] = field(default_factory=dict)
    dummy: dict[Tensor, Any] = field(default_factory=dict)
    copies: set[Tensor] = field(default_factory=set)
    constants: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    final_copies: list[tuple[int, Tensor]] = field(default_factory=list)
    overwritten: list[Tensor] = field(default_factory=list)
    """Outputs that are donated inputs, or views of them, which the final copy of another output may overwrite."""
    memory: Memory = field(default_factory=lambda: Memory(0, 0, 0))

    kernels: dict[str, Kernel] = field(default_factory=lambda: dict.fromkeys((*LEAVES, PART), Kernel()))

    def kernel(self, node: Tensor) -> Kernel:
        """The backend's kernel for a node; leaves and parts have none."""
        kernel = self.kernels.get(node.op)
        if kernel is None:
            kernel = self.kernels[node.op] = self.backend.kernel(node.op)
        return kernel


def lay_out(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    donate: Mapping[Tensor, int],
    yield_points: bool = False,
    backend: Backend = NUMPY,
) -> Layout:
    """Assign memory to every value; `donate` maps inputs to the number of the output that takes their memory.

    With `yield_points`, memory of outputs is never read: an output that is read later is computed in a buffer and then copied.
    """
    # From the last output on: gradients go from the last layer to the first, so each is computed as early as it can be.
    layout = _aliases(Layout(topological(outputs[::-1]), backend, {}), inputs)
    order = layout.order
    position = {node: i for i, node in enumerate(order)}
    last = dict.fromkeys(layout.root.values(), -1)
    for i, node in enumerate(order):
        root = layout.root[node]
        last[root] = max(last[root], i)
        for source in node.inputs:
            last[layout.root[source]] = max(last[layout.root[source]], i)
    buffers = _Buffers(layout.sizes)
    output_of: dict[Tensor, int] = {}
    end = len(order)
    operands = {layout.root[source] for node in order for source in node.inputs} if yield_points else set()
    for k, output in enumerate(outputs):
        if layout.root[output] is output and output.op not in LEAVES and output not in output_of and output not in operands:
            output_of[output] = k
        else:
            layout.final_copies.append((k, output))
            last[layout.root[output]] = (
                max(last[layout.root[output]], position[output]) if yield_points and output.op not in LEAVES else end
            )
    free_at: dict[int, list[Tensor]] = {}
    for root, i in last.items():
        free_at.setdefault(i, []).append(root)
    donors = {k: leaf for leaf, k in donate.items()}
    for k, leaf in donors.items():
        _follow_back(k, leaf, layout, output_of, last, position)
    for k, leaf in enumerate(inputs):
        layout.place[leaf] = Place("input", k)
    total = 0
    for i, node in enumerate(order):
        if node.op in LEAVES:
            if node.op != "input":
                layout.place[node] = Place("constant", len(layout.constants))
                layout.constants.append(node)
            continue
        # Parts get their memory where their node runs, not where they are read.
        for value in _values_of(node, order):
            if layout.root[value] is not value:
                continue
            total += value.nbytes
            heir = _heir(value, layout, last, i) if value is node else None
            if value in output_of:
                k = output_of[value]
                _place_output(value, node, k, donors.get(k), layout, last, position, i)
            elif heir is not None:
                layout.place[value] = layout.place[heir]
                buffers.transfer(heir, value)
            else:
                layout.place[value] = Place("buffer", buffers.take(value, value.nbytes))
        scratch = layout.kernel(node).scratch
        if scratch is not None:
            specs = scratch(*(s.spec for s in node.inputs), **dict(node.attributes))
            work = [(buffers.take((node, j), spec.nbytes), spec) for j, spec in enumerate(specs)]
            layout.scratch[node] = work
            for j in range(len(work)):
                buffers.free((node, j))
        for root in free_at.get(i, ()):
            buffers.free(root)
    overwritten = [t for k, t in layout.final_copies if donate.get(layout.root[t], k) != k]
    layout.overwritten = list(dict.fromkeys(overwritten))
    layout.memory = Memory(sum(layout.sizes), sum(t.nbytes for t in outputs), total)
    return layout


def _values_of(node: Tensor, order: list[Tensor]) -> list[Tensor]:
    if node.is_part:
        return []
    return [p for p in order if p.is_part and p.inputs[0] is node] if node.spec.parts else [node]


def _follow_back(
    k: int, donor: Tensor, layout: Layout, output_of: dict[Tensor, int], last: Mapping[Tensor, int], position: Mapping[Tensor, int]
) -> None:
    """Place the elementwise steps that lead to a donated output in its memory too, as far back as the donor is no longer read.

    first ──multiply──▶ t ──add──▶ first         all three in one place: less memory to go through
    """
    node = next((n for n, number in output_of.items() if number == k), None)
    while node is not None and layout.kernel(node).inplace == "any":
        before = [
            s
            for s in node.inputs
            if layout.root[s] is s and s.op not in LEAVES and s not in output_of and s.spec == donor.spec
            if layout.kernel(s).inplace == "any"
        ]
        # A step may join if only the next one still reads it, and if its result may take the donor's memory.
        node = next((s for s in before if last[s] == position[node] and _may_take(donor, s, s, layout, last, position[s])), None)
        if node is not None:
            output_of[node] = k


def _place_output(
    node: Tensor,
    maker: Tensor,
    k: int,
    donor: Tensor | None,
    layout: Layout,
    last: Mapping[Tensor, int],
    position: Mapping[Tensor, int],
    i: int,
) -> None:
    """Give an output its memory; `maker` is the node itself, or the node that it is a part of."""
    if donor is not None and donor in position and not _may_take(donor, node, maker, layout, last, i):
        # The donor's memory is still read: compute in a buffer and copy at the end.
        layout.place[node] = Place("buffer", len(layout.sizes))
        layout.sizes.append(node.nbytes)
        layout.final_copies.append((k, node))
        return
    layout.place[node] = Place("output", k)


def _may_take(donor: Tensor, node: Tensor, maker: Tensor, layout: Layout, last: Mapping[Tensor, int], i: int) -> bool:
    """Whether a value made at position `i` may overwrite the donor: no later node reads it, and the maker reads it element by element."""
    if last[donor] > i:
        return False
    operands = [s for s in maker.inputs if layout.root[s] is donor]
    return not operands or (layout.kernel(maker).inplace == "any" and all(s is donor for s in operands) and donor.spec == node.spec)


def _aliases(layout: Layout, inputs: Sequence[Tensor]) -> Layout:
    """Roots of views, the strides of every value in the plan's own memory, and the views that must copy."""
    for leaf in inputs:
        layout.root[leaf] = leaf
    for node in layout.order:
        if node.op in LEAVES or node.is_part or not layout.kernel(node).view:
            layout.root[node] = node
            if node.op != "input" and not node.spec.parts:
                layout.dummy[node] = _dummy(node.spec)
            continue
        source = node.inputs[0]
        base = layout.dummy.get(source)
        if base is None:  # a view of an input, made at each call
            layout.root[node] = layout.root[source]
        elif not layout.kernel(node).is_view_of(base, **dict(node.attributes)):
            layout.copies.add(node)
            layout.root[node] = node
            layout.dummy[node] = _dummy(node.spec)
        else:
            layout.root[node] = layout.root[source]
            layout.dummy[node] = NUMPY.kernel(node.op)(base, **dict(node.attributes))  # strides are alike in all backends
    return layout


@lru_cache(maxsize=1024)
def _dummy(spec: Spec) -> Any:
    """An array of this shape in C order over one element of memory, for its strides alone."""
    strides, step = [], spec.dtype.itemsize
    for n in reversed(spec.shape):
        strides.append(step)
        step *= max(n, 1)
    return as_strided(np.empty((), spec.dtype), spec.shape, tuple(reversed(strides)), writeable=False)


def _heir(node: Tensor, layout: Layout, last: Mapping[Tensor, int], i: int) -> Tensor | None:
    """The root whose memory an elementwise result may take over, if there is one."""
    inplace = layout.kernel(node).inplace
    if not inplace:
        return None
    for source in node.inputs if inplace == "any" else node.inputs[:1]:
        root = layout.root[source]
        if layout.place.get(root, Place("", 0)).kind != "buffer" or last[root] != i or source.spec != node.spec:
            continue
        if root.nbytes != node.nbytes or not layout.dummy[source].flags.c_contiguous:
            continue
        if all(other is source for other in node.inputs if layout.root[other] is root):
            return root
    return None


class _Buffers:
    """Buffers by number; a new value takes the smallest free one that fits."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.number_of: dict[Any, int] = {}
        self.idle: dict[int, list[int]] = {}
        self.idle_sizes: list[int] = []

    def take(self, owner: Any, nbytes: int) -> int:
        """A buffer of at least this size; the largest free one grows if none is large enough."""
        if not self.idle_sizes:
            number = len(self.sizes)
            self.sizes.append(nbytes)
        else:
            at = min(bisect_left(self.idle_sizes, nbytes), len(self.idle_sizes) - 1)
            size = self.idle_sizes[at]
            number = self.idle[size].pop()
            if not self.idle[size]:
                del self.idle[size], self.idle_sizes[at]
            self.sizes[number] = max(size, nbytes)
        self.number_of[owner] = number
        return number

    def transfer(self, old: Any, new: Any) -> None:
        """The new owner takes the old one's buffer."""
        self.number_of[new] = self.number_of.pop(old)

    def free(self, owner: Any) -> None:
        """Free the owner's buffer for another."""
        number = self.number_of.pop(owner, None)
        if number is None:
            return
        size = self.sizes[number]
        if size not in self.idle:
            self.idle[size] = []
            insort(self.idle_sizes, size)
        self.idle[size].append(number)
