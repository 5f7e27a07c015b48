"""What all tests share: every graph that any pass makes is checked the moment it is there."""

from __future__ import annotations

from typing import Any

import pytest

from dagtrain.graph import Graph
from dagtrain.transform import verify

LARGEST_CHECKED = 3000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", choices=("short", "full"), default="short", help="how long the tests of faults may take")


@pytest.fixture(autouse=True)
def checked_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify each new graph; those of more nodes than `LARGEST_CHECKED` are left to the tests that make them."""
    build = Graph.__init__

    def build_and_check(self: Graph, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        if len(self.nodes) <= LARGEST_CHECKED:
            verify(self)

    monkeypatch.setattr(Graph, "__init__", build_and_check)
