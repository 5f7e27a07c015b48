"""How long a network to the scheduler may be out of order: what its connections bear, and how long it is asked again.

Dask gives a connection up whose other end has not acknowledged for 30 s (``distributed.comm.timeouts.tcp``). A worker that loses its
scheduler closes for good, and its nanny too; a client that loses it loses all its futures. The kernel repeats what was lost at intervals
that double, so that a connection is idle for up to twice as long as the network was.
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
"""Seconds for which a network may be out of order."""
_LONGEST = 30.0
"""Seconds that one question may count for: in more of them the process was suspended."""
_AGAIN = 0.5
"""Seconds before the next question."""
_SETTING = "distributed.comm.timeouts.tcp"


def endure(comm: Any, seconds: float = 0.0) -> None:
    """Have a connection last this long without an answer, or as long as Dask is set to, if that is longer."""
    from dask.utils import parse_timedelta
    from distributed.comm.tcp import set_tcp_timeout

    stream = getattr(comm, "stream", None)
    if getattr(stream, "socket", None) is not None:  # there is none within a process, or where it is closed
        with dask.config.set({_SETTING: max(seconds, parse_timedelta(dask.config.get(_SETTING), default="seconds"))}):
            set_tcp_timeout(stream)


def insist(client: Any, question: Callable[[], T], outage: float = OUTAGE, say: Callable[[str], object] = log.warning) -> T:
    """The scheduler's answer; where none comes, it is asked again, for as long as the client has its connection.

    Parameters
    ----------
    client
        Of the cluster.
    question
        Asks the scheduler; raises OSError, as TimeoutError is, where it does not answer.
    outage
        Seconds for which it is asked.
    say
        Told once that the scheduler is waited for.

    Raises
    ------
    ClusterError
        The scheduler is gone, or did not answer for so long.
    """
    address, clock, told = getattr(client.scheduler, "address", "?"), AwakeClock(_LONGEST), False
    while True:
        try:
            if client.status != "running":  # it would try to connect for a while, and has lost all that it had
                raise ConnectionError(f"this process has lost it, its client is {client.status}")
            return question()
        except Exception as error:
            if not isinstance(error, OSError) or client.status != "running" or clock.read() > outage:
                raise ClusterError(
                    f"the scheduler at {address} does not answer ({type(error).__name__}: {error}). If it is gone, start "
                    "the cluster again and go on from the last checkpoint with fit(..., checkpoint=..., resume=True)."
                ) from error
            if not told:
                say(f"the scheduler at {address} does not answer: it is waited for up to {outage:g} s")
            told = True
            time.sleep(_AGAIN)
