"""The engine *lanes*: the task graph of a step placed once on the workers and repeated there, with direct exchange.

pure        placement, assignment, subtrees    which worker does what
            schedule                       what a rank does in a step
            coordinator, attempt, membership, messages    what the client does next
worker      worker_plugin, rank, segment, arithmetic, gradients, inputs, snapshot, background
scheduler   scheduler_plugin, inquiry, heartbeats, liveness
client      engine, session, stretch, reports, input_pipeline, memory_limits
            picture, preview               what is placed, before and while it runs
"""

from dagtrain.engines.ranks.engine import LanesEngine
from dagtrain.engines.ranks.memory_limits import MemoryLimits
from dagtrain.engines.ranks.messages import SegmentPolicy
from dagtrain.engines.ranks.placement import Placement

__all__ = ["LanesEngine", "MemoryLimits", "Placement", "SegmentPolicy"]
