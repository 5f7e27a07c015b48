"""What recurrent networks remember: two numbers over 100 steps, and three letters over 20 among others.

    adding    .3  .8  .1  .6  …  .9              x: a number and a mark in each step; two are marked, one in each half
               ·   ●   ·   ·  …   ●              y: the sum of the marked numbers, .8 + .9; always guessing 1 has the error 1/6
    copying   4 1 9 c a b 7 2 … 5 8 ? _ _        y: c a b, which begin in one of the first 11 steps, at least 20 before the answer;
                                                 guessing is right in one of 8

LSTM and GRU learn both: their gates let in what counts, and keep it. A simple RNN multiplies its state by one matrix in each step, so that
all that it saw is mixed and fades, and so does the gradient: it does not learn them in as many updates, at any of three rates. (Without the
digits around, and with letters in the first three steps, it would copy at once: each letter is then as many steps from its answer as the
others, and an orthogonal matrix turns them all alike.)

Run: python examples/memory.py
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

import dagtrain as dt

nn = dt.nn
CELLS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.SimpleRNN}
SYMBOLS, LETTERS, DIGITS = 3, 8, 8
START = 10
"""The last step in which the letters begin."""


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
    """Letters in a row somewhere in the first steps, digits around them, and the steps of the answer; the letters again."""
    y = draw.integers(0, LETTERS, (rows, SYMBOLS))
    steps = START + delay + 2 * SYMBOLS
    symbols = LETTERS + 1 + draw.integers(0, DIGITS, (rows, steps))
    start = draw.integers(0, START + 1, rows)
    for i in range(SYMBOLS):
        symbols[np.arange(rows), start + i] = y[:, i]
    symbols[:, steps - SYMBOLS - 1 :] = LETTERS
    return np.eye(LETTERS + 1 + DIGITS, dtype="f4")[symbols], y


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
    """The error of adding and the fraction of right letters of copying, of the RNN at the best of three rates, and the updates of each.

    `quick` adds over 16 steps, with one rate for all, and copies nothing.
    """
    tasks = [("adding", 16, 300, 1e-2)] if quick else [("adding", 100, 3000, 3e-3), ("copying", 20, 2000, 1e-2)]
    results: dict[str, float] = {}
    for task, steps, updates, rate in tasks:
        best = min if task == "adding" else max
        for cell in CELLS:
            rates = [1e-2, 3e-3, 1e-3] if cell == "RNN" and not quick else [rate]
            figure, count = best(train(task, cell, steps, updates, rate, verbose) for rate in rates)
            results |= {f"{task} {cell}": figure, f"{task} {cell}, updates": count}
    print(", ".join(f"{name} {value:.4g}" for name, value in results.items()))
    return results


if __name__ == "__main__":
    main(verbose=2)
