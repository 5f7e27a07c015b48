"""Engines on a Dask cluster; they plug themselves into the trainer."""

from dagtrain.cluster.lanes import Bounds, LanesEngine, Patience
from dagtrain.cluster.scheduler import SchedulerEngine
from dagtrain.cluster.waiting import Timeouts

__all__ = ["Bounds", "LanesEngine", "Patience", "SchedulerEngine", "Timeouts"]
