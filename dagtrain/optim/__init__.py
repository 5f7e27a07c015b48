"""Optimisers as pure functions that chain, groups of parameters with one each, and schedules of the learning rate.

optim.adam(1e-3)
optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(optim.cosine(0.1, steps=1000), momentum=0.9))
optim.by_name({"encoder.*": optim.frozen(), "*.bias": optim.sgd(0.1), "*": optim.adamw(1e-3)})
"""

from typing import Any

from dagtrain.errors import UnknownNameError
from dagtrain.optim.adam_variants import amsgrad, nadam, radam
from dagtrain.optim.adaptive import adadelta, adagrad, adam, adamw, rmsprop
from dagtrain.optim.around import averaged, every, lookahead, scaled
from dagtrain.optim.chain import add_decayed_weights, chain, clip_by_global_norm, clip_by_value, l2
from dagtrain.optim.gradient_descent import lion, sgd
from dagtrain.optim.groups import by_name, frozen, track
from dagtrain.optim.layerwise import lamb, lars
from dagtrain.optim.named import HINTS as _HINTS
from dagtrain.optim.named import find
from dagtrain.optim.optimizer import Context, Optimizer, apply_once
from dagtrain.optim.schedules import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential_decay,
    join,
    one_cycle,
    piecewise,
    polynomial,
    step_decay,
    warmup,
)

__all__ = [
    "Context",
    "Optimizer",
    "Schedule",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "add_decayed_weights",
    "amsgrad",
    "apply_once",
    "averaged",
    "by_name",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "constant",
    "cosine",
    "cosine_restarts",
    "every",
    "exponential_decay",
    "find",
    "frozen",
    "join",
    "l2",
    "lamb",
    "lars",
    "lion",
    "lookahead",
    "nadam",
    "one_cycle",
    "piecewise",
    "polynomial",
    "radam",
    "rmsprop",
    "scaled",
    "sgd",
    "step_decay",
    "track",
    "warmup",
]


def __getattr__(name: str) -> Any:
    raise AttributeError(str(UnknownNameError.of("name in dagtrain.optim", name, __all__, _HINTS)))
