from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.draw import Diagram, Line, Node, Picture, draw, render
from dagtrain.errors import ArgumentError, ExecutionError, MissingDependencyError, UnknownNameError

SMALL = Diagram((Node("a", (Line("a"),)),), title="small")


@pytest.mark.parametrize(
    ("ending", "start"),
    [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("dot", b"digraph"), ("html", b"<!DOCTYPE html>"), ("mmd", b"flowchart")],
)
def test_every_format_is_written_by_the_ending_of_the_file(tmp_path: Path, ending: str, start: bytes) -> None:
    path = Picture(SMALL).save(tmp_path / "new" / f"picture.{ending}")
    assert path.read_bytes().startswith(start)


def test_the_format_argument_outranks_the_ending(tmp_path: Path) -> None:
    draw(dt.array(1.0) + 1, tmp_path / "picture.txt", format="dot")
    assert (tmp_path / "picture.txt").read_text().startswith("digraph")


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'png'"):
        render(SMALL, "picture.pnh")


def test_render_takes_dot_text() -> None:
    assert b"<title>" not in render("digraph { a }", format="svg").partition(b"</style>")[0]
    assert render("digraph { a }", format="html").startswith(b"<!DOCTYPE")
    with pytest.raises(ArgumentError, match="Mermaid"):
        render("digraph { a }", format="mmd")


def without_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "pygraphviz" else find_spec(name, *a))


def test_without_graphviz_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without_graphviz(monkeypatch)
    with pytest.raises(MissingDependencyError, match=r'pip install "dagtrain\[viz\]"'):
        render(SMALL)


def test_without_graphviz_text_formats_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    without_graphviz(monkeypatch)
    assert render(SMALL, format="dot").startswith(b"digraph")
    assert render(SMALL, format="mmd").startswith(b"flowchart")


def test_a_notebook_never_sees_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    without_graphviz(monkeypatch)
    for thing in (dt.array(1.0) + 1, dt.trace(np.tanh, np.zeros(2)), Picture(SMALL)):
        bundle = thing._repr_mimebundle_()
        assert set(bundle) == {"text/plain"}


def test_a_notebook_gets_the_svg_inline() -> None:
    tensor = dt.array(1.0) + 1
    bundle = tensor._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/html"].startswith("<svg")
    assert bundle["text/plain"] == repr(tensor)


def test_a_dot_program_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\ncat > /dev/null\necho "<svg xmlns=\\"http://www.w3.org/2000/svg\\"><desc>$@</desc></svg>"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert b"-Kdot -Tsvg" in render(SMALL)


def test_graphviz_is_stopped_when_it_takes_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ExecutionError, match=r"within 0\.2 s"):
        render(SMALL, timeout=0.2)


def test_broken_dot_text_is_an_error_of_ours() -> None:
    with pytest.raises(ExecutionError, match="Graphviz"):
        render("digraph { a -> ", format="svg")


def test_the_page_follows_the_theme_and_needs_nothing_else() -> None:
    page = Picture(SMALL).html
    assert "prefers-color-scheme: dark" in page
    assert 'data-theme="dark"' in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_five_hundred_nodes_are_drawn() -> None:
    graph = random_graph(500)
    assert len(graph) >= 500
    # About one second on an idle machine; without the layout's limits it takes minutes.
    svg = draw(graph, timeout=20).svg
    assert svg.count('class="node') >= 500


def random_graph(count: int) -> Any:
    random = np.random.default_rng(0)
    nodes = [dt.input("x", (4,))]
    while len(nodes) < count:
        i, j = random.integers(max(0, len(nodes) - 12), len(nodes), 2)
        nodes.append(np.tanh(nodes[i]) * nodes[j] if random.random() < 0.5 else nodes[i] + nodes[j])
    return dt.Graph.of(**{f"y{i}": node for i, node in enumerate(nodes[-200:])})


def test_a_nodes_text_is_centred_whatever_the_readers_font():
    root = ElementTree.fromstring(Picture(Diagram((Node("a", (Line("a long name", "title"), Line("b"))),), title="t")).svg)
    node = next(g for g in root.iter("{http://www.w3.org/2000/svg}g") if g.get("class", "").startswith("node"))
    (path,) = node.findall("{*}path")
    xs = [float(x) for x in re.findall(r"(-?[\d.]+),", path.get("d"))]
    texts = list(node.findall("{*}text"))
    assert len(texts) == 2
    for text in texts:
        assert text.get("text-anchor") == "middle"
        assert float(text.get("x")) == pytest.approx((min(xs) + max(xs)) / 2, abs=0.01)
