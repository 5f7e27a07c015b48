"""Networks of convolutions, recurrent layers and attention: kernels, whole steps and peak memory beside PyTorch's, on one thread.

    python benchmarks/networks.py [PART ...] [--rounds 9] [--only NAME ...] [--quick] [--json FILE]

    conv     forward, and both gradients together, of one convolution
    pool     maximum and mean, forward and gradient
    recurrent outputs and all gradients of LSTM, GRU and SimpleRNN; see `recurrent.py`
    step     forward, gradients and Adam of LeNet-5 (64 × 28 × 28 × 1) and of three stages of 32, 64 and 128 filters (64 × 32 × 32 × 3)
    text     the same of language models; see `texts.py`
    block    layer norm, gelu, softmax, attention, batch norm; see `transformers.py`
    transformer whole steps of a transformer of characters; see `transformers.py`
    memory   the peak of resident memory of these steps, each in a process of its own

PyTorch is eager and channels last, which is its faster layout; dagtrain runs plans. The two take turns, and a ratio is the median of the
ratios of the rounds: above 1, dagtrain is faster (memory: needs more). Times are of the processor, so that other processes disturb them
less; both libraries use one thread. Results are compared before they are measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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


def bound(function: Any, *arrays: Any) -> Callable[[], Any]:
    """A traced function as a plan that is bound to memory."""
    plan = dt.trace(function, *arrays).plan()
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

    ours = bound(lambda x, k: spatial.conv(x, k, strides, padding, groups=groups), x, kernel), bound(gradients, x, kernel, g)
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
    return {"forward": (ours[0], theirs[0]), "gradients": (ours[1], theirs[1])}


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


def lenet() -> tuple[Any, Any, tuple[int, ...]]:
    """LeNet-5 in both libraries, and the shape of a batch."""
    from torch import nn

    layers = [dt.nn.Conv2D(6, 5, "tanh", padding=2), dt.nn.AveragePooling2D(), dt.nn.Conv2D(16, 5, "tanh"), dt.nn.AveragePooling2D()]
    ours = dt.nn.Sequential([*layers, dt.nn.Flatten(), dt.nn.Dense(120, "tanh"), dt.nn.Dense(84, "tanh"), dt.nn.Dense(10)])
    features = [nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)]
    dense = [nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)]
    return ours, (nn.Sequential(*features), nn.Sequential(*dense)), (64, 28, 28, 1)


def stages() -> tuple[Any, Any, tuple[int, ...]]:
    """Three stages of convolution, relu and pooling, and a dense layer."""
    from torch import nn

    filters = (32, 64, 128)
    layers = [part for n in filters for part in (dt.nn.Conv2D(n, 3, "relu", padding=1), dt.nn.MaxPooling2D())]
    ours = dt.nn.Sequential([*layers, dt.nn.Flatten(), dt.nn.Dense(10)])
    pairs = zip((3, *filters), filters, strict=False)
    features = [part for m, n in pairs for part in (nn.Conv2d(m, n, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))]
    return ours, (nn.Sequential(*features), nn.Linear(2048, 10)), (64, 32, 32, 3)


NETWORKS = {"LeNet-5": lenet, "32-64-128": stages}


def batch_of(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Pictures and labels."""
    draw = np.random.default_rng(0)
    return draw.standard_normal(shape, np.float32), draw.integers(0, 10, shape[0])


def step_of_dagtrain(model: Any, shape: tuple[int, ...]) -> tuple[Callable[[], float], list[Any]]:
    """A step that gives the loss before it, and the first parameters."""
    from dagtrain.engines.inline import StepRunner

    columns = dt.data.Columns.of(dt.Spec(shape[1:], np.dtype("f4")), dt.Spec((), np.dtype("i8")))
    program = dt.step.Program(dt.step.ModelObjective(model, "cross_entropy", []), dt.optim.adam(1e-4, epsilon=1e-8), columns, seed=0)
    runner = StepRunner(program.for_workers([shape[0]]), program.first_state(), 1)
    layout, vector = program.layout, runner.state.parameters.copy()
    first = [vector[place].reshape(shape) for place, shape in zip(layout.slices, layout.shapes, strict=True)]
    batch = [batch_of(shape)]
    return lambda: float(runner.step(batch)[0]) / shape[0], first


def step_of_torch(model: Any, shape: tuple[int, ...], weights: list[Any]) -> Callable[[], float]:
    """The same in PyTorch, from these weights."""
    import torch

    features, dense = model
    parameters = [*features.parameters(), *dense.parameters()]
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights, strict=True):
            order = (3, 2, 0, 1) if weight.ndim == 4 else (1, 0) if weight.ndim == 2 else (0,)
            parameter.copy_(torch.from_numpy(weight.transpose(order).copy()))
    features.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True)
    x, y = batch_of(shape)
    tx, ty, loss = channels_first(x), torch.from_numpy(y), torch.nn.CrossEntropyLoss()

    def step() -> float:
        value = loss(dense(features(tx).permute(0, 2, 3, 1).flatten(1)), ty)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step


def steps(name: str) -> dict[str, Pair]:
    """A whole step; the losses of the first five must agree."""
    model, twin, shape = NETWORKS[name]()
    ours, weights = step_of_dagtrain(model, shape)
    theirs = step_of_torch(twin, shape, weights)
    for i in range(5):
        left, right = ours(), theirs()
        if abs(left - right) > 1e-3:
            raise SystemExit(f"{name}: dagtrain and PyTorch do not compute the same: step {i} has the loss {left} and {right}.")
    return {"step": (ours, theirs)}


# ---- memory


def peak(library: str, name: str) -> None:
    """Print the bytes of resident memory that five steps need beyond what the process had before; Linux alone."""

    def status(field: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024

    import torch

    torch.set_num_threads(1)
    model, twin, shape = NETWORKS[name]()
    torch.conv2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3))  # what libraries load at first use does not count
    np.matmul(np.ones((64, 64), "f4"), np.ones((64, 64), "f4"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    if library == "dagtrain":
        step, _ = step_of_dagtrain(model, shape)
    else:
        weights = [p.detach().numpy().transpose((2, 3, 1, 0) if p.ndim == 4 else (1, 0) if p.ndim == 2 else (0,))
                   for part in twin for p in part.parameters()]  # fmt: skip
        step = step_of_torch(twin, shape, weights)
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
    return {"dagtrain_ms": ours, "pytorch_ms": theirs, "ratio": statistics.median(b / a for a, b in times)}


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
        cells = [f"{figures[key]:.3f} ms" for key in ("dagtrain_ms", "pytorch_ms")]
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
    rounds, length = (1, 0.0) if options.quick else (options.rounds, options.seconds)
    results: dict[str, Any] = {}
    print(f"| {'case':<24} | {'what':<24} | {'dagtrain':>12} | {'PyTorch':>12} | ratio |\n|---|---|---|---|---|", flush=True)
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
