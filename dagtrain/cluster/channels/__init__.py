"""The exchange between lanes: long tasks, one a Dask worker, that train in lock step.

    board    what a lane shows its peers          tables   which pieces of it go to whom, in which phase of a step
    links    post and wait, over                  offers   what a lane tells the others so that they find it
             shared · sockets · comms             meeting  how they find each other
    stamps   when                                 errors   what can go wrong

Nothing here knows of Dask or of training.
"""

from dagtrain.cluster.channels.board import Board
from dagtrain.cluster.channels.comms import Courier
from dagtrain.cluster.channels.errors import Aborted, ChannelError, LinkLost, OutOfStep, Overdue
from dagtrain.cluster.channels.links import Links
from dagtrain.cluster.channels.offers import Offer
from dagtrain.cluster.channels.tables import Phase, Piece, Table

__all__ = ["Aborted", "Board", "ChannelError", "Courier", "LinkLost", "Links", "Offer", "OutOfStep", "Overdue", "Phase", "Piece", "Table"]
