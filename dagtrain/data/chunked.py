"""Data in dask collections: blocks of rows that stay where they are computed.

    x  ┌──┬──┐ blocks         ┌─────┐ one block of rows   ('data-<token>', 0) = read(form, block, block)
       ├──┼──┤  ──rechunk──▶  ├─────┤      + y cut alike   ('data-<token>', 1) = ...
       └──┴──┘                └─────┘

One small task for each partition computes unknown lengths, and another one checks every element; the scheduler in use (a Client's, if there
is one) runs them, and only answers come back. They hold no partition: data larger than memory streams through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

import numpy as np

from dagtrain.data.check import Form, check_dtype, explain, inspect, read
from dagtrain.data.columns import Rows
from dagtrain.data.compute import Graph, Key, block_key, compute, futures_in, shared_graph, task_nodes
from dagtrain.data.nests import check_names, is_parts
from dagtrain.data.parts import Column, Parts, look_tasks, named, seen_columns, take
from dagtrain.data.pick import Gathered, assemble, gather_plan, join
from dagtrain.data.source import Source, count_labels, spread
from dagtrain.data.tables import check_table, header_of, index_digest, index_fault, is_table, joined_digest, numpy_dtype, to_array
from dagtrain.data.windows import WINDOWS, bytes_of, cut_rows, cut_windows
from dagtrain.errors import DataError

__all__ = ["ChunkedSource", "check_indexes", "lazy_column", "lazy_columns", "open_chunks"]


@dataclass(frozen=True, eq=False)
class ChunkedSource(Source):
    """Partitions as tasks.

    Attributes
    ----------
    graph
        The user's graph, as task nodes.
    blocks
        Keys of the raw columns of each partition in the graph.
    futures
        Futures that partitions are computed from; they keep the data on the cluster.
    packing
        Share of `nbytes` that partitions have in memory: less than 1 where windows share rows.
    """

    graph: Graph
    blocks: tuple[tuple[Key, ...], ...]
    futures: tuple[Any, ...]
    packing: float = 1.0
    _joined: list[Rows] = field(default_factory=list, init=False, repr=False)

    @property
    def held_bytes(self) -> int:
        """Bytes of all partitions in memory."""
        return int(self.nbytes * self.packing)

    @property
    def in_memory(self) -> bool:
        """Whether `local` was called before."""
        return bool(self._joined)

    @cached_property
    def origins(self) -> tuple[tuple[Key, ...], ...]:
        """For each partition, the keys of the futures that it is computed from; it costs least on their worker."""
        origins: dict[Key, frozenset[Key]] = {}
        for first in (key for block in self.blocks for key in block):
            stack = [first]
            while stack:
                key = stack[-1]
                node = self.graph.get(key)
                if node is None:
                    origins[key] = frozenset([key])
                waiting = [] if node is None else [k for k in node.dependencies if k not in origins]
                stack += waiting
                if not waiting:
                    if node is not None:
                        origins[key] = frozenset().union(*(origins[k] for k in node.dependencies))
                    stack.pop()
        return tuple(tuple(sorted(frozenset().union(*(origins[k] for k in block)), key=str)) for block in self.blocks)

    @cached_property
    def resident(self) -> bool:
        """Whether every partition is already on a cluster, persisted or as a future: reading it computes nothing."""
        kinds = [set().union(*map(self._origin, block)) for block in self.blocks]
        return all("future" in kind and "task" not in kind for kind in kinds)

    def _origin(self, key: Key) -> set[str]:
        """Whether a block is a future (or taken from some), data in the graph, or the result of a task."""
        from dask.task_spec import DataNode

        node = self.graph.get(named(key, self.graph))
        if isinstance(node, DataNode):
            return {"data"}
        if getattr(node, "func", None) in (take, cut_rows, cut_windows):
            return set().union(*map(self._origin, node.dependencies))  # type: ignore[union-attr]  # a task, since it has a function
        return {"future" if node is None else "task"}

    def local(self) -> Rows:
        """All partitions, computed by the scheduler in use and joined in this process; a second call returns the same arrays."""
        if not self._joined:
            graph, keys = self.tasks()
            self._joined.append(join(self.compute(graph, keys)))
        return self._joined[0]

    def some(self, rows: int) -> Rows:
        """The first rows, taken from their partitions where these are computed."""
        from dask.task_spec import DataNode, Task, TaskRef

        if self._joined:
            return spread(self._joined[0], rows)
        graph, keys = self.tasks()
        picks = gather_plan(range(min(rows, self.samples)), self.sizes)
        key = f"some-{rows}-{keys[0][0]}"
        graph[key] = Task(key, _assembled, DataNode(None, picks), *(TaskRef(keys[p.partition]) for p in picks))
        some: Rows = self.compute(graph, [key])[0]
        return some

    def label_counts(self, column: str = "y") -> dict[float, int]:
        """Counted where the partitions are."""
        counts: dict[float, int] = {}
        for of_partition in self.compute(*self._over(f"count-{column}", partial(count_labels, column=column))):
            for label, count in of_partition.items():
                counts[label] = counts.get(label, 0) + count
        return dict(sorted(counts.items()))

    def with_form(self, form: Form) -> ChunkedSource:
        """The same partitions."""
        return ChunkedSource(form, self.sizes, self.graph, self.blocks, self.futures, self.packing)

    def split(self, rows: int) -> tuple[ChunkedSource, ChunkedSource]:
        """The partitions before a row and those after it; one that holds both is cut by a task for each of its columns."""
        from dask.task_spec import Task, TaskRef
        from dask.tokenize import tokenize

        graph = dict(self.graph)
        sides: tuple[list[tuple[int, tuple[Key, ...]]], ...] = [], []
        for start, size, block in zip(accumulate(self.sizes, initial=0), self.sizes, self.blocks, strict=False):
            middle = min(max(rows - start, 0), size)
            for side, (first, last) in zip(sides, ((0, middle), (middle, size)), strict=True):
                if first == 0 and last == size:
                    side.append((size, block))
                elif first < last:
                    keys = tuple((f"cut-{tokenize(key)}", first, last) for key in block)
                    graph |= {new: Task(new, cut_rows, TaskRef(key), first, last) for new, key in zip(keys, block, strict=True)}
                    side.append((last - first, keys))
        before, after = (
            ChunkedSource(self.form, tuple(n for n, _ in side), graph, tuple(block for _, block in side), self.futures, self.packing)
            for side in sides
        )
        return before, after

    def tasks(self) -> tuple[dict[Key, Any], list[tuple[str, int]]]:
        """The user's graph and a task for each partition, which converts it to the dtypes of training."""
        graph, keys = self._over("data", read)
        return graph, keys

    def compute(self, graph: Graph, keys: Sequence[Key]) -> list[Any]:
        """The values of keys of a graph with the partitions, by the scheduler in use."""
        return compute(graph, keys, self.futures)

    def check(self, graph: Graph | None = None, keys: Sequence[Key] = ()) -> list[Any]:
        """Check every element where it is, and raise for the first that breaks a rule.

        The values of keys of a graph with the partitions are computed in the same pass.
        """
        checks, of_partitions = self._over("check", inspect, self.sizes)
        values = self.compute({**(graph or {}), **checks}, [*of_partitions, *keys])
        for i, (start, finding) in enumerate(zip(accumulate(self.sizes, initial=0), values[: len(self.sizes)], strict=False)):
            if finding is not None:
                raise explain(self.form, finding, start, i)
        return values[len(self.sizes) :]

    def _over(self, verb: str, function: Any, sizes: tuple[int, ...] | None = None) -> tuple[dict[Key, Any], list[tuple[str, int]]]:
        """The graph with ``function(form, [rows,] *columns)`` over every partition."""
        from dask.task_spec import Task, TaskRef
        from dask.tokenize import tokenize

        form = self.form
        specs = [str(spec) for spec in form.columns.specs]
        name = f"{verb}-{tokenize([self.blocks, self.sizes, specs, form.rules, form.classes, form.class_weights])}"
        graph = dict(self.graph)
        for i, block in enumerate(self.blocks):
            rows = () if sizes is None else (sizes[i],)
            graph[name, i] = Task((name, i), function, form, *rows, *map(TaskRef, block))
        return graph, [(name, i) for i in range(len(self.blocks))]


def _assembled(picks: Sequence[Gathered], *partitions: Rows) -> Rows:
    return assemble(picks, partitions)


def open_chunks(form: Form, columns: Sequence[Any], check: bool = True) -> ChunkedSource:
    """The source of dask arrays of known chunk sizes, or NumPy arrays, that have this form; all are cut into the same blocks.

    Without `check`, the caller calls `ChunkedSource.check`.
    """
    from dask.core import flatten

    rows = next(array.chunks[0] for array in columns if not isinstance(array, np.ndarray))
    cut = [_cut(array, rows) for array in columns]
    blocks = list(zip(*(flatten(array.__dask_keys__()) for array in cut), strict=True))
    nonempty = [i for i, size in enumerate(rows) if size]
    sizes = tuple(int(rows[i]) for i in nonempty)
    graph = shared_graph(cut)
    source = ChunkedSource(form, sizes, task_nodes(graph), tuple(blocks[i] for i in nonempty), futures_in(graph))
    if not check:
        return source
    if not any(str(layer).startswith(WINDOWS) for array in cut for layer in array.dask.layers):
        source.check()
        return source
    return replace(source, packing=sum(source.check(*source._over("held", held_bytes))) / source.nbytes)


def held_bytes(form: Form, *block: Any) -> int:
    """Bytes of a partition in memory."""
    return bytes_of(read(form, *block))


def lazy_columns(values: Mapping[str, Any], headers: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The columns as dask arrays of known chunk sizes, or NumPy arrays; nested where partitions hold nests.

    One call computes everything that is unknown. `headers` are those to put tables in the order of.
    """
    lazy = {name: lazy_column(name, value, headers.get(name, ())) for name, value in values.items()}
    queries = {name: _queries(column.array) for name, column in lazy.items()}
    keys = list(dict.fromkeys(key for _, tasks in queries.values() for key in tasks))
    graph = {key: node for needed, tasks in queries.values() for key, node in {**needed, **tasks}.items()}
    answers = dict(zip(keys, compute(graph, keys), strict=True)) if keys else {}
    known: dict[str, Any] = {}
    for name, column in lazy.items():
        results = [answers[key] for key in queries[name][1]]
        if not isinstance(column.array, Parts):
            known[name] = replace(column, array=_sized(column.array, results))
            continue
        nests = seen_columns(column.array, results, {name: column.header} if column.header else headers)
        if len(nests) > 1 and (name == "y" or (nests.keys() & values.keys()) != {"x"}):
            twice = [root for root in nests if root in values and root != "x"]
            advice = f"leave out {' and '.join(twice)}, which they hold." if name == "x" else "give them as x alone."
            raise DataError(
                f"the partitions of {name} are {'pairs (x, y)' if len(nests) == 2 else 'triples (x, y, sample_weight)'}: {advice}"
            )
        known |= nests
    return known


def check_indexes(columns: Mapping[str, Column]) -> None:
    """Raise DataError for tables and Series whose indexes differ, in this process or in any partitions."""
    rows = {name: (len(c.array),) if isinstance(c.array, np.ndarray) else c.array.chunks[0] for name, c in columns.items() if c.indexes}
    digests = {name: (sum(rows[name]), joined_digest(columns[name].indexes, rows[name])) for name in rows}
    tables = {name: both for name, both in digests.items() if both[1] is not None}
    first = next(iter(tables), "")
    for name, (count, digest) in tables.items():
        if count == tables[first][0] and digest != tables[first][1]:  # another length is an error of its own
            raise DataError(index_fault(first, name))


def lazy_column(name: str, value: Any, header: tuple[str, ...]) -> Column:
    """A dask array, partitions of unknown shape, or a NumPy array."""
    import dask
    import dask.array as da

    if is_parts(value):
        return Column(Parts.listed(name, value))
    if not dask.is_dask_collection(value):
        return Column(to_array(name, value, header), header or header_of(value), (index_digest(value),))
    if isinstance(value, da.Array):
        check_dtype(name, value.dtype)
        return Column(value, header)
    if not hasattr(value, "to_dask_array"):
        advice = "Make a dask array or DataFrame of it, or a list of delayed arrays, as dask.delayed makes them."
        raise DataError(f"{name} is a {type(value).__name__}, not an array or a table of numbers. {advice}")
    if is_table(value):
        check_table(name, value)
        here = tuple(map(str, value.columns))
        check_names(name, here, header or here)
        return Column(Parts.of_frame(name, value), header or here)
    numpy_dtype(name, value.dtype)
    return Column(Parts.of_frame(name, value))


def _queries(value: Any) -> tuple[Graph, Graph]:
    """The tasks that compute the unknown shape of a collection: the graph they need, and the tasks."""
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    if isinstance(value, Parts):
        return value.graph, look_tasks(value)
    if isinstance(value, np.ndarray) or not np.isnan(value.size):
        return {}, {}
    name = f"length-{tokenize(value.name)}"
    tasks = {}
    for axis, i in _unknown(value):
        block = block_key(value, [i if a == axis else 0 for a in range(value.ndim)])
        tasks[name, axis, i] = Task((name, axis, i), length, TaskRef(block), axis)
    return shared_graph([value]), tasks


def _unknown(value: Any) -> list[tuple[int, int]]:
    return [(axis, i) for axis, sizes in enumerate(value.chunks) for i, size in enumerate(sizes) if np.isnan(size)]


def length(block: Any, axis: int) -> int:
    """The length of a block along an axis."""
    return int(np.shape(block)[axis])


def _sized(value: Any, lengths: Sequence[int]) -> Any:
    """A copy of the array with its chunk sizes filled in."""
    if not lengths:
        return value
    import dask.array as da

    chunks = [list(sizes) for sizes in value.chunks]
    for (axis, i), size in zip(_unknown(value), lengths, strict=True):
        chunks[axis][i] = size
    return da.Array(value.dask, value.name, tuple(map(tuple, chunks)), meta=value._meta)


def _cut(value: Any, rows: tuple[int, ...]) -> Any:
    import dask.array as da

    chunks = (rows, *((length,) for length in value.shape[1:]))
    return da.from_array(value, chunks=chunks) if isinstance(value, np.ndarray) else value.rechunk(chunks)
