"""dagtrain: computational graphs and distributed training on Dask.

NumPy-like Python is traced into a graph; the graph is differentiated, optimised, compiled, lowered to Dask tasks and drawn; networks
are trained on it, on one machine or many, with the same bits.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagtrain import nn, optim
from dagtrain import numpy_api as _numpy_api
from dagtrain._version import __version__
from dagtrain.functional import compile, grad, gradcheck, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap
from dagtrain.graph import Graph, Spec, Tensor, array, input, scope
from dagtrain.hinting import no_attribute as _no_attribute
from dagtrain.ops.elementwise import stop_gradient
from dagtrain.ops.index import gather, one_hot, scatter_add
from dagtrain.ops.random import bernoulli, fold_in, key, normal, uniform
from dagtrain.ops.reduce import logsumexp
from dagtrain.ops.scatter import scatter
from dagtrain.ops.softmax import log_softmax, softmax
from dagtrain.ops.sorting import top_k
from dagtrain.ops.special import erf
from dagtrain.plan import Plan
from dagtrain.registry import hints as _hints
from dagtrain.trace import cond, custom_gradient, recompute, scan, switch, trace, while_loop

if TYPE_CHECKING:
    from dagtrain import audio, data, draw, engines, explain, step, text
    from dagtrain.step import Contribution
    from dagtrain.tasks import from_delayed
    from dagtrain.train import History, Stepper, Trainer, calibrate, callbacks, learning_rate_range, load

__all__ = [
    "Contribution",
    "Graph",
    "History",
    "Plan",
    "Spec",
    "Stepper",
    "Tensor",
    "Trainer",
    "__version__",
    "array",
    "audio",
    "bernoulli",
    "calibrate",
    "callbacks",
    "compile",
    "cond",
    "custom_gradient",
    "data",
    "draw",
    "erf",
    "explain",
    "fold_in",
    "from_delayed",
    "gather",
    "grad",
    "gradcheck",
    "hessian",
    "hvp",
    "input",
    "jacobian",
    "jvp",
    "key",
    "learning_rate_range",
    "load",
    "log_softmax",
    "logsumexp",
    "nn",
    "normal",
    "one_hot",
    "optim",
    "recompute",
    "scan",
    "scatter",
    "scatter_add",
    "scope",
    "softmax",
    "stop_gradient",
    "switch",
    "text",
    "top_k",
    "trace",
    "uniform",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]

_HINTS = _hints(
    ("jit function tffunction", "'compile'"),
    ("jacfwd jacrev", "'jacobian'"),
    ("pmap vectorize", "'vmap'"),
    ("elementwisegrad egrad", "dt.vmap(dt.grad(function))"),
    ("valueandgrad gradienttape", "'value_and_grad'"),
    ("backward gradient autograd derivative", "'grad'"),
    ("sequential dense dropout layernorm batchnorm flatten activation embedding conv2d layers", "a name in dt.nn, such as dt.nn.Dense(10)"),
    ("losses loss metrics activations initializers", "dt.nn.losses, dt.nn.metrics, dt.nn.activations, dt.nn.initializers"),
    ("model module", "dt.nn.Sequential"),
    ("sgd adam adamw rmsprop optimizers optimizer", 'a name in dt.optim, such as dt.optim.adam(1e-3), or Trainer(optimizer="adam")'),
    ("earlystopping modelcheckpoint callback", "a name in dt.callbacks"),
    ("fit train trainmodel", "dt.Trainer(model, loss=...).fit(x, y)"),
    ("tensor asarray constant variable parameter aasarray", "dt.array(values)"),
    ("placeholder inputspec", "dt.input(name, shape, dtype)"),
    ("random randn rand prng prngkey manualseed setseed", "dt.key(seed) with dt.normal, dt.uniform or dt.bernoulli, or Trainer(seed=)"),
    ("save loadmodel loadcheckpoint savemodel", "trainer.save(path) and dt.load(path)"),
    ("lax forloop fori foriloop", "'scan', or 'while_loop' where the number of steps is not known"),
    ("ifelse case", "'cond', or 'switch' with a list of functions"),
    ("checkpoint remat", "'recompute', around a function"),
    ("customvjp customjvp customgrad", "'custom_gradient'"),
    ("nograd stopgradients detach", "'stop_gradient'"),
    ("relu sigmoid tanh gelu silu", "a function in dt.nn.activations, or NumPy's own, such as np.tanh"),
    ("numpy np", "NumPy itself: its functions take tensors"),
    ("visualize plot", "the method visualize() of tensors, graphs and steps, or dt.draw.draw(...)"),
    ("tokenizer tokenize vocabulary vocab textvectorization", "dt.text.Words, dt.text.Characters or dt.text.BytePairs, with .learn(texts)"),
    ("mfcc melspectrogram logfbank fbank spectrogram soundfile torchaudio librosa", "dt.audio: read_wav, mfcc, log_mel"),
    ("generate beamsearch greedy decode", "dt.text.Decoder(trainer)"),
    ("client cluster localcluster", "distributed.Client, which trainers use by themselves"),
    ("sum mean dot matmul exp log sqrt where concatenate stack reshape", "NumPy's function of that name: it takes tensors"),
)
"""Names in other libraries → what to write here."""

# Modules that need Dask or Graphviz are imported on first use.
_LATER = {
    "Contribution": "dagtrain.step",
    "History": "dagtrain.train",
    "Stepper": "dagtrain.train",
    "Trainer": "dagtrain.train",
    "calibrate": "dagtrain.train",
    "from_delayed": "dagtrain.tasks",
    "learning_rate_range": "dagtrain.train",
    "load": "dagtrain.train",
}


def __getattr__(name: str) -> Any:
    if name in (
        "audio",
        "checkpoint",
        "data",
        "deploy",
        "draw",
        "engines",
        "explain",
        "rl",
        "scaling",
        "series",
        "step",
        "tasks",
        "text",
        "train",
        "unsupervised",
    ):
        return import_module(f"dagtrain.{name}")
    if name == "callbacks":
        return import_module("dagtrain.train.callbacks")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise _no_attribute("name in dagtrain", name, __all__, _HINTS)


def __dir__() -> list[str]:
    return sorted(__all__)
