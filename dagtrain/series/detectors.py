"""Detectors of anomalies in a series: networks that learn what is normal, and scores of what differs from it.

    series ─▶ scaled ─▶ windows ─▶ network ─▶ what is expected of each row ─▶ residual ─▶ score ─▶ above the threshold?

The first part of the training series trains the network; residuals of the rest, which it never saw, give the scale of scores and their
threshold. No anomaly is needed, and no label.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from dagtrain import nn
from dagtrain.arguments import fraction, whole
from dagtrain.arguments import seed as checked_seed
from dagtrain.data import moments, windows
from dagtrain.data.tables import header_of
from dagtrain.errors import ArgumentError, CheckpointError, DataError, ShapeError
from dagtrain.graph import Array
from dagtrain.hinting import Hinted
from dagtrain.report.table import plural
from dagtrain.series import saving
from dagtrain.series.rows import finite, opened
from dagtrain.series.threshold import FEWEST, checked_risk, tail_threshold
from dagtrain.train import Trainer, load

__all__ = ["AutoencodingDetector", "Detector", "RecurrentDetector"]

_NUMBERS = ("mean", "scale", "centre", "white")
"""What scales rows and judges residuals."""
_NARROW, _SMALL = 1e-4, 1e-6
"""Deviations, as a share of the mean and by themselves, below which channels are scaled with more care."""
_PIECE = 4096
"""Windows whose reconstructions are in memory at once."""


class Detector(Hinted, ABC):
    """What detectors share: scaling, the score of residuals, and the threshold.

    A detector of one's own has two methods: ``learn(series)`` of scaled rows, and ``residuals(series)``, which gives of scaled rows how far
    each is from what is normal, (rows, channels); NaN where it cannot tell.

    Parameters
    ----------
    smooth
        Rows over which scores are averaged, around each row.
    risk
        How often a normal row may be called anomalous; see `dagtrain.series.tail_threshold`.
    held_out
        Share of the training series, at its end, that gives the threshold.

    Attributes
    ----------
    threshold
        The score above which a row is anomalous.
    least_rows
        Rows from which on a residual is known.
    """

    threshold = np.inf
    least_rows = 1

    def __init__(self, *, smooth: int = 5, risk: float = 1e-4, held_out: float = 0.3) -> None:
        self.smooth, self.held_out = whole("smooth", smooth), fraction("held_out", held_out)
        self.risk = checked_risk(type(self).__name__, risk)
        if not held_out:
            raise ArgumentError("held_out: the threshold needs rows that the network was not trained on: give a share above 0.")
        self._mean: Array | None = None
        self._header: tuple[str, ...] = ()

    @abstractmethod
    def learn(self, series: Any) -> None:
        """Learn what is normal from scaled rows, a NumPy or dask array."""

    @abstractmethod
    def residuals(self, series: Array) -> Array:
        """How far each scaled row is from what is normal, of its shape; NaN where it cannot be told."""

    def fit(self, series: Any) -> Self:
        """Learn from a normal series, (rows, channels): an array or a table, or a dask array whose blocks stay where they lie.

        Raises
        ------
        ArgumentError, DataError
            Before anything is learnt: if the series has a gap, or too few rows for the threshold.
        """
        header = header_of(series)
        series = opened(series)
        held = int(self.held_out * len(series))
        cut, needed = len(series) - held, max(FEWEST, self.least_rows + 1)
        if held < needed:
            raise ArgumentError(
                f"a series of {len(series)} rows leaves {held} for the threshold by held_out={self.held_out}, and it needs {needed}: give "
                "more rows, or a larger share."
            )
        later = finite(np.asarray(series[cut:]), cut)
        if isinstance(series, np.ndarray):
            finite(series[:cut])
        statistics = moments(series[:cut])
        if (np.sqrt(statistics.variance) < _NARROW * abs(statistics.mean)).any():  # which float32 does not hold
            statistics = moments(series[:cut], dtype=np.float64)
        deviation = np.sqrt(statistics.variance)
        self._header = header
        self._mean, self._scale = statistics.mean, np.where((deviation > 0) & (deviation < _SMALL), deviation, deviation + 1e-9)
        self.learn(self._scaled(series[:cut]))
        residuals = self._residuals(later)
        known = residuals[~np.isnan(residuals).any(axis=1)]
        self._centre = known.mean(axis=0)
        covariance = np.cov((known - self._centre).T).reshape(known.shape[1], -1)
        self._white = np.linalg.inv(np.linalg.cholesky(covariance + 1e-6 * np.eye(len(covariance)))).T
        self.threshold = tail_threshold(self._smoothed(residuals), self.risk)
        return self

    def scores(self, series: Any) -> Array:
        """The score of each row of a series without gaps.

        It is the squared distance of a row's residual from normal ones, in their units, averaged over `smooth` rows.
        """
        return self._smoothed(self._residuals(self._checked(series)))

    def detect(self, series: Any) -> Array:
        """Whether each row is anomalous."""
        return np.asarray(self.scores(series) > self.threshold)

    def _checked(self, series: Any) -> Array:
        if self._mean is None:
            raise ArgumentError("the detector has learnt nothing yet: call fit(series) first.")
        array = np.asarray(opened(series, self._header))
        if array.shape[1] != len(self._mean):
            raise ShapeError(f"the detector learnt from {plural(len(self._mean), 'channel')}, and the series has the shape {array.shape}.")
        if len(array) < self.least_rows:
            raise DataError(
                f"the detector needs {plural(self.least_rows, 'row')} to judge one, and the series has {len(array)}: give more of them."
            )
        return finite(array)

    def _scaled(self, series: Any) -> Any:
        return ((series - self._mean) / self._scale).astype(np.float32)

    def _residuals(self, series: Array) -> Array:
        scaled = self._scaled(series)
        return np.asarray(self.residuals(scaled), np.float64)

    def _smoothed(self, residuals: Array) -> Array:
        """Scores of residuals; 0 where nothing is known."""
        squares = np.nan_to_num((((residuals - self._centre) @ self._white) ** 2).sum(axis=1))
        sums = np.cumsum(np.concatenate([[0.0], squares]))
        rows = np.arange(len(squares))
        low, high = np.maximum(rows - self.smooth // 2, 0), np.minimum(rows + (self.smooth + 1) // 2, len(squares))
        return np.asarray((sums[high] - sums[low]) / (high - low))


class _Network(Detector):
    """A detector by a trainer."""

    def __init__(
        self,
        width: int,
        *,
        epochs: int,
        batch_size: int,
        optimizer: Any,
        seed: int,
        engine: Any,
        shards: Any,
        smooth: int,
        risk: float,
        held_out: float,
    ) -> None:
        super().__init__(smooth=smooth, risk=risk, held_out=held_out)
        self.width, self.epochs, self.batch_size = whole("width", width, 2), whole("epochs", epochs), whole("batch_size", batch_size)
        self._options = {"optimizer": optimizer, "seed": checked_seed(seed), "engine": engine, "shards": shards}
        self.trainer: Trainer | None = None

    @property
    def least_rows(self) -> int:  # type: ignore[override]  # read alone
        """Those of a window."""
        return self.width

    def _train(self, model: nn.Layer, loss: Any, x: Any, y: Any) -> None:
        self.trainer = Trainer(model, loss=loss, **self._options)
        self.trainer.fit(x, y, epochs=self.epochs, batch_size=self.batch_size, verbose=0)

    def _predicted(self, x: Any) -> Array:
        return np.asarray(self._fitted.predict(x))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parameters; equal fingerprints mean equal bits."""
        return self._fitted.state.fingerprint

    @property
    def _fitted(self) -> Trainer:
        if self.trainer is None:
            raise ArgumentError("the detector has learnt nothing yet: call fit(series) first.")
        return self.trainer

    def save(self, path: Any) -> None:
        """Write the fitted detector to a folder or fsspec address; an older one there counts until the new one is whole."""
        trainer, names = self._fitted, inspect.signature(type(self)).parameters
        settings = {name: getattr(self, name) for name in names if hasattr(self, name)} | {"seed": self._options["seed"]}
        arrays = {name: np.asarray(getattr(self, f"_{name}")).tolist() for name in _NUMBERS}
        saving.write(path, saving.Saved(type(self).__name__, settings, list(self._header), self.threshold, arrays), trainer)

    @classmethod
    def load(cls, path: Any, *, engine: Any = "auto", shards: Any = "auto") -> Self:
        """The detector that `save` wrote, ready to judge rows; engine and shards are those of a further fit.

        Raises
        ------
        CheckpointError
            If there is none of this kind, or it is not what was saved.
        """
        saved, network = saving.read(path, cls.__name__)
        trainer = load(network, custom={"normal_likelihood": normal_likelihood}, engine=engine)
        try:
            detector = cls(**saved.settings, optimizer=trainer.optimizer, engine=engine, shards=shards)
            detector.trainer, detector.threshold, detector._header = trainer, saved.threshold, tuple(saved.header)
            for name in _NUMBERS:
                setattr(detector, f"_{name}", saved.arrays[name])
        except (TypeError, KeyError, ArgumentError) as error:
            raise CheckpointError(f"{path} is not what a {cls.__name__} saved: {error}") from error
        return detector


class RecurrentDetector(_Network):
    """A recurrent network that forecasts each row from the `width` rows before it.

    Parameters
    ----------
    width
        Rows that a forecast sees.
    units
        Of the GRU layer.
    epochs, batch_size, optimizer, seed, engine, shards
        As for `dagtrain.Trainer` and its `fit`.
    smooth, risk, held_out
        As for `Detector`.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> from dagtrain.series import RecurrentDetector
    >>> wave = np.sin(np.arange(1500) / 5)[:, None] + 0.05 * np.random.default_rng(0).normal(size=(1500, 1))
    >>> detector = RecurrentDetector(16, units=8, epochs=10, optimizer=dt.optim.adam(1e-2)).fit(wave[:1200])
    >>> broken = wave[1200:].copy()
    >>> broken[100:120] = broken[100]  # a value that is often seen
    >>> found = detector.detect(broken)
    >>> bool(found[100:125].any()), bool(found[:98].any())
    (True, False)
    """

    def __init__(
        self,
        width: int = 32,
        units: int = 32,
        *,
        epochs: int = 20,
        batch_size: int = 64,
        optimizer: Any = "adam",
        seed: int = 0,
        engine: Any = "auto",
        shards: Any = "auto",
        smooth: int = 5,
        risk: float = 1e-4,
        held_out: float = 0.3,
    ) -> None:
        options = {"optimizer": optimizer, "seed": seed, "engine": engine, "shards": shards}
        super().__init__(width, epochs=epochs, batch_size=batch_size, smooth=smooth, risk=risk, held_out=held_out, **options)
        self.units = whole("units", units)

    @property
    def least_rows(self) -> int:  # type: ignore[override]  # read alone
        """Those of a window, and the row after it."""
        return self.width + 1

    def learn(self, series: Any) -> None:
        """Train on all windows but the last, each with the row after it."""
        model = nn.Sequential([nn.GRU(self.units), nn.Dense(self.units, "relu"), nn.Dense(2 * series.shape[1])])
        self._train(model, normal_likelihood, windows(series, self.width)[:-1], series[self.width :])

    def residuals(self, series: Array) -> Array:
        """The difference of each row from its forecast, in deviations of the forecast; NaN for the first rows."""
        mean, deviation = _normal(self._predicted(windows(series, self.width)[:-1]))
        return np.concatenate([np.full((self.width, series.shape[1]), np.nan), (series[self.width :] - mean) / deviation])


class AutoencodingDetector(_Network):
    """An autoencoder of windows; a row is expected to be what the windows that hold it give back, on average.

    Parameters
    ----------
    width
        Rows of a window.
    code
        Numbers that a window passes through.
    hidden
        Units of the layers before and after the code.
    noise
        Share of the values of a window that training hides.
    epochs, batch_size, optimizer, seed, engine, shards
        As for `dagtrain.Trainer` and its `fit`.
    smooth, risk, held_out
        As for `Detector`.

    Examples
    --------
    >>> import numpy as np
    >>> from dagtrain.series import AutoencodingDetector
    >>> angle = np.cumsum(np.random.default_rng(0).normal(size=2000))[:, None] / 5
    >>> pair = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    >>> detector = AutoencodingDetector(4, code=4, hidden=32, epochs=10).fit(pair[:1500])
    >>> broken = pair[1500:].copy()
    >>> broken[200:230, 0] *= -1
    >>> bool(detector.detect(broken)[200:230].any())
    True
    """

    def __init__(
        self,
        width: int = 16,
        code: int = 12,
        hidden: int = 64,
        noise: float = 0.2,
        *,
        epochs: int = 30,
        batch_size: int = 64,
        optimizer: Any = "adam",
        seed: int = 0,
        engine: Any = "auto",
        shards: Any = "auto",
        smooth: int = 5,
        risk: float = 1e-4,
        held_out: float = 0.3,
    ) -> None:
        options = {"optimizer": optimizer, "seed": seed, "engine": engine, "shards": shards}
        super().__init__(width, epochs=epochs, batch_size=batch_size, smooth=smooth, risk=risk, held_out=held_out, **options)
        self.code, self.hidden, self.noise = whole("code", code), whole("hidden", hidden), fraction("noise", noise)

    def learn(self, series: Any) -> None:
        """Train windows to give themselves back."""
        size = self.width * series.shape[1]
        layers = [nn.Dense(self.hidden, "relu"), nn.Dense(self.code), nn.Dense(self.hidden, "relu"), nn.Dense(size)]
        samples = windows(series, self.width)
        self._train(
            nn.Sequential([nn.Dropout(self.noise), nn.Flatten(), *layers, nn.Reshape((self.width, series.shape[1]))]),
            "mean_squared_error",
            samples,
            samples,
        )

    def residuals(self, series: Array) -> Array:
        """The difference of each row from what the windows that hold it give back, on average."""
        return series - mean_over_windows(self._predicted, series, self.width)


def normal_likelihood(outputs: Any, targets: Any) -> Any:
    """The negative logarithm of the normal density, up to a constant, of outputs that are means and logarithms of deviations."""
    mean, deviation = _normal(outputs)
    return 0.5 * np.square((targets - mean) / deviation) + np.log(deviation)


def _normal(outputs: Any) -> tuple[Any, Any]:
    channels = outputs.shape[-1] // 2
    return outputs[..., :channels], np.exp(4 * np.tanh(outputs[..., channels:] / 4))


def mean_over_windows(function: Any, series: Array, width: int) -> Array:
    """The mean, for each row, of what a function of windows gives for it in each window that holds it.

    Examples
    --------
    >>> import numpy as np
    >>> mean_over_windows(lambda seen: seen + [[0.0], [2.0]], np.zeros((4, 1)), 2).ravel()
    array([0., 1., 1., 2.])
    """
    samples = windows(series, width)
    sums, counts = np.zeros(series.shape), np.zeros((len(series), 1))
    for start in range(0, len(samples), _PIECE):
        part = np.asarray(function(samples[start : start + _PIECE]))
        for offset in range(width):
            sums[start + offset : start + offset + len(part)] += part[:, offset]
            counts[start + offset : start + offset + len(part)] += 1
    return sums / counts
