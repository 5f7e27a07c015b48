"""A restricted Boltzmann machine learns to draw digits by contrastive divergence, which is the gradient of no cost.

    digits ─▶ hidden ~ p(h | v) ─▶ v' = p(v | h) ─▶ p(h | v')        change = v h − v' h', added up over the rows

The squared error of reconstructed digits is to be below half that of the mean digit (below three quarters after a few epochs). The
fingerprint is the same on two workers.

Run: python examples/contrastive_divergence.py
"""

import numpy as np

import dagtrain as dt
from dagtrain.data import load_digits
from dagtrain.nn.activations import sigmoid

HIDDEN = 64


def contrastive_divergence(parameters, x, key):
    """One step of the chain from the data; Hinton, "Training products of experts by minimizing contrastive divergence" (2002)."""
    w, a, b = parameters["w"], parameters["visible"], parameters["hidden"]
    hidden = sigmoid(x @ w + b)
    sample = dt.bernoulli(key, hidden, hidden.shape).astype(x.dtype)
    again = sigmoid(sample @ w.T + a)
    hidden_again = sigmoid(again @ w + b)
    gradients = {
        "w": again.T @ hidden_again - x.T @ hidden,
        "visible": np.sum(again - x, axis=0),
        "hidden": np.sum(hidden_again - hidden, axis=0),
    }
    return gradients, {"error": (np.sum((x - again) ** 2), len(x))}


def main(quick: bool = False, verbose: int = 0) -> dict[str, float]:
    """The squared error of reconstructed digits that training never saw, and its bound."""
    data = load_digits()
    parameters = {
        "w": np.random.default_rng(0).normal(scale=0.05, size=(64, HIDDEN)),
        "visible": np.zeros(64),
        "hidden": np.zeros(HIDDEN),
    }
    trainer = dt.Trainer(
        dt.Contribution(contrastive_divergence, sums=["error"]),
        parameters=parameters,
        optimizer=dt.optim.sgd(0.1, momentum=0.5),
        shards=2,
    )
    history = trainer.fit(data.x, epochs=5 if quick else 40, batch_size=64, verbose=verbose)
    mean = data.x.mean(axis=0)
    bound = float(np.mean(np.sum((data.x_validation - mean) ** 2, axis=1))) * (0.75 if quick else 0.5)
    results = {"error": trainer.evaluate(data.x_validation)["error"], "bound": bound}
    print(", ".join(f"{name} {value:.4g}" for name, value in results.items()), "fingerprint", history.fingerprint)
    return results


if __name__ == "__main__":
    main(verbose=2)
