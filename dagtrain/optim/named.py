"""Optimisers by name, for configuration files and the shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagtrain.errors import ArgumentError
from dagtrain.optim.adam_variants import amsgrad, nadam, radam
from dagtrain.optim.adaptive import adadelta, adagrad, adam, adamw, rmsprop
from dagtrain.optim.gradient_descent import lion, sgd
from dagtrain.optim.layerwise import lamb, lars
from dagtrain.optim.optimizer import Optimizer
from dagtrain.registry import Registry, hints

__all__ = ["HINTS", "OPTIMIZERS", "find"]

HINTS = hints(
    ("momentum sgdm nesterov", "optim.sgd(0.1, momentum=0.9), with nesterov=True for Nesterov's method"),
    ("cosineannealinglr cosinedecay cosineschedule", "optim.cosine(initial, steps)"),
    ("steplr", "optim.step_decay(initial, factor, every)"),
    ("multisteplr piecewiseconstantdecay piecewiseconstant", "optim.piecewise"),
    ("exponentiallr", "optim.exponential_decay"),
    ("linearlr linearschedule polynomiallr polynomialdecay", "optim.polynomial"),
    ("onecyclelr", "optim.one_cycle"),
    ("lrscheduler lrschedule", "a schedule as learning rate, as in optim.adam(optim.cosine(1e-3, steps=1000))"),
    ("clipgradnorm clipnorm globalclipnorm", "optim.chain(optim.clip_by_global_norm(1.0), optim.adam())"),
    ("clipgradvalue clipvalue", "optim.chain(optim.clip_by_value(1.0), optim.adam())"),
    (
        "paramgroups parametergroups multitransform partition masked multioptimizer",
        'optim.by_name({"*.bias": optim.sgd(0.1), "*": optim.adam()})',
    ),
    ("freeze settozero", 'optim.frozen(), as in optim.by_name({"encoder.*": optim.frozen(), "*": optim.adam()})'),
    ("ema movingaverage exponentialmovingaverage modelaverage averagedmodel", "optim.averaged, as in optim.averaged(optim.adam(), 0.999)"),
    ("swa swalr polyak stochasticaverage", "optim.averaged(optim.sgd(0.1), decay=1.0, start=..., every=...)"),
    ("gradientaccumulation multisteps accumulate", "`shards` of the trainer: a batch in S shards takes the memory of one"),
    ("sequentiallr joinschedules chainedscheduler", "optim.join"),
    ("cosineannealingwarmrestarts cosinedecayrestarts sgdr", "optim.cosine_restarts"),
    ("weightdecay", "optim.adamw, or optim.chain(optim.l2(1e-4), optim.sgd(0.1))"),
)
"""Names of other libraries (see `dagtrain.errors.UnknownNameError.of`) → what to write here."""

OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry("optimiser", HINTS)
for _make in (sgd, adam, adamw, amsgrad, nadam, radam, rmsprop, adagrad, adadelta, lion, lamb, lars):
    OPTIMIZERS.add(_make)


def find(optimizer: str | Optimizer, **options: Any) -> Optimizer:
    """The optimiser of this name with its usual learning rate, or with options; an `Optimizer` is returned unchanged.

    Raises
    ------
    UnknownNameError
        If there is no optimiser of this name.
    ArgumentError
        If it is neither a name nor an `Optimizer`.

    Examples
    --------
    >>> find("adam").name
    'adam'
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise ArgumentError(
            f"an optimiser is a name or made by a function of dagtrain.optim, as in optim.adam(1e-3); got a {type(optimizer).__name__}."
        )
    return OPTIMIZERS.find(optimizer)(**options)
