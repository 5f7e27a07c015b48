"""One check of a machine or a cluster: what every process reports, and a pure judgement of all reports.

    client ──┐
    scheduler├─ gather(place) ──▶ facts: process → value ──▶ judge(facts) ──▶ level, what was seen
    workers ─┘

Gathering changes nothing; it runs in the processes themselves, also where dagtrain is not installed (`dagtrain.deploy.gather`). A judgement
takes nothing but facts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

__all__ = ["Check", "Facts", "Level", "Line", "Place", "Verdict", "by_value", "listed", "of_workers"]

Facts = Mapping[str, Any]
"""By process ("client", "scheduler" or a worker's address), what its `gather` returned."""


class Level(IntEnum):
    """How good a verdict is; the command's exit code is the worst."""

    OK = 0
    WARNING = 1
    FAILURE = 2


class Verdict(NamedTuple):
    """The result of a judgement."""

    level: Level
    seen: str


@dataclass(frozen=True)
class Place:
    """The process in which facts are gathered."""

    name: str
    """"client", "scheduler", or the worker's address."""
    workers: tuple[str, ...] = ()
    """Addresses of all workers."""
    checkpoint: str | None = None
    certs: str | None = None
    server: Any = None
    """Dask's scheduler or worker of this process."""
    client: Any = None
    """Dask's client, in its own process."""


@dataclass(frozen=True)
class Check:
    """What to look at, and what to conclude.

    Parameters
    ----------
    group, name
        The check's place in the report, and its line there.
    where
        The processes that gather: some of "client", "scheduler" and "workers".
    gather
        Gathers a value of plain types in a thread of the process or, if it is a coroutine, in its event loop; None if there is nothing
        to judge there. Without any value the check has no line.
    judge
        The verdict on these values.
    cure
        What to do if all is not well.
    deadline
        Seconds for `gather` in each process.
    """

    group: str
    name: str
    where: tuple[str, ...]
    gather: Callable[[Place], Any]
    judge: Callable[[Facts], Verdict]
    cure: str
    deadline: float = 5.0


class Line(NamedTuple):
    """One line of the report."""

    group: str
    name: str
    level: Level
    seen: str
    cure: str
    """Empty if all is well."""


def listed(names: Iterable[str], most: int = 3) -> str:
    """Names in a sentence.

    Examples
    --------
    >>> listed("abcde")
    'a, b, c and 2 more'
    """
    items = list(names)
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest


def by_value(facts: Mapping[str, Hashable]) -> str:
    """Every distinct value, with the processes that have it if there are several.

    Examples
    --------
    >>> by_value({"client": "3.11", "a": "3.12", "b": "3.12"})
    '3.11 (client); 3.12 (a, b)'
    """
    holders: dict[Hashable, list[str]] = {}
    for name, value in facts.items():
        holders.setdefault(value, []).append(name)
    if len(holders) == 1:
        return str(next(iter(holders)))
    return "; ".join(f"{value} ({listed(names)})" for value, names in holders.items())


def of_workers(facts: Facts) -> dict[str, Any]:
    """The facts of workers alone."""
    return {name: value for name, value in facts.items() if name not in ("client", "scheduler")}
