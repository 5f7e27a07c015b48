"""A functional model of the handwritten digits: two inputs, a shared encoder, a residual block, two outputs, and a sub-model.

    top    ──▶ encoder ─┐
                        ├─▶ join ─▶ residual block ─▶ features ─┬─▶ kind    which digit: 95 % or better are right
    bottom ──▶ encoder ─┘                                       └─▶ bright  how much ink

The encoder has one set of parameters for both halves of a picture. The sub-model ends at the features: most digits are those of the nearest
mean of a class there.

Run: python examples/graph_model.py
"""

import numpy as np

import dagtrain as dt
from dagtrain.data import load_digits

nn = dt.nn


def make() -> nn.Model:
    """The model, whose inputs are the halves of the pictures."""
    top, bottom = nn.Input((32,), name="top"), nn.Input((32,), name="bottom")
    encoder = nn.Dense(64, "relu", name="encoder")
    joined = nn.Concatenate()([encoder(top), encoder(bottom)])
    block = nn.Dense(128, "relu")(joined) + joined
    features = nn.Dense(32, "relu", name="features")(block)
    return nn.Model(inputs=[top, bottom], outputs={"kind": nn.Dense(10)(features), "bright": nn.Dense(1)(features)})


def nearest_means(train: np.ndarray, labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    """For each row of x the class whose rows have the nearest mean."""
    means = np.stack([train[labels == label].mean(axis=0) for label in range(10)])
    return np.square(x[:, None] - means).sum(axis=-1).argmin(axis=1)


def main(quick: bool = False, verbose: int = 0) -> dict[str, float]:
    """Accuracy of the output and of the features, and the error of the brightness, on digits that training never saw."""
    data, model = load_digits(), make()
    epochs = 8 if quick else 30

    def halves(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"top": x[:, :32], "bottom": x[:, 32:]}

    def targets(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        return {"kind": y, "bright": x.mean(axis=1, keepdims=True)}

    trainer = dt.Trainer(
        model,
        loss={"kind": "cross_entropy", "bright": "mean_squared_error"},
        loss_weights={"bright": 3.0},
        metrics={"kind": ["accuracy"]},
        optimizer=dt.optim.adam(dt.optim.cosine(5e-3, epochs * -(-len(data.x) // 64))),
        shards=4,
    )
    trainer.fit(halves(data.x), targets(data.x, data.y), epochs=epochs, batch_size=64, verbose=verbose)
    scores = trainer.evaluate(halves(data.x_validation), targets(data.x_validation, data.y_validation))

    part = nn.Model(model.inputs, model.value("features"))
    parameters = {name: trainer.parameters[name] for name in part.names if name in trainer.parameters}
    train, held_out = (part.apply(parameters, {}, halves(x))[0] for x in (data.x, data.x_validation))
    near = np.mean(nearest_means(train, data.y, held_out) == data.y_validation)
    results = {"kind": scores["kind_accuracy"], "features": float(near), "bright": scores["bright_loss"]}
    print(", ".join(f"{name} {value:.4g}" for name, value in results.items()))
    return results


if __name__ == "__main__":
    main(verbose=2)
