"""A computational graph by hand: e = (a + b) * (b + 1), its value, its derivatives, and its picture.

Run: python examples/a1_expression.py [FOLDER FOR THE PICTURE]
"""

import sys
from pathlib import Path

import dask

import dagtrain as dt


def main(folder: Path) -> tuple[float, tuple[float, float]]:
    a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    c = a + b
    d = b + 1
    e = c * d
    value = e.compute()
    # A derivative is a graph like any other, and a tensor is a Dask collection: one call computes both derivatives.
    derivatives = dask.compute(*dt.grad(e, [a, b]))
    print(f"e = {value}, ∂e/∂a = {derivatives[0]}, ∂e/∂b = {derivatives[1]}")
    e.visualize(folder / "expression.svg")
    print(f"picture: {folder / 'expression.svg'}")
    return value, derivatives


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
