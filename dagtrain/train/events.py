"""`EventLog`: what happened during a fit, for the history, the dashboard and callbacks."""

from __future__ import annotations

import time
from collections.abc import Iterable
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
    _late: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Record an event, and call the callbacks."""
        self.callbacks.call("on_event", self.record(event))

    def later(self, event: Event) -> None:
        """Record an event; `add_late` calls the callbacks, which could ask just now for the state that is being made."""
        self._late.append(self.record(event))

    def add_late(self, others: Iterable[Event] = ()) -> None:
        """Call the callbacks with the events recorded by `later`; then add others."""
        while self._late:
            self.callbacks.call("on_event", self._late.pop(0))
        for event in others:
            self.add(event)

    def record(self, event: Event) -> Event:
        """Write an event, with the time, to the history and to the dashboard."""
        event = event._replace(seconds=time.perf_counter() - self._began)
        self.history.events.append(event)
        if self.publisher is not None:
            self.publisher.add(event)
        return event
