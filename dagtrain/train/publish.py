"""What a fit tells the cluster's dashboard: it collects records, and a sender takes them a few times a second.

    fit's thread    step · epoch · add · placed · spent ──▶ Publisher ◀── take · hear    the client's event loop

A step costs the fit a tuple; everything else is done when the sender takes it. Pictures are drawn in a thread of their own, once somebody
looks at the page or the fit has lasted for a while.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from dagtrain.backends.blas import guard
from dagtrain.data import BatchPlan
from dagtrain.draw.text import bytes_text, seconds_text
from dagtrain.graph import Array, Spec
from dagtrain.report.records import Drawn, Ended, EpochEnd, Progress, Record, Started, StepTimes, encode
from dagtrain.step.program import Program
from dagtrain.step.state import State
from dagtrain.step.statistics import state_leaves
from dagtrain.train.history import History

__all__ = ["Publisher", "published", "publisher_of"]

KEPT = 1000
"""Records that wait for the sender, at most; the oldest are dropped."""
RANKS = 64
"""Ranks whose times are sent, at most."""
SPEED = 3.0
"""Seconds over which the speed is measured."""
UNWATCHED = 10.0
"""Seconds after which a fit that nobody looks at has its pictures drawn, for those who look later."""
LARGEST = 4 << 20
"""Characters of the largest picture that is sent."""
MEMORY = 256_000_000
"""Bytes that the values of a graph may take while its ops are timed: they are kept beside the fit's own memory."""


class Publisher:
    """The records of one fit.

    Parameters
    ----------
    started
        The first record.
    begun
        Steps done of the epoch under way.
    pictures
        Name → function that returns the picture as SVG, apart from that of the placement.
    clock
        Returns seconds.
    samples
        Samples of a step, where the steps of an epoch are unknown.
    """

    def __init__(
        self,
        started: Started,
        begun: int = 0,
        pictures: Mapping[str, Callable[[], str]] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        samples: float = 0.0,
    ) -> None:
        self._clock, self._began = clock, clock()
        self._zero = started.step - begun - started.epoch * started.steps_per_epoch
        """Updates made before the first epoch of this fit's count."""
        self._total = started.steps_per_epoch
        self._samples = samples or started.samples / started.steps_per_epoch
        self._ended = started.epoch
        self._started = started
        self._records: deque[Record] = deque(maxlen=KEPT)
        self._seen = (started.step, 0.0, 0, 0.0)
        """Updates made; sum of the losses, and number, of this fit's steps; when the last was reported."""
        self._taken = self._seen
        self._past: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._times: dict[int, StepTimes] = {}
        self._undrawn = dict(pictures or {})
        self._drawing: threading.Thread | None = None
        self.is_watched: bool | None = None  # no message was answered yet

    # ---- by the fit

    def add(self, record: Record) -> None:
        """Take any record."""
        self._records.append(record)

    def step(self, step: int, loss: float) -> None:
        """Take a step's loss, and the number of updates made."""
        _, losses, steps, _ = self._seen
        self._seen = (step, losses + loss, steps + 1, self._clock() - self._began)

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Take the quantities of an epoch, which is counted from 0."""
        self._ended = epoch + 1
        self.add(EpochEnd(epoch + 1, self._zero + (epoch + 1) * self._total if self._total else self._seen[0], dict(values)))

    def spent(self, times: Sequence[StepTimes]) -> None:
        """Take the times of ranks; the latest count."""
        # A new dict, since the sender may be reading this one.
        self._times = {**self._times, **{each.rank: each for each in times if each.rank < RANKS}}

    def placed(self, placement: Any) -> None:
        """Take a new placement."""
        self._times = {}
        self._undrawn = {**self._undrawn, "placement": lambda: svg_of(placement)}

    # ---- by the sender

    def take(self) -> list[Any]:
        """The records since the last time, for a message; begins to draw pictures where it is time.

        The first record is in each message, since messages are lost and schedulers started again; it is one by itself until an answer.
        """
        seen, before = self._seen, self._taken
        records: list[Record] = []
        while self._records:
            records.append(self._records.popleft())
        if seen[2] > before[2]:
            self._taken = seen
            step, losses, steps, seconds = seen
            self._past.append((seconds, steps))
            while len(self._past) > 2 and seconds - self._past[1][0] >= SPEED:
                self._past.popleft()
            speed = (steps - self._past[0][1]) * self._samples / max(seconds - self._past[0][0], 1e-9)
            epoch = (step - self._zero) // self._total if self._total else self._ended
            records.append(Progress(step, epoch, (losses - before[1]) / (steps - before[2]), speed, seconds))
        times, self._times = self._times, {}
        records += (times[rank] for rank in sorted(times))
        if self._undrawn and (self.is_watched or self._clock() - self._began > UNWATCHED):
            self._draw()
        return encode([self._started, *records]) if records or self.is_watched is None else []

    def hear(self, answer: Any) -> None:
        """Take the dashboard's answer: whether somebody looks."""
        self.is_watched = bool(answer)

    def _draw(self) -> None:
        if self._drawing is None or not self._drawing.is_alive():
            pictures, self._undrawn = self._undrawn, {}
            self._drawing = threading.Thread(target=self._draw_all, args=(pictures,), name="dagtrain-pictures", daemon=True)
            self._drawing.start()

    def _draw_all(self, pictures: Mapping[str, Callable[[], str]]) -> None:
        for name, picture in pictures.items():
            try:
                svg = picture()
                if len(svg) > LARGEST:
                    raise ValueError(f"it has {len(svg):,} characters")
                self.add(Drawn(name, svg))
            except Exception as error:  # a picture is no reason for a fit to fail
                self.add(Drawn(name, "", f"The picture could not be drawn: {error}"))


def svg_of(drawable: Any) -> str:
    """The picture of an object with a diagram."""
    from dagtrain.draw import draw

    return draw(drawable, timeout=20.0).svg


def timed_graph(program: Program, state: State, rows: int) -> str:
    """The picture of the graph of a shard, coloured by the time of its ops in this process."""
    from dagtrain.draw import draw
    from dagtrain.draw.timing import op_seconds

    graph, parts = program.shard_graph(rows), program.for_workers([rows])
    if (nbytes := sum(node.nbytes for node in graph.nodes)) > MEMORY:
        raise ValueError(f"to time its ops takes {bytes_text(nbytes)} for a shard of {rows} rows; at most {bytes_text(MEMORY)} are used.")
    leaves = state_leaves(program.layout, program.statistics_layout, state)
    data = [random_rows(spec, rows) for spec in program.columns.specs]
    scales = [np.ones(parts.weight_count)] if parts.weight_count else []
    with guard():
        seconds = op_seconds(graph, [*leaves, *data, 1.0, parts.shard_key(0, 0), *scales])
    title = f"one shard of {rows} rows, each op timed by itself: {seconds_text(sum(seconds.values()))}"
    return draw(graph, seconds=seconds, title=title, timeout=20.0).svg


def random_rows(spec: Spec, rows: int) -> Array:
    """Normal numbers for floats, zeros for labels."""
    shape, dtype = (rows, *spec.shape), np.dtype(spec.dtype)
    return np.random.default_rng(0).standard_normal(shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)


@contextmanager
def published(client: Any, publisher: Publisher | None, history: History) -> Iterator[None]:
    """Send the records of the fit in this block to the cluster's dashboard; neither delays the fit nor fails it."""
    if publisher is None:
        yield
        return
    from dagtrain.engines.cluster.sender import Sender

    sender, how = Sender(client, publisher.take, publisher.hear), ""
    try:
        yield
        how = history.stopped or "finished"
    except BaseException as error:
        how = f"{type(error).__name__}: {error}"
        raise
    finally:
        publisher.add(Ended(how, history.fingerprint))
        sender.finish()


def publisher_of(
    engine: Any, model: Any, program: Program, sample: BatchPlan, streams: bool, state: State, begun: int, epochs: tuple[int, int]
) -> Publisher | None:
    """The records of a fit for the dashboard of its cluster; None without a cluster.

    `sample` is the plan of the samples, or of the first batch of a stream; `begun` are the steps done of the epoch under way, `epochs`
    those done and all.
    """
    if getattr(engine, "client", None) is None:
        return None
    name = getattr(model, "name", None) or getattr(model, "__qualname__", type(model).__name__)
    samples, steps = (0, 0) if streams else (sample.samples, sample.steps_per_epoch)
    shards, numbers = sample.step(0, 0), (samples, program.layout.size, state.step, *epochs, steps)
    started = Started(str(name)[:200], engine.name, engine.workers, len(shards), *numbers)
    pictures = {"graph": partial(timed_graph, program, state, len(shards[0]))}
    return Publisher(started, begun, pictures, samples=sample.samples if streams else 0.0)
