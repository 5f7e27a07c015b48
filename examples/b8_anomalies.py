"""Anomalies in series of sensors and of payments: networks that learn a normal series, beside principal components and one-line rules.

    sensors    load, power, temperature and vibration of a machine    an autoencoder of windows that hides a fifth of their values
    payments   authorised, settled from a queue, and fees, by the hour   a recurrent forecast, and how far it may miss

Each detector gets the same normal series, of which the last part gives its threshold, and then a series with planted anomalies. Scores
count ranges, not rows (`dagtrain.series.range_scores`). The bound is a detector that knows the process, and compares with what it would
have shown without noise. Settings of all detectors, also of the other ones, are the best of a grid on the series of seeds 100 to 102.

Run: python examples/b8_anomalies.py [PICTURE]    five minutes; a file for scores over time, which needs matplotlib
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

import dagtrain as dt
from dagtrain import series
from dagtrain.data import windows
from dagtrain.data.generated import PlantedSeries, machine_sensors, payment_queue

ROWS, LATER, PLANTED = 12_000, 6_000, 24
"""Rows of the normal series and of the later one, and anomalies planted in it."""


class Components(series.Detector):
    """Principal components of windows."""

    def __init__(self, width: int, share: float, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.share = width, share

    def learn(self, rows: np.ndarray) -> None:
        """Fit as many components as explain this share of the variance."""
        self.components = PCA(self.share).fit(windows(rows, self.width).reshape(-1, self.width * rows.shape[1]))

    def residuals(self, rows: np.ndarray) -> np.ndarray:
        """What the components leave of each row, on average over its windows."""

        def back(samples: np.ndarray) -> np.ndarray:
            flat = samples.reshape(len(samples), -1)
            return self.components.inverse_transform(self.components.transform(flat)).reshape(samples.shape)

        return rows - series.mean_over_windows(back, rows, self.width)


class FromMean(series.Detector):
    """How far each row is from the mean."""

    def learn(self, rows: np.ndarray) -> None:
        """The scale is all."""

    def residuals(self, rows: np.ndarray) -> np.ndarray:
        """The scaled row itself."""
        return rows


class FromBefore(FromMean):
    """How far each row is from the one before."""

    def residuals(self, rows: np.ndarray) -> np.ndarray:
        """The step."""
        return np.diff(rows, axis=0, prepend=np.nan * rows[:1])


def rate(peak: float, epochs: int, rows: int) -> dt.optim.Optimizer:
    """Adam at a rate that falls to nothing in these epochs."""
    return dt.optim.adam(dt.optim.cosine(peak, epochs * -(-int(0.7 * rows) // 64)))


def autoencoder(rows: int, seed: int, engine: Any = "auto", epochs: int = 30) -> series.Detector:
    """For the sensors."""
    options = {"epochs": epochs, "optimizer": rate(3e-3, epochs, rows), "seed": seed, "engine": engine}
    return series.AutoencodingDetector(16, code=16, hidden=128, smooth=5, **options)


def recurrent(rows: int, seed: int, engine: Any = "auto", epochs: int = 15) -> series.Detector:
    """For the payments."""
    options = {"epochs": epochs, "optimizer": rate(6e-3, epochs, rows), "seed": seed, "engine": engine}
    return series.RecurrentDetector(24, units=48, smooth=7, risk=1e-3, **options)


Generator = Callable[..., PlantedSeries]
CASES: dict[str, tuple[Generator, dict[str, Callable[[], series.Detector]], Callable[..., series.Detector]]] = {
    "sensors": (
        machine_sensors,
        {
            "components": partial(Components, 16, 0.995, smooth=9),
            "from the mean": partial(FromMean, smooth=7, risk=3e-3),
            "from the row before": partial(FromBefore, smooth=3),
        },
        autoencoder,
    ),
    "payments": (
        payment_queue,
        {
            "components": partial(Components, 24, 0.99, smooth=9, risk=3e-4),
            "from the mean": partial(FromMean, smooth=3, risk=3e-3),
            "from the row before": partial(FromBefore, smooth=3, risk=3e-3),
        },
        recurrent,
    ),
}


def known(normal: PlantedSeries, later: PlantedSeries, smooth: int = 5) -> np.ndarray:
    """What a detector that knows the process calls anomalous."""

    def smoothed(surprise: np.ndarray) -> np.ndarray:
        return np.convolve(surprise, np.ones(smooth) / smooth, "same")

    return smoothed(later.surprise) > series.tail_threshold(smoothed(normal.surprise))


def compare(name: str, seed: int, rows: int = ROWS, later_rows: int = LATER, planted: int = PLANTED, **options: Any) -> dict[str, Any]:
    """F1 by ranges of each detector on one series, and the network."""
    generator, others, network = CASES[name]
    normal, later = generator(rows, seed=1000 + seed), generator(later_rows, seed=2000 + seed, anomalies=planted)
    detectors = {"network": network(rows, seed, **options), **{other: make() for other, make in others.items()}}
    found = {which: detector.fit(normal.values).detect(later.values) for which, detector in detectors.items()}
    found["bound"] = known(normal, later)
    scores = {which: series.range_scores(later.anomalous, flags).f1 for which, flags in found.items()}
    return {"scores": scores, "detector": detectors["network"], "later": later, "found": found}


def draw(results: dict[str, Any], path: str, rows: int = 1000) -> None:
    """The channels of a series, its planted ranges, and the score of the network."""
    from matplotlib.figure import Figure

    later, detector, found = results["later"], results["detector"], results["found"]
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[3, 1, 0.6])
    for channel in range(later.values.shape[1]):
        axes[0].plot(later.values[:rows, channel] + 1.2 * channel, linewidth=0.8)
    axes[1].semilogy(detector.scores(later.values)[:rows] + 0.1, linewidth=0.8, color="black")
    axes[1].axhline(detector.threshold, linestyle="--", linewidth=1, color="#b2182b")
    for i, name in enumerate(("network", "components")):
        for start, stop in series.ranges(found[name][:rows]):
            axes[2].plot([start, stop], [-i, -i], linewidth=5, solid_capstyle="butt", color="#b2182b" if i == 0 else "#2166ac")
    for axis in axes:
        for start, stop in series.ranges(later.anomalous[:rows]):
            axis.axvspan(start, stop, color="0.85", zorder=0)
    axes[0].set(yticks=[], title="payments: authorised, settled, fees; planted anomalies grey")
    axes[1].set(ylabel="score")
    axes[2].set(yticks=[0, -1], yticklabels=["network", "components"], ylim=(-1.6, 0.6), xlabel="hour")
    dt.explain.Plot(figure).save(path)


def main(quick: bool = False, picture: str | None = None) -> dict[str, Any]:
    """Mean F1 by ranges over series of five seeds; in the quick form one, shorter, of the sensors alone."""
    options: dict[str, Any] = {"rows": 6000, "later_rows": 5000, "planted": 20, "epochs": 20} if quick else {}
    results: dict[str, Any] = {}
    for name in ("sensors",) if quick else CASES:
        runs = [compare(name, seed, **options) for seed in range(1 if quick else 5)]
        for which in runs[0]["scores"]:
            results[f"{name}, {which}"] = float(np.mean([run["scores"][which] for run in runs]))
            print(f"{name + ', ' + which:30} {results[f'{name}, {which}']:.3f}")
    if picture is not None:
        draw(runs[0], picture)
    results |= {"figure": f"range-wise F1, {name}", "value": results[f"{name}, network"], "bound": results[f"{name}, bound"]}
    return {**results, "fingerprint": runs[0]["detector"].fingerprint}


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
