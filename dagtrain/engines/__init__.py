"""Where the tasks of a step run: in this process, task by task on the Dask scheduler, or placed once on the workers.

engine       what an engine is, how one is chosen, and the one of this process
commits      what comes out of a session
client       which Dask client is in use
cluster/     what both engines on a cluster need: the client, waiting, outages
scheduler/   every task placed by the Dask scheduler
ranks/       the step placed once, one rank on each worker: the engine named *lanes*

Engines on a cluster are imported when one is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagtrain.engines.commits import Commit, StateRef
from dagtrain.engines.engine import Engine, InlineEngine, Session, choose_engine, find_engine

if TYPE_CHECKING:
    from dagtrain.engines.cluster.waiting import Timeouts
    from dagtrain.engines.ranks import LanesEngine, MemoryLimits, SegmentPolicy
    from dagtrain.engines.scheduler.session import SchedulerEngine

__all__ = [
    "Commit",
    "Engine",
    "InlineEngine",
    "LanesEngine",
    "MemoryLimits",
    "SchedulerEngine",
    "SegmentPolicy",
    "Session",
    "StateRef",
    "Timeouts",
    "choose_engine",
    "find_engine",
]

_LATER = {
    "MemoryLimits": "dagtrain.engines.ranks",
    "LanesEngine": "dagtrain.engines.ranks",
    "SegmentPolicy": "dagtrain.engines.ranks",
    "SchedulerEngine": "dagtrain.engines.scheduler.session",
    "Timeouts": "dagtrain.engines.cluster.waiting",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'dagtrain.engines' has no attribute {name!r}")
