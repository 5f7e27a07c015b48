"""The engine lanes: compared with its peers, on more workers, when workers die, and over ten thousand steps.

    python benchmarks/lanes.py [step efficiency overhead network scale recovery memory] [--quick] [--json FILE]

    step         ms a step on two workers, compared with the other engines, PyTorch and two processes without communication
    efficiency   two workers against one, for steps of about 1, 5 and 20 ms
    overhead     ms a step, and ms for the end of an epoch, of a network of a few parameters on 1 to 16 ranks
    network      ms a step of two workers on two hosts, over 1 and 10 Gb/s, compared with DistributedDataParallel
    scale        the step that `dagtrain plan-scale` expects on one worker and on two, compared with the measured one
    recovery     seconds from kill -9 of a worker to the next committed step
    memory       resident memory of workers, scheduler and client over many steps

A fit is timed from the end of its first epoch, to exclude the costs of its start. Contenders take turns. A number is the median of the
rounds, and a ratio the median of the rounds' ratios, since a shared machine changes its speed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lanes_peers import PEERS, Peer, program
from problem import BETAS, EPSILON, LEARNING_RATE
from step import BUSY, machine, table

AGREE_WITHIN = 2e-3
NETWORKS = {"small": ((784, 256, 128, 10), 128), "large": ((784, 1280, 1024, 10), 1024)}
SAMPLES = 59_392
"""Nearly as many as in MNIST, for whose images these networks are; a multiple of both batch sizes."""
LANES, FLOOR, ALONE = "lanes, 2 workers", "floor: 2 processes without exchange", "floor: 1 process"
IN_STEP = "floor: 2 processes in step"
FLOORS = (FLOOR, IN_STEP)


def say(text: str) -> None:
    print(f"  {text} …", file=sys.stderr, flush=True)


def trainer(sizes: tuple[int, ...], shards: Any, **where: Any) -> Any:
    """A trainer for a network with layers of these widths."""
    import dagtrain as dt

    model = dt.nn.Sequential([*(dt.nn.Dense(n, "relu") for n in sizes[1:-1]), dt.nn.Dense(sizes[-1])])
    optimizer = dt.optim.adam(LEARNING_RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
    return dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, shards=shards, seed=0, **where)


def data(width: int, samples: int = SAMPLES) -> tuple[Any, Any]:
    """Samples, and labels with noise."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((samples, width), np.float32)
    return x, np.argmax(x @ draw.standard_normal((width, 10), np.float32) + draw.gumbel(size=(samples, 10)), axis=1)


def save(file: Path, network: str, dataset: tuple[Any, Any], shards: int) -> Path:
    """Write the peers' input: the samples, and the first weights of all contenders."""
    sizes, batch = NETWORKS[network]
    first = program(sizes)
    tree = first.layout.tree(first.first_state().parameters)
    weights = {f"{part}_{i}": layer[part] for i, layer in enumerate(tree.values()) for part in ("kernel", "bias")}
    np.savez(file, x=dataset[0], y=dataset[1], sizes=sizes, batch=batch, shards=shards, **weights)
    return file


def agree(losses: dict[str, float]) -> float:
    """The spread of the losses; too large a one ends the run."""
    spread = max(losses.values()) - min(losses.values())
    if spread > AGREE_WITHIN:
        raise SystemExit(f"the contenders do not compute the same; losses of the first epoch: {losses}")
    return spread


class Fit:
    """An engine as a contender: each measurement is a new fit, without its first epoch."""

    unavailable = None

    def __init__(
        self, name: str, sizes: tuple[int, ...], shards: Any, dataset: tuple[Any, Any], batch: int, end: str = "", **where: Any
    ) -> None:
        self.name, self.sizes, self.shards, self.dataset, self.batch, self.where = name, sizes, shards, dataset, batch, where
        self.end = end
        """What a callback does at the end of each epoch: "look" at the state, "change" the rate, or nothing."""

    def run(self, epochs: int) -> tuple[float, float]:
        """Seconds of `epochs` epochs, and the loss of the first."""
        from dagtrain.train.callbacks import LambdaCallback

        fresh = trainer(self.sizes, self.shards, **self.where)

        def at_end(epoch: int, logs: Any) -> None:
            if self.end == "look":
                assert fresh.state.step
            elif self.end == "change":
                fresh.learning_rate_scale = 1 / (2 + epoch)

        callbacks = [LambdaCallback(on_epoch_end=at_end)] if self.end else []
        history = fresh.fit(*self.dataset, epochs=epochs + 1, batch_size=self.batch, shuffle=False, verbose=0, callbacks=callbacks)
        return sum(history.history["seconds"][1:]), history.history["loss"][0]

    def close(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """A client of a new cluster; each worker has one thread."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0, silence_logs=logging.ERROR
        ) as local,
        Client(local) as client,
    ):
        yield client


def in_turn(contenders: list[Any], steps: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds a step of each contender, by round; a turn lasts about `seconds` seconds."""
    milliseconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    epochs = dict.fromkeys(milliseconds, 1)
    for _ in range(rounds + 1):  # the first round warms up and sizes the turns
        for contender in contenders:
            took, _ = contender.run(epochs[contender.name])
            milliseconds[contender.name].append(took / epochs[contender.name] / steps * 1e3)
            epochs[contender.name] = max(1, min(400, round(seconds / took * epochs[contender.name])))
    return {name: values[1:] for name, values in milliseconds.items()}


def ratio(ms: dict[str, list[float]], one: str, other: str) -> float:
    """The time of one contender over that of another: the median of the rounds."""
    return statistics.median(a / b for a, b in zip(ms[one], ms[other], strict=True))


# ---- parts


def step_part(options: Any) -> dict[str, Any]:
    """Two workers, compared with their peers."""
    from dagtrain.data.batches import auto_shards

    results = []
    with tempfile.TemporaryDirectory() as folder, cluster(2) as client, contextlib.ExitStack() as stack:
        for label in options.network:
            sizes, batch = NETWORKS[label]
            dataset = data(sizes[0])
            shards = options.shards or auto_shards(batch)
            file = save(Path(folder) / f"{label}.npz", label, dataset, shards)
            engines = {
                LANES: {"engine": "lanes", "client": client},
                "scheduler, 2 workers": {"engine": "scheduler", "client": client},
                "inline, 2 threads": {"engine": "inline", "threads": 2},
                "inline, 1 thread": {"engine": "inline", "threads": 1},
            }
            every = [*engines, *(name for name in PEERS if name != ALONE)]
            names = [n for n in every if n in (LANES, *FLOORS) or not options.only or any(word in n for word in options.only)]
            contenders: list[Any] = [Fit(n, sizes, shards, dataset, batch, **engines[n]) for n in names if n in engines]
            for name in (n for n in names if n in PEERS):
                say(f"{label}: starting {name}")
                contenders.append(Peer(name, file))
                stack.callback(contenders[-1].close)
            missing = {c.name: c.unavailable for c in contenders if c.unavailable}
            contenders = [c for c in contenders if c.name not in missing]
            losses = {c.name: c.run(1)[1] for c in contenders if c.name not in FLOORS}
            spread = agree(losses)
            say(f"{label}: measuring")
            ms = in_turn(contenders, SAMPLES // batch, options.rounds, options.seconds)
            rows = []
            for name, values in ms.items():
                over = [f"{ratio(ms, name, other):.2f}" for other in (LANES, FLOOR)]
                rows.append([name, f"{statistics.median(values):.3f}", f"{min(values):.3f}–{max(values):.3f}", *over])
            above = {name: statistics.median(a - b for a, b in zip(ms[LANES], ms[name], strict=True)) for name in FLOORS}
            print(f"\n{'-'.join(map(str, sizes))}, batch {batch}, {shards} shards, Adam: milliseconds a step\n")
            print(table(["contender", "ms", "rounds", "over lanes", "over floor"], rows))
            print(f"\nLanes: {above[FLOOR]:.3f} ms above the floor without exchange, {above[IN_STEP]:.3f} ms above the one in step.")
            print(f"Losses of the first epoch agree within {spread:.1g}.")
            for name, why in missing.items():
                print(f"{name} is not available here: {why}")
            results.append({"network": label, "batch": batch, "shards": shards, "rounds": ms, "losses": losses, "above": above})
    return {"networks": results}


def efficiency_part(options: Any) -> dict[str, Any]:
    """Two workers against one, by the compute of a step; and the same for two processes without communication."""
    sizes, rows, results = NETWORKS["small"][0], [], []
    dataset = data(sizes[0])
    probe = Fit("probe", sizes, 2, dataset, 256, engine="inline", threads=1)
    a_sample = min(probe.run(2)[0] for _ in range(3)) / 2 / len(dataset[0])
    with tempfile.TemporaryDirectory() as folder, cluster(1) as one, cluster(2) as two:
        for target in options.milliseconds:
            batch = min(max(8, round(target / 1e3 / a_sample / 8) * 8), len(dataset[0]) // 2)
            whole = len(dataset[0]) // batch * batch
            x, y = dataset[0][:whole], dataset[1][:whole]
            file = Path(folder) / f"{target:g}.npz"
            np.savez(file, x=x, y=y, sizes=sizes, batch=batch, shards=2)
            say(f"efficiency: steps of about {target:g} ms, batch {batch}")
            with contextlib.ExitStack() as stack:
                contenders: list[Any] = [
                    Fit("1 rank", sizes, 2, (x, y), batch, engine="lanes", client=one),
                    Fit("2 ranks", sizes, 2, (x, y), batch, engine="lanes", client=two),
                    Fit("inline, 1 thread", sizes, 2, (x, y), batch, engine="inline", threads=1),
                ]
                for name in (ALONE, *FLOORS):
                    contenders.append(Peer(name, file))
                    stack.callback(contenders[-1].close)
                ms = in_turn(contenders, whole // batch, options.rounds, options.seconds)
            pairs = (("1 rank", "2 ranks"), (ALONE, FLOOR), (ALONE, IN_STEP))
            used, most, in_step = (ratio(ms, one, other) / 2 for one, other in pairs)
            middle = [f"{statistics.median(values):.2f}" for values in ms.values()]
            rows.append([f"{target:g}", str(batch), *middle, f"{used:.0%}", f"{most:.0%}", f"{in_step:.0%}"])
            results.append(
                {"target": target, "batch": batch, "rounds": ms, "efficiency": used, "without_exchange": most, "in_step": in_step}
            )
    print("\nTwo workers against one, milliseconds a step, and how much of each of the two is used\n")
    head = ["compute, about", "batch", "1 rank", "2 ranks", "inline, 1 thread", "1 process", "2 processes", "in step"]
    print(table([*head, "efficiency of lanes", "of processes without exchange", "of processes in step"], rows))
    return {"steps": results}


def overhead_part(options: Any) -> dict[str, Any]:
    """A network of a few parameters on 1 to 16 ranks, in epochs of many steps and of few: the cost of a step, and of an epoch."""
    from dagtrain.backends import blas

    sizes, batch, rows, results = (8, 4, 10), 64, [], []
    many, few = 256, 32
    dataset, cores = data(8, many * batch), blas.cores()
    for ranks in options.ranks:
        say(f"overhead: {ranks} ranks")
        with cluster(ranks) as client:
            where = {"lanes": {"engine": "lanes", "client": client}, "inline": {"engine": "inline", "threads": 1}}
            ms: dict[str, list[float]] = {}
            kinds = {"many": (many, ""), "looked at": (few, "look"), "changed": (few, "change"), "few": (few, "")}
            for kind, (steps, end) in kinds.items():
                part = dataset[0][: steps * batch], dataset[1][: steps * batch]
                fits = [Fit(f"{name}, {kind}", sizes, 16, part, batch, end, **where[name]) for name in where]
                ms |= in_turn(fits, steps, options.rounds, options.seconds)
        above = {
            kind: statistics.median(a - b / min(ranks, cores) for a, b in zip(ms[f"lanes, {kind}"], ms[f"inline, {kind}"], strict=True))
            for kind in kinds
        }
        ends = [(above[kind] - above["many"]) / (1 / few - 1 / many) for kind in ("looked at", "changed", "few")]
        middle = [statistics.median(ms[name]) for name in ("lanes, many", "inline, many")]
        costs = [middle[0], middle[1] / min(ranks, cores), above["many"]]
        rows.append([str(ranks), *(f"{value:.3f}" for value in costs), *(f"{value:.1f}" for value in ends)])
        results.append(
            {"ranks": ranks, "rounds": ms, "above_compute": above["many"], "looked_at": ends[0], "changed": ends[1], "epoch": ends[2]}
        )
    head = f"{'-'.join(map(str, sizes))}, batch {batch}, 16 shards, epochs of {many} steps, ranks that share {cores} core(s)"
    print(f"\n{head}: milliseconds a step, and the end of an epoch\n")
    print(
        table(
            ["ranks", "ms", "inline, divided", "above that", "end of an epoch looked at", "that changes the rate", "of no interest"], rows
        )
    )
    return {"cores": cores, "ranks": results}


def network_part(options: Any) -> dict[str, Any]:
    """Two workers on two hosts, compared with their peers, for networks of several speeds."""
    from lanes_network import Driver, hosts

    from dagtrain.data.batches import auto_shards

    rows, results = [], []
    with tempfile.TemporaryDirectory() as folder, hosts() as machines, contextlib.ExitStack() as stack:
        if isinstance(machines, str):
            print(f"\nTwo hosts are not available here: {machines}")
            return {"unavailable": machines}
        for label in options.network:
            sizes, batch = NETWORKS[label]
            steps = max(20, min(200, 40_960 // batch))
            shards = options.shards or auto_shards(batch)
            dataset = data(sizes[0], steps * batch)
            file = save(Path(folder) / f"{label}.npz", label, dataset, shards)
            say(f"network: starting the contenders for the {label} network")
            spaces = [machines.space(host) for host in ("w1", "w2")]
            contenders: list[Any] = [Driver(LANES, machines, label, shards, len(dataset[0]))]
            contenders += [Peer(name, file, spaces) for name in ("DDP, 2 processes", FLOOR)]
            stack.callback(lambda processes=contenders: [c.close() for c in processes])
            for name, why in ((c.name, c.unavailable) for c in contenders if c.unavailable):
                print(f"{name} is not available here: {why}")
            contenders = [c for c in contenders if not c.unavailable]
            agree({c.name: c.run(1)[1] for c in contenders if c.name != FLOOR})
            for rate in options.rates:
                machines.limit(rate)
                say(f"network: {label}, {rate}")
                ms = in_turn(contenders, steps, options.rounds, options.seconds)
                others = [f"{statistics.median(ms[c.name]):.1f} ({ratio(ms, c.name, LANES):.2f})" for c in contenders[1:]]
                rows.append([label, rate, f"{statistics.median(ms[LANES]):.1f}", *others])
                results.append({"network": label, "rate": rate, "batch": batch, "shards": shards, "rounds": ms})
    print("\nTwo workers on two hosts, milliseconds a step, and in brackets relative to lanes\n")
    print(table(["network", "rate", LANES, *(c.name for c in contenders[1:])], rows))
    return {"networks": results}


def scale_part(options: Any) -> dict[str, Any]:
    """Expected steps compared with measured ones."""
    from dagtrain.scaling.measure import measure_work
    from dagtrain.scaling.model import Network, expect

    here = Network("this machine", float("inf"), within=options.within * 1e-6)
    rows, results = [], []
    with cluster(1) as one, cluster(2) as two:
        for label in options.network:
            sizes, batch = NETWORKS[label]
            dataset, shards = data(sizes[0]), options.shards or 8
            say(f"scale: {label}")
            fits = [Fit(str(n), sizes, shards, dataset, batch, engine="lanes", client=client) for n, client in ((1, one), (2, two))]
            expected: dict[str, list[float]] = {"1": [], "2": []}
            measured: dict[str, list[float]] = {"1": [], "2": []}
            for _ in range(max(options.rounds, 2)):  # costs and steps in turn: a slow moment of the machine then affects both
                work = measure_work(program(sizes), batch, shards, seconds=options.seconds / 2)
                for n in (1, 2):
                    expected[str(n)].append(expect(work, here, n, per_host=n).seconds * 1e3)
                for name, values in in_turn(fits, SAMPLES // batch, 1, options.seconds).items():
                    measured[name] += values
            for n in ("1", "2"):
                e, m = statistics.median(expected[n]), statistics.median(measured[n])
                rows.append([label, n, f"{e:.3f}", f"{m:.3f}", f"{m / e:.2f}"])
                results.append({"network": label, "workers": int(n), "expected": e, "measured": m})
    print("\nMilliseconds a step, as `dagtrain plan-scale` expects them from the parts measured here, and as measured with lanes\n")
    print(table(["network", "workers", "expected", "measured", "measured / expected"], rows))
    return {"steps": results}


def recovery_part(options: Any) -> dict[str, Any]:
    """Kills of workers during training."""
    from lanes_faults import recovery

    return recovery(options.kills, options.workers)


def memory_part(options: Any) -> dict[str, Any]:
    """Resident memory over many steps."""
    from lanes_faults import memory

    return memory(options.steps)


PARTS = {
    "step": step_part,
    "efficiency": efficiency_part,
    "overhead": overhead_part,
    "network": network_part,
    "scale": scale_part,
    "recovery": recovery_part,
    "memory": memory_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"parts to run; by default all: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="short turns, few rounds, kills and steps: a check that all works")
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="contenders of step by a word of their names, besides lanes and the floors"
    )
    parser.add_argument("--shards", type=int, help="shards of a batch; by default derived from the batch size (8 for scale)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a contender's turn (default 2)")
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[1, 5, 20], help="compute of the steps of efficiency")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="numbers of ranks, for overhead")
    parser.add_argument("--rates", nargs="+", default=["1gbit", "10gbit"], help="for network: the rate out of a host, in tc's notation")
    parser.add_argument("--within", type=float, default=5.0, help="microseconds for a word between two ranks here; see channels.py")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2, help="for recovery")
    parser.add_argument("--steps", type=int, default=10_000, help="for memory")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    if options.quick:
        options.rounds, options.seconds = min(options.rounds, 2), min(options.seconds, 0.7)
        options.kills, options.steps = min(options.kills, 3), min(options.steps, 2000)
    about = machine()
    print(", ".join(f"{k} {v}" for k, v in about.items()), flush=True)
    if about["load"] > BUSY:
        print(f"The machine is busy (load {about['load']}): read the numbers with care.", flush=True)
    results = {}
    for part in options.parts or PARTS:
        results[part] = PARTS[part](options)
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps({"machine": about, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
