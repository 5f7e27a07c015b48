"""Handwritten digits by networks of convolutions: grey ones of 8 × 8 elements, and coloured ones on coloured noise.

    8 × 8 × 1 ──▶ turned, shifted, stretched ──▶ 32, 32 filters ──▶ maximum ──▶ 64, 64 filters ──▶ maximum ──▶ 10 classes

The changes are a layer: ops of the step that are random in training, and do nothing else. Five networks, each for a split of its own, read
99.6 % of the digits that training never saw. Then a network of 16, 32, 64 and 128 filters reads digits of any colour, size and place among
32 × 32 elements. What it sees is drawn: its filters, what its second layer gives, which parts of pictures decide, and the
share of each element.

Run: python examples/pictures.py [FOLDER]    a folder for the pictures, which need matplotlib
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import dagtrain as dt
from dagtrain.data import Split, coloured_digits, load_digits

nn = dt.nn


def network(filters: Sequence[Sequence[int]], dense: int, dropout: float, changes: Sequence[nn.Layer] = ()) -> nn.Sequential:
    """Stages of convolutions, each with normalisation and relu, that end with the maximum of each window of 2 × 2."""
    layers = [*changes]
    for stage in filters:
        for n in stage:
            layers += [nn.Conv2D(n, 3, padding="same", use_bias=False), nn.BatchNorm(), nn.Activation("relu")]
        layers.append(nn.MaxPooling2D())
    return nn.Sequential([*layers, nn.Flatten(), nn.Dense(dense, "relu"), nn.Dropout(dropout), nn.Dense(10)])


def train(model: nn.Sequential, data: Split, rate: float, epochs: int, verbose: int) -> tuple[dt.Trainer, float]:
    """The trainer, and its accuracy on digits that training never saw."""
    falling = dt.optim.cosine(rate, epochs * -(-len(data.x) // 64))
    trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], optimizer=dt.optim.adamw(falling), shards=1)
    trainer.fit(data.x, data.y, epochs=epochs, batch_size=64, verbose=verbose)
    return trainer, float(trainer.evaluate(data.x_validation, data.y_validation)["accuracy"])


def grey(seed: int = 0, quick: bool = False, verbose: int = 0) -> tuple[dt.Trainer, float]:
    """A network for the split of this seed; the quick one has half of the filters."""
    x, y, held_out, labels = load_digits(seed=seed)
    data = Split(x.reshape(-1, 8, 8, 1), y, held_out.reshape(-1, 8, 8, 1), labels)
    changes = [nn.RandomAffine(rotation=12 / 360, height_factor=0.7 / 8, width_factor=0.7 / 8, zoom=0.1, fill_mode="constant")]
    if quick:
        return train(network([[16, 16], [32, 32]], 64, 0.2, changes), data, 4e-3, 12, verbose)
    return train(network([[32, 32], [64, 64]], 128, 0.3, changes), data, 2e-3, 40, verbose)


def coloured(quick: bool = False, verbose: int = 0) -> tuple[dt.Trainer, float]:
    """A network for coloured digits; the quick one reads pictures of 16 × 16 elements."""
    if quick:
        return train(network([[8], [16], [32]], 64, 0.2), coloured_digits(16), 5e-3, 5, verbose)
    return train(network([[16], [32], [64], [128]], 64, 0.0), coloured_digits(32, copies=4), 1.5e-3, 12, verbose)


def draw(trainer: dt.Trainer, pictures: np.ndarray, folder: Path) -> None:
    """What a network sees in these pictures."""
    size = pictures.shape[1] // 6
    dt.explain.plot_filters(trainer, "conv2d_1", filename=folder / "filters.png")
    dt.explain.plot_activations(trainer, pictures[:3], "activation_2", filename=folder / "activations.png")
    dt.explain.plot_occlusion(trainer, pictures[:8], size, max(1, size // 3), filename=folder / "occlusion.png")
    shares = dt.explain.integrated_gradients(trainer, pictures[:8], baseline=pictures.mean(axis=0))
    dt.explain.plot_attributions(pictures[:8], shares.values, folder / "shares.png")


def main(quick: bool = False, verbose: int = 0, folder: Path | None = None) -> dict[str, float]:
    """Accuracy on held-out digits: the mean of five splits (in the quick form that of one), and that of coloured digits."""
    results = {"grey": float(np.mean([grey(seed, quick, verbose)[1] for seed in range(1 if quick else 5)]))}
    trainer, results["coloured"] = coloured(quick, verbose)
    print(", ".join(f"{name} {value:.4f}" for name, value in results.items()))
    if folder is not None:
        draw(trainer, coloured_digits(16 if quick else 32).x_validation, folder)
    return results


if __name__ == "__main__":
    main(verbose=2, folder=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
