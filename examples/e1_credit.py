"""Credit scoring: how probable a default is, and why, by a network on a table with text and gaps.

50,000 applicants of a process whose every probability and effect is known: twelve columns with interactions, four of categories and three
with gaps. The network learns from a dask DataFrame as it is.

    probabilities   calibrated by a temperature on held-out applicants; area under the curve (AUC) and Brier score beside the process's own,
                    logistic regression and gradient boosting on the same rows
    reasons         shares of the columns in the logit by integrated gradients, beside a typical applicant who pays; the first reason is
                    right if the column with the largest share is that of the largest true effect, which is its Shapley value

Run: python examples/e1_credit.py [FOLDER]    half a minute; a folder for pictures, which need matplotlib
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
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

import dagtrain as dt
from dagtrain import nn
from dagtrain.data.generated import CREDIT

LABEL = "defaults"
SKEWED = ["income", "amount", "years employed", "late payments"]
CATEGORIES = [name for name, column in CREDIT.draw(1).columns.items() if column.dtype == object]


def frame(first: int, count: int, seed: int) -> pd.DataFrame:
    """Applicants from number `first` on, with what became of them."""
    cases = CREDIT.draw(count, seed, first)
    return pd.DataFrame({**cases.columns, LABEL: cases.y})


def train(count: int, seed: int, epochs: int, partition: int = 5000) -> dt.Trainer:
    """A network trained on the first `count` applicants, in partitions of a dask DataFrame, with a layer to calibrate it."""
    make = partial(frame, count=min(partition, count), seed=seed)
    table = dd.from_map(make, range(0, count, partition), meta=make(0)[:0]).persist()
    applicants, defaults = table.drop(columns=LABEL), table[LABEL]
    features = dt.data.Features.learn(applicants, log=SKEWED)
    layers = [nn.FeatureEmbedding(features), nn.Dense(256, "gelu_tanh"), nn.Dense(128, "gelu_tanh"), nn.Dense(1), nn.Temperature()]
    rates = dt.optim.cosine(3e-3, epochs * -(-count // 128))
    optimizer = dt.optim.adamw(rates, weight_decay=0.1)
    trainer = dt.Trainer(nn.Sequential(layers), loss="binary_cross_entropy", optimizer=optimizer, seed=seed)
    trainer.fit(applicants, defaults, epochs=epochs, batch_size=128, verbose=0)
    return trainer


def opponents(x: pd.DataFrame, y: np.ndarray, new: pd.DataFrame) -> dict[str, np.ndarray]:
    """Probabilities of scikit-learn's models, which get the logarithms of skewed columns, too."""
    x, new = (rows.assign(**{name: np.log1p(rows[name]) for name in SKEWED}) for rows in (x, new))
    numbers = [name for name in x.columns if name not in CATEGORIES]
    scaled = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    prepared = make_column_transformer((scaled, numbers), (OneHotEncoder(handle_unknown="ignore"), CATEGORIES))
    typed, new_typed = (rows.astype(dict.fromkeys(CATEGORIES, "category")) for rows in (x, new))
    with threadpool_limits(1):  # two threads on a busy machine wait for each other
        logistic = make_pipeline(prepared, LogisticRegression(max_iter=1000)).fit(x, y)
        boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", early_stopping=True, random_state=0).fit(typed, y)
    return {"logistic regression": logistic.predict_proba(new)[:, 1], "gradient boosting": boosting.predict_proba(new_typed)[:, 1]}


def typical(rows: pd.DataFrame) -> pd.DataFrame:
    """One row: the middle of each column of numbers, the most frequent category of the others."""
    middle = {name: rows[name].mode()[0] if name in CATEGORIES else rows[name].median() for name in rows.columns}
    return pd.DataFrame([middle])


def reasons(trainer: dt.Trainer, rows: pd.DataFrame, baseline: pd.DataFrame, picture: Path | None = None) -> dict[str, Any]:
    """How often the first reason is right, the first of which is printed; and the largest gap of completeness."""
    features = trainer.model.layers[0].features
    found = dt.explain.integrated_gradients(trainer, rows, baseline=baseline)
    shares = features.by_column(found.values)
    effects = CREDIT.effects({name: rows[name].to_numpy() for name in rows.columns}, baseline.iloc[0].to_dict())
    true = np.stack([effects[name] for name in features.names], axis=1)
    print(f"why applicant {rows.index[0]}: a logit of {found.scores[0]:.2f} beside {found.baseline_scores[0]:.2f}; gap {found.gap[0]:+.4f}")
    for i in np.argsort(-shares[0])[:4]:
        name = features.names[i]
        print(f"    {name:16} {rows[name].iloc[0]!s:14} share {shares[0, i]:+.2f}, true effect {true[0, i]:+.2f}")
    if picture is not None:
        values = [value if isinstance(value, str) else "missing" if pd.isna(value) else f"{value:g}" for value in rows.iloc[0]]
        bars = {f"{name}: {value}": float(share) for name, value, share in zip(rows.columns, values, shares[0], strict=True)}
        dt.explain.plot_shares(bars, title="Shares in the logit of a default", filename=picture / "credit-reasons.png")
    right = np.mean(shares.argmax(axis=1) == true.argmax(axis=1))
    return {"first reasons": float(right), "gap": float(abs(found.gap).max())}


def main(quick: bool = False, seed: int = 0, folder: str | None = None) -> dict[str, Any]:
    """All figures; in the short form of a fifth of the applicants."""
    start = time.perf_counter()
    count, epochs = (10_000, 5) if quick else (50_000, 12)
    trained, held_out = int(0.7 * count), int(0.8 * count)
    picture = None if folder is None else Path(folder)
    trainer = train(trained, seed, epochs)
    everyone = frame(0, count, seed)
    x, y = everyone.drop(columns=LABEL), everyone[LABEL].to_numpy()
    fitted = dt.calibrate(trainer, x[trained:held_out], y[trained:held_out])
    network = time.perf_counter() - start
    new, became = x[held_out:], y[held_out:]
    bayes = CREDIT.draw(count, seed).probability[held_out:]
    named = {"network": trainer.predict(new, probabilities=True).ravel(), **opponents(x[:trained], y[:trained], new), "process": bayes}
    results: dict[str, Any] = {"figure": "area under the curve of credit scores", "fingerprint": trainer.history.fingerprint}
    for name, probability in named.items():
        auc, brier = roc_auc_score(became, probability), brier_score_loss(became, probability)
        results |= {f"AUC, {name}": float(auc), f"Brier, {name}": float(brier)}
        print(f"{name:20} AUC {auc:.4f}   Brier {brier:.4f}")
    print(f"temperature {fitted.temperature:.3f}; {network:.1f} s to learn and calibrate")
    refused = np.argsort(-named["network"])[: len(new) // 10]
    results |= reasons(trainer, new.iloc[refused], typical(x[:trained][y[:trained] == 0]), picture)
    print(f"first reasons right: {results['first reasons']:.1%} of {len(refused)}; largest gap {results['gap']:.4f}")
    if picture is not None:
        tenths = np.array_split(np.argsort(named["network"]), 10)
        lines = {
            name: [values[rows].mean() for rows in tenths] for name, values in (("predicted", named["network"]), ("became true", became))
        }
        dt.explain.plot_lines(lines, x="tenth of the applicants", y="defaults", filename=picture / "credit-calibration.png")
    return {**results, "value": results["AUC, network"], "bound": results["AUC, process"], "seconds": network}


if __name__ == "__main__":
    main(folder=sys.argv[1] if len(sys.argv) > 1 else None)
