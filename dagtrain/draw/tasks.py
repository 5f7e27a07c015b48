"""A Dask task graph as a diagram: tasks with their worker and time, bytes on the edges, one colour a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from dagtrain.draw.diagram import Diagram, Edge, Group, LegendItem, Line, Node
from dagtrain.draw.style import WORKERS
from dagtrain.draw.text import bytes_text, seconds_text, shorten, without_hash

__all__ = ["TaskRecord", "is_task_graph", "key_name", "task_diagram"]

WIDE = 4
"""A result with more readers than this has its bytes in its node; its arrows have them only where it moved."""
MANY = 400
"""In graphs of more tasks, tasks of one name are drawn as one node unless the caller decides."""


class TaskRecord(NamedTuple):
    """What one task did.

    Attributes
    ----------
    worker
        Address or name of the worker.
    start, stop
        Seconds on one clock.
    nbytes
        Bytes of the result.
    """

    worker: str
    start: float
    stop: float
    nbytes: int = 0


def is_task_graph(obj: Any) -> bool:
    """Whether this is a Dask collection or a task graph."""
    return isinstance(obj, Mapping) or hasattr(obj, "__dask_graph__")


def task_diagram(
    obj: Any,
    *,
    overlay: Mapping[Hashable, TaskRecord] | None = None,
    group: Callable[[Any], str | None] | None = None,
    collapse: bool | None = None,
    optimize: bool = False,
    direction: str = "TB",
    title: str = "",
    legend: bool = True,
) -> Diagram:
    """Describe the picture of a Dask task graph.

    Parameters
    ----------
    obj
        A Dask collection (delayed, array, dataframe, bag, tensor), a HighLevelGraph, or a dict of tasks.
    overlay
        Key → `TaskRecord`: colours tasks by worker, writes times on tasks and bytes on edges.
    group
        Key → the label of the box that the task is drawn in, or None.
    collapse
        True draws all tasks of one name as one node with their number; None does so for large graphs.
    optimize
        Whether to draw the graph after Dask's own optimisations (collections only).
    direction
        "TB" (down), "BT", "LR" or "RL".
    title
        Written below the picture.
    legend
        Whether to explain colours.

    Examples
    --------
    >>> diagram = task_diagram({"a": 1, "b": (sum, ["a", "a"])})
    >>> [node.lines[0].text for node in diagram.nodes]
    ['a', 'b']
    """
    tasks = _tasks(obj, optimize)
    records = dict(overlay or {})
    if collapse is None:
        collapse = len(tasks) > MANY
    if collapse:
        return _collapsed(tasks, records, direction, title, legend)
    colors = _colors(records)
    boxes: dict[str, Group] = {}
    width = Counter(source for task in tasks.values() for source in task.sources)
    nodes = []
    for key, task in tasks.items():
        label = group(key) if group is not None else None
        if label is not None:
            boxes.setdefault(label, Group(f"group {label}", label))
        nodes.append(_node(key, task, records.get(key), colors, None if label is None else f"group {label}", width[key]))
    edges = []
    for key, task in tasks.items():
        edges += [_edge(source, key, records, width[source]) for source in task.sources if source in tasks]
    items = _legend(records, edges, colors, {node.kind for node in nodes}) if legend else []
    # Parts of equal rank stand in the order of their numbers, from left to right.
    return Diagram(tuple(nodes), tuple(edges), tuple(boxes.values()), tuple(items), title, direction, ordered=True)


class _Task(NamedTuple):
    kind: str
    tip: str
    sources: list[Any]
    """The keys it needs, in a stable order."""
    arguments: str
    """Its arguments, if they are few short numbers or words."""


Tasks = dict[Any, _Task]


def _arguments_text(node: Any) -> str:
    """The arguments of a task without sources: they distinguish ``cube`` of 1 and ``cube`` of 2."""
    arguments = getattr(node, "args", ())
    if node.dependencies or not arguments or getattr(node, "kwargs", None):
        return ""
    text = ", ".join(repr(a) for a in arguments)
    plain = all(type(a) in (int, float, bool, str) for a in arguments)
    return f"({text})" if plain and len(text) <= 16 else ""


def _tasks(obj: Any, optimize: bool) -> Tasks:
    import dask
    from dask._task_spec import Alias, DataNode, convert_legacy_graph
    from dask.utils import ensure_dict

    graph = obj
    if hasattr(obj, "__dask_graph__") and not isinstance(obj, Mapping):
        (chosen,) = dask.optimize(obj) if optimize else (obj,)
        graph = chosen.__dask_graph__()
    nodes = convert_legacy_graph(ensure_dict(graph))
    tasks: Tasks = {}
    for key, node in nodes.items():
        kind = "data" if isinstance(node, DataNode) else "task"
        what = "alias of " if isinstance(node, Alias) else ""
        tip = f"{key}\n{what}{shorten(repr(node), 200)}"
        tasks[key] = _Task(kind, tip, sorted(node.dependencies, key=str), _arguments_text(node))
    return {key: tasks[key] for key in _in_order(tasks)}


def _in_order(tasks: Tasks) -> list[Any]:
    """Keys, sources before users, siblings in the order of their names: the layout follows this order."""
    order: list[Any] = []
    done: set[Any] = set()
    for top in sorted(tasks, key=_sort_key):
        stack = [(top, False)]
        while stack:
            key, entered = stack.pop()
            if key in done or key not in tasks:
                continue
            if entered:
                done.add(key)
                order.append(key)
                continue
            stack.append((key, True))
            stack.extend((source, False) for source in reversed(tasks[key].sources) if source not in done)
    return order


def _sort_key(key: Any) -> tuple[str, tuple[tuple[int, str], ...]]:
    name, index = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
    return str(name), tuple((i if isinstance(i, int) else 0, str(i)) for i in index)


def key_name(key: Any) -> tuple[str, str]:
    """A task's name without its token, and its index among tasks of that name.

    Examples
    --------
    >>> key_name(("sum-f364aea436ec7a87c61b76842ebda36d", 0, 1)), key_name("load")
    (('sum', '0, 1'), ('load', ''))
    """
    if isinstance(key, tuple) and key:
        return shorten(without_hash(str(key[0])), 32), ", ".join(map(str, key[1:]))
    return shorten(without_hash(str(key)), 32), ""


def _node(key: Any, task: _Task, record: TaskRecord | None, colors: Mapping[str, str], group: str | None, users: int) -> Node:
    name, place = key_name(key)
    kind, tip = task.kind, task.tip
    lines = [Line(name if place else name + task.arguments, "title")]
    if place:
        lines.append(Line(place))
    if record is not None:
        lines.append(Line(seconds_text(record.stop - record.start), "plain"))
        if users > WIDE:
            lines.append(Line(f"gives {bytes_text(record.nbytes)}"))
        kind = colors[record.worker]
        tip += f"\non {record.worker}, {seconds_text(record.stop - record.start)}, {bytes_text(record.nbytes)}"
    return Node(_text_key(key), tuple(lines), kind, group, tip, (f"worker-{colors[record.worker]}",) if record is not None else ())


def _text_key(key: Any) -> str:
    return f"{type(key).__name__} {key!r}"


def _edge(source: Any, target: Any, records: Mapping[Any, TaskRecord], users: int) -> Edge:
    ends = _text_key(source), _text_key(target)
    # Edges to many tasks may bend; chains and trees stay straight.
    weight = 4 if users <= 2 else 1
    producer, consumer = records.get(source), records.get(target)
    if producer is None:
        return Edge(*ends, weight=weight)
    label = bytes_text(producer.nbytes)
    if consumer is None or consumer.worker == producer.worker:
        return Edge(*ends, "" if users > WIDE else label, "local", f"{label} stay on {producer.worker}", weight)
    return Edge(*ends, label, "moved", f"{label} from {producer.worker} to {consumer.worker}", weight)


def _colors(records: Mapping[Any, TaskRecord]) -> dict[str, str]:
    workers = sorted({record.worker for record in records.values()})
    return {worker: WORKERS[i % len(WORKERS)] for i, worker in enumerate(workers)}


def _legend(records: Mapping[Any, TaskRecord], edges: list[Edge], colors: Mapping[str, str], kinds: set[str]) -> list[LegendItem]:
    items = []
    for worker, color in colors.items():
        tasks = [r for r in records.values() if r.worker == worker]
        busy = sum(r.stop - r.start for r in tasks)
        items.append(LegendItem(color, f"{worker}: {len(tasks)} task{'s' if len(tasks) != 1 else ''}, {seconds_text(busy)}"))
    if "data" in kinds:
        items.append(LegendItem("data", "data"))
    if any(edge.kind == "moved" for edge in edges):
        items.append(LegendItem("moved", "moved between workers"))
    return items


def _collapsed(tasks: Tasks, records: Mapping[Any, TaskRecord], direction: str, title: str, legend: bool) -> Diagram:
    """All tasks of one name as one node."""
    members: dict[str, list[Any]] = {}
    for key in tasks:
        members.setdefault(key_name(key)[0], []).append(key)
    nodes = []
    for name, keys in members.items():
        lines = [Line(name, "title"), Line(f"{len(keys)} task{'s' if len(keys) != 1 else ''}")]
        measured = [records[key] for key in keys if key in records]
        if measured:
            workers = len({r.worker for r in measured})
            busy = sum(r.stop - r.start for r in measured)
            lines.append(Line(f"{seconds_text(busy)} on {workers} worker{'s' if workers != 1 else ''}", "plain"))
        kind = "data" if all(tasks[key].kind == "data" for key in keys) else "task"
        nodes.append(Node(name, tuple(lines), kind, None, f"{name}: {len(keys)} tasks"))
    counts: dict[tuple[str, str], list[int]] = {}
    for key, task in tasks.items():
        for source in task.sources:
            if source in tasks and key_name(source)[0] != key_name(key)[0]:
                ends = (key_name(source)[0], key_name(key)[0])
                counts.setdefault(ends, []).append(records[source].nbytes if source in records else 0)
    edges = []
    for (source, target), sizes in counts.items():
        label = f"{len(sizes)} ×" if len(sizes) > 1 else ""
        label = f"{label} {bytes_text(sum(sizes))}".strip() if any(sizes) else label
        edges.append(Edge(source, target, label, "local", f"{len(sizes)} edges, {bytes_text(sum(sizes))}"))
    items = [LegendItem("note", "n ×: number of edges between tasks of these names")] if legend and edges else []
    return Diagram(tuple(nodes), tuple(edges), (), tuple(items), title, direction)
