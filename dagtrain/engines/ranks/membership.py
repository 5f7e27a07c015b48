"""Which workers can form a group, and what prevents the others; no I/O.

    present ─┬─ paused                  by Dask, as its memory is nearly full: it begins no task until it resumes
             ├─ left out                it did not begin a rank, or failed again: tried again after a delay that doubles each time
             ├─ kept apart              it does not reach another worker: one of the two waits until it does
             ├─ leaving                 used only if no other worker is present
             └─ fit

It lasts for a whole fit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from dagtrain.engines.cluster.busy import PAUSED

__all__ = ["Membership"]

_LONGEST_DELAY = 60.0
_FIRST_PROBE = 2.0


class _LeftOut(NamedTuple):
    why: str
    until: float


class Membership:
    """What is known of the workers.

    Parameters
    ----------
    cut
        Seconds between two probes of a pair of workers that do not reach each other, at most; the first comes after 2 s, and each
        later one after twice the time, until the pair has done a segment together.
    again
        Seconds for which a worker is first left out.
    """

    def __init__(self, cut: float = 30.0, again: float = 1.0) -> None:
        self._every, self._delay = cut, again
        self.present: set[str] = set()
        self._leaving: set[str] = set()
        self._paused: set[str] = set()
        self._busy: Mapping[str, str] = {}
        self._left_out: dict[str, _LeftOut] = {}
        self._delays: dict[str, float] = {}
        """Seconds for which a worker is left out the next time."""
        self._cut: dict[frozenset[str], float] = {}
        """Pairs that do not reach each other → when to probe them again."""
        self._probes: dict[frozenset[str], float] = {}
        """Pairs → seconds until their next probe."""

    # ---- events

    def seen(
        self,
        now: float,
        present: Iterable[str],
        leaving: Iterable[str] = (),
        paused: Iterable[str] = (),
        busy: Mapping[str, str] | None = None,
    ) -> None:
        """The scheduler's view; `busy` maps a worker whose threads are all taken to the tasks that take them."""
        self.present, self._leaving, self._paused = set(present), set(leaving), set(paused)
        self._busy = busy or {}
        self._cut = {pair: due for pair, due in self._cut.items() if pair <= self.present}
        self._probes = {pair: seconds for pair, seconds in self._probes.items() if pair <= self.present}
        self._delays = {w: delay for w, delay in self._delays.items() if w in self.present}
        self._left_out = {
            w: out for w, out in self._left_out.items() if w in self.present and (now < out.until or self.hindrance(w) is not None)
        }

    def leave_out(self, workers: Mapping[str, str], now: float) -> bool:
        """Leave out these workers (→ why) for a while, if others are fit; return whether others are."""
        if not workers or not self.fit() - set(workers):
            return False
        for worker, why in workers.items():
            delay = self._delays.get(worker, self._delay)
            self._left_out[worker] = _LeftOut(why, now + delay)
            self._delays[worker] = min(2 * delay, _LONGEST_DELAY)
        return True

    def proved(self, workers: Iterable[str]) -> None:
        """These workers have done a segment."""
        together = set(workers)
        self._delays = {w: delay for w, delay in self._delays.items() if w not in together}
        self._probes = {pair: seconds for pair, seconds in self._probes.items() if not pair <= together}

    def part(self, pair: Collection[str], now: float) -> None:
        """Two workers do not reach each other."""
        together = frozenset(pair)
        self._cut[together] = now + self._probes.setdefault(together, min(_FIRST_PROBE, self._every))

    def join(self, pair: Collection[str]) -> None:
        """Two workers reach each other."""
        self._cut.pop(frozenset(pair), None)

    def due(self, now: float) -> list[tuple[str, str]]:
        """Pairs that it is time to probe again."""
        pairs = sorted((min(pair), max(pair)) for pair, due in self._cut.items() if now >= due)
        for pair in pairs:
            self._probes[frozenset(pair)] = min(2 * self._probes[frozenset(pair)], self._every)
            self.part(pair, now)
        return pairs

    # ---- choices

    def hindrance(self, worker: str) -> str | None:
        """Why a worker cannot begin a task now; None if it can."""
        if worker in self._paused:
            return PAUSED
        return f"it is busy with {self._busy[worker]}" if worker in self._busy else None

    def fit(self) -> set[str]:
        """Workers each of which can begin a rank; some pairs may not reach each other."""
        able = self.present - self._paused - set(self._left_out)
        return (able - self._leaving) or able

    def choose(self, most: int, at_work: Collection[str] = ()) -> tuple[str, ...]:
        """At most `most` workers for a group, all of which reach each other; those at work stay unless others are better."""
        staying = self.fit()
        while bad := [w for pair in self._cut if pair <= staying for w in pair]:
            staying.remove(max(set(bad), key=lambda w: (bad.count(w), w)))  # of equals the last by name
        return tuple(sorted(sorted(staying, key=lambda w: (w not in at_work, w))[:most]))

    def unfit(self) -> dict[str, str]:
        """Present workers that can have no part in a group → why."""
        reasons = {w: out.why for w, out in self._left_out.items()} | dict.fromkeys(self._paused & self.present, PAUSED)
        chosen = set(self.choose(len(self.present)))
        for pair in self._cut:
            for worker in sorted(pair - chosen):
                (other,) = pair - {worker}
                reasons.setdefault(worker, f"it and {other} do not reach each other")
        return dict(sorted(reasons.items()))

    def is_cut_off(self, workers: Collection[str]) -> bool:
        """Whether a present worker does not reach one of these."""
        return any(len(pair & set(workers)) == 1 for pair in self._cut)

    def is_without(self, workers: Collection[str]) -> bool:
        """Whether a worker besides these is left out."""
        return bool(self._left_out.keys() - set(workers))
