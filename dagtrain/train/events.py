"""`EventLog`: what happened during a fit, for the history, the dashboard and callbacks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dagtrain.report.records import Event
from dagtrain.train.callback import Callbacks
from dagtrain.train.history import History
from dagtrain.train.publish import Publisher

__all__ = ["EventLog"]


@dataclass
class EventLog:
    """Takes the events of a fit.

    Parameters
    ----------
    history
        Of the fit; keeps them.
    callbacks
        Called with each.
    publisher
        Tells the cluster's dashboard, if there is one.
    """

    history: History
    callbacks: Callbacks
    publisher: Publisher | None = None
    _began: float = field(default_factory=time.perf_counter)

    def add(self, event: Event) -> None:
        """Record an event, and call the callbacks."""
        self.callbacks.call("on_event", self.record(event))

    def record(self, event: Event) -> Event:
        """Write an event, with the time, to the history and to the dashboard."""
        event = event._replace(seconds=time.perf_counter() - self._began)
        self.history.events.append(event)
        if self.publisher is not None:
            self.publisher.add(event)
        return event
