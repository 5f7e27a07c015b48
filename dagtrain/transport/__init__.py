"""The exchange between processes that train in lock step: one long task on each Dask worker.

    shared_memory   what a rank shows its peers        routes      which spans of it go to whom, in which phase of a step
    communicator    post and wait, over                endpoint    what a rank tells the others so that they find it
                    shared · sockets · comms           rendezvous  how they find each other, by approach and proof
    sequence        when                               errors      what can go wrong

Nothing here knows of Dask or of training.
"""

from dagtrain.transport.comms import FallbackTransport
from dagtrain.transport.communicator import Communicator
from dagtrain.transport.endpoint import Endpoint
from dagtrain.transport.errors import Aborted, ChannelError, PeerLost, PeerTimeout, ProtocolError
from dagtrain.transport.routes import Phase, Routes, Span
from dagtrain.transport.shared_memory import Window

__all__ = [
    "Aborted",
    "ChannelError",
    "Communicator",
    "Endpoint",
    "FallbackTransport",
    "PeerLost",
    "PeerTimeout",
    "Phase",
    "ProtocolError",
    "Routes",
    "Span",
    "Window",
]
