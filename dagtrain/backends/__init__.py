"""Backends: the memory and the kernels that executors use."""

from dagtrain.backends.backend import BACKENDS, Backend, find_backend
from dagtrain.backends.numpy import NUMPY

__all__ = ["BACKENDS", "NUMPY", "Backend", "find_backend"]
