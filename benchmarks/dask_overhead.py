"""The cost of the Dask scheduler for a training step: milliseconds a step of the engine *scheduler* above the same steps inline.

    python benchmarks/dask_overhead.py [--shards 1 4 8 16] [--workers 1 2] [--batch 128] [--steps 32] [--rounds 2] [--json FILE]

Both engines do the same steps of a 784-256-128-10 network with Adam, with the same shards, data and order; the run fails unless the weights
have the same bits. Inline has one thread for each worker of one thread, so that both engines compute equally many shards at a time. Each
number is the difference of a long fit and a short one, divided by the difference of their steps: costs of a fit as a whole cancel.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from problem import SIZES, Problem
from step import machine, table


def trainer(shards: int, **where: Any) -> Any:
    """A trainer of the benchmark's network."""
    import dagtrain as dt

    model = dt.nn.Sequential([*(dt.nn.Dense(n, "relu") for n in SIZES[1:-1]), dt.nn.Dense(SIZES[-1])])
    return dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-4), shards=shards, seed=0, **where)


def fit(shards: int, epochs: int, data: tuple[Any, Any], batch: int, **where: Any) -> tuple[float, str]:
    """Seconds and fingerprint of a whole fit."""
    fresh = trainer(shards, **where)
    start = time.perf_counter()
    history = fresh.fit(*data, epochs=epochs, batch_size=batch, verbose=0)
    return time.perf_counter() - start, history.fingerprint


def measure(
    shards: int, data: tuple[Any, Any], batch: int, steps: int, rounds: int, engines: dict[str, dict[str, Any]]
) -> dict[str, float]:
    """Milliseconds a step of each engine; the engines take turns."""
    milliseconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds + 1):  # the first round warms up workers and caches
        prints = set()
        for name, where in engines.items():
            short, _ = fit(shards, 1, data, batch, **where)
            long, fingerprint = fit(shards, 3, data, batch, **where)
            milliseconds[name].append((long - short) / (2 * steps) * 1e3)
            prints.add(fingerprint)
        if len(prints) > 1:
            raise SystemExit(f"the engines do not give the same weights with {shards} shards: {prints}")
    return {name: statistics.median(values[1:]) for name, values in milliseconds.items()}


def main() -> None:
    from distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=32, help="steps of an epoch; a measurement is two epochs (default 32)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()

    batches = Problem(options.batch).batches[: options.steps]
    if len(batches) < options.steps:
        raise SystemExit(f"there are {len(batches)} batches of {options.batch}: choose fewer --steps.")
    data = np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])
    about = machine()
    print(", ".join(f"{k} {v}" for k, v in about.items()), "\n", flush=True)
    rows, results = [], []
    for workers in options.workers:
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
            Client(cluster) as client,
        ):
            engines = {"inline": {"engine": "inline", "threads": workers}, "scheduler": {"engine": "scheduler", "client": client}}
            for shards in options.shards:
                print(f"  {workers} worker(s), {shards} shard(s) …", file=sys.stderr, flush=True)
                ms = measure(shards, data, options.batch, options.steps, options.rounds, engines)
                above = ms["scheduler"] - ms["inline"]
                rows.append(
                    [str(workers), str(shards), f"{ms['inline']:.2f}", f"{ms['scheduler']:.2f}", f"{above:.2f}", f"{above / shards:.2f}"]
                )
                results.append({"workers": workers, "shards": shards, "milliseconds": ms, "above_compute": above})
    print(f"Milliseconds a step of {options.batch} samples, median of {options.rounds} rounds; equal weights from both engines.\n")
    print(table(["workers", "shards", "inline", "scheduler", "above compute", "… a shard"], rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "batch": options.batch, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
