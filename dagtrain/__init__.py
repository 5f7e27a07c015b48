"""dagtrain: computational graphs and distributed training on Dask.

NumPy-like Python is traced into a graph; the graph is differentiated, optimised, compiled, lowered to Dask tasks and drawn; networks
are trained on it, on one machine or many, with the same bits.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagtrain import nn, optim
from dagtrain import numpy_api as _numpy_api
from dagtrain._version import __version__
from dagtrain.functional import compile, grad, gradcheck, value_and_grad
from dagtrain.graph import Graph, Spec, Tensor, array, input, scope
from dagtrain.ops.elementwise import stop_gradient
from dagtrain.ops.index import gather, one_hot, scatter_add
from dagtrain.ops.random import bernoulli, fold_in, key, normal, uniform
from dagtrain.ops.reduce import logsumexp
from dagtrain.ops.softmax import log_softmax, softmax
from dagtrain.ops.special import erf
from dagtrain.plan import Plan
from dagtrain.trace import scan, trace

if TYPE_CHECKING:
    from dagtrain import data, draw, engines, step
    from dagtrain.tasks import from_delayed
    from dagtrain.train import History, Trainer, callbacks, load

__all__ = [
    "Graph",
    "History",
    "Plan",
    "Spec",
    "Tensor",
    "Trainer",
    "__version__",
    "array",
    "bernoulli",
    "callbacks",
    "compile",
    "data",
    "draw",
    "erf",
    "fold_in",
    "from_delayed",
    "gather",
    "grad",
    "gradcheck",
    "input",
    "key",
    "load",
    "log_softmax",
    "logsumexp",
    "nn",
    "normal",
    "one_hot",
    "optim",
    "scan",
    "scatter_add",
    "scope",
    "softmax",
    "stop_gradient",
    "trace",
    "uniform",
    "value_and_grad",
]

# Modules that need Dask or Graphviz are imported on first use.
_LATER = {
    "History": "dagtrain.train",
    "Trainer": "dagtrain.train",
    "from_delayed": "dagtrain.tasks",
    "load": "dagtrain.train",
}


def __getattr__(name: str) -> Any:
    if name in ("checkpoint", "data", "deploy", "draw", "engines", "scaling", "step", "tasks", "train"):
        return import_module(f"dagtrain.{name}")
    if name == "callbacks":
        return import_module("dagtrain.train.callbacks")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'dagtrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
