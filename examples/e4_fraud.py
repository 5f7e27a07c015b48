"""Fraud among payments by card: one in a hundred, learnt from earlier days, by a network on a table with text and gaps.

200,000 payments in the order of time, of a process whose every probability is known. The network learns from the first 36 days by a focal
loss, is calibrated on the next four, and ranks the payments of the last ten.

    precision    average precision beside the process's own, logistic regression and gradient boosting on the same rows
    alerts       the part of all frauds among a fixed number of most suspicious payments
    costs        of alerts, 5 each, and of missed frauds, their amounts: by number of alerts, and where each payment is an alert whose
                 probability times amount is above 5, as only calibrated probabilities allow

Run: python examples/e4_fraud.py [FOLDER]    a minute; a folder for a picture, which needs matplotlib
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

import dagtrain as dt
from dagtrain import nn
from dagtrain.data.generated import PAYMENTS

LABEL = "is fraud"
SKEWED = ["amount", "distance", "minutes before", "months of account"]
CATEGORIES = [name for name, column in PAYMENTS.draw(1).columns.items() if column.dtype == object]
AN_ALERT, A_DAY = 5.0, 4000


def frame(first: int, count: int, seed: int) -> pd.DataFrame:
    """Payments from number `first` on, and whether they are fraud; without their day, since each to come is unlike all before."""
    cases = PAYMENTS.draw(count, seed, first)
    return pd.DataFrame({**cases.columns, LABEL: cases.y}).drop(columns="day")


def train(count: int, seed: int, epochs: int, partition: int = 12_000) -> dt.Trainer:
    """A network trained on the first `count` payments, in partitions of a dask DataFrame, with a layer to calibrate it."""
    make = partial(frame, count=min(partition, count), seed=seed)
    table = dd.from_map(make, range(0, count, partition), meta=make(0)[:0]).persist()
    payments, frauds = table.drop(columns=LABEL), table[LABEL]
    features = dt.data.Features.learn(payments, log=SKEWED)
    layers = [layer for _ in range(2) for layer in (nn.Dense(64, "gelu"), nn.Dropout(0.1))]
    model = nn.Sequential([nn.FeatureEmbedding(features), *layers, nn.Dense(1), nn.Temperature(offset=True)])
    optimizer = dt.optim.adamw(dt.optim.cosine(6e-3, epochs * -(-count // 256)), weight_decay=0.03)
    loss = dt.nn.losses.find("binary_focal_cross_entropy", gamma=1.0, alpha=0.5)
    trainer = dt.Trainer(model, loss=loss, optimizer=optimizer, seed=seed)
    trainer.fit(payments, frauds, epochs=epochs, batch_size=256, verbose=0)
    return trainer


def opponents(x: pd.DataFrame, y: np.ndarray, new: pd.DataFrame) -> dict[str, np.ndarray]:
    """Probabilities of scikit-learn's models, with the logarithms of skewed columns; slow boosting is better here than the default."""
    x, new = (rows.assign(**{name: np.log1p(rows[name]) for name in SKEWED}) for rows in (x, new))
    numbers = [name for name in x.columns if name not in CATEGORIES]
    scaled = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    prepared = make_column_transformer((scaled, numbers), (OneHotEncoder(handle_unknown="ignore"), CATEGORIES))
    typed, new_typed = (rows.astype(dict.fromkeys(CATEGORIES, "category")) for rows in (x, new))
    slow = {"learning_rate": 0.05, "max_iter": 300, "early_stopping": True, "random_state": 0}
    with threadpool_limits(1):  # two threads on a busy machine wait for each other
        logistic = make_pipeline(prepared, LogisticRegression(max_iter=1000)).fit(x, y)
        boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", **slow).fit(typed, y)
    return {"logistic regression": logistic.predict_proba(new)[:, 1], "gradient boosting": boosting.predict_proba(new_typed)[:, 1]}


def costs(probability: np.ndarray, amount: np.ndarray, is_fraud: np.ndarray) -> tuple[np.ndarray, float]:
    """The cost of each number of alerts, from none up, at the largest expected losses; and where these are above the cost of an alert."""
    expected = probability * amount
    order = np.argsort(-expected, kind="stable")
    missed = np.sum(amount * is_fraud) - np.cumsum(amount[order] * is_fraud[order])
    by_number = np.concatenate([[np.sum(amount * is_fraud)], missed]) + AN_ALERT * np.arange(len(order) + 1)
    return by_number, float(by_number[np.sum(expected > AN_ALERT)])


def main(quick: bool = False, seed: int = 0, folder: str | None = None) -> dict[str, Any]:
    """All figures; in the short form of fewer days."""
    start = time.perf_counter()
    days, epochs = ((8, 1, 4), 4) if quick else ((36, 4, 10), 12)
    trained, held_out, count = (int(day) * A_DAY for day in np.cumsum(days))
    trainer = train(trained, seed, epochs)
    everything = frame(0, count, seed)
    x, y = everything.drop(columns=LABEL), everything[LABEL].to_numpy()
    new, is_fraud, amount = x[held_out:], y[held_out:], x["amount"].to_numpy()[held_out:]
    before = log_loss(is_fraud, trainer.predict(new, probabilities=True).ravel().astype(float))
    dt.calibrate(trainer, x[trained:held_out], y[trained:held_out])
    seconds = time.perf_counter() - start
    process = PAYMENTS.draw(count, seed).probability[held_out:]
    network = trainer.predict(new, probabilities=True).ravel().astype(float)
    named = {"network": network, **opponents(x[:trained], y[:trained], new), "process": process}
    alerts = len(new) // 100
    results: dict[str, Any] = {"figure": "average precision of frauds", "fingerprint": trainer.history.fingerprint, "seconds": seconds}
    curves = {}
    for name, probability in named.items():
        precision = float(average_precision_score(is_fraud, probability))
        recall = float(is_fraud[np.argsort(-probability, kind="stable")[:alerts]].sum() / is_fraud.sum())
        curves[name], decided = costs(probability, amount, is_fraud)
        results |= {f"precision, {name}": precision, f"recall, {name}": recall, f"cost, {name}": decided}
        print(f"{name:20} average precision {precision:.3f}   {recall:5.1%} of frauds in {alerts} alerts", end="   ")
        print(f"cost {decided:8,.0f}, by the best number of alerts {curves[name].min():8,.0f}")
    results |= {"log loss before": before, "log loss": log_loss(is_fraud, network), "log loss, process": log_loss(is_fraud, process)}
    print(
        f"cost without alerts {curves['network'][0]:,.0f}; log loss {before:.4f}, calibrated {results['log loss']:.4f}, of the process",
        end=" ",
    )
    print(f"{results['log loss, process']:.4f}; {seconds:.1f} s to learn and calibrate")
    if folder is not None:
        shown = {name: curves[name][:: days[2]][: A_DAY // 8] for name in ("network", "gradient boosting", "process")}
        dt.explain.plot_lines(shown, x="alerts a day", y="cost", filename=Path(folder) / "fraud-costs.png")
    return {
        **results,
        "cost, none": float(curves["network"][0]),
        "value": results["precision, network"],
        "bound": results["precision, process"],
    }


if __name__ == "__main__":
    main(folder=sys.argv[1] if len(sys.argv) > 1 else None)
