"""The exchange between ranks, processes that run the same steps at the same time.

    shared_memory   what a rank shows its peers        routes      which spans of it each peer gets, in which phase of a step
    communicator    post and wait, over                endpoint    how peers reach a rank
                    shared · sockets · comms           rendezvous  how a group connects; handshake: how a connection authenticates
    waiting         poll, then sleep on the doorbell   sequence    when a message was posted
    frames          messages as bytes                  errors      what can go wrong

It uses neither Dask nor training code.
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
