"""How long connections to the scheduler bear a network that is out of order.

Dask gives a connection up whose other end has not acknowledged for 30 s (``distributed.comm.timeouts.tcp``). A worker that loses its
scheduler closes for good, and its nanny too; a client that loses it loses all its futures. The kernel repeats what was lost at intervals
that double, so that a connection is idle for up to twice as long as the network was.
"""

from __future__ import annotations

from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed.comm.tcp import set_tcp_timeout

__all__ = ["endure"]

_SETTING = "distributed.comm.timeouts.tcp"


def endure(comm: Any, seconds: float = 0.0) -> None:
    """Have a connection last this long without an answer, or as long as Dask is set to, if that is longer."""
    stream = getattr(comm, "stream", None)
    if getattr(stream, "socket", None) is not None:  # there is none within a process, or where it is closed
        with dask.config.set({_SETTING: max(seconds, parse_timedelta(dask.config.get(_SETTING), default="seconds"))}):
            set_tcp_timeout(stream)
