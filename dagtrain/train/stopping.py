"""Stopping a fit before its epochs are done: a request that takes effect at the next boundary, and Ctrl-C and SIGTERM as such requests."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["INTERRUPTED", "TERMINATED", "TERMINATED_STATUS", "Stopping", "interruptible"]

INTERRUPTED, TERMINATED = "interrupted", "terminated"
REASONS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
TERMINATED_STATUS = 128 + signal.SIGTERM
"""Exit status of a process that SIGTERM ended, as shells report it."""


class Stopping:
    """A request to end training at the next boundary, from any thread; the first reason counts.

    Parameters
    ----------
    echo
        Seconds within which further SIGTERMs count as the first: ``timeout`` and Slurm send the signal to a process and again to its group.
    """

    def __init__(self, echo: float = 1.0) -> None:
        self.reason: str | None = None
        self.echo = echo
        self._signalled = 0.0
        self._undisturbed = 0
        self._pending: BaseException | None = None

    def ask(self, reason: str) -> None:
        """Request a stop."""
        if self.reason is None:
            self.reason = reason

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Handle a signal: the second Ctrl-C raises KeyboardInterrupt, and the second SIGTERM SystemExit."""
        now = time.monotonic()
        if self.reason not in REASONS.values():
            self.reason, self._signalled = REASONS[signal.Signals(number)], now
        elif number != signal.SIGTERM or self.reason != TERMINATED or not self.is_echo():
            end = SystemExit(TERMINATED_STATUS) if number == signal.SIGTERM else KeyboardInterrupt()
            if not self._undisturbed:
                raise end
            self._pending = end

    def is_echo(self) -> bool:
        """Whether a SIGTERM that comes now counts as the first."""
        return time.monotonic() - self._signalled < self.echo

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Defer the exception of a second signal to the end of the block."""
        self._undisturbed += 1
        try:
            yield
        finally:
            self._undisturbed -= 1
        if self._pending is not None and not self._undisturbed:
            raise self._pending


class _Echo:
    """The handler of SIGTERM after a fit that it ended: ignores the echo, so that the program can report; later acts as the default."""

    def __init__(self, stopping: Stopping) -> None:
        self.stopping = stopping

    def __call__(self, number: int, frame: Any) -> None:
        if not self.stopping.is_echo():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


@contextmanager
def interruptible(stopping: Stopping) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM requests a stop, the second ends the block at once; afterwards the old handlers are restored.

    The echo of a SIGTERM is ignored also after the block, so that the program can report the stopped fit.

    It does nothing in other threads than the main one. It leaves Ctrl-C alone where the process ignores it or dies by it, and SIGTERM where
    the process ignores it or has its own handler.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in REASONS}
    by_default = signal.SIG_DFL, *(old for old in before.values() if isinstance(old, _Echo))
    replaced = {n: old for n, old in before.items() if (callable(old) if n == signal.SIGINT else old in by_default)}

    def handle(number: int, frame: Any) -> None:
        # It writes nothing: the signal may interrupt a write to the same stream.
        stopping.interrupt(number)

    try:
        for number in replaced:
            signal.signal(number, handle)
        yield
    finally:
        for number, old in replaced.items():
            signal.signal(number, _Echo(stopping) if number == signal.SIGTERM and stopping.reason == TERMINATED else old)
