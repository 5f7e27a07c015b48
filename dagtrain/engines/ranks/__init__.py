"""The engine *lanes*: the task graph of a step placed once on the workers and repeated there, with direct exchange.

pure        placement, assignment, subtrees    which worker does what
            schedule                       what a rank does in a step
            coordinator, attempt, membership, actions    what the client does next
between     messages
worker      worker_plugin, rank, segment, arithmetic, gradients, inputs, snapshot, background
scheduler   scheduler_plugin, inquiry, heartbeats, liveness
client      engine, session, driver, reports, input_pipeline
            picture                        of a placement
"""

from dagtrain.engines.ranks.actions import SegmentPolicy
from dagtrain.engines.ranks.engine import LanesEngine
from dagtrain.engines.ranks.input_pipeline import MemoryLimits
from dagtrain.engines.ranks.placement import Placement

__all__ = ["LanesEngine", "MemoryLimits", "Placement", "SegmentPolicy"]
