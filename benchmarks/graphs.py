"""Graphs themselves: a chain of 100,000 operations, memory with and without `dt.recompute`, and gelu; beside PyTorch, in one run.

python benchmarks/graphs.py [--chain 100000] [--rounds 5] [--quick]

chain       trace, gradient, rewrite, plan, bind, run        seconds and peak memory of a process of its own
recompute   a deep network of 24 blocks                      bytes of the plan, seconds of a gradient; torch.utils.checkpoint
gelu        one layer with tanh and one with gelu            seconds of value and gradient; their ratio here and in PyTorch
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CHAIN, DEEP, ROWS, WIDTH = "--chain-process", 24, 512, 256


# ---- a chain, in a process of its own


def chain_here(name: str, operations: int) -> None:
    """Build and run the chain sin(x) * 1.01 … with its derivative, and print what it took."""
    seconds: dict[str, float] = {}

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        seconds[stage] = time.perf_counter() - began
        return result

    if name == "dagtrain":
        import dagtrain as dt
        from dagtrain.transform import gradient, optimize

        def function(x: Any) -> Any:
            for _ in range(operations // 2):
                x = np.sin(x) * 1.01
            return x

        graph = timed("trace", lambda: dt.trace(function, 0.5))
        (derivative,) = timed("gradient", lambda: gradient(graph.outputs["output"], list(graph.inputs.values())))
        both = timed("optimize", lambda: optimize(dt.Graph(graph.inputs, {"y": graph.outputs["output"], "d": derivative})))
        plan = timed("plan", lambda: both.plan(optimize=False))
        bound = timed("bind", plan.bind)
        value = timed("run", lambda: float(bound(np.array(0.5))[0]))
    else:
        import torch

        x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

        def forward() -> Any:
            y = x
            for _ in range(operations // 2):
                y = torch.sin(y) * 1.01
            return y

        y = timed("forward", forward)
        timed("backward", y.backward)
        value = float(y.detach())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": seconds, "peak": peak, "value": value}))


def chain(operations: int) -> None:
    """The chain by each contender, one after the other."""
    print(f"\nchain of {operations:,} operations and its derivative")
    values = []
    for name in ("dagtrain", "PyTorch"):
        run = subprocess.run([sys.executable, __file__, CHAIN, name, str(operations)], capture_output=True, text=True, check=False)
        if run.returncode:
            print(f"  {name}: not available ({(run.stderr.strip() or 'no message').splitlines()[-1]:.100})")
            continue
        result = json.loads(run.stdout)
        values.append(result["value"])
        stages = ", ".join(f"{stage} {s:.2f}" for stage, s in result["seconds"].items())
        print(f"  {name:9} {sum(result['seconds'].values()):7.2f} s  peak {result['peak']:.2f} GB   ({stages})")
    if len(values) == 2 and abs(values[0] - values[1]) > 1e-9:
        raise SystemExit(f"the contenders disagree: {values}")


# ---- recompute and gelu


def median(call: Callable[[], Any], rounds: int) -> float:
    """Median seconds of a call, after one that does not count."""
    call()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def recompute(rounds: int, deep: int) -> None:
    """Memory and time of the gradient of a deep network, with and without recomputation."""
    import dagtrain as dt

    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH)).astype("f4")
    weights = [rng.normal(scale=WIDTH**-0.5, size=(WIDTH, WIDTH)).astype("f4") for _ in range(deep)]

    def block(x: Any, w: Any) -> Any:
        return np.tanh(np.sin(x @ w) * 1.5) + x

    def cost(wrap: Any) -> Any:
        def of(weights: Any, x: Any) -> Any:
            for w in weights:
                x = wrap(block)(x, w)
            return np.mean(x**2)

        return dt.grad(of)

    plain, again = cost(lambda f: f), cost(dt.recompute)
    same = all(np.array_equal(a, b) for a, b in zip(plain(weights, x), again(weights, x), strict=True))
    times = [median(lambda f=f: f(weights, x), rounds) for f in (plain, again)]
    sizes = [f.plan.memory.needed for f in (plain, again)]
    print(f"\nrecompute, {deep} blocks: bytes {sizes[0]:,} → {sizes[1]:,} ({sizes[1] / sizes[0]:.2f}), "
          f"seconds {times[0]:.3f} → {times[1]:.3f} ({times[1] / times[0]:.2f}), same bits: {same}")  # fmt: skip
    if not same:
        raise SystemExit("recomputation changes bits")
    try:
        import torch
        from torch.utils.checkpoint import checkpoint
    except ImportError:
        return
    torch.set_num_threads(1)
    tensors = [torch.tensor(w, requires_grad=True) for w in weights]
    start = torch.tensor(x)

    def of_torch(wrapped: bool) -> None:
        def one(x: Any, w: Any) -> Any:
            return torch.tanh(torch.sin(x @ w) * 1.5) + x

        y = start
        for w in tensors:
            y = checkpoint(one, y, w, use_reentrant=False) if wrapped else one(y, w)
        (y**2).mean().backward()

    peers = [median(lambda w=w: of_torch(w), rounds) for w in (False, True)]
    print(f"  PyTorch: seconds {peers[0]:.3f} → {peers[1]:.3f} ({peers[1] / peers[0]:.2f})")


def gelu(rounds: int) -> None:
    """Value and gradient of a layer with gelu over those of one with tanh."""
    import dagtrain as dt
    from dagtrain.backends import NUMPY

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1024, WIDTH)).astype("f4"), rng.normal(scale=0.06, size=(WIDTH, WIDTH)).astype("f4")
    by_name = {"tanh": np.tanh, "gelu": dt.nn.activations.find("gelu")}
    with NUMPY.guard():
        here = {}
        for name, function in by_name.items():
            f = dt.value_and_grad(lambda w, x, function=function: np.sum(function(x @ w)))
            here[name] = median(lambda f=f: f(w, x), rounds * 5)
    line = f"\ngelu over tanh, value and gradient of {x.shape} @ {w.shape}: {here['gelu'] / here['tanh']:.2f}"
    try:
        import torch
    except ImportError:
        print(line)
        return
    torch.set_num_threads(1)
    weight, rows, there = torch.tensor(w, requires_grad=True), torch.tensor(x), {}
    for name, torch_function in {"tanh": torch.tanh, "gelu": torch.nn.functional.gelu}.items():
        there[name] = median(lambda f=torch_function: f(rows @ weight).sum().backward(), rounds * 5)
    print(f"{line}; PyTorch {there['gelu'] / there['tanh']:.2f}; gelu here over PyTorch's {here['gelu'] / there['gelu']:.2f}")


def main() -> None:
    """Run all parts."""
    if sys.argv[1:2] == [CHAIN]:
        chain_here(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", type=int, default=100_000, help="operations of the chain")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all works")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    chain(1000 if options.quick else options.chain)
    recompute(rounds, 4 if options.quick else DEEP)
    gelu(rounds)


if __name__ == "__main__":
    main()
