"""Train until the result is accurate enough: first as a plain loop, then with the Trainer.

Run: python examples/a3_until_accurate.py
"""

import numpy as np

import dagtrain as dt
from dagtrain.data import load_digits


def loss(parameters, x, y):
    hidden = np.tanh(x @ parameters["w1"] + parameters["b1"])
    return np.mean((hidden @ parameters["w2"] - y) ** 2)


def plain_loop(tolerable: float = 1e-3, most: int = 20_000) -> tuple[int, float]:
    """Fit a sine with 16 hidden neurons by gradient descent until the mean squared error is below `tolerable`."""
    random = np.random.default_rng(0)
    x = np.linspace(-1, 1, 64)[:, None]
    y = np.sin(3 * x)
    parameters = {"w1": random.normal(size=(1, 16)), "b1": random.normal(size=16), "w2": 0.1 * random.normal(size=(16, 1))}
    step = dt.compile(dt.value_and_grad(loss))
    improvements = 0
    error, gradient = step(parameters, x, y)
    while error >= tolerable and improvements < most:
        parameters = {name: value - 0.1 * gradient[name] for name, value in parameters.items()}
        improvements += 1
        error, gradient = step(parameters, x, y)
    print(f"plain loop: mean squared error {error:.6f} after {improvements} improvements")
    return improvements, float(error)


def with_trainer(tolerable: float = 0.97, most: int = 40) -> tuple[int, float]:
    """Train on digits until the accuracy on those held out is at least `tolerable`."""
    data = load_digits()
    model = dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dense(10)])
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(3e-3), metrics=["accuracy"], seed=0)
    until = dt.callbacks.Target("val_accuracy", tolerable)
    held_out = data.x_validation, data.y_validation
    history = trainer.fit(data.x, data.y, epochs=most, batch_size=64, validation_data=held_out, callbacks=[until], verbose=0)
    accuracy = history.history["val_accuracy"][-1]
    print(f"Trainer: {accuracy:.2%} of the digits held out after {history.epochs} epochs")
    return history.epochs, accuracy


def main(quick: bool = False) -> tuple[float, float]:
    """The error of the plain loop and the accuracy of the Trainer; `quick` sets easier targets."""
    _, error = plain_loop(1e-2 if quick else 1e-3)
    _, accuracy = with_trainer(0.93 if quick else 0.97)
    return error, accuracy


if __name__ == "__main__":
    main()
