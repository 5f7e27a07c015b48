"""Outages of the network to the scheduler: how long connections survive one, and how long a request is repeated.

Dask closes a connection whose other end has not acknowledged for 30 s (``distributed.comm.timeouts.tcp``). A worker that loses its
scheduler closes for good, and its nanny too; a client that loses it loses all its futures. The kernel sends lost packets again at
intervals that double, so a connection is idle for up to twice as long as the network was down.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import dask

from dagtrain.engines.cluster.clocks import AwakeClock
from dagtrain.errors import ClusterError

__all__ = ["OUTAGE", "endure", "insist"]

T = TypeVar("T")

log = logging.getLogger("dagtrain")

OUTAGE = 120.0
"""Seconds that a network may be down."""
_LONGEST = 30.0
"""Seconds that one request counts at most: if it took longer, the process was suspended."""
_AGAIN = 0.5
"""Seconds before the next request."""
_SETTING = "distributed.comm.timeouts.tcp"


def endure(comm: Any, seconds: float = 0.0) -> None:
    """Let a connection survive this long without an acknowledgement, or as long as Dask's setting if that is longer."""
    from dask.utils import parse_timedelta
    from distributed.comm.tcp import set_tcp_timeout

    stream = getattr(comm, "stream", None)
    if getattr(stream, "socket", None) is not None:  # connections within a process and closed ones have none
        with dask.config.set({_SETTING: max(seconds, parse_timedelta(dask.config.get(_SETTING), default="seconds"))}):
            set_tcp_timeout(stream)


def insist(client: Any, question: Callable[[], T], outage: float = OUTAGE, say: Callable[[str], object] = log.warning) -> T:
    """The scheduler's answer to a request, which is repeated while the client keeps its connection.

    Parameters
    ----------
    client
        Of the cluster.
    question
        Sends the request; raises OSError, which includes TimeoutError, if there is no answer.
    outage
        Seconds for which it is repeated.
    say
        Called once, with a message, when the first answer is missing.

    Raises
    ------
    ClusterError
        The scheduler is gone, or did not answer for `outage` seconds.
    """
    address, clock, warned = getattr(client.scheduler, "address", "?"), AwakeClock(_LONGEST), False
    while True:
        try:
            if client.status != "running":  # it would try to reconnect first, and its futures are lost in any case
                raise ConnectionError(f"this process has lost its connection, its client is {client.status}")
            return question()
        except Exception as error:
            if not isinstance(error, OSError) or client.status != "running" or clock.read() > outage:
                raise ClusterError(
                    f"the scheduler at {address} does not answer ({type(error).__name__}: {error}). If it is gone, start "
                    "the cluster again and go on from the last checkpoint with fit(..., checkpoint=..., resume=True)."
                ) from error
            if not warned:
                say(f"the scheduler at {address} does not answer: waiting up to {outage:g} s for it")
            warned = True
            time.sleep(_AGAIN)
