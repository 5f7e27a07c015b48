"""NumPy's face over tensors: ufuncs, functions, operators, indexing and array methods all build graph."""

from dagtrain.face import functions, indexing, methods, ufuncs

__all__ = ["functions", "indexing", "methods", "ufuncs"]
