"""Deep belief networks: restricted Boltzmann machines, each trained on the hidden units of the one before.

    x ─▶ RBM ─▶ p(h₁|x) ─▶ RBM ─▶ p(h₂|h₁) ─▶ …        then: the same weights in a network of sigmoid layers, trained on labels

Hinton, Osindero and Teh, "A fast learning algorithm for deep belief nets", Neural Computation 18 (2006); Bengio, Lamblin, Popovici and
Larochelle, "Greedy layer-wise training of deep networks" (NIPS 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from dagtrain import nn
from dagtrain.arguments import seed as checked_seed
from dagtrain.arguments import wholes
from dagtrain.data.nests import is_parts
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array
from dagtrain.train import Trainer
from dagtrain.unsupervised.rbm import RBM, logistic

__all__ = ["DBN"]


class DBN:
    """A stack of restricted Boltzmann machines.

    Parameters
    ----------
    units
        Hidden units of each machine, from below.
    seed
        Of all of them.
    settings
        As for `RBM`; `visible` is that of the lowest.

    Attributes
    ----------
    machines
        From below.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.random.default_rng(0).random((64, 8)).astype("f4")
    >>> stack = dt.unsupervised.DBN([6, 4]).fit(x, epochs=2)
    >>> stack.transform(x).shape, stack.classifier(3, loss="cross_entropy").predict(x).shape
    ((64, 4), (64, 3))
    """

    def __init__(self, units: Sequence[int], seed: int = 0, **settings: Any) -> None:
        if not wholes("units", units):
            raise ArgumentError("a DBN has at least one layer of hidden units: units=[256, 256].")
        checked_seed(seed)
        below = {"visible": settings.pop("visible", "binary")}
        self.machines = [RBM(count, seed=seed + i, **settings, **(below if i == 0 else {})) for i, count in enumerate(units)]

    def fit(self, x: Array, epochs: int = 50, batch_size: int = 10, **options: Any) -> Self:
        """Train one machine after the other; see `RBM.fit`. Hidden units of rows are computed in this process."""
        if is_parts(x):
            raise DataError(
                "a DBN takes an array, a table, a dask array or a dask dataframe: join the parts, as by dd.from_delayed(parts)."
            )
        for machine in self.machines:
            machine.fit(x, epochs, batch_size, **options)
            x = machine.transform(x)
        return self

    def transform(self, x: Array) -> Array:
        """The probabilities of the highest hidden units."""
        for machine in self.machines:
            x = machine.transform(x)
        return x

    def reconstruct(self, x: Array) -> Array:
        """Up to the highest hidden units and down again, by means."""
        top = self.transform(x)
        for machine in reversed(self.machines):
            means = top @ machine.weights.T + machine.visible_bias
            top = np.asarray(means if machine.visible == "gaussian" else logistic(means), np.float32)
        return top

    def classifier(self, outputs: int, **options: Any) -> Trainer:
        """A trainer of a network that begins with what was learnt: a sigmoid layer for each machine, and an output.

        Parameters
        ----------
        outputs
            Of the last layer, which begins at random.
        options
            As for `Trainer`: loss, optimizer, metrics and others.
        """
        layers = [nn.Dense(machine.units, "sigmoid", name=f"hidden_{i}") for i, machine in enumerate(self.machines, 1)]
        columns = len(self.machines[0].visible_bias)
        model = nn.Sequential([*layers, nn.Dense(outputs, name="output")], input_shape=(columns,))
        trainer = Trainer(model, **options)
        learnt = {f"hidden_{i}": {"kernel": m.weights, "bias": m.hidden_bias} for i, m in enumerate(self.machines, 1)}
        trainer.load_weights(learnt, strict=False)
        return trainer
