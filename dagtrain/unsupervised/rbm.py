"""Restricted Boltzmann machines: p(v, h) ∝ exp(−E), E(v, h) = −a·v − b·h − v·W·h, trained by contrastive divergence.

    v ─▶ h ~ p(h|v) ─▶ v' ~ p(v|h) ─▶ h' … k times        change of W: v·p(h|v) − v'·p(h'|v'), added up over rows

With `persistent` chains v' goes on from step to step, and from chains that lie with the shards. Hinton, "Training products of experts by
minimizing contrastive divergence", Neural Computation 14 (2002); Tieleman, "Training restricted Boltzmann machines using approximations to
the likelihood gradient" (ICML 2008); Hinton, "A practical guide to training restricted Boltzmann machines" (2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from dagtrain import optim
from dagtrain.arguments import flag, fraction, not_negative, one_of, positive, whole
from dagtrain.arguments import seed as checked_seed
from dagtrain.data import moments
from dagtrain.errors import ArgumentError, DataError, ShapeError
from dagtrain.graph import Array
from dagtrain.hinting import Hinted
from dagtrain.nn.activations import sigmoid
from dagtrain.ops.random import fold_in, normal, uniform
from dagtrain.step import Contribution
from dagtrain.train import History, Trainer
from dagtrain.train.callbacks import LearningRateScheduler
from dagtrain.unsupervised.checks import refuse_changes, rows_of

__all__ = ["RBM", "logistic", "pseudo_likelihood"]

VISIBLE = ("binary", "gaussian")
_RANGE = (
    "binary units take values from 0 to 1, and {}: divide by the greatest, or take "
    'visible="gaussian" for columns of mean 0 and deviation 1.'
)
_WARM = 5
"""Epochs in which momentum gathers."""
_EXACT = 20
"""Most hidden units whose states are all counted."""


class RBM(Hinted):
    """A restricted Boltzmann machine.

    Parameters
    ----------
    units
        Hidden units.
    seed
        Of weights, chains and the order of rows: equal seeds give equal bits.
    visible
        "binary": values from 0 to 1, as probabilities. "gaussian": real numbers, of mean 0 and deviation 1 by column.
    steps
        The k of CD-k: steps of the chain for each update.
    persistent
        Whether chains go on from update to update (PCD) or begin at the data (CD).
    learning_rate, final_rate
        Constant for the first half of `fit`, then falling linearly to this part of it.
    momentum
        The part of the last change that is added to each. In the first five epochs the rate is a fifth.
    weight_decay
        Times the weights, taken from them in each update.

    Attributes
    ----------
    weights, visible_bias, hidden_bias
        Once it is fitted: arrays of shape (columns, units), (columns,) and (units,).

    Raises
    ------
    ArgumentError
        If an argument is outside its range.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = (np.random.default_rng(0).random((256, 1)) < 0.5) * np.ones(8)  # eight columns that are always equal
    >>> machine = dt.unsupervised.RBM(4, seed=0, learning_rate=0.5).fit(x, epochs=30)
    >>> machine.pseudo_likelihood(x) > -1.0  # without a model it is 8 log(1/2), about -5.5
    True
    """

    def __init__(
        self,
        units: int,
        seed: int = 0,
        *,
        visible: str = "binary",
        steps: int = 1,
        persistent: bool = False,
        learning_rate: float = 0.05,
        final_rate: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        self.units, self.seed, self.visible = whole("units", units), checked_seed(seed), one_of("visible", visible, VISIBLE)
        self.steps, self.persistent = whole("steps", steps), flag("persistent", persistent)
        self.learning_rate, self.final_rate = positive("learning_rate", learning_rate), fraction("final_rate", final_rate, one=True)
        self.momentum, self.weight_decay = fraction("momentum", momentum), not_negative("weight_decay", weight_decay)
        self.trainer: Trainer | None = None
        self.history: History | None = None
        self._first_fit: dict[str, Any] = {}

    # ---- training

    def fit(self, x: Any, epochs: int = 50, batch_size: int = 10, *, engine: Any = "auto", shards: int = 1, verbose: int = 0) -> Self:
        """Train on rows; a second call goes on.

        Parameters
        ----------
        x
            Of shape (rows, columns): an array, or what `Trainer.fit` takes.
        epochs, batch_size, engine, shards, verbose
            As for `Trainer`; a second call keeps the engine and the shards. With persistent chains the number of shards is part of the
            result.

        Raises
        ------
        DataError
            If values of binary units are not from 0 to 1; of lazy data, if means and variances of its columns show it in the first fit.
        """
        self._check(x)
        if self.trainer is None:
            self.trainer = self._made(x, whole("batch_size", batch_size), engine, shards)
            self._first_fit = {"engine": engine, "shards": shards}
        refuse_changes(self._first_fit, engine=(engine, "auto"), shards=(shards, 1))
        schedule = LearningRateScheduler(lambda epoch: self.learning_rate * self._part(epoch, epochs))
        self.history = self.trainer.fit(x, epochs=epochs, batch_size=batch_size, callbacks=[schedule], verbose=verbose)
        return self

    def _part(self, epoch: int, epochs: int) -> float:
        """The part of the learning rate in an epoch: less while momentum gathers, constant, then falling."""
        if self.momentum and epoch < _WARM and epochs > 2 * _WARM:
            return 0.2
        return float(self.final_rate + (1 - self.final_rate) * min(1.0, 2 * (1 - epoch / epochs)))

    def _check(self, x: Any) -> None:
        """Refuse values of binary units that are not from 0 to 1; those of lazy data as far as their moments tell, see `_made`."""
        if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
            if x.ndim != 2:
                raise ShapeError(f"a machine takes rows and columns, got the shape {x.shape}: give x.reshape(len(x), -1).")
            self._check_range(x)

    def _check_range(self, x: Array) -> None:
        if self.visible == "binary" and x.size and (x.min() < 0 or x.max() > 1):
            raise DataError(_RANGE.format(f"x has values from {x.min():g} to {x.max():g}"))

    def _rows(self, x: Any) -> Array:
        """Rows in this process, like those of training, as float64."""
        rows = rows_of(x, self.weights.shape[:1])
        self._check_range(rows)
        return rows.astype(np.float64)

    def _made(self, x: Any, batch_size: int, engine: Any, shards: int) -> Trainer:
        """A trainer whose visible biases are those of columns that are independent of each other."""
        random = np.random.default_rng([self.seed, 7])
        mean, variance = (np.asarray(moment, np.float64).reshape(-1) for moment in moments(x)[:2])
        columns = len(mean)
        if self.visible == "binary" and not (variance + mean**2 <= mean + 1e-6).all():  # from 0 to 1, a square is below its number
            raise DataError(_RANGE.format("x has columns with others, as their means and variances show"))
        near = np.clip(mean, 0.01, 0.99)
        first = {
            "weights": random.normal(0, 0.01, (columns, self.units)),
            "visible_bias": np.log(near / (1 - near)) if self.visible == "binary" else mean,
            "hidden_bias": np.zeros(self.units),
        }
        rule = _Divergence(self.visible, self.steps, self.weight_decay)
        if self.persistent:
            chains = max(1, batch_size // whole("shards (with persistent chains, which lie with them)", shards))
            begun = (
                (random.random((chains, columns)) < near).astype("f4")
                if self.visible == "binary"
                else random.normal(size=(chains, columns))
            )
            contribution = Contribution(_Persistent(rule), ["error"], states={"chains": begun}, reduce={"chains": "shard"})
        else:
            contribution = Contribution(rule, ["error"])
        optimizer = optim.sgd(self.learning_rate, momentum=self.momentum)
        return Trainer(contribution, parameters=first, optimizer=optimizer, shards=shards, seed=self.seed, engine=engine)

    # ---- what it has learnt

    @property
    def _fitted(self) -> Trainer:
        if self.trainer is None:
            raise ArgumentError("the machine has learnt nothing yet: call fit(x) first.")
        return self.trainer

    @property
    def _parameters(self) -> dict[str, Array]:
        return {name: np.asarray(value, np.float64) for name, value in self._fitted.parameters.items()}

    @property
    def weights(self) -> Array:
        """Of shape (columns, units)."""
        return self._parameters["weights"]

    @property
    def visible_bias(self) -> Array:
        """Of shape (columns,)."""
        return self._parameters["visible_bias"]

    @property
    def hidden_bias(self) -> Array:
        """Of shape (units,)."""
        return self._parameters["hidden_bias"]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parameters; equal fingerprints mean equal bits."""
        return self._fitted.state.fingerprint

    def transform(self, x: Array) -> Array:
        """The probabilities of the hidden units, of shape (rows, units)."""
        return np.asarray(logistic(self._rows(x) @ self.weights + self.hidden_bias), np.float32)

    def reconstruct(self, x: Array) -> Array:
        """The mean of the visible units, given the probabilities of the hidden ones."""
        means = self.transform(x) @ self.weights.T + self.visible_bias
        return np.asarray(logistic(means) if self.visible == "binary" else means, np.float32)

    def free_energy(self, x: Array) -> Array:
        """F(v) = −log Σ exp(−E(v, h)) over all h, for each row."""
        v, given = self._rows(x), self._parameters
        hidden = np.logaddexp(0, v @ given["weights"] + given["hidden_bias"]).sum(axis=1)
        outer = 0.5 * ((v - given["visible_bias"]) ** 2).sum(axis=1) if self.visible == "gaussian" else -v @ given["visible_bias"]
        return np.asarray(outer - hidden)

    def pseudo_likelihood(self, x: Array) -> float:
        """The mean over rows of Σ log p(column | all other columns), over all columns and exact.

        A column that is v is compared with 1 − v, as scikit-learn's BernoulliRBM does for one column at random. Besag, "Statistical
        analysis of non-lattice data", The Statistician 24 (1975).
        """
        if self.visible != "binary":
            raise ArgumentError("the pseudo-likelihood is that of binary units; for gaussian ones compare reconstruct(x) with x.")
        return pseudo_likelihood(self._rows(x), self.weights, self.visible_bias, self.hidden_bias)

    def log_partition(self, chains: int = 100, temperatures: int = 1000, seed: int = 0, exact: bool | None = None) -> float:
        """The logarithm of Σ exp(−F(v)) over all v: exact for up to 20 hidden units, else by annealed importance sampling.

        Salakhutdinov and Murray, "On the quantitative analysis of deep belief networks" (ICML 2008), section 4.

        Parameters
        ----------
        chains, temperatures
            Of the sampling: more of them come closer.
        seed
            Of the sampling.
        exact
            Whether all states of the hidden units are counted; by default where there are up to 20 units.
        """
        if self.visible != "binary":
            raise ArgumentError("log_partition is that of binary units.")
        w, a, b = self.weights, self.visible_bias, self.hidden_bias
        if self.units <= _EXACT if exact is None else flag("exact", exact):
            total = -np.inf
            for start in range(0, 2**self.units, 2**12):
                numbers = np.arange(start, min(start + 2**12, 2**self.units))
                states = (numbers[:, None] >> np.arange(self.units)) & 1
                energies = states @ b + np.logaddexp(0, states @ w.T + a).sum(axis=1)
                total = np.logaddexp(total, np.logaddexp.reduce(energies))
            return float(total)
        random = np.random.default_rng(checked_seed(seed))
        v = (random.random((whole("chains", chains, 2), len(a))) < logistic(a)).astype(float)
        logs = np.zeros(chains)
        betas = np.linspace(0, 1, whole("temperatures", temperatures, 2))
        for before, beta in pairwise(betas):
            inner = v @ w + b
            logs += np.logaddexp(0, beta * inner).sum(axis=1) - np.logaddexp(0, before * inner).sum(axis=1)
            h = random.random((chains, self.units)) < logistic(beta * inner)
            v = (random.random(v.shape) < logistic(beta * (h @ w.T) + a)).astype(float)
        base = np.logaddexp(0, a).sum() + self.units * np.log(2)
        return float(base + np.logaddexp.reduce(logs) - np.log(chains))

    def log_likelihood(self, x: Array, **sampling: Any) -> float:
        """The mean log p(v) of rows of zeros and ones; see `log_partition`."""
        return float(-self.free_energy(x).mean() - self.log_partition(**sampling))

    def sample(self, count: int, steps: int = 1000, seed: int = 0) -> Array:
        """Rows from chains of so many steps, each begun at random: the means of the visible units in the last step."""
        w, a, b = self.weights, self.visible_bias, self.hidden_bias
        random = np.random.default_rng(checked_seed(seed))
        means = np.broadcast_to(logistic(a) if self.visible == "binary" else a, (whole("count", count), len(a)))
        for _ in range(whole("steps", steps)):
            v = random.random(means.shape) < means if self.visible == "binary" else means + random.normal(size=means.shape)
            h = random.random((count, self.units)) < logistic(v @ w + b)
            means = logistic(h @ w.T + a) if self.visible == "binary" else h @ w.T + a
        return np.asarray(means, np.float32)


def pseudo_likelihood(x: Array, weights: Array, visible_bias: Array, hidden_bias: Array) -> float:
    """The exact pseudo-likelihood of any machine of binary units; see `RBM.pseudo_likelihood`.

    Parameters
    ----------
    x
        Of shape (rows, columns).
    weights, visible_bias, hidden_bias
        Of shape (columns, units), (columns,) and (units,).
    """
    shapes = np.shape(weights), np.shape(visible_bias), np.shape(hidden_bias)
    if len(shapes[0]) != 2 or shapes[1:] != (shapes[0][:1], shapes[0][1:]):
        raise ShapeError(f"weights and biases have the shapes (columns, units), (columns,) and (units,), got {shapes}.")
    v = rows_of(x, shapes[0][:1]).astype(np.float64)
    inner = v @ weights + hidden_bias
    here, total = np.logaddexp(0, inner).sum(axis=1), 0.0
    for i, row in enumerate(weights):
        change = 1 - 2 * v[:, i]
        there = np.logaddexp(0, inner + change[:, None] * row).sum(axis=1)
        total += -np.logaddexp(0, there + change * visible_bias[i] - here).sum()
    return float(total / len(v))


def logistic(x: Array) -> Array:
    """Of arrays in float64: 1 / (1 + exp(-x))."""
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5)


@dataclass(frozen=True)
class _Divergence:
    """The rule of contrastive divergence."""

    visible: str
    steps: int
    weight_decay: float
    __name__ = "contrastive_divergence"

    def __call__(self, parameters: Any, x: Any, key: Any) -> Any:
        return self.changes(parameters, x, x, key)[:2]

    def changes(self, parameters: Any, x: Any, begun: Any, key: Any) -> Any:
        """Gradients, sums, and the last visible states of the chains, which begin at `begun`."""
        w, a, b = parameters["weights"], parameters["visible_bias"], parameters["hidden_bias"]
        hidden = sigmoid(x @ w + b)
        visible = begun
        for step in range(self.steps):
            chances = sigmoid(visible @ w + b)
            states = (uniform(fold_in(key, 2 * step), chances.shape) < chances).astype(w.dtype)
            means = states @ w.T + a
            if self.visible == "binary":
                means = sigmoid(means)
                drawn = (uniform(fold_in(key, 2 * step + 1), means.shape) < means).astype(w.dtype)
            else:
                drawn = means + normal(fold_in(key, 2 * step + 1), means.shape).astype(w.dtype)
            visible = drawn
        last = sigmoid(visible @ w + b)
        rows = x.shape[0]
        part = rows / begun.shape[0]
        error = np.sum((x - (sigmoid(hidden @ w.T + a) if self.visible == "binary" else hidden @ w.T + a)) ** 2)
        gradients = {
            "weights": part * (visible.T @ last) - x.T @ hidden + self.weight_decay * rows * w,
            "visible_bias": part * np.sum(visible, axis=0) - np.sum(x, axis=0),
            "hidden_bias": part * np.sum(last, axis=0) - np.sum(hidden, axis=0),
        }
        return gradients, {"error": (error, rows)}, visible


@dataclass(frozen=True)
class _Persistent:
    """The same with chains that go on."""

    rule: _Divergence
    __name__ = "persistent_contrastive_divergence"

    def __call__(self, parameters: Any, states: Any, x: Any, key: Any) -> Any:
        gradients, sums, chains = self.rule.changes(parameters, x, states["chains"], key)
        return gradients, {"chains": chains}, sums
