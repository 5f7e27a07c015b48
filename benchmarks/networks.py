"""Networks of convolutions, recurrent layers and attention: kernels, whole steps and peak memory beside PyTorch's, on one thread.

    python benchmarks/networks.py [PART ...] [--rounds 9] [--only NAME ...] [--quick] [--json FILE]

    conv     forward, and both gradients together, of one convolution; also by plans of approximate results where these have other kernels
    pool     maximum and mean, forward and gradient
    recurrent outputs and all gradients of LSTM, GRU and SimpleRNN; see `recurrent.py`
    step     forward, gradients and Adam of LeNet-5 (64 × 28 × 28 × 1), of three stages of 32, 64 and 128 filters (64 × 32 × 32 × 3), and of
             GoogLeNet (8 × 64 × 64 × 3); also beside JAX's jit, if it is installed
    text     the same of language models; see `texts.py`
    block    layer norm, gelu, softmax, attention, batch norm; see `transformers.py`
    transformer whole steps of a transformer of characters; see `transformers.py`
    memory   the peak of resident memory of these steps, each in a process of its own

PyTorch is eager and channels last, which is its faster layout; dagtrain runs plans. The two take turns, and a ratio is the median of the
ratios of the rounds: above 1, dagtrain is faster (memory: needs more). Where no peer is named, it is PyTorch. Times are of the processor,
so that other processes disturb them less; all libraries use one thread. Results are compared before they are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from picture_networks import PARTS as NETWORKS
from picture_networks import first_weights, step_of_dagtrain, step_of_jax, step_of_torch
from recurrent import RECURRENT, recurrent
from texts import TEXTS, language
from transformers import PARTS_OF_BLOCKS, TRANSFORMERS, part_of_block, transformer

import dagtrain as dt
from dagtrain.backends.blas import guard
from dagtrain.nn import spatial

Measured = dict[str, Any]
Pair = tuple[Callable[[], Any], Callable[[], Any]]

# Name: samples, height and width, channels, filters, window, strides, padding.
CONVOLUTIONS: dict[str, tuple[int, int, int, int, int, int, int]] = {
    "3×3 32×32 3→32": (64, 32, 3, 32, 3, 1, 1),
    "3×3 32×32 32→32": (64, 32, 32, 32, 3, 1, 1),
    "3×3 32×32 32→64": (64, 32, 32, 64, 3, 1, 1),
    "3×3 16×16 64→128": (64, 16, 64, 128, 3, 1, 1),
    "3×3 8×8 128→128": (64, 8, 128, 128, 3, 1, 1),
    "3×3/2 16×16 64→128": (64, 16, 64, 128, 3, 2, 1),
    "5×5 28×28 1→6": (64, 28, 1, 6, 5, 1, 2),
    "5×5 14×14 6→16": (64, 14, 6, 16, 5, 1, 0),
    "1×1 16×16 64→128": (64, 16, 64, 128, 1, 1, 0),
    "7×7/2 112×112 3→64": (8, 112, 3, 64, 7, 2, 3),
    "depthwise 3×3 16×16 64": (64, 16, 64, 64, 3, 1, 1),
}
# Name: samples, height and width, channels, window, strides, padding.
POOLS: dict[str, tuple[int, int, int, int, int, int]] = {
    "2×2 32×32 32": (64, 32, 32, 2, 2, 0),
    "2×2 28×28 6": (64, 28, 6, 2, 2, 0),
    "2×2 16×16 64": (64, 16, 64, 2, 2, 0),
    "3×3/2 16×16 64": (64, 16, 64, 3, 2, 1),
}


def channels_first(a: Any) -> Any:
    """An array as PyTorch's tensor in its layout of channels last."""
    import torch

    return torch.from_numpy(np.moveaxis(a, -1, 1)) if a.ndim == 4 else torch.from_numpy(a)


def close(ours: Any, theirs: Any, what: str) -> None:
    """End the run unless results agree."""
    theirs = np.moveaxis(theirs.detach().numpy(), 1, -1)
    if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(np.abs(theirs).max())):
        raise SystemExit(f"{what}: dagtrain and PyTorch do not compute the same.")


def bound(function: Any, *arrays: Any, approximate: bool = False) -> Callable[[], Any]:
    """A traced function as a plan that is bound to memory."""
    plan = dt.trace(function, *arrays).plan(approximate=approximate)
    run = plan.bind()
    return lambda: run(*arrays)


def convolution(case: tuple[int, ...], depthwise: bool) -> dict[str, Pair]:
    """Forward and both gradients."""
    import torch

    samples, length, channels, filters, window, strides, padding = case
    draw, groups = np.random.default_rng(0), channels if depthwise else 1
    x = draw.standard_normal((samples, length, length, channels), np.float32)
    kernel = draw.standard_normal((window, window, channels // groups, filters), np.float32)
    y = spatial.conv(x, kernel, strides, padding, groups=groups)
    g = draw.standard_normal(y.shape, np.float32)
    options = {"strides": (strides,) * 2, "padding": ((padding,) * 2,) * 2, "dilation": (1, 1), "groups": groups}
    by_input, by_kernel = dt.ops.find("conv_by_input"), dt.ops.find("conv_by_kernel")

    def gradients(x: Any, kernel: Any, g: Any) -> Any:
        return by_input(g, kernel, lengths=x.shape[1:-1], **options), by_kernel(x, g, window=kernel.shape[:2], **options)

    def forward(x: Any, k: Any) -> Any:
        return spatial.conv(x, k, strides, padding, groups=groups)

    ours = bound(forward, x, kernel), bound(gradients, x, kernel, g)
    tx, tg = channels_first(x), channels_first(g)
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).contiguous(memory_format=torch.channels_last)
    back, two = torch.ops.aten.convolution_backward, [padding] * 2
    theirs = (
        lambda: torch.nn.functional.conv2d(tx, weight, None, strides, padding, 1, groups),
        lambda: back(tg, tx, weight, None, [strides] * 2, two, [1, 1], False, [0, 0], groups, [True, True, False]),
    )
    close(y, theirs[0](), "forward")
    by_x, by_weight, _ = theirs[1]()
    close(ours[1]()[0], by_x, "gradient by x")
    close(ours[1]()[1].transpose(3, 0, 1, 2), by_weight, "gradient by the kernel")
    pairs = {"forward": (ours[0], theirs[0]), "gradients": (ours[1], theirs[1])}
    if any(node.op.startswith("tiled_") for node in dt.transform.optimize(dt.trace(forward, x, kernel), approximate=True).nodes):
        fast = bound(forward, x, kernel, approximate=True), bound(gradients, x, kernel, g, approximate=True)
        close(fast[0](), theirs[0](), "forward, approximate")
        pairs |= {"forward, approximate": (fast[0], theirs[0]), "gradients, approximate": (fast[1], theirs[1])}
    return pairs


def pooling(case: tuple[int, ...]) -> dict[str, Pair]:
    """Maximum and mean, forward and gradient."""
    import torch

    samples, length, channels, window, strides, padding = case
    draw, aten = np.random.default_rng(0), torch.ops.aten
    x = draw.standard_normal((samples, length, length, channels), np.float32)
    y, positions = spatial.max_pool(x, window, strides, padding, positions=True)
    g = draw.standard_normal(y.shape, np.float32)
    options = {"window": (window,) * 2, "strides": (strides,) * 2, "padding": ((padding,) * 2,) * 2}
    unpool = dt.ops.find("max_unpool")
    mean = lambda x: spatial.average_pool(x, window, strides, padding)  # noqa: E731
    tx, tg, two = channels_first(x), channels_first(g), ([window] * 2, [strides] * 2, [padding] * 2)
    _, indices = aten.max_pool2d_with_indices(tx, *two)
    pairs: dict[str, Pair] = {
        "maximum with positions": (
            bound(lambda x: spatial.max_pool(x, window, strides, padding, positions=True), x),
            lambda: aten.max_pool2d_with_indices(tx, *two),
        ),
        "maximum": (
            bound(lambda x: spatial.max_pool(x, window, strides, padding), x),
            lambda: torch.nn.functional.max_pool2d(tx, window, strides, padding),
        ),
        "gradient of the maximum": (
            bound(lambda g, p: unpool(g, p, lengths=x.shape[1:-1], **options), g, positions),
            lambda: aten.max_pool2d_with_indices_backward(tg, tx, *two, [1, 1], False, indices),
        ),
        "mean": (bound(mean, x), lambda: torch.nn.functional.avg_pool2d(tx, window, strides, padding, count_include_pad=False)),
        "gradient of the mean": (
            bound(lambda g, x: dt.vjp(mean, x)[1](g), g, x),
            lambda: aten.avg_pool2d_backward(tg, tx, *two, False, False, None),
        ),
    }
    for name, (ours, theirs) in pairs.items():
        left, right = ours(), theirs()
        close(left[0] if isinstance(left, tuple | list) else left, right[0] if isinstance(right, tuple) else right, name)
    return pairs


# ---- whole steps


def steps(name: str) -> dict[str, Pair]:
    """A whole step beside each library that is installed; the losses of the first five must agree."""
    peers = {"PyTorch": step_of_torch, **({"JAX": step_of_jax} if find_spec("jax") else {}), "PyTorch, approximate": step_of_torch}
    pairs = {}
    for peer, step_of in peers.items():
        ours, weights = step_of_dagtrain(name, approximate="approximate" in peer)
        theirs = step_of(name, weights)
        losses = [(ours(), theirs()) for _ in range(5)]
        for i, (left, right) in enumerate(losses):
            # Adam makes steps of gradients that are rounding alone, so deep networks drift apart by a part of what they have learnt.
            if abs(left - right) > 1e-3 + 0.05 * abs(left - losses[0][0]):
                raise SystemExit(f"{name}: dagtrain and {peer} do not compute the same: step {i} has the loss {left} and {right}.")
        pairs["step" + f", {peer}".removeprefix(", PyTorch")] = (ours, theirs)
    return pairs


# ---- memory


def peak(library: str, name: str) -> None:
    """Print the bytes of resident memory that five steps need beyond what the process had before; Linux alone."""

    def status(field: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024

    import torch

    torch.set_num_threads(1)
    weights = first_weights(name)
    # What libraries load at first use does not count.
    kernel = torch.nn.Parameter(torch.ones(1, 1, 3, 3))
    torch.conv2d(torch.ones(1, 1, 8, 8), kernel).sum().backward()
    torch.optim.Adam([kernel], fused=True).step()
    np.matmul(np.ones((64, 64), "f4"), np.ones((64, 64), "f4"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    step = step_of_dagtrain(name)[0] if library == "dagtrain" else step_of_torch(name, weights)
    with guard():
        for _ in range(5):
            step()
    print(status("VmHWM") - before)


def memory(name: str) -> Measured:
    """The peaks of both libraries, each in a process of its own."""
    peaks = {}
    for library in ("dagtrain", "PyTorch"):
        command = [sys.executable, __file__, "--peak", library, name]
        peaks[library] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"bytes": peaks, "ratio": peaks["dagtrain"] / peaks["PyTorch"]}


# ---- measuring


def seconds_of(call: Callable[[], Any], count: int) -> float:
    """Mean seconds of a call."""
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def compared(pair: Pair, rounds: int, length: float) -> Measured:
    """Milliseconds of both, taking turns of about this many seconds, and the median of the ratios."""
    with guard():
        counts = [max(1, int(length / max(1e-7, min(seconds_of(call, 1) for _ in range(3))))) for call in pair]
        times = [[seconds_of(call, count) for call, count in zip(pair, counts, strict=True)] for _ in range(rounds)]
    ours, theirs = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    return {"dagtrain_ms": ours, "peer_ms": theirs, "ratio": statistics.median(b / a for a, b in times)}


def measure(part: str, name: str, rounds: int, length: float) -> dict[str, Measured]:
    """The figures of one case."""
    if part == "memory":
        return {"peak": memory(name)}
    pairs = (
        convolution(CONVOLUTIONS[name], name.startswith("depthwise")) if part == "conv" else
        pooling(POOLS[name]) if part == "pool" else recurrent(name) if part == "recurrent" else
        language(name) if part == "text" else part_of_block(name) if part == "block" else
        transformer(name) if part == "transformer" else steps(name)
    )  # fmt: skip
    return {what: compared(pair, rounds, length) for what, pair in pairs.items()}


PARTS: dict[str, list[str]] = {
    "conv": list(CONVOLUTIONS),
    "pool": list(POOLS),
    "recurrent": list(RECURRENT),
    "step": list(NETWORKS),
    "text": list(TEXTS),
    "block": list(PARTS_OF_BLOCKS),
    "transformer": list(TRANSFORMERS),
    "memory": list(NETWORKS),
}


def line(name: str, what: str, figures: Measured) -> str:
    """A row of the table."""
    if "bytes" in figures:
        cells = [f"{figures['bytes'][library] / 1e6:.1f} MB" for library in ("dagtrain", "PyTorch")]
    else:
        cells = [f"{figures[key]:.3f} ms" for key in ("dagtrain_ms", "peer_ms")]
    return f"| {name:<24} | {what:<24} | {cells[0]:>12} | {cells[1]:>12} | {figures['ratio']:5.2f} |"


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cases with one of these words in their names")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.15, help="length of a turn (default 0.15)")
    parser.add_argument("--quick", action="store_true", help="one short turn each: does it work?")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")  # before JAX is imported
    rounds, length = (1, 0.0) if options.quick else (options.rounds, options.seconds)
    results: dict[str, Any] = {}
    print(f"| {'case':<24} | {'what':<24} | {'dagtrain':>12} | {'peer':>12} | ratio |\n|---|---|---|---|---|", flush=True)
    for part in options.parts or PARTS:
        for name in PARTS[part]:
            if options.only and not any(word in name for word in options.only):
                continue
            results.setdefault(part, {})[name] = measure(part, name, rounds, length)
            for what, figures in results[part][name].items():
                print(line(name, what, figures), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        peak(*sys.argv[2:4])
    else:
        main()
