"""A scheduler is set up with and without a Bokeh that can be used."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest


class Scheduler:
    """As much of a scheduler as is set up."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.marked, self.jupyter = False, False

    def add_plugin(self, plugin: Any, name: str) -> None:
        pass

    def set_metadata(self, keys: list[str], value: bool) -> None:
        self.marked = value


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Have the import of these modules fail, as that of a module whose dependency is too old."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("module", ["dagtrain.dashboard.page", "distributed.dashboard.scheduler"])
def test_a_scheduler_starts_where_bokeh_cannot_be_used(
    dashboard: Any, module: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without(monkeypatch, module)
    with caplog.at_level(logging.INFO, "dagtrain"):
        dashboard.scheduler.prepare()
    assert "There is no page /dagtrain" in caplog.text
    scheduler = Scheduler()
    dashboard.dask_setup(scheduler)
    assert scheduler.marked, "the figures for Prometheus are there without the page"
