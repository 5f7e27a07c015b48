"""The engine *lanes*: the task graph of a step placed once on the workers and repeated there, with direct exchange.

placement   which worker does what (pure)           subtrees    the sum tree cut into parts (pure)
lockstep    what a lane does in a step (no I/O)     conductor, attempt, roster      what the driver does next (no I/O)
runner      a lane's arithmetic                     feed, supply    how rows come to lanes
lane, hall  on a worker                             steward, inquiry    on the scheduler         quiet   on both
session, stretch, reports, engine                   on the client
"""

from dagtrain.cluster.lanes.bounds import Bounds
from dagtrain.cluster.lanes.engine import LanesEngine
from dagtrain.cluster.lanes.instructions import Patience
from dagtrain.cluster.lanes.placement import Placement

__all__ = ["Bounds", "LanesEngine", "Patience", "Placement"]
