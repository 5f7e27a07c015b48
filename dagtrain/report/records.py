"""What a run reports to the dashboard: records, as values that travel as plain numbers and texts.

fit ── Started · Progress, StepTimes, EpochEnd, Event, Drawn, … · Ended ──▶ scheduler ──▶ page, /metrics
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

__all__ = ["KINDS", "TEXTS", "Drawn", "Ended", "EpochEnd", "Event", "Progress", "Record", "Started", "StepTimes", "decode", "encode"]

KINDS = ("compute", "exchange", "wait")
"""How a rank spends the time of a step."""


class Started(NamedTuple):
    """A fit has begun.

    Attributes
    ----------
    model, engine
        Texts for people.
    workers, shards, samples, parameters
        Numbers; 0 samples of a stream.
    step, epoch, epochs
        Updates made and epochs done before, and epochs in all.
    steps_per_epoch
        Steps of an epoch; 0 where that is unknown.
    """

    model: str
    engine: str
    workers: int
    shards: int
    samples: int
    parameters: int
    step: int
    epoch: int
    epochs: int
    steps_per_epoch: int


class Progress(NamedTuple):
    """How far training is: updates made, epochs done, mean loss of the steps since the last such record, and the speed."""

    step: int
    epoch: int
    loss: float
    samples_per_second: float
    seconds: float


class StepTimes(NamedTuple):
    """How a rank spent the seconds of a step, as a mean over timed steps.

    Attributes
    ----------
    worker, rank
        Its address and its number.
    step
        Updates made at the end of these steps.
    compute
        Rows, gradients, sums, update.
    exchange
        Sending and copying.
    wait
        Until what peers compute is here.
    """

    worker: str
    rank: int
    step: int
    compute: float
    exchange: float
    wait: float


class EpochEnd(NamedTuple):
    """The quantities of an epoch, at the number of updates made."""

    epoch: int
    step: int
    values: Mapping[str, float]


TEXTS = {
    "repeated": "{why}; repeated from step {step}",
    "evaluation repeated": "{why}; the evaluation after step {step} is repeated",
    "placed anew": "{why}; placed anew",
    "missing": "gone before they took part: {names}; placed without them",
    "slow channel": "workers {names} exchange by Dask's connections, which are slower: {why}",
    "state lost": "a state was lost: {why}",
    "resume": "went on from {why}",
}
"""Kind of an event → its text; that of the other kinds is the reason alone."""


class Event(NamedTuple):
    """Something that happened besides the steps: a worker lost, a new placement, a stop. Its text follows from its fields.

    Attributes
    ----------
    kind
        "repeated", "evaluation repeated", "placed anew", "missing", "slow channel", "state lost", "waiting"; "resume", "stop", "callback".
    why
        The reason.
    step
        Updates made since the beginning of training: those after which training goes on.
    workers
        Addresses of the workers that it is about.
    seconds
        Since `fit` began.

    Examples
    --------
    >>> event = Event("repeated", "worker tcp://10.0.0.2:40 was lost", 40, ("tcp://10.0.0.2:40",), 1.25)
    >>> event.text
    'worker tcp://10.0.0.2:40 was lost; repeated from step 40'
    >>> event.line
    '1.2 s, step 40: worker tcp://10.0.0.2:40 was lost; repeated from step 40'
    """

    kind: str
    why: str = ""
    step: int = 0
    workers: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """What happened, as a sentence."""
        return TEXTS.get(self.kind, "{why}").format(why=self.why, step=self.step, names=" and ".join(self.workers))

    @property
    def line(self) -> str:
        """The text with its time and step, as a line of a log."""
        return f"{self.seconds:.1f} s, step {self.step}: {self.text}"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return repr(self.text)


class Drawn(NamedTuple):
    """A picture as SVG, or why there is none; `name` is "placement" or "graph"."""

    name: str
    svg: str
    why_not: str = ""


class Ended(NamedTuple):
    """The fit is over: "finished", or why it ended."""

    how: str
    fingerprint: str


Record = Started | Progress | StepTimes | EpochEnd | Event | Drawn | Ended
_RECORDS: dict[str, type[Any]] = {r.__name__: r for r in (Started, Progress, StepTimes, EpochEnd, Event, Drawn, Ended)}


def encode(records: Iterable[Record]) -> list[list[Any]]:
    """Records as lists for a message.

    Examples
    --------
    >>> encode([Ended("finished", "ab12")])
    [['Ended', 'finished', 'ab12']]
    """
    return [[type(record).__name__, *record] for record in records]


def decode(message: Iterable[Sequence[Any]]) -> list[Record]:
    """The records of a message; those of a version that has other fields are left out.

    Examples
    --------
    >>> decode([["Ended", "finished", "ab12"], ["Ended"], ["Unknown", 1]])
    [Ended(how='finished', fingerprint='ab12')]
    """
    records: list[Record] = []
    for name, *fields in message:
        with suppress(KeyError, TypeError):
            records.append(_RECORDS[name](*fields))
    return records
