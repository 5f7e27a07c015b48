"""Handwritten digits by a shallow and by a deep feed-forward network: 97 % or better on digits that training never saw.

Run: python examples/b1_digits.py
"""

import dagtrain as dt
from dagtrain.data import load_digits

BATCH = 64

NETWORKS = {
    "shallow": dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dense(10)]),
    "deep": dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dense(64, "relu"), dt.nn.Dense(32, "relu"), dt.nn.Dense(10)]),
}


def main(seed: int = 0, verbose: int = 2, quick: bool = False) -> dict[str, float]:
    """The accuracy of each network; `quick` trains a fifth of the epochs, to 95 % or better."""
    data, epochs = load_digits(), 4 if quick else 20
    accuracies = {}
    for name, model in NETWORKS.items():
        steps = epochs * -(-len(data.x) // BATCH)
        trainer = dt.Trainer(
            model,
            loss="cross_entropy",
            optimizer=dt.optim.adam(dt.optim.schedules.cosine(1e-2, steps)),
            metrics=["accuracy"],
            shards=4,
            seed=seed,
        )
        trainer.fit(data.x, data.y, epochs=epochs, batch_size=BATCH, verbose=verbose)
        accuracies[name] = trainer.evaluate(data.x_validation, data.y_validation)["accuracy"]
        print(f"{name}: {accuracies[name]:.2%} held out")
    return accuracies


if __name__ == "__main__":
    main()
