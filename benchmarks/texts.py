"""Language models for `networks.py`: whole steps (forward, gradients, Adam) beside PyTorch's modules, from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dagtrain as dt

__all__ = ["TEXTS", "language"]

# Name: rows, steps, words, embedding, units of each layer.
TEXTS: dict[str, tuple[int, int, int, int, tuple[int, ...]]] = {
    "LSTM LM 20×35, 2000": (20, 35, 2000, 128, (256, 256)),
    "LSTM LM 64×12, 52": (64, 12, 52, 32, (128,)),
}
RATE, EPSILON = 1e-3, 1e-8


def _by_torch(arrays: dict[str, Any], units: tuple[int, ...], tokens: Any) -> Callable[[], float]:
    """A step in PyTorch."""
    import torch
    from torch import nn

    table, kernel = arrays["rows.embeddings"], arrays["output.kernel"]
    embedding, output = nn.Embedding(*table.shape), nn.Linear(*kernel.shape)
    layers = [nn.LSTM(n, m, batch_first=True) for n, m in zip((table.shape[1], *units), units, strict=False)]
    parameters = [p for part in (embedding, *layers, output) for p in part.parameters()]
    values = [table]
    for i in range(1, len(units) + 1):
        one = {name: arrays[f"cells.lstm_{i}.{name}"] for name in ("kernel", "recurrent_kernel", "bias")}
        values += [one["kernel"].T, one["recurrent_kernel"].T, one["bias"], 0 * one["bias"]]
    values += [kernel.T, arrays["output.bias"]]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = torch.from_numpy(np.ascontiguousarray(value))
    for layer in layers:
        layer.bias_hh_l0.requires_grad_(False)  # dagtrain has one bias
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=RATE, eps=EPSILON, fused=True)
    x, y, loss = torch.from_numpy(tokens[:, :-1].astype("i8")), torch.from_numpy(tokens[:, 1:].astype("i8")), nn.CrossEntropyLoss()

    def step() -> float:
        h = embedding(x)
        for layer in layers:
            h, _ = layer(h)
        value = loss(output(h).flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step


def language(name: str) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """A whole step; the losses of the first five must agree."""
    from dagtrain.engines.inline import StepRunner

    rows, steps, words, embedding, units = TEXTS[name]
    tokens = np.random.default_rng(0).integers(0, words, (rows, steps + 1)).astype("i4")
    model = dt.nn.models.LanguageModel(words, units, embedding)
    columns = dt.data.Columns.of(dt.Spec((steps,), np.dtype("i4")), dt.Spec((steps,), np.dtype("i8")))
    optimizer = dt.optim.adam(RATE, epsilon=EPSILON)
    program = dt.step.Program(dt.step.ModelObjective(model, "cross_entropy", []), optimizer, columns, seed=0)
    runner = StepRunner(program.for_workers([rows]), program.first_state(), 1)
    arrays = {n: a.copy() for n, a in zip(program.layout.names, program.layout.views(runner.state.parameters), strict=True)}
    batch = [(tokens[:, :-1].copy(), tokens[:, 1:].astype("i8"))]

    def ours() -> float:
        total, weight = runner.step(batch)[:2]
        return float(total / weight)

    theirs = _by_torch(arrays, units, tokens)
    for i in range(5):
        left, right = ours(), theirs()
        if abs(left - right) > 1e-3:
            raise SystemExit(f"{name}: dagtrain and PyTorch do not compute the same: step {i} has the loss {left} and {right}.")
    return {"step": (ours, theirs)}
