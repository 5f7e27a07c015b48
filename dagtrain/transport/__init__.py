"""The exchange between processes that train in lock step: one long task on each Dask worker.

    shared_memory   what a rank shows its peers        routes      which pieces of it go to whom, in which phase of a step
    communicator    post and wait, over                endpoint    what a rank tells the others so that they find it
                    shared · sockets · comms           rendezvous  how they find each other, by approach and proof
    sequence        when                               errors      what can go wrong

Nothing here knows of Dask or of training.
"""

from dagtrain.transport.comms import Courier
from dagtrain.transport.communicator import Links
from dagtrain.transport.endpoint import Offer
from dagtrain.transport.errors import Aborted, ChannelError, LinkLost, OutOfStep, Overdue
from dagtrain.transport.routes import Phase, Piece, Table
from dagtrain.transport.shared_memory import Board

__all__ = ["Aborted", "Board", "ChannelError", "Courier", "LinkLost", "Links", "Offer", "OutOfStep", "Overdue", "Phase", "Piece", "Table"]
