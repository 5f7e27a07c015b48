"""Handwritten digits that are shifted by one element: a network that saw them shifted in training reads them, another one does not.

    plain      ────────────────────────────────▶ network      about 98 % of the digits in their place, and 49 % of the shifted ones
    augmented  ──▶ zeros around ──▶ random cut ──▶ network      about 95 %, and 83 %

The zeros and the cut are layers: ops of the step that are random in training, and cut the middle else. The second network is used with the
averages of its weights.

Run: python examples/shifted_digits.py
"""

import numpy as np

import dagtrain as dt
from dagtrain.data import load_digits

nn = dt.nn


def make(changes: list[nn.Layer]) -> dt.Trainer:
    """A trainer of a network of two layers behind these changes of its pictures."""
    model = nn.Sequential([*changes, nn.Flatten(), nn.Dense(128, "relu"), nn.Dense(10)])
    return dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], optimizer=dt.optim.averaged("nadam", decay=0.98), shards=2)


def main(quick: bool = False, verbose: int = 0) -> dict[str, float]:
    """Accuracy of both networks on digits that training never saw, in their place and shifted up, down, left and right."""
    data = load_digits()
    x, held_out = (pictures.reshape(-1, 8, 8, 1) for pictures in (data.x, data.x_validation))
    shifted = np.concatenate([np.roll(held_out, by, axis) for by in (1, -1) for axis in (1, 2)])
    results = {}
    for name, changes in {"plain": [], "augmented": [nn.ZeroPadding2D(1), nn.RandomCrop(8, 8)]}.items():
        trainer = make(changes)
        trainer.fit(x, data.y, epochs=8 if quick else 40, batch_size=64, verbose=verbose)
        for where, pictures in {"in place": held_out, "shifted": shifted}.items():
            labels = np.tile(data.y_validation, len(pictures) // len(held_out))
            results[f"{name}, {where}"] = trainer.evaluate(pictures, labels, weights="average")["accuracy"]
    print(", ".join(f"{name} {value:.3f}" for name, value in results.items()))
    return results


if __name__ == "__main__":
    main(verbose=2)
