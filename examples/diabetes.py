"""Regression on few rows: a small network predicts how a diabetes progresses, beside ridge regression and scikit-learn's network.

    442 patients, 10 measurements ──▶ Dense(32, tanh) ──▶ Dense(1)        R² over 5 splits, each standardised by its own training part

With so few rows the danger is fitting noise: weights decay strongly and the rate falls to zero. Each figure is the mean over 5 splits.

Run: python examples/diabetes.py
"""

from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

import dagtrain as dt
from dagtrain import nn

Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def network(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Predictions of a network of this package."""
    epochs, batch = 20, 64
    rates = dt.optim.schedules.cosine(1e-2, epochs * -(-len(x) // batch))
    model = nn.Sequential([nn.Dense(32, "tanh"), nn.Dense(1)])
    trainer = dt.Trainer(model, loss="mse", optimizer=dt.optim.adamw(rates, weight_decay=0.5))
    trainer.fit(x, y, epochs=epochs, batch_size=batch, verbose=0)
    return trainer.predict(new).ravel()


def ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Predictions of ridge regression."""
    return Ridge().fit(x, y.ravel()).predict(new)


def theirs(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Predictions of scikit-learn's network, which stops early: without that it is far worse."""
    return MLPRegressor(early_stopping=True, max_iter=1000, random_state=0).fit(x, y.ravel()).predict(new)


def score(predict: Predict, seed: int) -> float:
    """The mean of R² over 5 splits."""
    x, y = load_diabetes(return_X_y=True)
    scores = []
    for train, test in KFold(5, shuffle=True, random_state=seed).split(x):
        inputs, outputs = StandardScaler().fit(x[train]), StandardScaler().fit(y[train, None])
        columns = inputs.transform(x[train]).astype("f4"), outputs.transform(y[train, None]).astype("f4")
        predicted = predict(*columns, inputs.transform(x[test]).astype("f4"))
        scores.append(r2_score(y[test], outputs.inverse_transform(predicted[:, None]).ravel()))
    return float(np.mean(scores))


def main(quick: bool = False) -> dict[str, float]:
    """Print and return the mean of R² over the splits, of several shuffles in the long form."""
    shuffles = range(1 if quick else 5)
    means = {f.__name__: float(np.mean([score(f, seed) for seed in shuffles])) for f in (network, ridge, theirs)}
    for name, mean in means.items():
        print(f"{name:<8} R² {mean:.4f}")
    return means


if __name__ == "__main__":
    main()
