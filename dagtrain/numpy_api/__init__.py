"""NumPy on tensors: ufuncs, functions, operators, indexing and array methods all build graph."""

from dagtrain.graph.protocols import NUMPY
from dagtrain.numpy_api import composed, functions, indexing, methods, ufuncs

__all__ = ["composed", "functions", "indexing", "methods", "ufuncs"]

NUMPY.fill(methods)
