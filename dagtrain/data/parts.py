"""Partitions of unknown shape: one task inspects each where it is, then they become dask arrays.

    dask DataFrame, Series        the number of rows of a partition is unknown
    [delayed, …], [future, …]     everything is unknown: each may be an array, a table, or a pair (x, y) of them
    [(delayed, delayed), …]       a pair for each partition

A `Look` holds what the task reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import is_future
from dagtrain.data.check import check_dtype
from dagtrain.data.compute import Graph, Key, is_delayed, shared_graph
from dagtrain.data.tables import to_array
from dagtrain.errors import DataError
from dagtrain.graph import Array

__all__ = ["Look", "Parts", "is_parts", "look_tasks", "part_array", "seen_arrays", "split_pairs", "take"]


def is_part(value: Any) -> bool:
    """Whether this is a partition: a delayed value or a future."""
    return is_delayed(value) or is_future(value)


def is_parts(value: Any) -> bool:
    """Whether this is a list of delayed values or futures, or one of them."""
    if isinstance(value, list | tuple):
        return any(map(is_part, value)) or any(isinstance(v, tuple | list) and any(map(is_part, v)) for v in value[:1])
    return is_part(value)


class Look(NamedTuple):
    """The content of a partition: one array (two for a pair), or what is wrong with it."""

    specs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    columns: tuple[tuple[str, ...], ...]
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


def split_pairs(x: Any, y: Any) -> tuple[Any, Any]:
    """Pairs of partitions as two lists."""
    if not is_parts(x) or is_part(x) or not any(isinstance(part, tuple | list) for part in x):
        return x, y
    if any(not isinstance(part, tuple | list) or len(part) != 2 for part in x):
        raise DataError("x is a list of pairs (x, y) of partitions, but not all of its elements are pairs.")
    if y is not None:
        raise DataError("x is a list of pairs (x, y) of partitions: leave out y, which they hold.")
    return [a for a, _ in x], [b for _, b in x]


def look(name: str, value: Any) -> Look:
    """The content of a partition; runs where the partition is."""
    pair = type(value) is tuple and len(value) == 2
    specs, columns = [], []
    try:
        for part, array in zip(("x", "y") if pair else (name,), value if pair else (value,), strict=True):
            rows, names = to_array(part, array)
            check_dtype(part, rows.dtype)
            if not rows.shape:
                raise DataError(f"{part} is a single number ({type(array).__name__}); its first axis must count the samples.")
            specs.append((rows.shape, rows.dtype))
            columns.append(names)
    except DataError as error:
        return Look((), (), str(error))
    return Look(tuple(specs), tuple(columns))


def take(name: str, value: Any, pair: int | None) -> Array:
    """The array of a partition, or one of its pair."""
    return to_array(name, value if pair is None else value[pair])[0]


def look_tasks(parts: Parts) -> Graph:
    """One task for each partition, in order, that inspects it."""
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    name = f"look-{tokenize(parts.name, parts.keys)}"
    return {(name, i): Task((name, i), look, parts.name, TaskRef(key)) for i, key in enumerate(parts.keys)}


def seen_arrays(parts: Parts, looks: Sequence[Look]) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """The dask arrays of inspected partitions, and the names of the columns of tables: one by the name of the parts, or x and y."""
    for i, look in enumerate(looks):
        if look.wrong:
            raise DataError(f"partition {i}: {look.wrong}")
    pairs = {len(look.specs) == 2 for look in looks}
    if len(pairs) == 2:
        raise DataError(f"some partitions of {parts.name} are pairs (x, y) and some are not.")
    columns = looks[0].columns
    if True not in pairs:
        return {parts.name: (_seen_array(parts, looks, parts.name, None), columns[0])}
    return {name: (_seen_array(parts, looks, name, i), columns[i]) for i, name in enumerate("xy")}


def _seen_array(parts: Parts, looks: Sequence[Look], name: str, pair: int | None) -> Any:
    specs = [look.specs[pair or 0] for look in looks]
    row = specs[0][0][1:]
    for i, (shape, _) in enumerate(specs):
        if shape[1:] != row:
            raise DataError(f"partition {i} of {name} has rows of shape {shape[1:]}, but partition 0 has rows of shape {row}.")
    return part_array(parts, name, pair, tuple(shape[0] for shape, _ in specs), row, np.result_type(*(dtype for _, dtype in specs)))


def part_array(parts: Parts, name: str, pair: int | None, rows: tuple[float, ...], row: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """A dask array of partitions with these numbers of rows, this row shape and this dtype."""
    import dask.array as da
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    layer = f"partition-{tokenize(parts.keys, name, pair)}"
    blocks = [(layer, i, *(0 for _ in row)) for i in range(len(parts.keys))]
    tasks = {block: Task(block, take, name, TaskRef(key), pair) for block, key in zip(blocks, parts.keys, strict=True)}
    return da.Array({**parts.graph, **tasks}, layer, (rows, *((n,) for n in row)), dtype=dtype)
