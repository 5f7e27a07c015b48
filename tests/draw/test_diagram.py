from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from dagtrain.draw import Diagram, Edge, Group, LegendItem, Line, Node, Picture, to_dot, to_mermaid
from dagtrain.draw.style import COLORS, EDGES, GROUPS, NODES, ROLES, css
from dagtrain.errors import ArgumentError

NASTY = 'a<b> & "c" \\N \\n {x|y} [z] #35; é 漢 ∂\x00\x1b'


def nasty_diagram() -> Diagram:
    node = Node("n", (Line(NASTY, "title"), Line("two\nlines")), "op", "g", f"tip {NASTY}\nsecond line")
    return Diagram(
        (node, Node("m", (Line("m"),), "parameter")),
        (Edge("m", "n", NASTY, "moved", f"edge {NASTY}"),),
        (Group("g", NASTY),),
        (LegendItem("op", NASTY), LegendItem("value", NASTY), LegendItem("moved", "words")),
        f"title {NASTY}",
    )


def test_every_text_survives_into_the_svg_as_it_is() -> None:
    svg = Picture(nasty_diagram()).svg
    root = ElementTree.fromstring(svg)
    texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
    shown = NASTY.replace("\x00", "\N{REPLACEMENT CHARACTER}").replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert sum(shown in text.replace("\N{NO-BREAK SPACE}", " ") for text in texts) >= 5
    titles = [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}title")]
    assert f"tip {shown}\nsecond line" in titles


def test_script_in_a_name_stays_text() -> None:
    picture = Picture(Diagram((Node("n", (Line("</text><script>alert(1)</script>"),), tooltip="<script>"),), title="</title><script>"))
    assert "<script>alert" not in picture.svg
    assert picture.html.count("<script>") == 1  # the page's own


def test_mermaid_escapes_what_it_would_read_as_syntax() -> None:
    text = to_mermaid(nasty_diagram())
    for line in text.splitlines():
        assert line.count('"') % 2 == 0
    assert "<b>" not in text
    assert "#lt;b#gt;" in text


def test_mermaid_nests_groups_and_styles_kinds() -> None:
    diagram = Diagram((Node("a", (Line("a"),), "input", "inner"),), (), (Group("outer", "o"), Group("inner", "i", "outer")))
    lines = [line.strip() for line in to_mermaid(diagram).splitlines()]
    assert lines[0] == "flowchart TB"
    assert lines[1:4] == ['subgraph g0["o"]', 'subgraph g1["i"]', 'n0[/"a"/]:::input']
    assert any(line.startswith("classDef input ") for line in lines)


def test_an_edge_to_nowhere_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'b'"):
        Diagram((Node("a", ()),), (Edge("a", "b"),))


def test_a_group_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'box'"):
        Diagram((Node("a", (), group="box"),))


def test_a_row_of_a_node_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a row of a diagram names 'b'"):
        Diagram((Node("a", ()),), rows=(("a", "b"),))


def test_rows_stand_side_by_side_in_their_order_also_in_boxes() -> None:
    nodes = tuple(Node(key, (Line(key),), group=box) for key, box in (("c", "x"), ("b", "y"), ("a", "x"), ("top", None)))
    edges = (Edge("top", "a"), Edge("top", "b"), Edge("b", "c"))
    svg = Picture(Diagram(nodes, edges, (Group("x", "x"), Group("y", "y")), rows=(("a", "c"), ("top",)))).svg
    matches = {key: re.search(rf'<text[^>]* x="([-.\d]+)" y="([-.\d]+)"[^>]*>{key}</text>', svg) for key in ("a", "c", "top")}
    at = {key: (float(match[1]), float(match[2])) for key, match in matches.items() if match}
    assert at["a"][1] == at["c"][1]
    assert at["a"][0] < at["c"][0]


def test_two_nodes_of_one_key_are_refused() -> None:
    with pytest.raises(ArgumentError, match="same key"):
        Diagram((Node("a", ()), Node("a", ())))


def test_each_color_is_used_once_in_light_so_that_the_stylesheet_can_tell_them_apart() -> None:
    bright = [pair[0] for pair in COLORS.values()]
    assert len(set(bright)) == len(bright)
    names = {s.fill for s in NODES.values()} | {s.line for s in NODES.values()} | {s.color for s in EDGES.values()}
    names |= {t.color for t in ROLES.values()} | {name for pair in GROUPS.values() for name in pair}
    assert names <= set(COLORS)


def test_every_color_of_a_picture_has_a_dark_twin() -> None:
    nodes = tuple(Node(kind, (Line("x", role), Line("y")), kind) for kind, role in zip(NODES, list(ROLES) * 5, strict=False))
    edges = tuple(Edge("op", "input", "1", kind) for kind in EDGES)
    svg = Picture(Diagram(nodes, edges, (), tuple(LegendItem(kind, kind) for kind in NODES))).svg
    body = svg.partition("</style>")[2]
    used = {pair for pair in re.findall(r'(fill|stroke)="([^"]+)"', body) if pair[1] not in ("none", "transparent")}
    style = css()
    assert {"fill", "stroke"} == {what for what, _ in used}
    assert [pair for pair in used if '[{}="{}"]{{{}:var(--'.format(*pair, pair[0]) not in style] == []


def test_text_is_readable_on_every_fill_in_light_and_in_dark() -> None:
    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    fills = {shape.fill for shape in NODES.values()} | {"box_fill", "inner_fill", "canvas"}
    for side in (0, 1):
        for fill in fills:
            assert contrast(COLORS["ink"][side], COLORS[fill][side]) >= 7, fill
            assert contrast(COLORS["muted"][side], COLORS[fill][side]) >= 4.5, fill
        for role in ("value", "gradient", "derivative", "moved"):
            for fill in (
                "op_fill",
                "parameter_fill",
                "input_fill",
                "output_fill",
                "backward_fill",
                "update_fill",
                "box_fill",
                "inner_fill",
            ):
                assert contrast(COLORS[role][side], COLORS[fill][side]) >= 4.5, (role, fill)


def test_svg_is_transparent_and_has_ids_of_its_own() -> None:
    one, two = (Picture(Diagram((Node("a", (Line(text),)),))).svg for text in ("x", "y"))
    assert 'fill="white"' not in one
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_dot_of_a_picture_is_the_same_each_time() -> None:
    assert to_dot(nasty_diagram()) == to_dot(nasty_diagram())
