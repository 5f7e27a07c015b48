"""Stopping a fit before its epochs are done: a request that takes effect at the next boundary, and Ctrl-C as one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["INTERRUPTED", "Stopping", "interruptible"]

INTERRUPTED = "interrupted"


class Stopping:
    """A request to end training at the next boundary, from any thread; the first reason counts."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._undisturbed = 0
        self._pending = False

    def ask(self, reason: str) -> None:
        """Request a stop."""
        if self.reason is None:
            self.reason = reason

    def interrupt(self) -> None:
        """Handle a Ctrl-C: the second one raises KeyboardInterrupt."""
        if self.reason != INTERRUPTED:
            self.reason = INTERRUPTED
        elif self._undisturbed:
            self._pending = True
        else:
            raise KeyboardInterrupt

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Defer the KeyboardInterrupt of a second Ctrl-C to the end of the block."""
        self._undisturbed += 1
        try:
            yield
        finally:
            self._undisturbed -= 1
        if self._pending and not self._undisturbed:
            raise KeyboardInterrupt


@contextmanager
def interruptible(stopping: Stopping) -> Iterator[None]:
    """The first Ctrl-C requests a stop, the second raises KeyboardInterrupt at once; afterwards the old handler is restored.

    It does nothing in other threads than the main one, or if the process ignores the signal or dies by it.
    """
    before = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(before):
        yield
        return

    def handle(number: int, frame: Any) -> None:
        # It writes nothing: the signal may interrupt a write to the same stream.
        stopping.interrupt()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
