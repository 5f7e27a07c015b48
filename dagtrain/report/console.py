"""The console reporter: writes the progress of training to a stream.

    scheduler engine, 2 workers, 8 shards, 9,610 parameters, 1,437 samples
    dashboard: http://127.0.0.1:8787/status
    epoch       loss   accuracy   val_loss       time  samples/s
     1/10     1.2034*    0.6812*    0.7310*    0.21 s      6,842
    epoch 2/10 [=======>      ] 3/6  loss 0.8123            (on a terminal, rewritten in place)

A terminal shows a progress bar between the lines, and the best values in green; other streams, and NO_COLOR, get a star instead of green.
The bar needs only a carriage return and spaces.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from dagtrain.errors import ArgumentError
from dagtrain.report.table import Cell, Table, form, number, plural

__all__ = ["Reporter", "bar"]

_GREEN, _PLAIN = "\x1b[32m", "\x1b[0m"
_GAP = " "
_BAR_WIDTH = 24
_COLUMNS = 80
_REDRAW_SECONDS = 0.05
_LINE_SECONDS = 60.0
_NOUNS = {"workers": "worker", "threads": "thread", "shards": "shard", "parameters": "parameter", "samples": "sample"}


def bar(done: int, total: int, width: int = _BAR_WIDTH) -> str:
    """A progress bar as text.

    Examples
    --------
    >>> bar(1, 2, width=8), bar(2, 2, width=8)
    ('[===>    ]', '[========]')
    """
    filled = width * min(done, total) // max(total, 1)
    head = ">" if 0 < filled < width else ""
    return f"[{('=' * (filled - len(head)) + head).ljust(width)}]"


class Reporter:
    """Writes the progress of a training run for a person to read.

    Parameters
    ----------
    verbose
        0 writes nothing, 1 a table and on a terminal a progress bar, 2 the plain table.
    stream
        Stream to write to; standard output by default.
    clock
        Returns seconds since any start; limits how often the bar is drawn.

    Examples
    --------
    >>> reporter = Reporter(verbose=2)
    >>> reporter.start({"engine": "inline", "threads": 2, "shards": 8, "samples": 1437})
    inline engine, 2 threads, 8 shards, 1,437 samples
    >>> reporter.epoch({"epoch": 1, "epochs": 3, "loss": 0.5, "seconds": 0.25, "samples_per_second": 5748.0})
    epoch       loss       time  samples/s
      1/3     0.5000*    0.25 s      5,748
    """

    def __init__(self, verbose: int = 1, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        if verbose not in (0, 1, 2):
            raise ArgumentError(f"verbose is 0 (silent), 1 (bar and table) or 2 (plain table), got {verbose!r}.")
        self._stream = stream or sys.stdout
        self._silent = verbose == 0
        self._has_bar = verbose == 1 and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._has_lines = verbose == 1 and not self._has_bar
        self._coloured = self._has_bar and not os.environ.get("NO_COLOR")
        self._clock = clock
        self._drawn = 0
        self._due = 0.0
        self._done = 0
        self._epochs: int | None = None
        self._starred = False
        self._table = Table()
        self._begin({})

    def start(self, info: Mapping[str, Any]) -> None:
        """Write what is about to run.

        Parameters
        ----------
        info
            "engine", "workers", "threads", "shards", "parameters", "samples", "dashboard" (its address), all optional; also
            "epoch" and "epochs" (epochs done, and in all) for the bar, and "higher_is_better" (metric name to bool) for the marks.
        """
        self._begin(info)
        words = [f"{info['engine']} engine"] if info.get("engine") else []
        words += [plural(info[key], noun) for key, noun in _NOUNS.items() if info.get(key) is not None]
        if words:
            self._line(", ".join(words))
        if info.get("dashboard"):
            self._line(f"dashboard: {info['dashboard']}")

    @property
    def shows_steps(self) -> bool:
        """Whether `step` may write something."""
        return self._has_bar or self._has_lines

    def step(self, done: int, total: int | None, loss: float | None = None) -> None:
        """Write the number of steps done in the epoch, and the loss of the last one or of the epoch so far; `total` may be unknown.

        It may be called after every step: the bar is drawn at most 20 times a second. Without a terminal a long epoch gives a line a
        minute.
        """
        if not self.shows_steps:
            return
        now = self._clock()
        steps = f"{done}" if total is None else f"{done:>{len(str(total))}}/{total}"
        text = f"{self._count()} {{}} {steps}" + ("" if loss is None else f"  loss {number(loss)}")
        if self._has_bar and (now >= self._due or done == total):
            self._draw(text.format("step" if total is None else bar(done, total)))
            self._due = now + _REDRAW_SECONDS
        elif self._has_lines and now >= self._due and done != total:
            self._line(text.format("step"))
            self._due = now + _LINE_SECONDS

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Add the line of an epoch that has ended.

        Parameters
        ----------
        row
            "epoch" (from 1), "epochs", "seconds", "samples_per_second" and any losses and metrics, in the order of the columns. Columns
            that appear later get a new header; a missing value leaves its cell empty.
        """
        self._done, self._epochs = int(row.get("epoch", self._done + 1)), row.get("epochs", self._epochs)
        if self._table.grows(row):
            self._line(self._joined(self._table.header()))
        self._line(self._joined(self._table.row(row)))
        self._wait()

    def event(self, line: str) -> None:
        """Write an event as a line."""
        self._line(line)

    def finish(self, info: Mapping[str, Any]) -> None:
        """Write the result, one line for each entry of ``info`` that is not None, and what the stars mean."""
        self.close()
        shown = {"*": "the best so far"} if self._starred else {}
        shown |= {key.replace("_", " "): form(key, value) for key, value in info.items() if value is not None}
        width = max(map(len, shown), default=0)
        for name, text in shown.items():
            self._line(f"{name.ljust(width)}  {text}")

    def close(self) -> None:
        """Remove the progress bar, also after an error."""
        if self._drawn:
            self._write("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def _begin(self, info: Mapping[str, Any]) -> None:
        self._table = Table(info.get("higher_is_better"))
        self._done, self._epochs = info.get("epoch") or 0, info.get("epochs")
        self._wait()

    def _wait(self) -> None:
        """Set when to draw next: a bar at once, a line without a terminal after a minute."""
        self._due = self._clock() + (_LINE_SECONDS if self._has_lines else 0.0)

    def _count(self) -> str:
        return f"epoch {self._done + 1}" + (f"/{self._epochs}" if self._epochs else "")

    def _draw(self, text: str) -> None:
        # A line as wide as the terminal wraps, and a carriage return does not go back to its start.
        text = text[: self._columns() - 1]
        self._write("\r" + text.ljust(self._drawn))
        self._drawn = len(text)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS
        except (AttributeError, OSError, ValueError):
            return _COLUMNS

    def _joined(self, cells: list[Cell]) -> str:
        return _GAP.join(map(self._shown, cells)).rstrip()

    def _shown(self, cell: Cell) -> str:
        """The right-aligned text, then a star or a space, so that numbers align with and without a star."""
        text = cell.text.rjust(cell.width)
        if cell.best and self._coloured:
            blank = len(text) - len(cell.text)
            return f"{text[:blank]}{_GREEN}{cell.text}{_PLAIN} "
        self._starred |= cell.best
        return text + ("*" if cell.best else " ")

    def _line(self, text: str) -> None:
        self.close()
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        if not self._silent:
            self._stream.write(text)
            self._stream.flush()
