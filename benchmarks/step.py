"""One training step of a 784-256-128-10 network with Adam: dagtrain compared with PyTorch, JAX and scikit-learn.

    python benchmarks/step.py [--batch 32 128 1024] [--cores 1 2] [--rounds 9] [--only NAME ...] [--loop] [--json FILE]

    for each number of cores and batch size:
        one process for each contender, bound to that many cores      A   B   C
        all losses after 20 steps agree, or the run fails             =   =   =
        rounds, one contender at a time                               A B C  A B C  A B C …      median of the rounds

Each measurement is a block of steps from the first weights on, until the last result is available. The contenders take turns, so that slow
moments of the machine affect all of them. With `--loop` it is a block of epochs: `Trainer.fit` compared with a plain loop of PyTorch.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

AGREE_STEPS, AGREE_WITHIN = 20, 1e-3
AGREE_EPOCHS, LOOPS_AGREE_WITHIN = 2, 2e-2  # each loop shuffles in its own way
WARM_STEPS = 5
DAGTRAIN = "dagtrain"
BUSY = 0.5  # load average above which the machine counts as busy
SERVE = "--serve"  # the first argument of a contender's process
PAUSE = 0.3  # seconds; threads of OpenMP and XLA spin for up to 0.2 s after their work and would disturb the next contender
PACKAGES = ("numpy", "dask", "torch", "jax", "scikit-learn")


# ---- a contender's process


def serve(name: str, batch_size: int, cores: int, loop: bool) -> None:
    """Make one contender and answer requests, one JSON value a line."""
    if hasattr(os, "sched_setaffinity"):  # before any library counts cores or starts threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep the output of libraries apart from answers

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    from contenders import CONTENDERS, LOOPS
    from problem import Problem
    from threadpoolctl import threadpool_limits

    compared, warm = (AGREE_EPOCHS, 1) if loop else (AGREE_STEPS, WARM_STEPS)
    try:
        contender = (LOOPS if loop else CONTENDERS)[name](Problem(batch_size), cores)
    except Exception as error:
        if name == DAGTRAIN:
            raise
        # A peer that is absent or does not work on this machine is a result, too.
        answer(unavailable=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:160])
        return
    threadpool_limits(cores)
    contender.reset()
    losses = [contender.run(i, 1) for i in range(compared)]
    answer(compile_seconds=contender.compile_seconds, losses=losses)
    for line in sys.stdin:
        count = json.loads(line)
        contender.reset()
        contender.run(0, warm)
        start = time.perf_counter()
        contender.run(warm, count)
        answer(seconds=time.perf_counter() - start)


# ---- the comparing process


class Runner:
    """A contender's process."""

    def __init__(self, name: str, batch_size: int, cores: int, loop: bool) -> None:
        self.name, self.least = name, 1 if loop else 5
        self.count = 2 * self.least
        self.milliseconds: list[float] = []
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # lives as long as the process
        one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(cores)),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": one if cores == 1 else "",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",  # measure a first compilation
        }
        command = [sys.executable, __file__, SERVE, name, str(batch_size), str(cores), str(int(loop))]
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors
        )
        self.ready = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise SystemExit(f"{self.name} ended with exit code {self.process.returncode}:\n{self.errors.read()[-3000:]}")
        return dict(json.loads(line))

    def measure(self, seconds: float) -> None:
        """Run one block, and size the next block to take `seconds`."""
        assert self.process.stdin
        time.sleep(PAUSE)
        print(self.count, file=self.process.stdin, flush=True)
        took = self._answer()["seconds"]
        self.milliseconds.append(took / self.count * 1e3)
        self.count = max(self.least, min(2000, round(self.count * seconds / took)))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def agree(runners: list[Runner], within: float) -> float:
    """The largest difference between the contenders' first losses; above `within` it ends the run."""
    columns = zip(*(r.ready["losses"] for r in runners), strict=True)
    worst = max(max(c) - min(c) for c in columns)
    if worst > within:
        losses = ", ".join(f"{r.name} {r.ready['losses'][-1]:.6f}" for r in runners)
        raise SystemExit(f"the contenders do not compute the same: losses differ by {worst:.2g}; the last ones: {losses}")
    return worst


def compare(names: list[str], batch_size: int, cores: int, rounds: int, seconds: float, loop: bool) -> dict[str, Any]:
    """Measure all contenders with one batch size and one number of cores."""
    with contextlib.ExitStack() as stack:
        runners = []
        for name in names:
            print(f"  batch {batch_size}, {cores} core(s): preparing {name} …", file=sys.stderr, flush=True)
            runner = Runner(name, batch_size, cores, loop)
            stack.callback(runner.close)
            runners.append(runner)
        missing = {r.name: r.ready["unavailable"] for r in runners if "unavailable" in r.ready}
        present = [r for r in runners if r.name not in missing]
        difference = agree(present, LOOPS_AGREE_WITHIN if loop else AGREE_WITHIN) if len(present) > 1 else 0.0
        for _ in range(rounds + 1):  # the first round sizes the blocks
            for runner in present:
                runner.measure(seconds)
        return {
            "batch": batch_size,
            "cores": cores,
            "loss_difference": difference,
            "unavailable": missing,
            "milliseconds": {r.name: statistics.median(r.milliseconds[1:]) for r in present},
            "rounds": {r.name: r.milliseconds[1:] for r in present},
            "compile_seconds": {r.name: r.ready["compile_seconds"] for r in present if r.ready["compile_seconds"] is not None},
        }


# ---- the report


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * (w - 1) + ":" for w in widths], *rows]
    return "\n".join("| " + " | ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines)


def report(results: list[dict[str, Any]], names: list[str], loop: bool) -> str:
    """The two tables, and notes on them."""
    first, unit = names[0], "epoch" if loop else "step"
    compiled = [n for n in names if any(n in r["compile_seconds"] for r in results)]
    steps, compiles = [], []
    for r in results:
        ms, took = r["milliseconds"], r["compile_seconds"]
        row = [str(r["batch"]), str(r["cores"])]
        peers = [ms[n] for n in names[1:] if n in ms]
        cells = [
            "–" if n not in ms else f"{ms[n]:.3f}" + ("" if n == first or first not in ms else f" ({ms[n] / ms[first]:.2f})") for n in names
        ]
        steps.append([*row, *cells, f"{min(peers) / ms[first]:.2f}" if peers and first in ms else "–"])
        compiles.append([*row, *(f"{took[n] * 1e3:.1f}" if n in took else "–" for n in compiled)])
    out = [
        f"Milliseconds of one {unit}, median of rounds; in brackets the time over {first}'s: above 1, {first} is faster.\n",
        table(["batch", "cores", *names, "fastest peer"], steps),
    ]
    if compiled:
        out += [
            "\nMilliseconds from the Python function to a step that is ready to run.\n",
            table(["batch", "cores", *compiled], compiles),
        ]
    count = AGREE_EPOCHS if loop else AGREE_STEPS
    out.append(f"\nThe losses of the first {count} {unit}s agree within {max(r['loss_difference'] for r in results):.1g}.")
    missing = {name: reason for r in results for name, reason in r["unavailable"].items()}
    out += [f"{name} is not available here: {reason}" for name, reason in missing.items()]
    return "\n".join(out)


def machine() -> dict[str, Any]:
    """The machine, its load, and the versions of packages."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0
    return {"cpu": model, "cores": os.cpu_count(), "load": load, "python": platform.python_version(), **versions}


def main() -> None:
    from contenders import CONTENDERS, LOOPS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128, 1024])
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a contender's turn (default 0.4)")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), metavar="NAME")
    parser.add_argument(
        "--loop", action="store_true", help=f"compare whole epochs of {' and '.join(LOOPS)}: rows shuffled, taken, trained on"
    )
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    names = [n for n in (LOOPS if options.loop else CONTENDERS) if n in options.only]
    about = machine()
    print(", ".join(f"{k} {v}" for k, v in about.items()), "\n", flush=True)
    if about["load"] > BUSY:
        print(f"The machine is busy (load {about['load']}): ratios on more than one core mean little.\n", flush=True)
    results = [compare(names, b, c, options.rounds, options.seconds, options.loop) for c in options.cores for b in options.batch]
    print(report(results, names, options.loop))
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == [SERVE]:
        serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1")
    else:
        main()
