"""`Console`: the callback that shows progress to a person, by `dagtrain.report.Reporter`."""

from __future__ import annotations

from typing import Any

from dagtrain.report.console import Reporter
from dagtrain.report.records import Event
from dagtrain.report.table import plural
from dagtrain.train.callback import Callback, Logs

__all__ = ["Console"]


class Console(Callback):
    """Writes the progress of a fit; ``fit(verbose=...)`` adds it.

    Parameters
    ----------
    verbose
        0 writes nothing, 1 a table and on a terminal a progress bar, 2 the plain table.
    stream
        Stream to write to; standard output by default.
    """

    def __init__(self, verbose: int = 1, stream: Any = None) -> None:
        self._reporter = Reporter(verbose, stream)
        self._told = 0
        if self._reporter.shows_steps:
            self.on_train_batch_end = self._step  # type: ignore[method-assign]  # without it no step's logs are computed

    def on_train_begin(self) -> None:
        """Write what is about to run."""
        epochs = {"epoch": self.params["epoch"], "epochs": self.params["epochs"], "higher_is_better": self.quantities}
        info = self.trainer.history.info
        self._reporter.start({**info, "dashboard": self.params["dashboard"], **epochs})
        if (workers := info["workers"] or 0) > (shards := info["shards"]):
            self._reporter.event(
                f"{workers - shards} of {workers} workers have no part: a step has {plural(shards, 'shard')}. See shards=."
            )

    def _step(self, batch: int, logs: Logs) -> None:
        self._reporter.step(batch + 1, self.params["steps"], logs["loss"])

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Add the line of the epoch."""
        self._reporter.epoch({"epoch": epoch + 1, "epochs": self.params["epochs"], **logs})

    def on_event(self, event: Event) -> None:
        """Write the event."""
        self._reporter.event(event.line)

    def on_train_end(self) -> None:
        """Write the fingerprint."""
        self._reporter.finish({"fingerprint": self.trainer.state.fingerprint})

    def close(self) -> None:
        """Remove the progress bar, also after an error."""
        self._reporter.close()
