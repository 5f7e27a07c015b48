"""What all tests share: every graph is checked as soon as it is made, and each test says what it costs.

=========== ============================================================ ========================= ==============
mark        test                                                         scripts/test              scripts/soak
=========== ============================================================ ========================= ==============
`cluster`   starts a cluster: it, or one of its fixtures, says so        yes, not with ``--fast``  if `fault`
`fault`     kills processes, cuts networks; is run again if it fails     yes, not with ``--fast``  yes
`long`      takes long, or has a long form (fixture `thorough`)          no, or in its short form  yes, in full
=========== ============================================================ ========================= ==============
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagtrain.graph import Graph
from dagtrain.transform import verify

HERE = Path(__file__).parent
LARGEST_CHECKED = 3000
CLUSTERS = {"Client", "LocalCluster"}
"""A test that names one of these, or one of its fixtures that does, starts a cluster."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long tests too, and the long forms of those that have one")


def functions_of(item: pytest.Function) -> Iterator[Any]:
    """The test's and those of its fixtures."""
    functions = [item.function, *(d.func for defined in item._fixtureinfo.name2fixturedefs.values() for d in defined)]
    return (f for f in map(inspect.unwrap, functions) if inspect.isfunction(f))


@pytest.hookimpl(tryfirst=True)  # before pytest's own choice by `-m`
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and any(CLUSTERS & set(f.__code__.co_names) for f in functions_of(item)):
            item.add_marker("cluster")
        if HERE / "faults" in item.path.parents:
            item.add_marker("fault")
        if item.get_closest_marker("fault"):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if "thorough" in getattr(item, "fixturenames", ()) and config.getoption("--long"):
            item.add_marker("long")
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that starts a cluster and is not marked so fails: it would be run by ``scripts/test --fast``."""
    with pytest.MonkeyPatch.context() as patch:
        if "distributed" in sys.modules and not any(map(item.get_closest_marker, ("cluster", "fault"))):

            def refuse(*args: Any, **kwargs: Any) -> None:
                pytest.fail("This test starts a cluster: mark it by @pytest.mark.cluster.")

            patch.setattr(sys.modules["distributed"].LocalCluster, "__init__", refuse)
        return (yield)


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for the long form."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(autouse=True)
def checked_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify each new graph; those of more nodes than `LARGEST_CHECKED` are left to the tests that make them."""
    build = Graph.__init__

    def build_and_check(self: Graph, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        if len(self.nodes) <= LARGEST_CHECKED:
            verify(self)

    monkeypatch.setattr(Graph, "__init__", build_and_check)
