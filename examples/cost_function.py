"""Any NumPy function can be a cost: fit a line to points of which a fifth are outliers, by a cost that is robust to them.

Run: python examples/cost_function.py
"""

import numpy as np

import dagtrain as dt


def squared(parameters, x, y):
    return np.mean((x * parameters["slope"] + parameters["intercept"] - y) ** 2)


def forgiving(parameters, x, y):
    """Cauchy's cost: it grows as the logarithm of the distance, so an outlier has a small gradient."""
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
    lines = {}
    for cost in (squared, forgiving):
        first = {"slope": np.float32(0), "intercept": np.float32(0)}
        trainer = dt.Trainer(cost, parameters=first, optimizer=dt.optim.adam(0.05), seed=0)
        trainer.fit(x, y, epochs=40, batch_size=100, verbose=0)
        slope, intercept = (float(trainer.parameters[name]) for name in ("slope", "intercept"))
        lines[cost.__name__] = slope, intercept
        print(f"{cost.__name__:9}: y = {slope:.2f} x + {intercept:.2f}")
    print("the truth: y = 2.00 x + -1.00")
    return lines


if __name__ == "__main__":
    main()
