"""Autoencoders: networks that give their input back through a narrow code.

    x ─▶ noise ─▶ encoder ─▶ code ─▶ decoder ─▶ x'        the loss compares x' with x, before the noise

Vincent et al., "Extracting and composing robust features with denoising autoencoders" (ICML 2008); Kingma and Welling, "Auto-encoding
variational Bayes", arXiv:1312.6114.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from dagtrain import nn
from dagtrain.arguments import fraction, positive, whole, wholes
from dagtrain.arguments import seed as checked_seed
from dagtrain.data import open_source
from dagtrain.errors import ArgumentError, DataError, ShapeError
from dagtrain.functional import compile as compiled
from dagtrain.functional import value_and_grad
from dagtrain.graph import Array
from dagtrain.hinting import Hinted
from dagtrain.ops.random import derive, fold_in, key, normal, uniform
from dagtrain.step import Contribution
from dagtrain.train import History, Trainer
from dagtrain.unsupervised.checks import refuse_changes, rows_of

__all__ = ["Autoencoder", "VariationalAutoencoder"]


class Autoencoder(Hinted):
    """An encoder and a decoder that are trained to give rows back.

    Parameters
    ----------
    encoder, decoder
        Layers: from rows to codes, and from codes to rows. `dense` and `convolutional` make usual ones.
    noise
        Share of the values of a row that are set to 0 before the encoder in training: a denoising autoencoder.
    optimizer
        As for `Trainer`.
    seed
        Of weights, noise and the order of rows.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.random.default_rng(0).random((256, 1)) * np.ones((1, 8))  # one number, eight times
    >>> coder = dt.unsupervised.Autoencoder.dense(8, code=1, hidden=(16,)).fit(x, epochs=60, batch_size=32)
    >>> coder.encode(x).shape, coder.error(x) < 0.02  # the variance of a column is 1/12
    ((256, 1), True)
    """

    def __init__(self, encoder: nn.Layer, decoder: nn.Layer, *, noise: float = 0.0, optimizer: Any = "adam", seed: int = 0) -> None:
        for name, layer in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(layer, nn.Layer):
                raise ArgumentError(f"{name} is a layer, as nn.Sequential([...]), got a {type(layer).__name__}.")
        self.encoder, self.decoder, self.noise = encoder, decoder, fraction("noise", noise)
        self.optimizer, self.seed = optimizer, checked_seed(seed)
        self.trainer: Trainer | None = None
        self.history: History | None = None
        self._code = 0
        self._first_fit: dict[str, Any] = {}
        self._compiled: dict[str, Any] = {}
        """The encoder and the decoder as compiled functions."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": {}}  # functions are compiled again

    @classmethod
    def dense(cls, size: int, code: int, hidden: Sequence[int] = (128,), **options: Any) -> Self:
        """For rows of `size` numbers: relu layers of `hidden` units, a linear code, and the same back to a linear output."""
        parts, hidden = cls._codes(code), wholes("hidden", hidden)
        encoder = nn.Sequential([*(nn.Dense(units, "relu") for units in hidden), nn.Dense(parts)])
        decoder = nn.Sequential([*(nn.Dense(units, "relu") for units in reversed(hidden)), nn.Dense(whole("size", size))])
        return cls(encoder, decoder, **options)

    @classmethod
    def convolutional(cls, shape: Sequence[int], code: int, filters: Sequence[int] = (16, 32), **options: Any) -> Self:
        """For pictures of shape (height, width, channels): each convolution halves the sides, and each transposed one doubles them.

        Raises
        ------
        ArgumentError
            If a side cannot be halved as often.
        """
        if len(wholes("shape", shape)) != 3 or not wholes("filters", filters):
            raise ArgumentError(f"pictures have a shape (height, width, channels), and there are filters, got {shape!r} and {filters!r}.")
        height, width, channels = shape
        factor = 2 ** len(filters)
        if height % factor or width % factor:
            raise ArgumentError(f"sides of {height} and {width} cannot be halved {len(filters)} times: pad them, or give fewer filters.")
        small = (height // factor, width // factor, filters[-1])
        down = [nn.Conv2D(count, 3, "relu", strides=2, padding="same") for count in filters]
        back = [*reversed(filters[:-1]), channels]
        up = [nn.Conv2DTranspose(n, 3, "relu" if i < len(back) - 1 else None, strides=2, padding="same") for i, n in enumerate(back)]
        encoder = nn.Sequential([*down, nn.Flatten(), nn.Dense(cls._codes(code))])
        decoder = nn.Sequential([nn.Dense(int(np.prod(small)), "relu"), nn.Reshape(small), *up])
        return cls(encoder, decoder, **options)

    @staticmethod
    def _codes(code: int) -> int:
        return whole("code", code)

    def fit(self, x: Any, epochs: int = 20, batch_size: int = 32, *, engine: Any = "auto", shards: Any = "auto", verbose: int = 0) -> Self:
        """Train on rows; a second call goes on, with the engine and the shards of the first. See `Trainer.fit`."""
        if self.trainer is None:
            specs = open_source(x, targets=None, dtype=np.float32, check=False).columns.of_x.specs
            if len(specs) != 1:
                raise DataError(f"an autoencoder takes one array of rows, got {len(specs)}.")
            self.trainer = self._made(np.zeros((1, *specs[0].shape), np.float32), engine, shards)
            self._first_fit = {"engine": engine, "shards": shards}
        refuse_changes(self._first_fit, engine=(engine, "auto"), shards=(shards, "auto"))
        self.history = self.trainer.fit(x, epochs=epochs, batch_size=batch_size, verbose=verbose)
        return self

    def _made(self, row: Array, engine: Any, shards: Any) -> Trainer:
        encoder, state = self.encoder.init(derive(key(self.seed), 0), row)
        code = self.encoder.apply(encoder, state, row)[0]
        code = np.asarray(self._decoded(code), np.float32)
        self._code = code.shape[-1]
        decoder, other = self.decoder.init(derive(key(self.seed), 1), code)
        if state or other:
            raise ArgumentError("layers of autoencoders keep no state of their own: use no BatchNorm; LayerNorm works.")
        if (back := self.decoder.apply(decoder, {}, code)[0].shape) != row.shape:
            raise ShapeError(f"the decoder gives rows of shape {tuple(back[1:])}, and those of x have the shape {row.shape[1:]}.")
        parameters = {"encoder": encoder, "decoder": decoder}
        return Trainer(self._rule(), parameters=parameters, optimizer=self.optimizer, shards=shards, seed=self.seed, engine=engine)

    def _rule(self) -> Contribution:
        return Contribution(_Reconstruction(self.encoder, self.decoder, self.noise), ["error"])

    def _decoded(self, code: Any) -> Any:
        """What the decoder takes of the encoder's output."""
        return code

    def _run(self, layer: nn.Layer, name: str, x: Any) -> Array:
        if self.trainer is None:
            raise ArgumentError("the autoencoder has learnt nothing yet: call fit(x) first.")
        parameters = self.trainer.parameters[name]
        if name not in self._compiled:
            self._compiled[name] = compiled(lambda given, rows: layer.apply(given, {}, rows)[0])
        run = self._compiled[name]
        x = np.asarray(rows_of(x), np.float32)
        return np.concatenate([np.asarray(run(parameters, x[i : i + _ROWS])) for i in range(0, len(x), _ROWS)])

    def encode(self, x: Any) -> Array:
        """The codes of rows, without noise."""
        return np.asarray(self._decoded(self._run(self.encoder, "encoder", x)))

    def decode(self, codes: Any) -> Array:
        """The rows of codes."""
        return self._run(self.decoder, "decoder", codes)

    def reconstruct(self, x: Any) -> Array:
        """The rows that are given back."""
        return self.decode(self.encode(x))

    def error(self, x: Any) -> float:
        """The mean squared difference of a value and what is given back."""
        return float(np.mean((self.reconstruct(x) - np.asarray(x)) ** 2, dtype=np.float64))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parameters; equal fingerprints mean equal bits."""
        if self.trainer is None:
            raise ArgumentError("the autoencoder has learnt nothing yet: call fit(x) first.")
        return self.trainer.state.fingerprint


_ROWS = 1024
"""Rows that are coded together."""


class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose codes are distributions, and from whose normal codes new rows are made.

    The encoder gives means and logarithms of variances; the loss is half the squared error over `variance`, and the divergence of the codes
    from the normal distribution, which together bound −log p(x) from above.

    Parameters
    ----------
    encoder
        From rows to twice as many numbers as a code has.
    variance
        Of what the decoder leaves open, for each value: the smaller, the closer rows are given back.
    decoder, optimizer, seed
        As for `Autoencoder`.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(256, 1)) * np.ones((1, 8))
    >>> coder = dt.unsupervised.VariationalAutoencoder.dense(8, code=2, hidden=(16,)).fit(x, epochs=40)
    >>> coder.sample(5).shape
    (5, 8)
    """

    def __init__(self, encoder: nn.Layer, decoder: nn.Layer, *, variance: float = 0.1, optimizer: Any = "adam", seed: int = 0) -> None:
        super().__init__(encoder, decoder, optimizer=optimizer, seed=seed)
        self.variance = positive("variance", variance)

    @staticmethod
    def _codes(code: int) -> int:
        return 2 * whole("code", code)

    def _rule(self) -> Contribution:
        return Contribution(_Bound(self.encoder, self.decoder, self.variance), ["bound", "divergence"])

    def _decoded(self, code: Any) -> Any:
        return code[:, : code.shape[1] // 2]

    def sample(self, count: int, seed: int = 0) -> Array:
        """New rows, of codes from the normal distribution."""
        return self.decode(np.random.default_rng(checked_seed(seed)).normal(size=(whole("count", count), self._code)))


@dataclass(frozen=True)
class _Reconstruction:
    """Gradients of the squared error of rows that came through noise."""

    encoder: nn.Layer
    decoder: nn.Layer
    noise: float
    __name__ = "reconstruction"

    def __call__(self, parameters: Any, x: Any, key: Any) -> Any:
        seen = x * (uniform(key, x.shape) >= self.noise).astype(x.dtype) if self.noise else x

        def cost(given: Any) -> Any:
            code = self.encoder.apply(given["encoder"], {}, seen, key=fold_in(key, 1), training=True)[0]
            back = self.decoder.apply(given["decoder"], {}, code, key=fold_in(key, 2), training=True)[0]
            return np.sum((back - x) ** 2) / _values(x)

        value, gradients = value_and_grad(cost)(parameters)
        return gradients, {"error": (value, x.shape[0])}


@dataclass(frozen=True)
class _Bound:
    """Gradients of the bound of −log p(x), up to a constant."""

    encoder: nn.Layer
    decoder: nn.Layer
    variance: float
    __name__ = "variational_bound"

    def __call__(self, parameters: Any, x: Any, key: Any) -> Any:
        def cost(given: Any) -> Any:
            mean, logarithm = np.split(self.encoder.apply(given["encoder"], {}, x, key=fold_in(key, 1), training=True)[0], 2, axis=1)
            code = mean + np.exp(0.5 * logarithm) * normal(key, mean.shape).astype(x.dtype)
            back = self.decoder.apply(given["decoder"], {}, code, key=fold_in(key, 2), training=True)[0]
            divergence = 0.5 * np.sum(np.exp(logarithm) + mean**2 - 1 - logarithm)
            return np.sum((back - x) ** 2) / (2 * self.variance) + divergence, divergence

        value, gradients = value_and_grad(lambda given: cost(given)[0])(parameters)
        return gradients, {"bound": (value, x.shape[0]), "divergence": (cost(parameters)[1], x.shape[0])}


def _values(x: Any) -> int:
    """Numbers in a row."""
    return int(np.prod(x.shape[1:]))
