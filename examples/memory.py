"""What recurrent networks remember: two numbers over 100 steps, and three symbols over a delay.

    adding    .3  .8  .1  .6  …  .9        x: a number and a mark in each step; two are marked, one in each half
               ·   ●   ·   ·  …   ●        y: the sum of the marked numbers, .8 + .9; always guessing 1 has the error 1/6
    copying   c a b  · · · … · ?  _ _ _    y: c a b, after a delay of 20 steps; guessing is right in one of 8

LSTM and GRU learn both: their cells keep what the gates do not touch. A simple RNN multiplies its state by one matrix in each step, so that
what it saw vanishes, and so does the gradient; it learns neither, at any of three rates.

Run: python examples/memory.py
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

import dagtrain as dt

nn = dt.nn
CELLS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.SimpleRNN}
SYMBOLS, LETTERS = 3, 8


def adding(draw: np.random.Generator, rows: int, steps: int) -> tuple[Any, Any]:
    """Numbers with two marks, and the sum of the marked ones."""
    x = np.zeros((rows, steps, 2), "f4")
    x[..., 0] = draw.random((rows, steps))
    half = steps // 2
    marks = draw.integers(0, half, rows), draw.integers(half, steps, rows)
    for mark in marks:
        x[np.arange(rows), mark, 1] = 1
    return x, sum(x[np.arange(rows), mark, 0] for mark in marks)[:, None]


def copying(draw: np.random.Generator, rows: int, delay: int) -> tuple[Any, Any]:
    """Symbols, a delay whose end is marked, and the steps of the answer; the symbols again."""
    y = draw.integers(0, LETTERS, (rows, SYMBOLS))
    x = np.zeros((rows, 2 * SYMBOLS + delay, LETTERS + 1), "f4")
    x[np.arange(rows)[:, None], np.arange(SYMBOLS), y] = 1
    x[:, SYMBOLS + delay - 1, LETTERS] = 1
    return x, y


def answer(h: Any) -> Any:
    """The outputs of the last steps."""
    return h[:, -SYMBOLS:]


def train(task: str, cell: str, steps: int, updates: int, rate: float = 3e-3, verbose: int = 0) -> tuple[float, int]:
    """The best error, or fraction of right symbols, on 1,000 fixed sequences, and the updates: at most so many, until it is good enough.

    Batches are drawn anew for each update.
    """
    every = 100
    make = adding if task == "adding" else copying

    def batches(epoch: int) -> Iterator[tuple[Any, Any]]:
        draw = np.random.default_rng((1, epoch))
        return (make(draw, 64, steps) for _ in range(every))

    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(1.0), dt.optim.adam(rate))
    if task == "adding":
        model = nn.Sequential([CELLS[cell](64), nn.Dense(1)])
        trainer = dt.Trainer(model, loss="mean_squared_error", optimizer=optimizer, shards=1)
        target = dt.callbacks.Target("val_loss", 0.01)
    else:
        model = nn.Sequential([CELLS[cell](64, return_sequences=True), nn.Lambda(answer), nn.Dense(LETTERS)])
        trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], optimizer=optimizer, shards=1)
        target = dt.callbacks.Target("val_accuracy", 0.99)
    held_out = make(np.random.default_rng(0), 1000, steps)
    history = trainer.fit(batches, epochs=updates // every, validation_data=held_out, callbacks=[target], verbose=verbose)
    figures = history.history[target.monitor]
    return min(figures) if task == "adding" else max(figures), history.epochs * every


def main(quick: bool = False, verbose: int = 0) -> dict[str, float]:
    """The error of adding (best of three rates for the RNN) and the fraction of right symbols of copying, and the updates that they took.

    `quick` adds over 16 steps, with one rate for all, and copies nothing.
    """
    length, updates, rates = (16, 300, [1e-2]) if quick else (100, 3000, [3e-3])
    results: dict[str, float] = {}
    for cell in CELLS:
        several = [1e-2, 3e-3, 1e-3] if cell == "RNN" and not quick else rates
        results[f"adding {cell}"], results[f"adding {cell}, updates"] = min(
            train("adding", cell, length, updates, rate, verbose) for rate in several
        )
    for cell in () if quick else ("LSTM", "RNN"):
        results[f"copying {cell}"], results[f"copying {cell}, updates"] = train("copying", cell, 20, 10_000, verbose=verbose)
    print(", ".join(f"{name} {value:.4g}" for name, value in results.items()))
    return results


if __name__ == "__main__":
    main(verbose=2)
