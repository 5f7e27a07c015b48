"""Learning without labels, on scikit-learn's handwritten digits, beside what a library or a simpler method reaches on the same splits.

    machines    exact pseudo-likelihood of digits that training never saw: contrastive divergence, persistent chains, BernoulliRBM
    few labels  accuracy with 50 to 1,000 labels: a stack of machines, fine-tuned, beside the same network from scratch; a network on labels
                that were spread to all digits, beside one on the labels alone
    denoising   squared error of digits whose values are partly missing: an autoencoder, beside as many principal components

Run: python examples/b6_unsupervised.py [PICTURE]    twenty minutes; a file for digits, torn and given back, which needs matplotlib
"""

import sys

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neural_network import BernoulliRBM
from sklearn.semi_supervised import LabelSpreading

import dagtrain as dt
from dagtrain import explain, unsupervised
from dagtrain.data import load_digits

nn = dt.nn


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All digits, with values from 0 to 1, and their labels."""
    data = load_digits()
    rows = np.concatenate([data.x, data.x_validation])
    return (rows / rows.max()).astype("f4"), np.concatenate([data.y, data.y_validation])


def machines(splits: int, epochs: int, grey_too: bool) -> dict[str, float]:
    """Means over splits of 80 and 20 %, for binary digits and grey ones."""
    grey, _ = digits()
    settings = {"CD-1": {}, "PCD": {"persistent": True, "momentum": 0.0, "learning_rate": 0.2}}
    figures: dict[str, list[float]] = {}
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(grey))
        for form, x in (("binary", (grey > 0.5).astype("f4")), ("grey", grey))[: 1 + grey_too]:
            held_out, trained = x[order[:360]], x[order[360:]]
            for name, options in settings.items():
                machine = unsupervised.RBM(100, seed=split, **options).fit(trained, epochs=epochs)
                figures.setdefault(f"{form}, {name}", []).append(machine.pseudo_likelihood(held_out))
            for rate in (0.06, 0.1, 0.2):
                peer = BernoulliRBM(100, learning_rate=rate, n_iter=epochs, random_state=split).fit(trained)
                score = unsupervised.pseudo_likelihood(held_out, peer.components_.T, peer.intercept_visible_, peer.intercept_hidden_)
                figures.setdefault(f"{form}, BernoulliRBM {rate}", []).append(score)
    return {name: float(np.mean(values)) for name, values in figures.items()}


def chosen(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """As many rows of each class as of the others, as far as `count` allows."""
    order = np.random.default_rng([seed, count]).permutation(len(y))
    ranks = np.zeros(len(y), int)
    for label in range(10):
        of_label = order[y[order] == label]
        ranks[of_label] = np.arange(len(of_label))
    return np.lexsort((order.argsort(), ranks))[:count]


def accuracy(trainer: dt.Trainer, x: np.ndarray, y: np.ndarray, held_out: tuple[np.ndarray, np.ndarray]) -> float:
    """After 600 steps, 1,500 with many rows."""
    steps = 600 if len(x) < 1000 else 1500
    rows = min(len(x), 32)
    trainer.fit(x, y, epochs=max(1, steps * rows // len(x)), batch_size=rows, verbose=0)
    return trainer.evaluate(*held_out)["accuracy"]


def network(layers: list[nn.Layer], seed: int) -> dt.Trainer:
    """A trainer of a classifier."""
    model = nn.Sequential([*layers, nn.Dense(10)], input_shape=(64,))
    return dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], optimizer=dt.optim.adam(1e-3), seed=seed, shards=1)


def few_labels(splits: int, counts: tuple[int, ...], epochs: int) -> dict[str, float]:
    """Mean accuracy over splits; for each number of labels all methods have the same ones."""
    x, y = digits()
    figures: dict[str, list[float]] = {}
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(x))
        held_out, x_trained, y_trained = (x[order[:360]], y[order[:360]]), x[order[360:]], y[order[360:]]
        stack = unsupervised.DBN([256, 256], seed=split).fit(x_trained, epochs=epochs)
        for count in counts:
            rows = chosen(y_trained, count, split)
            given = x_trained[rows], y_trained[rows]
            tuned = stack.classifier(10, loss="cross_entropy", metrics=["accuracy"], optimizer=dt.optim.adam(1e-3), seed=split, shards=1)
            known = np.full(len(y_trained), -1)
            known[rows] = y_trained[rows]
            spread = LabelSpreading(kernel="knn", n_neighbors=7, alpha=0.2, max_iter=100).fit(x_trained, known).transduction_
            for name, trainer, data in (
                ("stack, fine-tuned", tuned, given),
                ("the same from scratch", network([nn.Dense(256, "sigmoid"), nn.Dense(256, "sigmoid")], split), given),
                ("spread labels", network([nn.Dense(256, "relu"), nn.Dense(256, "relu")], split), (x_trained, spread)),
                ("labels alone", network([nn.Dense(128, "relu")], split), given),
            ):
                figures.setdefault(f"{count} labels, {name}", []).append(accuracy(trainer, *data, held_out))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def denoising(epochs: int, code: int = 12, missing: float = 0.25, picture: str | None = None) -> dict[str, float]:
    """Mean squared errors on digits that training never saw, of whose values a part is set to 0; and of whole ones."""
    x, _ = digits()
    order = np.random.default_rng(0).permutation(len(x))
    held_out, trained = x[order[:360]], x[order[360:]]
    torn = held_out * (np.random.default_rng(1).random(held_out.shape) >= missing)
    coder = unsupervised.Autoencoder.dense(64, code, hidden=(128,), noise=missing, seed=0).fit(trained, epochs=epochs)
    linear = PCA(code).fit(trained)
    if picture is not None:
        rows = [held_out, torn, linear.inverse_transform(linear.transform(torn)), coder.reconstruct(torn)]
        names = ["digit", "torn", "components", "autoencoder"]
        shown = [each[i].reshape(8, 8) for each in rows for i in range(10)]
        titles = [name if i == 0 else "" for name in names for i in range(10)]
        explain.plot_grid(shown, titles, columns=10, title=f"Digits by a code of {code} numbers", filename=picture)
    results = {}
    for name, seen in (("torn", torn), ("whole", held_out)):
        results[f"{name}, autoencoder"] = float(np.mean((coder.reconstruct(seen) - held_out) ** 2))
        results[f"{name}, principal components"] = float(np.mean((linear.inverse_transform(linear.transform(seen)) - held_out) ** 2))
    return results


def main(quick: bool = False, picture: str | None = None) -> dict[str, float]:
    """All figures."""
    results = denoising(6 if quick else 100, picture=picture)
    results |= few_labels(1, (50,), 1) if quick else few_labels(10, (50, 100, 200, 1000), 50)
    results |= machines(1, 2, grey_too=False) if quick else machines(5, 50, grey_too=True)
    for name, value in results.items():
        print(f"{name:36} {value:9.4f}")
    return results


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
