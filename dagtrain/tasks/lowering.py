"""From a graph to Dask tasks: fragments of it, each compiled to a plan.

    graph ──cut──▶ groups of nodes ──▶ fragments (reads, results) ──plan──▶ tasks

A value that passes from one task to another is always a whole array in C order. A view of it (a transpose, a slice) is made again in each
task that reads it: that costs nothing, and a view sent to another process would lose its layout, on which the last bits of sums depend.
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dask.task_spec import DataNode, Task, TaskRef

from dagtrain.arguments import is_number, one_of
from dagtrain.backends import NUMPY, Backend, find_backend
from dagtrain.errors import ArgumentError
from dagtrain.graph import LEAVES, Graph, Tensor, rebuild, topological
from dagtrain.graph import input as new_input
from dagtrain.ops import find
from dagtrain.plan import Plan
from dagtrain.tasks.cost import TRANSFER_A_SECOND, WORTH, seconds
from dagtrain.tasks.cut import cut
from dagtrain.tasks.run import check_value, run_fragment
from dagtrain.tasks.tokens import check_complete, key_of, label_of, token_of

__all__ = ["Fragment", "Lowered", "fragments_of", "lower", "lower_tensors"]

_LARGE_CONSTANT = 4096
"""A constant of more bytes is a task of its own, not part of the plan of each task that reads it."""


class Lowered(NamedTuple):
    """Tasks that compute a graph's outputs.

    Attributes
    ----------
    tasks
        Key → node of `dask.task_spec`.
    keys
        Name of each output → its key.
    """

    tasks: dict[Any, Any]
    keys: dict[str, Any]


class Fragment(NamedTuple):
    """Part of a graph that one task computes: from `reads` to `results`."""

    reads: tuple[Tensor, ...]
    results: tuple[Tensor, ...]


def lower(graph: Graph, *, granularity: str | float = "fragment", backend: str | Backend = NUMPY) -> Lowered:
    """The Dask tasks of a graph without inputs, or with inputs that Dask computes.

    The graph is lowered as it is: the results have the bits of the interpreter with one BLAS thread, for every granularity and scheduler.

    Parameters
    ----------
    graph
        See `to_delayed` for one whose inputs need values.
    granularity
        ``"fragment"``: as few tasks as possible without losing parallel work of about a millisecond or more. A number: the same, with this
        many seconds of work worth a task. ``"op"``: one task an op (views are made in the tasks that read them).
    backend
        Whose kernels the tasks run; between tasks, values are arrays of NumPy.

    Returns
    -------
    Lowered

    Raises
    ------
    ArgumentError
        If an input has no value, naming it.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> from dagtrain.tasks import lower
    >>> a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    >>> made = lower(dt.Graph({}, {"e": (a + b) * (b + 1)}), granularity="op")
    >>> sorted(key.rsplit("-", 1)[0] for key in made.tasks)
    ['a', 'add', 'add', 'b', 'multiply']
    """
    tasks, keys = lower_tensors(list(graph.outputs.values()), granularity=granularity, backend=backend)
    return Lowered(tasks, {name: keys[t] for name, t in graph.outputs.items()})


def lower_tensors(
    outputs: Sequence[Tensor],
    *,
    granularity: str | float = "fragment",
    named: Mapping[Tensor, Any] | None = None,
    backend: str | Backend = NUMPY,
) -> tuple[dict[Any, Any], dict[Tensor, Any]]:
    """The tasks of several tensors, common ones once, and the key of each tensor's value.

    A key is a hash of what its task computes and of the keys that it reads, so that equal keys are equal tasks for every cut of a graph.
    `named` gives the keys of the values of some outputs, whatever task computes them.
    """
    worth = _worth(granularity)
    for output in outputs:
        check_complete(output)
    writer = _Writer(worth is None, dict(named or {}), outputs, find_backend(backend))
    fragments = fragments_of(outputs, worth)
    for leaf in dict.fromkeys([*(t for s in fragments for t in s.reads), *outputs]):
        if leaf.op in LEAVES:
            writer.leaf(leaf)
    for fragment in fragments:
        writer.fragment(fragment)
    # A persisted tensor has the key of the original one: its stored value replaces a task that would depend on itself.
    return writer.tasks | writer.dask_tasks, {t: writer.key(t) for t in outputs}


class _Writer:
    """Tasks being written, and where each value is: a key, and for a task with several results the number of the result."""

    def __init__(self, by_op: bool, named: dict[Tensor, Any], outputs: Sequence[Tensor], backend: Backend) -> None:
        self.by_op, self.named, self.outputs, self.backend = by_op, named, set(outputs), backend
        self.tasks: dict[Any, Any] = {}
        self.dask_tasks: dict[Any, Any] = {}
        self.place: dict[Tensor, tuple[Any, int | None]] = {}
        self.holds: dict[Any, Fragment] = {}

    def leaf(self, leaf: Tensor) -> None:
        """The task of a leaf: its value, or the check of what Dask computes."""
        key = key_of(leaf)
        source = leaf.attribute("source")
        self.place[leaf] = (key, None)
        if source is None:
            self.tasks[key] = DataNode(key, leaf.value)
            return
        self.dask_tasks.update(source.tasks())
        if not source.ready:
            self.tasks[key] = Task(key, check_value, leaf.name, leaf.spec, source.exact, TaskRef(source.key))

    def fragment(self, fragment: Fragment) -> None:
        """The task of a fragment."""
        places = [self.reach(source, fragment) for source in fragment.reads]
        result = fragment.results[-1]
        several = len(fragment.results) > 1
        key = None if several else self.named.get(result)
        if key is None:
            key = f"{label_of(result, self.by_op)}-{_hash(self.backend.name, [token_of(t) for t in fragment.results], places)}"
        picks = tuple(number for _, number in places)
        self.tasks[key] = Task(key, run_fragment, fragment_plan(fragment, self.backend), picks, *(TaskRef(holder) for holder, _ in places))
        self.holds[key] = fragment
        for i, result in enumerate(fragment.results):
            self.place[result] = (key, i if several else None)
        for result in fragment.results:
            if several and result in self.outputs:
                self.item(result, self.named.get(result))

    def reach(self, source: Tensor, reader: Fragment) -> tuple[Any, int | None]:
        """Where a fragment reads a value: the array alone if too many unused bytes would travel with it."""
        holder, number = self.place[source]
        if number is not None:
            unused = sum(t.nbytes for t in set(self.holds[holder].results).difference(reader.reads))
            if unused > WORTH * TRANSFER_A_SECOND:
                self.item(source)
        return self.place[source]

    def item(self, result: Tensor, key: Any = None) -> None:
        """A task that gives one of a task's several results; later readers read that."""
        holder, number = self.place[result]
        key = f"{label_of(result, self.by_op)}-{_hash(holder, number)}" if key is None else key
        self.tasks[key] = Task(key, operator.getitem, TaskRef(holder), number)
        self.place[result] = (key, None)

    def key(self, output: Tensor) -> Any:
        """The key of an output's value."""
        return self.place[output][0]


def _hash(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _worth(granularity: str | float) -> float | None:
    if isinstance(granularity, str):
        return None if one_of("granularity", granularity, ("op", "fragment")) == "op" else WORTH
    if not is_number(granularity) or not granularity >= 0:
        raise ArgumentError(f'granularity is "op", "fragment", or the seconds of work that are worth a task, not {granularity!r}.')
    return float(granularity)


def _is_data(leaf: Tensor) -> bool:
    """Whether a leaf's value is a task of its own; small constants are part of the plans that read them."""
    return leaf.op != "constant" or leaf.nbytes > _LARGE_CONSTANT


# ---- fragments


def fragments_of(outputs: Sequence[Tensor], worth: float | None) -> list[Fragment]:
    """Cut the graph of these tensors into fragments, each after those it reads from; one op each if `worth` is None."""
    order = topological(outputs)
    base: dict[Tensor, Tensor] = {}
    number: dict[Tensor, int] = {}  # of the unit of work that makes a value
    units: list[Tensor] = []
    for node in order:
        if node.op in LEAVES:
            base[node] = node
        elif node.is_part:
            base[node] = node
            number[node] = number[node.inputs[0]]
        elif find(node.op).view and len(node.inputs) == 1:
            base[node] = base[node.inputs[0]]
        else:
            base[node] = node
            number[node] = len(units)
            units.append(node)
    extra: dict[int, list[Tensor]] = {}  # outputs that are views
    for output in dict.fromkeys(outputs):
        if base[output] is output:
            continue
        if base[output] not in number:
            number[base[output]] = -1
        if base[output].op in LEAVES:
            number[output] = len(units)
            units.append(output)
        extra.setdefault(number[output if base[output].op in LEAVES else base[output]], []).append(output)
    reads = [dict.fromkeys(base[s] for s in u.inputs) for u in units]
    sources = [[number[t] for t in values if t.op not in LEAVES] for values in reads]
    if worth is None:
        groups = [[i] for i in range(len(units))]
    else:
        groups = cut([seconds(u) for u in units], sources, worth)
    return _joined(groups, units, reads, number, extra, outputs)


def _joined(
    groups: Sequence[Sequence[int]],
    units: Sequence[Tensor],
    reads: Sequence[Mapping[Tensor, None]],
    number: Mapping[Tensor, int],
    extra: Mapping[int, Sequence[Tensor]],
    outputs: Sequence[Tensor],
) -> list[Fragment]:
    group_of = {unit: g for g, members in enumerate(groups) for unit in members}
    inputs: list[dict[Tensor, None]] = []
    results: list[dict[Tensor, None]] = [{} for _ in groups]
    for g, members in enumerate(groups):
        values = dict.fromkeys(t for unit in members for t in reads[unit] if t.op in LEAVES or group_of[number[t]] != g)
        inputs.append({t: None for t in values if t.op not in LEAVES or _is_data(t)})
        for t in values:
            if t.op not in LEAVES:
                results[group_of[number[t]]][t] = None
        for unit in members:
            results[g].update(dict.fromkeys(extra.get(unit, ())))
    for output in dict.fromkeys(outputs):
        if output.op not in LEAVES and output in number:
            results[group_of[number[output]]][output] = None
    # The order of the results must not depend on which outputs are requested.
    return [Fragment(tuple(t), tuple(sorted(g, key=token_of))) for t, g in zip(inputs, results, strict=True)]


def fragment_plan(fragment: Fragment, backend: Backend = NUMPY) -> Plan:
    """The plan of a fragment, its reads as inputs."""
    stand_ins = {t: new_input(re.sub(r"\W", "_", t.name or t.op), t.shape, t.dtype) for t in fragment.reads}
    became = rebuild(fragment.results, stand_ins)
    inputs = {f"{i}_{leaf.name}": leaf for i, leaf in enumerate(stand_ins.values())}
    return Plan(Graph(inputs, {f"result_{i}": became[t] for i, t in enumerate(fragment.results)}), backend=backend)
