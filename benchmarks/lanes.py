"""Training steps on lanes: beside their peers, against more workers, when workers die, and over ten thousand of them.

    python benchmarks/lanes.py [step efficiency overhead network scale recovery memory] [--quick] [--json FILE]

    step         ms a step on two workers, beside the other engines, PyTorch and two processes that exchange nothing
    efficiency   two workers against one, for steps of about 1, 5 and 20 ms
    overhead     ms a step, and the end of an epoch, of a network of a few parameters on 1 to 16 lanes
    network      ms a step of two workers on two hosts, with a network of 1 and of 10 Gb/s between them, beside DistributedDataParallel
    scale        what `dagtrain plan-scale` expects of one worker and two, beside what is measured
    recovery     seconds from kill -9 of a worker to the next committed step
    memory       resident memory of workers, scheduler and client over many steps

A fit is timed from the end of its first epoch to its end: what a fit costs once is not part of a step. Contenders take turns; a number is
the median of the rounds, and a comparison the median of what the rounds say, since a machine that others use too changes its speed.
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
"""About as many as MNIST has, whose images this network is made for; a multiple of both batch sizes."""
LANES, FLOOR, ALONE = "lanes, 2 workers", "floor: 2 processes without exchange", "floor: 1 process"
IN_STEP = "floor: 2 processes in step"
FLOORS = (FLOOR, IN_STEP)


def say(text: str) -> None:
    print(f"  {text} …", file=sys.stderr, flush=True)


def trainer(sizes: tuple[int, ...], shards: Any, **where: Any) -> Any:
    """A trainer of a network of these widths."""
    import dagtrain as dt

    model = dt.nn.Sequential([*(dt.nn.Dense(n, "relu") for n in sizes[1:-1]), dt.nn.Dense(sizes[-1])])
    optimizer = dt.optim.adam(LEARNING_RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
    return dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, shards=shards, seed=0, **where)


def data(width: int, samples: int = SAMPLES) -> tuple[Any, Any]:
    """Samples and labels that can be learnt in part."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((samples, width), np.float32)
    return x, np.argmax(x @ draw.standard_normal((width, 10), np.float32) + draw.gumbel(size=(samples, 10)), axis=1)


def save(file: Path, network: str, given: tuple[Any, Any], shards: int) -> Path:
    """Write what peers need: the samples, and the weights that all contenders begin with."""
    sizes, batch = NETWORKS[network]
    first = program(sizes)
    tree = first.layout.tree(first.first_state().parameters)
    weights = {f"{part}_{i}": layer[part] for i, layer in enumerate(tree.values()) for part in ("kernel", "bias")}
    np.savez(file, x=given[0], y=given[1], sizes=sizes, batch=batch, shards=shards, **weights)
    return file


def agree(losses: dict[str, float]) -> float:
    """How far the losses are from each other; they must be close."""
    spread = max(losses.values()) - min(losses.values())
    if spread > AGREE_WITHIN:
        raise SystemExit(f"the contenders do not compute the same; losses of the first epoch: {losses}")
    return spread


class Fit:
    """An engine as a contender: every measurement is a fit of its own, without its first epoch."""

    unavailable = None

    def __init__(
        self, name: str, sizes: tuple[int, ...], shards: Any, given: tuple[Any, Any], batch: int, apart: bool = False, **where: Any
    ) -> None:
        self.name, self.sizes, self.shards, self.given, self.batch, self.where = name, sizes, shards, given, batch, where
        self.apart = apart
        """Whether something looks on at the end of every epoch, so that short ones are not run together."""

    def run(self, epochs: int) -> tuple[float, float]:
        """Seconds of so many epochs, and the loss of the first."""
        from dagtrain.train.callbacks import Callback

        made = trainer(self.sizes, self.shards, **self.where)
        looks_on = [Callback()] if self.apart else []
        history = made.fit(*self.given, epochs=epochs + 1, batch_size=self.batch, shuffle=False, verbose=0, callbacks=looks_on)
        return sum(history.history["seconds"][1:]), history.history["loss"][0]

    def close(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """A client of workers of one thread each."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0, silence_logs=logging.ERROR
        ) as made,
        Client(made) as client,
    ):
        yield client


def in_turn(contenders: list[Any], steps: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds a step of each, by round; each turn is made to last about as many seconds."""
    found: dict[str, list[float]] = {c.name: [] for c in contenders}
    epochs = dict.fromkeys(found, 1)
    for _ in range(rounds + 1):  # the first round warms up, and sizes the turns
        for contender in contenders:
            took, _ = contender.run(epochs[contender.name])
            found[contender.name].append(took / epochs[contender.name] / steps * 1e3)
            epochs[contender.name] = max(1, min(400, round(seconds / took * epochs[contender.name])))
    return {name: values[1:] for name, values in found.items()}


def against(ms: dict[str, list[float]], one: str, other: str) -> float:
    """How many times as long one contender takes as another: the median of the rounds."""
    return statistics.median(a / b for a, b in zip(ms[one], ms[other], strict=True))


# ---- parts


def step_part(options: Any) -> dict[str, Any]:
    """Two workers beside their peers."""
    from dagtrain.data.batches import auto_shards

    results = []
    with tempfile.TemporaryDirectory() as folder, cluster(2) as client, contextlib.ExitStack() as stack:
        for label in options.network:
            sizes, batch = NETWORKS[label]
            given = data(sizes[0])
            shards = options.shards or auto_shards(batch)
            file = save(Path(folder) / f"{label}.npz", label, given, shards)
            engines = {
                LANES: {"engine": "lanes", "client": client},
                "scheduler, 2 workers": {"engine": "scheduler", "client": client},
                "inline, 2 threads": {"engine": "inline", "threads": 2},
                "inline, 1 thread": {"engine": "inline", "threads": 1},
            }
            every = [*engines, *(name for name in PEERS if name != ALONE)]
            wanted = [n for n in every if n in (LANES, *FLOORS) or not options.only or any(word in n for word in options.only)]
            contenders: list[Any] = [Fit(n, sizes, shards, given, batch, **engines[n]) for n in wanted if n in engines]
            for name in (n for n in wanted if n in PEERS):
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
                over = [f"{against(ms, name, other):.2f}" for other in (LANES, FLOOR)]
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
    """Two workers against one, for steps that compute about so long; and what the machine lets two processes do that exchange nothing."""
    sizes, rows, results = NETWORKS["small"][0], [], []
    given = data(sizes[0])
    probe = Fit("probe", sizes, 2, given, 256, engine="inline", threads=1)
    a_sample = min(probe.run(2)[0] for _ in range(3)) / 2 / len(given[0])
    with tempfile.TemporaryDirectory() as folder, cluster(1) as one, cluster(2) as two:
        for target in options.milliseconds:
            batch = min(max(8, round(target / 1e3 / a_sample / 8) * 8), len(given[0]) // 2)
            whole = len(given[0]) // batch * batch
            x, y = given[0][:whole], given[1][:whole]
            file = Path(folder) / f"{target:g}.npz"
            np.savez(file, x=x, y=y, sizes=sizes, batch=batch, shards=2)
            say(f"efficiency: steps of about {target:g} ms, batch {batch}")
            with contextlib.ExitStack() as stack:
                contenders: list[Any] = [
                    Fit("1 lane", sizes, 2, (x, y), batch, engine="lanes", client=one),
                    Fit("2 lanes", sizes, 2, (x, y), batch, engine="lanes", client=two),
                    Fit("inline, 1 thread", sizes, 2, (x, y), batch, engine="inline", threads=1),
                ]
                for name in (ALONE, *FLOORS):
                    contenders.append(Peer(name, file))
                    stack.callback(contenders[-1].close)
                ms = in_turn(contenders, whole // batch, options.rounds, options.seconds)
            used, most, in_step = (against(ms, one, other) / 2 for one, other in (("1 lane", "2 lanes"), (ALONE, FLOOR), (ALONE, IN_STEP)))
            middle = [f"{statistics.median(values):.2f}" for values in ms.values()]
            rows.append([f"{target:g}", str(batch), *middle, f"{used:.0%}", f"{most:.0%}", f"{in_step:.0%}"])
            results.append(
                {"target": target, "batch": batch, "rounds": ms, "efficiency": used, "without_exchange": most, "in_step": in_step}
            )
    print("\nTwo workers against one, milliseconds a step: what of each of the two is used\n")
    head = ["compute, about", "batch", "1 lane", "2 lanes", "inline, 1 thread", "1 process", "2 processes", "in step"]
    print(table([*head, "efficiency of lanes", "of processes without exchange", "of processes in step"], rows))
    return {"steps": results}


def overhead_part(options: Any) -> dict[str, Any]:
    """A network of a few parameters on more and more lanes, in epochs of many steps and of few: what a step costs, and what an epoch."""
    from dagtrain.plan import blas

    sizes, batch, rows, results = (8, 4, 10), 64, [], []
    many, few = 256, 32
    given, cores = data(8, many * batch), blas.cores()
    for lanes in options.lanes:
        say(f"overhead: {lanes} lanes")
        with cluster(lanes) as client:
            where = {"lanes": {"engine": "lanes", "client": client}, "inline": {"engine": "inline", "threads": 1}}
            ms: dict[str, list[float]] = {}
            kinds = {"many": (many, True), "few": (few, True), "few together": (few, False)}
            for kind, (steps, apart) in kinds.items():
                part = given[0][: steps * batch], given[1][: steps * batch]
                fits = [Fit(f"{name}, {kind}", sizes, 16, part, batch, apart, **where[name]) for name in where]
                ms |= in_turn(fits, steps, options.rounds, options.seconds)
        above = {
            kind: statistics.median(a - b / min(lanes, cores) for a, b in zip(ms[f"lanes, {kind}"], ms[f"inline, {kind}"], strict=True))
            for kind in kinds
        }
        ends = [(above[kind] - above["many"]) / (1 / few - 1 / many) for kind in ("few", "few together")]
        middle = [statistics.median(ms[name]) for name in ("lanes, many", "inline, many")]
        told = [middle[0], middle[1] / min(lanes, cores), above["many"]]
        rows.append([str(lanes), *(f"{value:.3f}" for value in told), *(f"{value:.1f}" for value in ends)])
        results.append({"lanes": lanes, "rounds": ms, "above_compute": above["many"], "epoch": ends[0], "epoch_together": ends[1]})
    head = f"{'-'.join(map(str, sizes))}, batch {batch}, 16 shards, epochs of {many} steps, lanes that share {cores} core(s)"
    print(f"\n{head}: milliseconds a step, and the end of an epoch\n")
    print(table(["lanes", "ms", "inline, shared out", "above that", "an epoch that is looked at", "one run with others"], rows))
    return {"cores": cores, "lanes": results}


def network_part(options: Any) -> dict[str, Any]:
    """Two workers on two hosts, beside their peers, for networks of several speeds."""
    from lanes_network import Driver, hosts

    from dagtrain.data.batches import auto_shards

    rows, results = [], []
    with tempfile.TemporaryDirectory() as folder, hosts() as there, contextlib.ExitStack() as stack:
        if isinstance(there, str):
            print(f"\nTwo hosts are not available here: {there}")
            return {"unavailable": there}
        for label in options.network:
            sizes, batch = NETWORKS[label]
            steps = max(20, min(200, 40_960 // batch))
            shards = options.shards or auto_shards(batch)
            given = data(sizes[0], steps * batch)
            file = save(Path(folder) / f"{label}.npz", label, given, shards)
            say(f"network: starting the contenders for the {label} one")
            spaces = [there.space(host) for host in ("w1", "w2")]
            contenders: list[Any] = [Driver(LANES, there, label, shards, len(given[0]))]
            contenders += [Peer(name, file, spaces) for name in ("DDP, 2 processes", FLOOR)]
            stack.callback(lambda some=contenders: [c.close() for c in some])
            for name, why in ((c.name, c.unavailable) for c in contenders if c.unavailable):
                print(f"{name} is not available here: {why}")
            contenders = [c for c in contenders if not c.unavailable]
            agree({c.name: c.run(1)[1] for c in contenders if c.name != FLOOR})
            for rate in options.rates:
                there.limit(rate)
                say(f"network: {label}, {rate}")
                ms = in_turn(contenders, steps, options.rounds, options.seconds)
                others = [f"{statistics.median(ms[c.name]):.1f} ({against(ms, c.name, LANES):.2f})" for c in contenders[1:]]
                rows.append([label, rate, f"{statistics.median(ms[LANES]):.1f}", *others])
                results.append({"network": label, "rate": rate, "batch": batch, "shards": shards, "rounds": ms})
    print("\nTwo workers on two hosts, milliseconds a step, and in brackets over lanes\n")
    print(table(["network", "rate", LANES, *(c.name for c in contenders[1:])], rows))
    return {"networks": results}


def scale_part(options: Any) -> dict[str, Any]:
    """What is expected beside what is measured."""
    from dagtrain.scaling.measure import measure_work
    from dagtrain.scaling.model import Network, expect

    here = Network("this machine", float("inf"), within=options.within * 1e-6)
    rows, results = [], []
    with cluster(1) as one, cluster(2) as two:
        for label in options.network:
            sizes, batch = NETWORKS[label]
            given, shards = data(sizes[0]), options.shards or 8
            say(f"scale: {label}")
            fits = [Fit(str(n), sizes, shards, given, batch, engine="lanes", client=client) for n, client in ((1, one), (2, two))]
            expected: dict[str, list[float]] = {"1": [], "2": []}
            measured: dict[str, list[float]] = {"1": [], "2": []}
            for _ in range(max(options.rounds, 2)):  # costs and steps in turn, so that both have their share of the machine's slow moments
                work = measure_work(program(sizes), batch, shards, seconds=options.seconds / 2)
                for n in (1, 2):
                    expected[str(n)].append(expect(work, here, n, per_host=n).seconds * 1e3)
                for name, values in in_turn(fits, SAMPLES // batch, 1, options.seconds).items():
                    measured[name] += values
            for n in ("1", "2"):
                e, m = statistics.median(expected[n]), statistics.median(measured[n])
                rows.append([label, n, f"{e:.3f}", f"{m:.3f}", f"{m / e:.2f}"])
                results.append({"network": label, "workers": int(n), "expected": e, "measured": m})
    print("\nMilliseconds a step, as `dagtrain plan-scale` expects it from the parts measured here, and as measured on lanes\n")
    print(table(["network", "workers", "expected", "measured", "measured / expected"], rows))
    return {"steps": results}


def recovery_part(options: Any) -> dict[str, Any]:
    """Kills of workers in the midst of training."""
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
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which parts; by default all: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="short turns, few rounds, kills and steps: to see whether it works")
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--only", nargs="+", metavar="WORD", help="contenders of step with such a word, besides lanes and floor")
    parser.add_argument("--shards", type=int, help="parts of a batch; by default those that the batch size gives (8 for scale)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a contender's turn (default 2)")
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[1, 5, 20], help="compute of the steps of efficiency")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="for overhead")
    parser.add_argument("--rates", nargs="+", default=["1gbit", "10gbit"], help="for network: what leaves a host, as tc names it")
    parser.add_argument("--within", type=float, default=5.0, help="microseconds of a word between two lanes here; see channels.py")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2, help="for recovery")
    parser.add_argument("--steps", type=int, default=10_000, help="for memory")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    wrong = [part for part in options.parts if part not in PARTS]
    if wrong:
        parser.error(f"there is no part {wrong[0]!r}: choose of {', '.join(PARTS)}")
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
