"""A rank that exchanges known numbers by random routes: run by tests in threads of their process, and as a process of its own.

A process reads and writes pickles: it reads its settings, writes its endpoint, reads all endpoints, and then executes commands.
"""

from __future__ import annotations

import pickle
import sys
import time
from typing import Any

import numpy as np

from dagtrain.transport import Communicator, Phase, Routes, Span, Window

TOKEN = b"a secret of the group"
KINDS = {"float": "float32", "whole": "int64", "byte": "uint8"}
USED = (Phase.REDUCE_SCATTER, Phase.ALL_GATHER)


class Plan:
    """Regions, and random spans of them for every pair and phase; equal in all ranks with the same seed."""

    def __init__(self, seed: int, ranks: int, elements: int = 50) -> None:
        rng = np.random.default_rng(seed)
        self.ranks, self.elements = ranks, elements
        self.regions = {f"{phase.name}.{name}": (dtype, elements) for phase in USED for name, dtype in KINDS.items()}
        self.spans = {
            (i, j, phase): tuple(self.span(rng, phase) for _ in range(rng.integers(0, 5)))
            for i in range(ranks)
            for j in range(ranks)
            for phase in USED
        }

    def span(self, rng: Any, phase: Phase) -> Span:
        start, stop = sorted(rng.integers(0, self.elements + 1, 2))
        return Span(f"{phase.name}.{rng.choice(list(KINDS))}", int(start), int(stop))

    def routes(self, rank: int) -> dict[int, Routes]:
        return {
            peer: Routes(
                out={phase: self.spans[rank, peer, phase] for phase in USED},
                into={phase: self.spans[peer, rank, phase] for phase in USED},
            )
            for peer in range(self.ranks)
            if peer != rank
        }

    def numbers(self, rank: int, region: str, when: int) -> Any:
        dtype, elements = self.regions[region]
        return ((np.arange(elements) * 7 + rank * 31 + when * 13) % 251).astype(dtype)


def rehearse(communicator: Communicator, window: Window, plan: Plan, segments: int = 2, steps: int = 5) -> None:
    """Exchange numbers in every step, and compare each of them."""
    peers = [peer for peer in range(plan.ranks) if peer != communicator.rank]
    spans = {(peer, phase): communicator.incoming(peer, phase) for peer in peers for phase in USED}
    for segment in range(segments):
        for step in range(steps):
            when = segment * steps + step
            for phase in USED:
                for region in plan.regions:
                    if region.startswith(phase.name + "."):
                        window[region][:] = plan.numbers(communicator.rank, region, when)
                communicator.post(phase, peers, segment, step)
                communicator.wait(phase, peers, segment, step)
                for peer in peers:
                    expected = plan.spans[peer, communicator.rank, phase]
                    assert len(expected) == len(spans[peer, phase])
                    for span, array in zip(expected, spans[peer, phase], strict=True):
                        np.testing.assert_array_equal(array, plan.numbers(peer, span.region, when)[span.start : span.stop])


def main() -> None:
    def say(value: Any) -> None:
        pickle.dump(value, sys.stdout.buffer)
        sys.stdout.buffer.flush()

    settings = pickle.load(sys.stdin.buffer)
    plan = Plan(settings["seed"], settings["ranks"], settings.get("elements", 50))
    window = Window.create(plan.regions)
    address = settings.get("address", "127.0.0.1")
    options = {name: settings[name] for name in ("only", "silence") if name in settings}
    communicator = Communicator(settings["group"], settings["rank"], window, plan.routes(settings["rank"]), TOKEN, address, **options)
    say(communicator.endpoint)
    peers = [peer for peer in range(plan.ranks) if peer != communicator.rank]
    try:
        communicator.connect(pickle.load(sys.stdin.buffer), 60)
        say(communicator.kinds)
        while True:
            match pickle.load(sys.stdin.buffer):
                case "rehearse", segments, steps:
                    before = time.process_time()
                    rehearse(communicator, window, plan, segments, steps)
                    say(time.process_time() - before)
                case "wait", deadline:
                    communicator.deadline = deadline
                    communicator.wait(Phase.ALL_REDUCE_NORM, peers, 0, 0)
                case "close":
                    break
    except Exception as error:
        say(error)
    communicator.close()
    window.close()


if __name__ == "__main__":
    main()
