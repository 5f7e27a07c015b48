"""Sends the records of a fit to the scheduler, from the client's event loop: a few times a second, one message at a time.

A message that fails is lost. A scheduler without the page is found out by a question that any scheduler answers: it is repeated until then.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["MARK", "Sender"]

log = logging.getLogger("dagtrain")

MARK = "dagtrain_dashboard"
"""Name of the scheduler's handler, and of the metadata that says that it is there."""
EVERY, LONGEST = 0.4, 10.0
"""Seconds between two messages; after failures they double, up to this many."""
ANSWER = 5.0
"""Seconds for an answer."""
END = 0.5
"""Seconds that a fit waits for its last message, at most."""


class Sender:
    """Sends what `take` returns until `finish`.

    Parameters
    ----------
    client
        A Dask client.
    take
        Returns the records for a message; called in the client's event loop.
    hear
        Called there with the answer to each message.
    every
        Seconds between two messages.
    """

    def __init__(self, client: Any, take: Callable[[], list[Any]], hear: Callable[[Any], object], every: float = EVERY) -> None:
        self._client, self._take, self._hear, self._every = client, take, hear, every
        self._run = uuid.uuid4().hex[:8]
        self._over = asyncio.Event()
        self._done = threading.Event()
        client.loop.add_callback(self._send_all)

    def finish(self) -> None:
        """Send the rest, and end; waits for it a moment."""
        self._client.loop.add_callback(self._over.set)
        self._done.wait(END)

    async def _send_all(self) -> None:
        seconds, has_page = self._every, False
        try:
            while True:
                is_last = self._over.is_set()
                try:
                    has_page = has_page or await self._ask()
                    if not has_page:
                        return
                    if records := self._take():
                        await self._send(records)
                        seconds = self._every
                except OSError as error:  # includes TimeoutError
                    log.debug("A message to the dashboard was lost: %r", error)
                    seconds = min(2 * seconds, LONGEST)
                if is_last:
                    return
                await self.pause(seconds)
        except Exception as error:  # the fit goes on
            log.debug("The fit does not show on the dashboard: %r", error)
        finally:
            self._done.set()

    async def _ask(self) -> bool:
        return bool(await asyncio.wait_for(self._client.scheduler.get_metadata(keys=[MARK], default=False), ANSWER))

    async def _send(self, records: list[Any]) -> None:
        call = getattr(self._client.scheduler, MARK)
        self._hear(await asyncio.wait_for(call(run=self._run, client=self._client.id, records=records), ANSWER))

    async def pause(self, seconds: float) -> None:
        """Wait this long, or until the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
