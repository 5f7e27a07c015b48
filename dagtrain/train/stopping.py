"""Ending a fit before its epochs are done: a request that is seen at the next boundary, and Ctrl-C as one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["INTERRUPTED", "Stopping", "interruptible"]

INTERRUPTED = "interrupted"


class Stopping:
    """Whether training should end at the next boundary, and why; the first reason counts. May be asked for by any thread."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._undisturbed = 0
        self._again = False

    def ask(self, reason: str) -> None:
        """Ask for it."""
        if self.reason is None:
            self.reason = reason

    def interrupt(self) -> None:
        """A Ctrl-C: the second one raises KeyboardInterrupt."""
        if self.reason != INTERRUPTED:
            self.reason = INTERRUPTED
        elif self._undisturbed:
            self._again = True
        else:
            raise KeyboardInterrupt

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No Ctrl-C raises in here; one that would have does so at the end."""
        self._undisturbed += 1
        try:
            yield
        finally:
            self._undisturbed -= 1
        if self._again and not self._undisturbed:
            raise KeyboardInterrupt


@contextmanager
def interruptible(stopping: Stopping) -> Iterator[None]:
    """The first Ctrl-C asks for a stop, the second raises KeyboardInterrupt at once; what Ctrl-C did before comes back afterwards.

    In other threads than the main one, and where the process ignores the signal or dies by it, everything stays as it is.
    """
    before = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(before):
        yield
        return

    def handle(number: int, frame: Any) -> None:
        # Nothing is written here: the signal may have come in the midst of a write to the same stream.
        stopping.interrupt()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
