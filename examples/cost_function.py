"""Any NumPy function is a cost: a line through points of which a fifth are far off, by a cost that forgives them.

Run: python examples/cost_function.py
"""

import numpy as np

import dagtrain as dt


def squared(parameters, x, y):
    return np.mean((x * parameters["slope"] + parameters["intercept"] - y) ** 2)


def forgiving(parameters, x, y):
    """Cauchy's cost: grows as the logarithm of the distance, so a point far away hardly pulls."""
    distance = x * parameters["slope"] + parameters["intercept"] - y
    return np.mean(np.log1p((distance / 0.1) ** 2))


def points(samples: int = 1000, slope: float = 2.0, intercept: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, samples).astype("f4")
    y = slope * x + intercept + 0.05 * random.normal(size=samples)
    y[: samples // 5] += random.uniform(2, 6, samples // 5)
    return x, y.astype("f4")


def main() -> dict[str, tuple[float, float]]:
    x, y = points()
    found = {}
    for cost in (squared, forgiving):
        first = {"slope": np.float32(0), "intercept": np.float32(0)}
        trainer = dt.Trainer(cost, parameters=first, optimizer=dt.optim.adam(0.05), seed=0)
        trainer.fit(x, y, epochs=40, batch_size=100, verbose=0)
        found[cost.__name__] = float(trainer.parameters["slope"]), float(trainer.parameters["intercept"])
        print(f"{cost.__name__:9}: y = {found[cost.__name__][0]:.2f} x + {found[cost.__name__][1]:.2f}")
    print("the truth: y = 2.00 x + -1.00")
    return found


if __name__ == "__main__":
    main()
