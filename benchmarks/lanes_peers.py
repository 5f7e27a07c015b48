"""The contenders of lanes.py that run as separate processes: PyTorch in one process and in two, and the floors.

    python lanes_peers.py NAME RANK RANKS THREADS FILE        started by lanes.py, which requests numbers of epochs, one a line

FILE holds the samples, the widths of the layers, the batch size and the first weights. An answer has the seconds of the epochs, and the
mean loss of the first.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from problem import BETAS, EPSILON, LEARNING_RATE

__all__ = ["PEERS", "Peer", "Processes", "answer", "program"]

Array = np.ndarray[Any, Any]
PEERS = {
    "DDP, 2 processes": ("torch", 2, 1),
    "PyTorch, 2 threads": ("torch", 1, 2),
    "PyTorch, 1 thread": ("torch", 1, 1),
    "floor: 2 processes without exchange": ("floor", 2, 1),
    "floor: 2 processes in step": ("in step", 2, 1),
    "floor: 1 process": ("floor", 1, 1),
}
"""Name → kind, number of processes, threads of each."""
DEADLINE = 60
"""Seconds for the other process to reach a barrier."""
_yield = getattr(os, "sched_yield", lambda: time.sleep(0))


def program(sizes: tuple[int, ...]) -> Any:
    """The compiled step of the network."""
    import dagtrain as dt

    layers = [*(dt.nn.Dense(n, "relu") for n in sizes[1:-1]), dt.nn.Dense(sizes[-1])]
    objective = dt.step.ModelObjective(dt.nn.Sequential(layers), "cross_entropy", [])
    optimizer = dt.optim.adam(LEARNING_RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
    columns = dt.data.Columns.of(dt.Spec((sizes[0],), np.dtype("f4")), dt.Spec((), np.dtype("i8")))
    return dt.step.Program(objective, optimizer, columns, seed=0)


class Torch:
    """Eager modules, Adam in its fused form; in several processes by DistributedDataParallel over gloo."""

    def __init__(self, dataset: Any, rank: int, ranks: int, threads: int, rendezvous: str) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(threads)
        sizes = [int(n) for n in dataset["sizes"]]
        linear = [nn.Linear(m, n) for m, n in itertools.pairwise(sizes)]
        with torch.no_grad():
            for i, layer in enumerate(linear):
                layer.weight.copy_(torch.from_numpy(dataset[f"kernel_{i}"].T.copy()))
                layer.bias.copy_(torch.from_numpy(dataset[f"bias_{i}"]))
        parts: list[Any] = [p for layer in linear for p in (layer, nn.ReLU())][:-1]
        self.model: Any = nn.Sequential(*parts)
        if ranks > 1:
            torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
            self.model = nn.parallel.DistributedDataParallel(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True)
        self.objective = nn.CrossEntropyLoss()
        self.batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in halves(dataset, rank, ranks)]

    def epoch(self) -> float:
        total = 0.0
        for x, y in self.batches:
            loss = self.objective(self.model(x), y)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach())
        return total / len(self.batches)


class Floor:
    """The computation and the updates of a rank, without communication: no engine on as many processes can be faster."""

    def __init__(self, dataset: Any, rank: int, ranks: int, threads: int, rendezvous: str) -> None:
        from dagtrain.backends.blas import one_blas_thread
        from dagtrain.step.parts import ShardRunner

        step = program(tuple(int(n) for n in dataset["sizes"]))
        shards = int(dataset["shards"]) // ranks
        self.batches = [
            list(zip(np.array_split(x, shards), np.array_split(y, shards), strict=True)) for x, y in halves(dataset, rank, ranks)
        ]
        rows = sorted({len(x) for batch in self.batches for x, _ in batch})
        self.parts, self.state = step.for_workers(rows), step.first_state()
        spaces: dict[int, list[Array]] = {}
        self.runners = [ShardRunner(self.parts, self.parts.outputs(), spaces) for _ in range(shards)]
        self.views = self.parts.layout.views(self.state.parameters)
        self.vectors = [runner.out.gradient for runner in self.runners]  # added in place, as by ranks
        self.gradient = self.vectors[0]
        blocks = len(self.parts.update.blocks)
        self.blocks = range(rank * blocks // ranks, (rank + 1) * blocks // ranks)
        self.bound = self.parts.update.bind(self.state, self.gradient, blocks=self.blocks)
        self.batch, self.one_blas_thread = int(dataset["batch"]), one_blas_thread

    def epoch(self) -> float:
        from dagtrain.step.parts import ShardInputs
        from dagtrain.step.sum_tree import tree_levels

        with self.one_blas_thread(), np.errstate(all="ignore"):
            for batch in self.batches:
                for runner, (x, y) in zip(self.runners, batch, strict=True):
                    runner.run(ShardInputs(self.views, [], (x, y), len(x) / self.batch, self.state.step, 0))
                for into, other in itertools.chain(*tree_levels(len(batch))):
                    np.add(self.vectors[into], self.vectors[other], out=self.vectors[into])
                self.barrier()
                scalars = self.parts.update.scalar_values(self.state, self.batch, [])
                for i in self.blocks:
                    self.bound.block(i, scalars)
                self.barrier()
                self.state.step += 1
        return float("nan")  # each process trains on half of each batch: its loss is not comparable

    def barrier(self) -> None:
        """Do not wait."""


class InStep(Floor):
    """The floor with two barriers a step, as in any method whose steps are those of one process."""

    def __init__(self, dataset: Any, rank: int, ranks: int, threads: int, rendezvous: str) -> None:
        super().__init__(dataset, rank, ranks, threads, rendezvous)
        self.words = np.memmap(f"{rendezvous}.words", np.int64, "r+", shape=16).data
        self.rank_word, self.peer_word, self.barriers = 8 * rank, 8 * (1 - rank), 0

    def barrier(self) -> None:
        self.barriers += 1
        words, peer, count = self.words, self.peer_word, self.barriers
        words[self.rank_word] = count
        until = time.monotonic() + DEADLINE
        while words[peer] < count:
            _yield()
            if time.monotonic() > until:
                raise SystemExit(f"the other process did not reach barrier {count} within {DEADLINE} s")


def halves(dataset: Any, rank: int, ranks: int) -> list[tuple[Array, Array]]:
    """A process's part of every batch."""
    x, y, batch = dataset["x"], dataset["y"], int(dataset["batch"])
    rows = batch // ranks
    starts = range(rank * rows, len(x), batch)
    return [(x[i : i + rows], y[i : i + rows]) for i in starts]


def answer(make: Callable[[], Callable[[int], tuple[float, float]]]) -> None:
    """Answer requests, one JSON value a line; `make` returns a function from a number of epochs to seconds and a loss."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep the output of libraries apart from answers
    try:
        run = make()
    except ImportError as error:
        print(json.dumps({"unavailable": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        seconds, loss = run(json.loads(line))
        print(json.dumps({"seconds": seconds, "loss": loss}), file=answers, flush=True)


def serve(what: str, rank: int, ranks: int, threads: int, file: Path) -> None:
    """Run one process of a contender."""

    def make() -> Callable[[int], tuple[float, float]]:
        kind: Any = {"torch": Torch, "floor": Floor, "in step": InStep}[what]
        contender = kind(np.load(file), rank, ranks, threads, f"{file}.{ranks}.rendezvous")

        def run(epochs: int) -> tuple[float, float]:
            began = time.perf_counter()
            losses = [contender.epoch() for _ in range(epochs)]
            return time.perf_counter() - began, losses[0]

        return run

    answer(make)


class Processes:
    """Processes that answer requests; see `serve`."""

    def __init__(self, name: str, commands: list[list[str]], **environment: str) -> None:
        self.name = name
        self.processes = [
            subprocess.Popen(
                command,
                env={**os.environ, **environment},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for command in commands
        ]
        self.unavailable = next((a["unavailable"] for a in self._answers() if "unavailable" in a), None)

    def _answers(self) -> list[dict[str, Any]]:
        answers = []
        for process in self.processes:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{self.name} ended with exit code {process.wait()}")
            answers.append(dict(json.loads(line)))
        return answers

    def run(self, epochs: int) -> tuple[float, float]:
        """Seconds of `epochs` epochs in the slowest process, and the mean loss of the first epoch."""
        for process in self.processes:
            assert process.stdin
            print(epochs, file=process.stdin, flush=True)
        answers = self._answers()
        return max(a["seconds"] for a in answers), float(np.mean([a["loss"] for a in answers]))

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            assert process.stdin
            process.stdin.close()
        for process in self.processes:
            process.wait(20)


class Peer(Processes):
    """The processes of one contender; with `hosts` (network namespaces), each on one of these."""

    def __init__(self, name: str, file: Path, hosts: Sequence[str] = ()) -> None:
        what, ranks, threads = PEERS[name]
        if what == "in step":
            Path(f"{file}.{ranks}.rendezvous.words").write_bytes(bytes(128))
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        commands = [[sys.executable, __file__, what, str(rank), str(ranks), str(threads), str(file)] for rank in range(ranks)]
        if hosts:
            limits["GLOO_SOCKET_IFNAME"] = "eth0"
            commands = [["ip", "netns", "exec", host, *command] for host, command in zip(hosts, commands, strict=True)]
        super().__init__(name, commands, **limits)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
