"""The engine *lanes*: the task graph of a step placed once on the workers and repeated there, with direct exchange.

pure        placement, shares, subtrees    which worker does what
            lockstep                       what a rank does in a step
            coordinator, attempt, roster, instructions    what the client does next
worker      worker_plugin, rank, segment, arithmetic, gradients, inputs, snapshot, background
scheduler   scheduler_plugin, inquiry, vigil, liveness
client      engine, session, stretch, reports, input_pipeline, memory_limits
            picture, preview               what is placed, before and while it runs
"""

from dagtrain.engines.ranks.engine import LanesEngine
from dagtrain.engines.ranks.instructions import Patience
from dagtrain.engines.ranks.memory_limits import Bounds
from dagtrain.engines.ranks.placement import Placement

__all__ = ["Bounds", "LanesEngine", "Patience", "Placement"]
