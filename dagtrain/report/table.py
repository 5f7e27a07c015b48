"""The table of epochs as text: columns of constant width, one line an epoch, the best value so far marked.

    epoch       loss   accuracy   val_loss       time  samples/s
     1/10     1.2034*    0.6812*    0.7310*    0.21 s      6,842

Pure: rows in, lines out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

__all__ = ["Cell", "Table", "form", "number", "plural"]

_TITLES = {"seconds": "time", "samples_per_second": "samples/s"}
_NO_COLUMN = {"epochs"}
_NEVER_BEST = {"epoch", "seconds", "samples_per_second", "learning_rate"}
_WIDTH = 9
_SMALLEST = 1e-4
_LOWER_IS_BETTER = ("loss", "error", "perplexity", "divergence")


class Cell(NamedTuple):
    """One value of a line: its text, the width of its column, and whether it is the best so far."""

    text: str
    width: int
    best: bool


def number(value: Any) -> str:
    """A number in nine characters or fewer; whole numbers may be longer.

    Examples
    --------
    >>> [number(v) for v in (0.98765, 1.25e-7, -123456.0, float("nan"), 42, None)]
    ['0.9877', '1.250e-07', '-1.23e+05', 'nan', '42', '']
    """
    if value is None:
        return ""
    if isinstance(value, Integral):
        return f"{value:,}"
    if not isinstance(value, Real):
        return str(value)
    value = float(value)
    exact = f"{value:.4f}"
    if not value or not math.isfinite(value) or (abs(value) >= _SMALLEST and len(exact) <= _WIDTH):
        return exact
    return min((f"{value:.{digits}e}" for digits in range(4)), key=lambda text: (len(text) > _WIDTH, -len(text)))


def duration(seconds: float) -> str:
    """A duration as text.

    Examples
    --------
    >>> [duration(s) for s in (0.2149, 61.5, 754.2, 7300, 1e6)]
    ['0.21 s', '61.50 s', '12 m 34 s', '2 h 01 m', '277 h']
    """
    if seconds < 99.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours < 100 else f"{hours:,} h"


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    Examples
    --------
    >>> plural(1, "worker"), plural(1437, "sample")
    ('1 worker', '1,437 samples')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_FORMS: dict[str, Callable[[Any], str]] = {"seconds": duration, "samples_per_second": lambda rate: f"{rate:,.0f}"}


def form(key: str, value: Any) -> str:
    """A value as text, in the format of its key.

    Examples
    --------
    >>> form("seconds", 3.5), form("samples_per_second", 81234.5), form("accuracy", 0.975), form("engine", "inline")
    ('3.50 s', '81,234', '0.9750', 'inline')
    """
    return _FORMS.get(key, number)(value)


class Table:
    """Lines of epochs.

    Parameters
    ----------
    higher_is_better
        Metric → whether higher is better. By default lower is better for names with loss, error, perplexity or divergence, and higher for
        others. A metric on validation data follows its plain name.

    Examples
    --------
    >>> table = Table()
    >>> first, second = table.row({"epoch": 1, "loss": 0.5}), table.row({"epoch": 2, "loss": 0.7})
    >>> first[1].best, second[1].best
    (True, False)
    """

    def __init__(self, higher_is_better: Mapping[str, bool] | None = None) -> None:
        self._higher = dict(higher_is_better or {})
        self._widths: dict[str, int] = {}
        self._best: dict[str, float] = {}

    def grows(self, row: Mapping[str, Any]) -> bool:
        """Add the columns that this row is the first to have; return whether there are any, so a header is due."""
        columns = [key for key in row if key not in _NO_COLUMN]
        if set(columns) <= set(self._widths):
            return False
        for key in columns:
            text = self._text(key, row)
            least = 2 * len(str(row.get("epochs", ""))) + 1 if key == "epoch" else _WIDTH
            self._widths.setdefault(key, max(least, len(_title(key)), len(text)))
        return True

    def header(self) -> list[Cell]:
        """The headings."""
        return [Cell(_title(key), width, best=False) for key, width in self._widths.items()]

    def row(self, row: Mapping[str, Any]) -> list[Cell]:
        """The cells of an epoch; a value better than all earlier ones of its column is marked."""
        self.grows(row)
        return [Cell(self._text(key, row), width, self._beats(key, row.get(key))) for key, width in self._widths.items()]

    def _text(self, key: str, row: Mapping[str, Any]) -> str:
        value = row.get(key)
        if value is None:
            return ""
        if key == "epoch":
            return f"{value}/{row['epochs']}" if row.get("epochs") else str(value)
        return form(key, value)

    def _beats(self, key: str, entry: Any) -> bool:
        if key in _NEVER_BEST or not isinstance(entry, Real):
            return False
        value = float(entry)
        if not math.isfinite(value):
            return False
        best = self._best.get(key)
        if best is not None and not (value > best if self._prefers_higher(key) else value < best):
            return False
        self._best[key] = value
        return True

    def _prefers_higher(self, key: str) -> bool:
        name = key.removeprefix("val_")
        return self._higher.get(name, not any(word in name for word in _LOWER_IS_BETTER))


def _title(key: str) -> str:
    return _TITLES.get(key, key)
