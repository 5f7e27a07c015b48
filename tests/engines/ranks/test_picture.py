"""The picture says what the placement says: every byte is in it, and many ranks are folded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dagtrain.draw import Diagram, draw
from dagtrain.engines.ranks.picture import placement_diagram
from dagtrain.engines.ranks.placement import Placement, StepShape, WorkerInfo, place
from dagtrain.errors import ArgumentError
from dagtrain.transport import Phase

BLOCKS = (1000, 1000, 1000, 500)


def placed(ranks: int, shards: int = 8, hosts: int = 1, **shape: Any) -> Placement:
    workers = [WorkerInfo(f"tcp://10.0.0.{1 + i % hosts}:{4000 + i}", f"10.0.0.{1 + i % hosts}") for i in range(ranks)]
    return place(StepShape(shards, BLOCKS, slots=("first", "second"), **shape), workers)


def bytes_in(diagram: Diagram, kind: str) -> int:
    """Bytes that the tooltips of all arrows of a kind name."""
    found = (re.search(r"([\d,]+) bytes", edge.tooltip) for edge in diagram.edges if edge.kind == kind)
    return sum(int(match[1].replace(",", "")) for match in found if match)


def bytes_of(placement: Placement, phase: Phase) -> int:
    return sum(edge.nbytes for edge in placement.edges() if edge.phase is phase)


def texts(diagram: Diagram) -> str:
    return "\n".join(line.text for node in diagram.nodes for line in node.lines)


def test_a_rank_shows_its_worker_its_shards_and_its_blocks() -> None:
    diagram = placement_diagram(placed(2, statistics=24))
    said = texts(diagram).splitlines()
    assert said == [
        *["rank 0", "10.0.0.1:4000 · 1 thread", "shards 0–3", "sum 0–3"],
        *["blocks 0–1", "2,000 elements", "8 kB", "and 24 B of states of layers", "parameters", "14 kB"],
        *["rank 1", "10.0.0.1:4001 · 1 thread", "shards 4–7", "sum 4–7", "blocks 2–3", "1,500 elements", "6 kB", "parameters", "14 kB"],
    ]


@pytest.mark.parametrize("ranks", [2, 3])
def test_each_pair_of_a_few_ranks_has_an_arrow_both_ways_in_each_phase(ranks: int) -> None:
    placement = placed(ranks)
    diagram = placement_diagram(placement)
    for kind, phase in (("scattered", Phase.REDUCE_SCATTER), ("gathered", Phase.ALL_GATHER)):
        ends = [(edge.source.split()[1], edge.target.split()[1]) for edge in diagram.edges if edge.kind == kind]
        assert sorted(ends) == [(str(a), str(b)) for a in range(ranks) for b in range(ranks) if a != b]
        assert bytes_in(diagram, kind) == bytes_of(placement, phase)


@pytest.mark.parametrize("ranks", [4, 8, 16, 40])
def test_exchanges_of_many_ranks_meet_in_one_node_and_nothing_is_lost(ranks: int) -> None:
    placement = placed(ranks, shards=64)
    diagram = placement_diagram(placement)
    assert len(diagram.edges) <= 6 * 12
    for kind, phase in (("scattered", Phase.REDUCE_SCATTER), ("gathered", Phase.ALL_GATHER)):
        assert bytes_in(diagram, kind) == 2 * bytes_of(placement, phase)  # given, and taken


def test_ranks_that_are_alike_are_drawn_as_one_between_the_first_and_the_last() -> None:
    diagram = placement_diagram(placed(32, shards=64))
    names = [node.lines[0].text for node in diagram.nodes if node.lines[0].text.startswith("rank")]
    assert names == ["rank 0", "rank 1", "rank 2", "rank 3", "rank 4", "ranks 5–30", "rank 31"]
    assert "26 alike, 1 thread each" in texts(diagram)
    assert "alike" not in texts(placement_diagram(placed(32, shards=64), most=32))


def test_ranks_stand_in_their_order() -> None:
    assert placement_diagram(placed(3)).rows == tuple(tuple(f"rank {i} {row}" for i in range(3)) for row in ("computes", "owns", "has"))


def test_hosts_are_boxes_where_there_are_several() -> None:
    assert not placement_diagram(placed(2)).groups
    diagram = placement_diagram(placed(4, hosts=2))
    assert [group.label for group in diagram.groups] == ["10.0.0.1", "10.0.0.2"]
    homes = {node.lines[0].text: node.group for node in diagram.nodes if node.group}
    assert homes == {"rank 0": "host 10.0.0.1", "rank 1": "host 10.0.0.1", "rank 2": "host 10.0.0.2", "rank 3": "host 10.0.0.2"}
    assert ":4002 · 1 thread" in texts(diagram).splitlines()


def test_what_crosses_between_hosts_is_told() -> None:
    placement = placed(4, hosts=2)
    between = sum(e.nbytes for e in placement.edges() if e.phase is Phase.ALL_GATHER and (e.source < 2) != (e.target < 2))
    assert between == 28_000
    assert "between hosts: 28 kB" in texts(placement_diagram(placement)).splitlines()


def test_known_channels_are_written_on_the_arrows() -> None:
    pair = placement_diagram(placed(2), channels={(1, 0): "socket"})
    assert all(edge.label.endswith(" · socket") for edge in pair.edges if edge.kind != "local")
    many = placement_diagram(placed(4), channels={(a, b): "shared" for a in range(4) for b in range(a)})
    assert texts(many).count("shared: ") == 2


def test_messages_between_hosts_show_their_parts() -> None:
    buckets = ((2, 3), (0, 1))
    apart, together = placement_diagram(placed(2, hosts=2, buckets=buckets)), placement_diagram(placed(2, buckets=buckets))
    assert {edge.label for edge in apart.edges if edge.kind != "local"} == {
        *("partial 8.02 kB in 2 parts", "partial 6.02 kB in 2 parts"),
        *("updated 8 kB in 2 parts", "updated 6 kB in 2 parts"),
    }
    assert "blocks 0, 2" in texts(apart)
    assert not any("parts" in edge.label for edge in together.edges)
    assert texts(placement_diagram(placed(5, hosts=5, buckets=buckets))).count("in 2 parts, layer by layer") == 2


def test_channels_of_ranks_that_are_not_there_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"\(0, 2\), but the ranks are 0 to 1"):
        placement_diagram(placed(2), channels={(0, 2): "shared"})


def test_idle_workers_stand_aside_with_the_reason() -> None:
    diagram = placement_diagram(placed(5, shards=2))
    assert [group.label for group in diagram.groups] == ["idle: more workers than shards (2)"]
    assert [node.lines[0].text for node in diagram.nodes if node.group == "idle"] == ["10.0.0.1:4002", "10.0.0.1:4003", "10.0.0.1:4004"]
    assert "38 workers" in texts(placement_diagram(placed(40, shards=2)))


def test_a_rank_without_blocks_gets_parameters_all_the_same() -> None:
    placement = placed(6)
    assert len(placement.owners) == 4
    diagram = placement_diagram(placement)
    assert sum(edge.kind == "gathered" and edge.target.endswith("has") for edge in diagram.edges) == 6


def test_the_title_has_the_totals() -> None:
    assert "(partial sums 14 kB, parameters 14 kB, weights 192 B)" in str(placement_diagram(placed(2, weights=3)).title)
    title = placement_diagram(placed(2, norms=1)).title
    assert title == (
        "2 ranks: 28.1 kB exchanged in a step (partial sums 14 kB, squared norms 32 B, parameters 14 kB), "
        "28 kB of optimiser state at a segment's end"
    )
    assert placement_diagram(placed(1)).title == "1 rank: nothing is exchanged"
    assert placement_diagram(placed(2), title="mine").title == "mine"


def test_the_legend_explains_what_occurs() -> None:
    alone = {item.sign for item in placement_diagram(placed(1)).legend}
    both = {item.sign for item in placement_diagram(placed(3, shards=2)).legend}
    assert both - alone == {"scattered", "gathered", "constant"}
    assert not placement_diagram(placed(2), legend=False).legend


@pytest.mark.parametrize(("ranks", "hosts"), [(1, 1), (2, 1), (2, 2), (3, 1), (16, 1), (16, 2), (40, 20)])
def test_every_number_of_ranks_can_be_rendered(tmp_path: Path, ranks: int, hosts: int) -> None:
    file = tmp_path / "lanes.svg"
    picture = draw(placed(ranks, shards=64, hosts=hosts), file)
    drawn = file.read_text()
    assert drawn.count('class="node ') == len(picture.diagram.nodes)
    assert drawn.count('class="edge ') == len(picture.diagram.edges)
    assert "prefers-color-scheme: dark" in drawn


def test_a_placement_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    placement = placed(2)
    assert placement._repr_mimebundle_()["text/html"].startswith("<svg")
    placement.visualize(tmp_path / "lanes.dot", title="two")
    assert "two" in (tmp_path / "lanes.dot").read_text()
