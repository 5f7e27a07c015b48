"""A program of `dask.delayed` functions, drawn; then its result feeds a computational graph, and a graph's result feeds a delayed function.

In Dask's well-known tutorial, the function `cube` squares its argument: over 1, 2, 3 the sum is 14. With a true cube it is 36.

Run: python examples/a2_delayed_program.py [FOLDER FOR THE PICTURES]
"""

import sys
from pathlib import Path

import dask
import numpy as np

import dagtrain as dt


@dask.delayed
def cube(x):
    return x * x


@dask.delayed
def true_cube(x):
    return x**3


@dask.delayed
def sum_list(numbers):
    return sum(numbers)


def main(folder: Path) -> tuple[int, int, float, str]:
    total = sum_list([cube(n) for n in [1, 2, 3]])
    true_total = sum_list([true_cube(n) for n in [1, 2, 3]])
    print(f"sum of squares {total.compute()}, sum of cubes {true_total.compute()}")
    dt.draw.draw(total, folder / "delayed.svg")

    # A delayed value becomes a tensor; nothing is computed before `compute`.
    x = dt.from_delayed(total, (), "i8", name="total")
    root = np.sqrt(x + 2.0)
    print(f"√(total + 2) = {root.compute()}")
    root.visualize(folder / "fed.svg")

    # In the other direction, a graph's output is a delayed value, an argument for any delayed function.
    graph = dt.trace(lambda v: np.sum(v * v), np.zeros(3))
    text = dask.delayed("the sum of squares is {:g}".format)(graph.to_delayed([1.0, 2.0, 3.0])).compute()
    print(text)
    return total.compute(), true_total.compute(), float(root.compute()), text


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
