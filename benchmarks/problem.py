"""The problem of all contenders: a 784-256-128-10 relu network, cross-entropy, Adam, float32, the same data and the same first weights.

The data set of 16,384 samples (51 MB, more than the caches hold) is cut in order into batches: larger batches are fewer batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

__all__ = ["BETAS", "EPSILON", "LEARNING_RATE", "SIZES", "Contender", "Problem"]

SIZES = (784, 256, 128, 10)
# The learning rate is small for two reasons that do not concern speed: scikit-learn adds epsilon before the bias correction and the others
# after it, and Adam turns a gradient of pure rounding errors into a full step. At 1e-3 either changes the loss by 0.002.
LEARNING_RATE, BETAS, EPSILON = 1e-4, (0.9, 0.999), 1e-8
_SAMPLES = 16_384

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Problem:
    """The data in batches, and the first weights."""

    batch_size: int

    @cached_property
    def data(self) -> tuple[Array, Array]:
        """Samples (float32) and labels (int64); the labels contain noise."""
        draw = np.random.default_rng(0)
        x = draw.standard_normal((_SAMPLES, SIZES[0]), np.float32)
        scores = x @ draw.standard_normal((SIZES[0], SIZES[-1]), np.float32)
        return x, np.argmax(scores + draw.gumbel(size=scores.shape), axis=1)

    @cached_property
    def batches(self) -> list[tuple[Array, Array]]:
        """The data in pairs of samples and labels."""
        x, y = self.data
        cuts = range(0, _SAMPLES, self.batch_size)
        return [(x[i : i + self.batch_size], y[i : i + self.batch_size]) for i in cuts]

    @cached_property
    def weights(self) -> list[tuple[Array, Array]]:
        """Kernel (inputs, outputs) and bias of each layer."""
        draw = np.random.default_rng(1)
        return [
            (draw.standard_normal((m, n), np.float32) * np.float32((2 / m) ** 0.5), np.zeros(n, np.float32))
            for m, n in itertools.pairwise(SIZES)
        ]


class Contender(Protocol):
    """One way to do training steps, or epochs of them. The constructor prepares and compiles it."""

    compile_seconds: float | None

    def reset(self) -> None:
        """Restore the first weights and an empty optimizer."""

    def run(self, first: int, count: int) -> float:
        """Do steps (or epochs) `first` to `first + count - 1`, wait for them, and return the last loss."""


Maker = Callable[[Problem, int], Contender]
