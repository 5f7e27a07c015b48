"""Partitions of unknown shape: one task inspects each where it is, then they become dask arrays.

    dask DataFrame, Series        the number of rows of a partition is unknown
    [delayed, …], [future, …]     everything is unknown: each may be an array, a table, a dict of them, or a pair (x, y)

A `Look` holds what the task reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import is_future
from dagtrain.data.check import check_dtype
from dagtrain.data.compute import Graph, Key, is_delayed, shared_graph
from dagtrain.data.nests import FITTED, ROOTS, check_names, is_part, take_apart
from dagtrain.data.tables import header_of, index_digest, index_fault, to_array
from dagtrain.errors import DataError
from dagtrain.graph import Array
from dagtrain.trace.tree import Leaf, Structure, unflatten

__all__ = ["Column", "Look", "Parts", "fit_together", "look_tasks", "part_array", "places_of", "seen_columns", "take"]


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the user's data: an array of NumPy or dask, the names of the table's columns, and digests of its index by partition."""

    array: Any
    header: tuple[str, ...] = ()
    indexes: tuple[int | None, ...] = ()


Place = tuple[str | int, ...]
"""The keys and positions that lead from a partition to one of its columns; empty for a partition of one column."""


class Looked(NamedTuple):
    """A column of a partition: where it is in it, its shape and dtype, and its header if it is a table."""

    place: Place
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    header: tuple[str, ...]


class Look(NamedTuple):
    """The content of a partition: its columns by name, their nests by "x", "y", …, and a digest of its index; or what is wrong with it."""

    columns: dict[str, Looked]
    structure: dict[str, Structure]
    digest: int | None = None
    wrong: str = ""


class Parts(NamedTuple):
    """Partitions in a graph."""

    name: str
    graph: Graph
    keys: tuple[Key, ...]

    @classmethod
    def listed(cls, name: str, value: Any) -> Parts:
        """From a list of delayed values and futures, or a single one."""
        values = list(value) if isinstance(value, list | tuple) else [value]
        for i, part in enumerate(values):
            if not is_part(part):
                raise DataError(
                    f"{name} is a list of partitions, but partition {i} is a {type(part).__name__}: "
                    "make all of them delayed values or futures, as in [dask.delayed(load)(path) for path in paths]."
                )
        delayed = [part for part in values if is_delayed(part)]
        graph = shared_graph(delayed) if delayed else {}
        return cls(name, graph | {part.key: part for part in values if is_future(part)}, tuple(part.key for part in values))

    @classmethod
    def of_frame(cls, name: str, frame: Any) -> Parts:
        """From a dask DataFrame or Series."""
        # In dask 2026.8, dask.optimize computes wrong values here: it lets the frame's keys name the first of its tasks.
        optimized = frame.optimize()
        graph = dict(optimized.__dask_graph__())
        return cls(name, graph, tuple(named(key, graph) for key in optimized.__dask_keys__()))


def named(key: Key, graph: Graph) -> Key:
    """The key that an alias stands for."""
    from dask.task_spec import Alias

    while isinstance(graph.get(key), Alias):
        key = graph[key].target
    return key


def look(name: str, value: Any) -> Look:
    """The content of a partition; runs where the partition is."""
    columns: dict[str, Looked] = {}
    structures: dict[str, Structure] = {}
    indexes: dict[str, int] = {}
    try:
        pair = type(value) is tuple and len(value) in (2, 3) and name in ("x", "y")
        for root, nest, start in zip(ROOTS, value, ([0], [1], [2]), strict=False) if pair else [(name, value, [])]:
            leaves, structures[root] = take_apart(nest, root)
            places = dict(zip(leaves, places_of(structures[root], tuple(start)), strict=True))
            for path, leaf in leaves.items():
                array = to_array(path, leaf)
                check_dtype(path, array.dtype)
                if not array.shape:
                    raise DataError(f"{path} is a single number ({type(leaf).__name__}); its first axis must count the samples.")
                columns[path] = Looked(places[path], array.shape, array.dtype, header_of(leaf))
                indexes |= {} if (digest := index_digest(leaf)) is None else {path: digest}
        for path, digest in indexes.items():
            if digest != next(iter(indexes.values())):
                raise DataError(index_fault(next(iter(indexes)), path))
    except DataError as error:
        return Look({}, {}, wrong=str(error))
    return Look(columns, structures, next(iter(indexes.values()), None))


def places_of(structure: Structure, start: Place) -> list[Place]:
    """The place of each column of a nest, in order."""
    if structure is Leaf:
        return [start]
    parts = structure.items() if isinstance(structure, dict) else enumerate(structure)
    return [place for key, part in parts for place in places_of(part, (*start, key))]


def take(name: str, value: Any, place: Place, header: tuple[str, ...]) -> Array:
    """A column of a partition; a table's columns in the order of the header."""
    try:
        for key in place:
            value = value[key]
    except (KeyError, IndexError, TypeError):
        raise DataError(f"a partition has no column {name}: it is not nested as the data that the trainer was fitted on.") from None
    return to_array(name, value, header)


def fit_together(looks: Sequence[Look]) -> None:
    """Raise DataError for partitions of the same rows that cannot be used, or whose tables have different indexes."""
    indexed = [look for look in looks if look.digest is not None]
    for look in looks:
        if look.wrong:
            raise DataError(look.wrong)
    for look in indexed:
        first, second = (next(iter(each.columns.items())) for each in (indexed[0], look))
        if first[1].shape[0] == second[1].shape[0] and indexed[0].digest != look.digest:  # another length is an error of its own
            raise DataError(index_fault(first[0], second[0]))


def look_tasks(parts: Parts) -> Graph:
    """One task for each partition, in order, that inspects it."""
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    name = f"look-{tokenize(parts.name, parts.keys)}"
    return {(name, i): Task((name, i), look, parts.name, TaskRef(key)) for i, key in enumerate(parts.keys)}


def seen_columns(parts: Parts, looks: Sequence[Look], headers: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The columns of inspected partitions, nested, by the name of the parts; or x, y (and sample_weight), if they hold these.

    `headers` are those to put tables in the order of, where there are any; by default that of the first partition.
    """
    for i, look in enumerate(looks):
        if look.wrong:
            raise DataError(f"partition {i}: {look.wrong}")
    first = looks[0]
    for i, look in enumerate(looks):
        if look.structure.keys() != first.structure.keys():
            raise DataError(f"some partitions of {parts.name} are pairs (x, y) and some are not.")
        if look.columns.keys() != first.columns.keys():
            check_names(f"partition {i} of {parts.name}", look.columns, first.columns, "partition 0 has")
    columns = {name: _seen_column(parts, looks, name, headers.get(name, ())) for name in first.columns}
    nests = {}
    for root, structure in first.structure.items():
        within = [column for name, column in columns.items() if name == root or name.startswith(f"{root}.")]
        nests[root] = unflatten(structure, within)
    return nests


def _seen_column(parts: Parts, looks: Sequence[Look], name: str, header: tuple[str, ...]) -> Column:
    seen = [look.columns[name] for look in looks]
    whose, header = (FITTED, header) if header else ("partition 0 has", seen[0].header)
    row = seen[0].shape[1:]
    for i, looked in enumerate(seen):
        if looked.header and header and looked.header != header:
            check_names(f"partition {i} of {name}", looked.header, header, whose)
        if looked.shape[1:] != row:
            pair = " If the list is [x, y], give the two apart, as in fit(x, y)." if len(seen) == 2 else ""
            raise DataError(f"partition {i} of {name} has rows of shape {looked.shape[1:]}, but partition 0 has rows of shape {row}.{pair}")
    rows = tuple(looked.shape[0] for looked in seen)
    array = part_array(parts, name, seen[0].place, rows, row, np.result_type(*(looked.dtype for looked in seen)), header)
    return Column(array, header, tuple(look.digest for look in looks))


def part_array(
    parts: Parts,
    name: str,
    place: Place,
    rows: tuple[float, ...],
    row: tuple[int, ...],
    dtype: np.dtype[Any],
    header: tuple[str, ...],
) -> Any:
    """A dask array of partitions with these numbers of rows, this row shape and this dtype."""
    import dask.array as da
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    layer = f"partition-{tokenize(parts.keys, name, place, header)}"
    blocks = [(layer, i, *(0 for _ in row)) for i in range(len(parts.keys))]
    tasks = {block: Task(block, take, name, TaskRef(key), place, header) for block, key in zip(blocks, parts.keys, strict=True)}
    return da.Array({**parts.graph, **tasks}, layer, (rows, *((n,) for n in row)), dtype=dtype)
