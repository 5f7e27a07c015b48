"""Tables of cases with a label that is drawn by a known probability: credit applicants who default, payments that are fraud.

    columns of a case ──▶ terms, each of one or two columns ──sum──▶ logit ──▶ probability ──draw──▶ label

The probability is a function of the columns as they are seen, gaps included, so no model can predict the labels better; and the terms tell
what each column does for a case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import seed as checked_seed
from dagtrain.arguments import whole
from dagtrain.graph import Array

__all__ = ["Cases", "Column", "Process", "Term", "by_value", "choose", "with_gaps"]

Column = np.ndarray[Any, Any]
Term = tuple[tuple[str, ...], Callable[..., Array]]
"""Names of one or two columns, and what they add to the logit, as a function of them."""
_PART = 1000


class Cases(NamedTuple):
    """Rows of a table.

    Attributes
    ----------
    columns
        By name: numbers, with NaN for gaps, or text, with None for gaps.
    y
        The label of each, 0 or 1, int64.
    probability
        That of label 1, by the process.
    """

    columns: dict[str, Column]
    y: Array
    probability: Array


class Process(NamedTuple):
    """How cases come about.

    Attributes
    ----------
    name
        Tells its draws from those of others.
    columns
        The columns of the cases of some numbers, from 0 up, which are drawn by a generator.
    offset
        The logit without any term.
    terms
        What is added to it.
    """

    name: str
    columns: Callable[[np.random.Generator, Array], dict[str, Column]]
    offset: float
    terms: Sequence[Term]

    def draw(self, count: int, seed: int = 0, first: int = 0) -> Cases:
        """Some cases, from number `first` on; a case is a function of the seed and its number."""
        whole(f"{self.name}: count", count)
        seed = checked_seed(seed)
        start = whole(f"{self.name}: first", first, 0) // _PART
        parts = [self._part(seed, part) for part in range(start, -(-(first + count) // _PART))]
        rows = slice(first - start * _PART, first - start * _PART + count)
        names = parts[0].columns
        columns = {name: np.concatenate([part.columns[name] for part in parts])[rows] for name in names}
        return Cases(columns, *(np.concatenate([part[i] for part in parts])[rows] for i in (1, 2)))

    def _part(self, seed: int, part: int) -> Cases:
        purpose = int.from_bytes(self.name.encode()[:8], "little")
        key, counter = np.array([seed, purpose], np.uint64), np.array([0, 0, 0, part], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
        columns = self.columns(generator, np.arange(part * _PART, (part + 1) * _PART))
        probability = 1 / (1 + np.exp(-self.logit(columns)))
        return Cases(columns, (generator.random(_PART) < probability).astype(np.int64), probability)

    def logit(self, columns: Mapping[str, Column]) -> Array:
        """The logarithm of the odds of label 1."""
        return np.asarray(self.offset + sum(function(*(columns[name] for name in names)) for names, function in self.terms))

    def effects(self, columns: Mapping[str, Column], baseline: Mapping[str, Any]) -> dict[str, Array]:
        """What each column does for the logit of each case, compared with a baseline case: its Shapley value.

        What two columns do together beyond what each does alone is shared equally, which is their Shapley value where no term has more than
        two columns. The effects of a case sum to the difference of the logits.

        Source: Lundberg and Lee, "A unified approach to interpreting model predictions", arXiv:1705.07874, equation 4.
        """
        rows = len(next(iter(columns.values())))
        others = {name: np.full(rows, baseline[name], column.dtype) for name, column in columns.items()}
        effects = {name: np.zeros(rows) for name in columns}
        for names, function in self.terms:
            here, there = [columns[name] for name in names], [others[name] for name in names]
            if len(names) == 1:
                effects[names[0]] += function(*here) - function(*there)
                continue
            both, none = function(*here), function(*there)
            first, second = function(here[0], there[1]), function(there[0], here[1])
            effects[names[0]] += (first - none + both - second) / 2
            effects[names[1]] += (second - none + both - first) / 2
        return effects


def choose(generator: np.random.Generator, weights: Mapping[str, float], count: int) -> Column:
    """Texts by their weights."""
    shares = np.cumsum(list(weights.values())) / math.fsum(weights.values())
    places = np.searchsorted(shares, generator.random(count), side="right")
    return np.array(list(weights), object)[np.minimum(places, len(weights) - 1)]


def with_gaps(texts: Column, is_gap: Array) -> Column:
    """Texts with None at gaps."""
    texts = texts.copy()
    texts[is_gap] = None
    return texts


def by_value(effects: Mapping[Any, float]) -> Callable[[Column], Array]:
    """The function from texts to numbers that a dict gives, with None for gaps of any kind."""

    def look_up(column: Column) -> Array:
        return np.array([effects[str(value) if isinstance(value, str) else None] for value in column])

    return look_up
