"""NumPy on tensors: ufuncs, functions, operators, indexing and array methods all build graph."""

from dagtrain.graph.protocols import NUMPY
from dagtrain.numpy_api import calls, fourier, functions, indexing, joining, methods, moves, products, reductions, solving, sorting, ufuncs

__all__ = [
    "calls",
    "fourier",
    "functions",
    "indexing",
    "joining",
    "methods",
    "moves",
    "products",
    "reductions",
    "solving",
    "sorting",
    "ufuncs",
]

NUMPY.fill(methods)
