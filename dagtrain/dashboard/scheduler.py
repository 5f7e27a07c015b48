"""The scheduler's side: the handler that takes records, the page's place on the dashboard, the collector in Prometheus' registry.

Pages are added when this package is imported, since a preload is set up only once the dashboard's server runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import dask
from distributed import SchedulerPlugin

from dagtrain.dashboard.collector import COLLECTOR
from dagtrain.dashboard.state import runs_of
from dagtrain.engines.cluster.sender import MARK
from dagtrain.report.records import decode

__all__ = ["DashboardPlugin", "dask_setup", "prepare"]

log = logging.getLogger("dagtrain")

ADDRESS = "/dagtrain"
PRELOADS = "distributed.scheduler.preload"


def prepare() -> None:
    """Add the page, and have schedulers that this process begins later set up this package."""
    preloads = dask.config.get(PRELOADS, None) or []
    preloads = [preloads] if isinstance(preloads, str) else list(preloads)
    if "dagtrain.dashboard" not in preloads:
        dask.config.set({PRELOADS: [*preloads, "dagtrain.dashboard"]})
    try:
        from distributed.dashboard.scheduler import applications

        from dagtrain.dashboard.page import show
    except ImportError as error:  # Bokeh is not installed, or too old for Dask or for the page
        log.info("There is no page /dagtrain (%s). Install Bokeh for it with: pip install 'dagtrain[dashboard]'", error)
        return
    applications[ADDRESS] = show


def dask_setup(scheduler: Any) -> None:
    """Set up a scheduler; Dask calls it."""
    plugin = DashboardPlugin(scheduler)
    scheduler.add_plugin(plugin, name=plugin.name)
    COLLECTOR.collect_from(plugin.runs)
    try:
        from distributed.dashboard.scheduler import applications, template_variables
    except ImportError:  # there is no page, as `prepare` has said
        return
    pages = template_variables(scheduler)["pages"]
    if ADDRESS in applications and ADDRESS.strip("/") not in pages:
        pages.append(ADDRESS.strip("/"))


class DashboardPlugin(SchedulerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Takes the records of fits; a client finds it by the scheduler's metadata."""

    name = "dagtrain-dashboard"

    def __init__(self, scheduler: Any) -> None:
        self.runs = runs_of(scheduler)
        scheduler.handlers[MARK] = self.take
        self.restart(scheduler)

    def take(self, run: str, client: str, records: Sequence[Sequence[Any]]) -> bool:
        """Take records of a run; return whether somebody looks at the page."""
        return self.runs.take(run, client, decode(records))

    def restart(self, scheduler: Any) -> None:
        """Leave the mark in the scheduler's metadata, which a restart deletes."""
        scheduler.set_metadata(keys=[MARK], value=True)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client is gone."""
        self.runs.left(client)
