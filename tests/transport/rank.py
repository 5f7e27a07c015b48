"""A rank that exchanges known numbers by a random table: run by tests in threads of their own process, and as a process of its own.

As a process it speaks pickles: takes its settings, gives its offer, takes all offers, and then does what it is told.
"""

from __future__ import annotations

import pickle
import sys
import time
from typing import Any

import numpy as np

from dagtrain.transport import Board, Links, Phase, Piece, Table

TOKEN = b"a secret of the group"
KINDS = {"float": "float32", "whole": "int64", "byte": "uint8"}
USED = (Phase.PARTIAL, Phase.PARAMETERS)


class Plan:
    """Regions, and random pieces of them for every pair and phase; the same for all ranks that have the same seed."""

    def __init__(self, seed: int, ranks: int, elements: int = 50) -> None:
        rng = np.random.default_rng(seed)
        self.ranks, self.elements = ranks, elements
        self.regions = {f"{phase.name}.{name}": (dtype, elements) for phase in USED for name, dtype in KINDS.items()}
        self.pieces = {
            (i, j, phase): tuple(self.piece(rng, phase) for _ in range(rng.integers(0, 5)))
            for i in range(ranks)
            for j in range(ranks)
            for phase in USED
        }

    def piece(self, rng: Any, phase: Phase) -> Piece:
        start, stop = sorted(rng.integers(0, self.elements + 1, 2))
        return Piece(f"{phase.name}.{rng.choice(list(KINDS))}", int(start), int(stop))

    def tables(self, rank: int) -> dict[int, Table]:
        return {
            peer: Table(
                out={phase: self.pieces[rank, peer, phase] for phase in USED},
                into={phase: self.pieces[peer, rank, phase] for phase in USED},
            )
            for peer in range(self.ranks)
            if peer != rank
        }

    def numbers(self, rank: int, region: str, when: int) -> Any:
        dtype, elements = self.regions[region]
        return ((np.arange(elements) * 7 + rank * 31 + when * 13) % 251).astype(dtype)


def rehearse(links: Links, board: Board, plan: Plan, segments: int = 2, steps: int = 5) -> None:
    """Exchange in lock step, and compare every number."""
    peers = [peer for peer in range(plan.ranks) if peer != links.rank]
    pieces = {(peer, phase): links.incoming(peer, phase) for peer in peers for phase in USED}
    for segment in range(segments):
        for step in range(steps):
            when = segment * steps + step
            for phase in USED:
                for region in plan.regions:
                    if region.startswith(phase.name + "."):
                        board[region][:] = plan.numbers(links.rank, region, when)
                links.post(phase, peers, segment, step)
                links.wait(phase, peers, segment, step)
                for peer in peers:
                    wanted = plan.pieces[peer, links.rank, phase]
                    assert len(wanted) == len(pieces[peer, phase])
                    for piece, array in zip(wanted, pieces[peer, phase], strict=True):
                        np.testing.assert_array_equal(array, plan.numbers(peer, piece.region, when)[piece.start : piece.stop])


def main() -> None:
    def say(value: Any) -> None:
        pickle.dump(value, sys.stdout.buffer)
        sys.stdout.buffer.flush()

    settings = pickle.load(sys.stdin.buffer)
    plan = Plan(settings["seed"], settings["ranks"], settings.get("elements", 50))
    board = Board.create(plan.regions)
    address = settings.get("address", "127.0.0.1")
    options = {name: settings[name] for name in ("only", "silence") if name in settings}
    links = Links(settings["group"], settings["rank"], board, plan.tables(settings["rank"]), TOKEN, address, **options)
    say(links.offer)
    peers = [peer for peer in range(plan.ranks) if peer != links.rank]
    try:
        links.connect(pickle.load(sys.stdin.buffer), 60)
        say(links.kinds)
        while True:
            match pickle.load(sys.stdin.buffer):
                case "rehearse", segments, steps:
                    before = time.process_time()
                    rehearse(links, board, plan, segments, steps)
                    say(time.process_time() - before)
                case "wait", deadline:
                    links.deadline = deadline
                    links.wait(Phase.SQUARES, peers, 0, 0)
                case "close":
                    break
    except Exception as error:
        say(error)
    links.close()
    board.close()


if __name__ == "__main__":
    main()
