"""The expected time of a step on a number of workers over a network: the protocol of the ranks as arithmetic.

    compute ▶ wait for the slowest ▶ partial sums to the owners ▶ add ▶ update ▶ parameters to all ranks ▶ …
              ╰───── first barrier ─────╯                         ╰── second barrier ──╯

A phase between hosts lasts as long as its busiest part: a host's network card, which sends and receives at once, or a rank's thread, which
sends, receives and copies each message. Within a host, ranks read each other's memory. `place` decides what a rank owns, how many partial
sums it has, and which workers stay idle. Between hosts, communication overlaps with compute: partial sums leave as the layers' gradients
become final, and the next step begins as the layers' parameters arrive.

Left out: switches slower than the cards they connect, lost packets, other users, and shards whose work space forces several waves. So real
clusters are slower, not faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple

from dagtrain.engines.ranks.actions import SegmentPolicy
from dagtrain.engines.ranks.coordinator import ENDING
from dagtrain.engines.ranks.placement import StepShape, WorkerInfo, place
from dagtrain.errors import ArgumentError
from dagtrain.step.figures import LOSS_PARTS
from dagtrain.step.update import BLOCK, blocks_of

__all__ = ["STEP", "Expected", "Network", "Work", "expect", "grown", "scaling", "slower_from", "worth_until"]

STEP = 1e-4
"""Seconds of a rank's step besides its parts: messages, taking rows, reports. Measured as the step of a rank of one worker less the parts
that `measure_work` times, for networks of 100 to 240,000 parameters: 0 to 0.15 ms."""


class Work(NamedTuple):
    """The cost of a step for one thread; times in seconds.

    Attributes
    ----------
    parameters
        Elements of the parameter vector.
    batch, shards
        Samples of a step, and its number of shards.
    sample, shard
        Compute of a sample, and overhead of a shard.
    add, update
        Time of one element: to add or copy it, and to update it.
    step
        Other work of a rank in a step: messages, rows, reports.
    jitter
        Relative standard deviation of the compute of a step; ranks wait for the slowest.
    slots, norms, sums
        Numbers of the optimiser's vectors, of norms of the whole gradient, and of the parts of loss and metrics.
    itemsize, block
        Bytes of an element; most elements of a block, the least that a rank can own.
    gives
        For each bucket of blocks, in the order in which they become final: its fraction of the parameters, and the fraction of a step's
        compute done by then. By default all are final at the end.
    takes
        For each bucket, from the last to the first: its fraction of the parameters, and the fraction of a step's compute that can run after
        it arrives and before the next one does. By default all compute needs the last one.
    weights
        Number of losses whose weights in the whole batch are exchanged before a step's compute.
    """

    parameters: int
    batch: int
    shards: int
    sample: float
    shard: float = 0.0
    add: float = 0.0
    update: float = 0.0
    step: float = 0.0
    jitter: float = 0.0
    slots: int = 2
    norms: int = 0
    sums: int = LOSS_PARTS
    itemsize: int = 4
    block: int = BLOCK
    gives: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    takes: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    weights: int = 0


class Network(NamedTuple):
    """The network between workers.

    Attributes
    ----------
    name
        Name in tables.
    bandwidth
        Bytes a second of a host's network card, in each direction.
    latency
        Seconds from one host's card to another's.
    message
        Seconds of a rank's thread for a message that it sends or receives.
    copying
        Bytes a second that a rank's thread copies to or from the kernel.
    within
        Seconds of a word between ranks of one host.
    """

    name: str
    bandwidth: float
    latency: float = 0.0
    message: float = 0.0
    copying: float = math.inf
    within: float = 0.0


class Expected(NamedTuple):
    """The parts of a step, in seconds, on `workers` of which `ranks` have work; of communication, the part not hidden by compute."""

    workers: int
    ranks: int
    batch: int
    compute: float
    waiting: float
    partial: float
    update: float
    parameters: float
    ending: float

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute + self.waiting + self.partial + self.update + self.parameters + self.ending

    @property
    def throughput(self) -> float:
        """Samples a second."""
        return self.batch / self.seconds

    def efficiency(self, alone: Expected) -> float:
        """Samples a second and worker, as a fraction of those of one worker alone."""
        return self.throughput / self.workers / (alone.throughput / alone.workers)


def grown(work: Work, workers: int) -> Work:
    """The same work with a batch that grows with the workers: each has as many samples and shards as one alone."""
    return work._replace(batch=work.batch * workers, shards=work.shards * workers)


def scaling(work: Work, network: Network, counts: Iterable[int], per_host: int = 1, weak: bool = False) -> list[Expected]:
    """Expected steps on these numbers of workers: with a fixed batch, or (`weak`) one that grows with them."""
    return [expect(grown(work, n) if weak else work, network, n, per_host) for n in counts]


def worth_until(curve: Sequence[Expected], least: float = 0.5) -> int:
    """The last number of workers on the curve before the efficiency falls below `least`.

    Examples
    --------
    >>> net = Network("slow", bandwidth=1e6)
    >>> worth_until(scaling(Work(1000, batch=64, shards=64, sample=1e-3, block=1), net, [1, 2, 4, 8, 16, 32, 64]))
    8
    """
    workers = curve[0].workers
    for point in curve:
        if point.efficiency(curve[0]) < least:
            break
        workers = point.workers
    return workers


def slower_from(curve: Sequence[Expected]) -> int | None:
    """The first number of workers with fewer samples a second than the one before it."""
    for before, after in pairwise(curve):
        if after.throughput < before.throughput * (1 - 1e-9):
            return after.workers
    return None


def expect(work: Work, network: Network, workers: int, per_host: int = 1) -> Expected:
    """The expected parts of a step on this number of workers of one thread each.

    Parameters
    ----------
    work, network
        Cost of the step, and the network.
    workers
        Number of workers; there are at most as many ranks as shards.
    per_host
        Workers that share a network card.

    Examples
    --------
    Two workers halve a second of compute, and each sends and gets half a megabyte twice:

    >>> work = Work(parameters=256_000, batch=10, shards=2, sample=0.1, sums=0, slots=0, block=128_000)
    >>> step = expect(work, Network("", bandwidth=1.024e6), 2)
    >>> step.compute, step.partial, step.parameters
    (0.5, 0.5, 0.5)
    """
    if workers < 1 or per_host < 1:
        raise ArgumentError(f"workers and workers on a host are 1 or more, got {workers} and {per_host}.")
    if work.shards < 1 or work.batch < work.shards:
        raise ArgumentError(f"a batch of {work.batch} cannot be cut into {work.shards} shards: give as many samples as shards, or more.")
    there = _layout(min(workers, work.shards), work.shards, work.parameters, work.block, per_host)
    ranks = len(there.shards)
    most = max(there.shards)
    samples = math.ceil(work.batch / work.shards) * most
    compute = work.step + work.shard * most + work.sample * samples
    compute += work.add * work.parameters * max(s - r for s, r in zip(there.shards, there.roots, strict=True))
    waiting = 0.0 if ranks == 1 else work.jitter * compute * NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))
    owned = max(there.elements)
    partials = sum(there.roots)
    added = work.add * owned * (partials - 1)
    copied = work.parameters - min(there.elements) if there.hosts > 1 else 0  # ranks of one host hold the parameters once
    update = work.update * owned + added + work.add * copied
    partial = _partial(work, network, there).waited(lambda card: _after(compute, card, work.gives))
    parameters = _gathered(work, network, there, 1).waited(lambda card: _before(compute, card, work.takes))
    nothing, everyone = [0.0] * there.hosts, [True] * len(there.shards)
    numbers = work.norms * _phase(network, there, nothing, nothing, there.owners, there.owners).waited()
    numbers += bool(work.weights) * _phase(network, there, nothing, nothing, everyone, everyone).waited()
    done = compute + waiting + partial + numbers + update + parameters
    ending = _gathered(work, network, there, work.slots).waited() if work.slots else 0.0
    ending *= min(1.0, done / max(SegmentPolicy().segment, min(ending / ENDING, SegmentPolicy().longest)))
    return Expected(workers, ranks, work.batch, compute, waiting, partial, update, parameters + numbers, ending)


# ---- placement


class _Layout(NamedTuple):
    """By rank: numbers of shards, of partial sums and of owned elements, and the host."""

    shards: tuple[int, ...]
    roots: tuple[int, ...]
    elements: tuple[int, ...]
    host: tuple[int, ...]

    @property
    def hosts(self) -> int:
        return self.host[-1] + 1

    @property
    def owners(self) -> tuple[bool, ...]:
        return tuple(n > 0 for n in self.elements)

    def by_host(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks of each host."""
        sums = [0.0] * self.hosts
        for host, value in zip(self.host, values, strict=True):
            sums[host] += value
        return sums


@lru_cache(maxsize=256)
def _layout(ranks: int, shards: int, parameters: int, block: int, per_host: int) -> _Layout:
    shape = StepShape(shards, tuple(b.stop - b.start for b in blocks_of(parameters, block)))
    placement = place(shape, [WorkerInfo(f"{i:09}", host=f"{i // per_host:09}") for i in range(ranks)])
    return _Layout(
        tuple(len(rank.shards) for rank in placement.ranks),
        tuple(len(rank.roots) for rank in placement.ranks),
        tuple(placement.elements_of(rank.number) for rank in placement.ranks),
        tuple(int(rank.host) for rank in placement.ranks),
    )


# ---- phases


class _Phase(NamedTuple):
    """Seconds of the busiest host's card, of the busiest rank's thread, and of a message on its way."""

    card: float
    thread: float
    latency: float

    def waited(self, exposed: Callable[[float], float] = lambda card: card) -> float:
        """Seconds that ranks wait, if `exposed` gives the part of the card's time not hidden by compute."""
        return max(exposed(self.card), self.thread) + self.latency


def _after(compute: float, seconds: float, gives: Sequence[tuple[float, float]]) -> float:
    """Seconds from the end of compute to the end of sending, which takes `seconds` in all.

    Examples
    --------
    >>> round(_after(1.0, 0.5, [(0.5, 0.2), (0.5, 1.0)]), 9)
    0.25
    """
    now = 0.0
    for part, when in gives:
        now = max(now, when * compute) + part * seconds
    return max(now - compute, 0.0)


def _before(compute: float, seconds: float, takes: Sequence[tuple[float, float]]) -> float:
    """Seconds that compute ends later because it waits for parameters, which take `seconds` to arrive.

    Examples
    --------
    >>> round(_before(1.0, 0.5, [(0.5, 0.2), (0.5, 0.8)]), 9)
    0.3
    """
    arrived, now = 0.0, compute * (1.0 - sum(possible for _, possible in takes))
    for part, possible in takes:
        arrived += part * seconds
        now = max(now, arrived) + possible * compute
    return max(now - compute, 0.0)


def _partial(work: Work, network: Network, there: _Layout) -> _Phase:
    """The phase that sends slices of the partial sums to their owners."""
    roots, elements, owners = there.by_host(there.roots), there.by_host(there.elements), there.by_host(there.owners)
    partials, all_owners = sum(roots), sum(owners)
    loss = min(work.sums, LOSS_PARTS)  # all owners need the parts of the loss, the first one those of the metrics too
    metrics = work.sums - loss
    sent, taken = [], []
    for host, (r, e, o) in enumerate(zip(roots, elements, owners, strict=True)):
        first = host == 0
        sent.append(r * (work.itemsize * (work.parameters - e) + 8 * (loss * (all_owners - o) + metrics * (not first))))
        taken.append((partials - r) * (work.itemsize * e + 8 * (loss * o + metrics * first)))
    return _phase(network, there, sent, taken, [True] * len(there.shards), there.owners)


def _gathered(work: Work, network: Network, there: _Layout, vectors: int) -> _Phase:
    """The phase that sends slices of this many vectors from their owners to all ranks."""
    elements, ranks = there.by_host(there.elements), there.by_host([1] * len(there.shards))
    size = vectors * work.itemsize
    sent = [size * e * (len(there.shards) - n) for e, n in zip(elements, ranks, strict=True)]
    taken = [size * n * (work.parameters - e) for e, n in zip(elements, ranks, strict=True)]
    return _phase(network, there, sent, taken, there.owners, [True] * len(there.shards))


def _phase(
    network: Network, there: _Layout, sent: Sequence[float], taken: Sequence[float], senders: Sequence[bool], takers: Sequence[bool]
) -> _Phase:
    """The phase of these transfers; `sent` and `taken` are bytes by host."""
    if len(there.shards) == 1:
        return _Phase(0.0, 0.0, 0.0)
    if there.hosts == 1:
        return _Phase(0.0, 0.0, network.within)
    card = max(*sent, *taken) / network.bandwidth
    senders_of, takers_of = there.by_host(senders), there.by_host(takers)
    ranks_of = there.by_host([1] * len(there.shards))
    thread = 0.0
    for host, sends, takes in zip(there.host, senders, takers, strict=True):
        messages = (sum(takers_of) - takers_of[host] if sends else 0) + (sum(senders_of) - senders_of[host] if takes else 0)
        # The ranks of a host send and receive nearly equal amounts.
        copied = (sent[host] / max(senders_of[host], 1) if sends else 0) + (taken[host] / max(takers_of[host], 1) if takes else 0)
        thread = max(thread, network.message * messages + copied / network.copying)
    return _Phase(card, thread, network.latency + (network.within if max(ranks_of) > 1 else 0.0))
