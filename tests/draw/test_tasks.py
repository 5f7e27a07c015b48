from __future__ import annotations

import re
from typing import Any

import dask
import dask.array as da
import pytest

from dagtrain.draw import Diagram, TaskRecord, draw, task_diagram
from dagtrain.draw.tasks import key_name
from dagtrain.errors import UnknownNameError


@dask.delayed
def cube(x: int) -> int:
    return x**3


@dask.delayed
def sum_list(values: list[int]) -> int:
    return sum(values)


def ends(diagram: Diagram) -> set[tuple[str, str]]:
    titles = {node.key: node.lines[0].text for node in diagram.nodes}
    return {(titles[edge.source], titles[edge.target]) for edge in diagram.edges}


def step() -> dict[Any, Any]:
    return {
        "params-0123456789abcdef0123456789abcdef": (dict,),
        **{("gradient-0123456789abcdef0123456789abcdef", s): (len, "params-0123456789abcdef0123456789abcdef") for s in range(2)},
        "total-0123456789abcdef0123456789abcdef": (sum, [("gradient-0123456789abcdef0123456789abcdef", s) for s in range(2)]),
    }


def test_the_classic_delayed_program() -> None:
    diagram = draw(sum_list([cube(i) for i in [1, 2, 3]])).diagram
    assert ends(diagram) == {("cube(1)", "sum_list"), ("cube(2)", "sum_list"), ("cube(3)", "sum_list")}
    assert len(diagram.nodes) == 4


def test_a_dask_array_is_drawn_chunk_by_chunk() -> None:
    x = da.ones((4, 4), chunks=2)
    diagram = draw((x + x.T).sum()).diagram
    counts: dict[str, int] = {}
    for node in diagram.nodes:
        counts[node.lines[0].text] = counts.get(node.lines[0].text, 0) + 1
    assert counts["add"] == 4
    assert counts["transpose"] == 4
    assert ("add", "sum") in ends(diagram)


def test_the_optimised_graph_is_smaller() -> None:
    x = da.ones((4, 4), chunks=2)
    assert len(task_diagram((x + 1) * 2, optimize=True).nodes) < len(task_diagram((x + 1) * 2).nodes)


def test_high_level_graphs_and_dicts_are_drawn_alike() -> None:
    array = da.ones(4, chunks=2) + 1
    assert task_diagram(array.__dask_graph__()) == task_diagram(dict(array.__dask_graph__())) == task_diagram(array)


def test_workers_times_and_bytes_are_laid_over() -> None:
    graph = step()
    keys = list(graph)
    workers = ["alice", "alice", "bob", "alice"]
    overlay = {key: TaskRecord(w, 1.0, 1.25, 2048) for key, w in zip(keys, workers, strict=True)}
    diagram = draw(graph, overlay=overlay).diagram
    kinds = {node.key: node.kind for node in diagram.nodes}
    assert len(set(kinds.values())) == 2
    assert all("250 ms" in [line.text for line in node.lines] for node in diagram.nodes)
    assert {edge.label for edge in diagram.edges} == {"2.05 kB"}
    for edge in diagram.edges:
        assert (edge.kind == "moved") == (kinds[edge.source] != kinds[edge.target])
    assert [item.text for item in diagram.legend] == ["alice: 3 tasks, 750 ms", "bob: 1 task, 250 ms", "moved between workers"]
    assert draw(graph, overlay=overlay).svg.startswith("<svg")


def test_tasks_without_a_record_are_drawn_plainly() -> None:
    graph = step()
    diagram = draw(graph, overlay={"total-0123456789abcdef0123456789abcdef": TaskRecord("w", 0, 1, 1)}).diagram
    assert sorted({node.kind for node in diagram.nodes}) == ["task", "worker_1"]


def test_tasks_are_grouped_by_the_users_function() -> None:
    diagram = draw(step(), group=lambda key: "shards" if isinstance(key, tuple) else None).diagram
    assert [group.label for group in diagram.groups] == ["shards"]
    assert [node.lines[0].text for node in diagram.nodes if node.group] == ["gradient", "gradient"]


def test_collapse_counts_tasks_of_one_name() -> None:
    diagram = draw(step(), collapse=True).diagram
    assert {tuple(line.text for line in node.lines) for node in diagram.nodes} == {
        ("params", "1 task"),
        ("gradient", "2 tasks"),
        ("total", "1 task"),
    }
    assert ends(diagram) == {("params", "gradient"), ("gradient", "total")}


def test_a_graph_of_thousands_of_tasks_collapses_by_itself() -> None:
    graph = {("load", i): (int, i) for i in range(5000)}
    assert len(draw(graph).diagram.nodes) == 1


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("forward-dense_1-0123456789abcdef0123456789abcdef", "forward-dense_1"),
        (("sum-0123456789abcdef0123456789abcdef", 0, 1), "sum"),
        ("cube-2a3a17b8-734e-4c84-803c-74f042d0834a", "cube"),
        ("x", "x"),
        (("a", "b"), "a"),
        (3, "3"),
    ],
)
def test_key_names_lose_their_tokens(key: Any, name: str) -> None:
    assert key_name(key)[0] == name


def test_the_picture_does_not_depend_on_the_order_of_the_dict() -> None:
    graph = step()
    backwards = dict(reversed(graph.items()))
    assert draw(graph).dot == draw(backwards).dot


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'overlay'"):
        draw(step(), overlays={})


def test_parts_stand_in_the_order_of_their_numbers():
    parts = [("part", i) for i in range(12)]
    tasks = {
        "data": 1,
        "program": 2,
        "state": 3,
        **dict.fromkeys(parts, (max, "data", "program", "state")),
        "sum": (sum, ["program", *parts]),
    }
    svg = draw(tasks).svg
    place = {int(n): float(x) for x, n in re.findall(r'x="([-\d.]+)"[^>]*>(\d+)</', svg)}
    assert [place[i] for i in range(12)] == sorted(place[i] for i in range(12))
