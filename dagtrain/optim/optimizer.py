"""Optimisers: pure functions from a gradient to a change of the parameters; slots are the vectors that an optimiser remembers.

    gradient, parameters, slots ──update──▶ change, slots          parameters + change are the next parameters

These are vectors of one length: blocks of the flat vector of all parameters of a model. An update works element by element; dagtrain's own
use arithmetic and square roots alone, which are exactly rounded, so one block or many give the same bits. The context computes norms of the
whole vector. Scalars shared by all elements are computed once, in float64, and cast by `Context.scalar`; this leaves few passes
over a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from dagtrain.arguments import fraction, not_negative, positive, whole
from dagtrain.errors import ShapeError
from dagtrain.graph import Tensor, spec_of
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.reduce import norm
from dagtrain.trace import trace_nested

__all__ = [
    "Context",
    "Optimizer",
    "Per",
    "Rate",
    "Rule",
    "Slots",
    "Vector",
    "WholeVector",
    "apply_once",
    "make",
    "rate",
    "rate_at",
    "rate_for",
    "within_range",
]

Vector = Any
"""A one-dimensional tensor: a block of the flat vector of parameters, of gradients or of a slot."""
Slots = dict[str, Vector]
Rate = float | Callable[[Any], Any]
"""A learning rate: a number, or a schedule (step → number, in NumPy functions)."""
Per = Literal["all", "group", "parameter"]
"""What a norm is of: all trained parameters, those of the group, or one parameter."""


class Context(Protocol):
    """The step, its scalars and norms, as the trainer passes them to an update."""

    @property
    def step(self) -> Tensor:
        """Number of updates made before this one (0, 1, ...): float64, no axes."""

    @property
    def learning_rate_scale(self) -> Any:
        """Factor of learning rates, on top of their schedules (see `rate_for`): float64, no axes."""

    def scalar(self, value: Any) -> Tensor:
        """A number (no axes) cast to the parameters' dtype."""

    def norm(self, vector: Vector, per: Per = "all") -> Tensor:
        """Euclidean norm of this vector over all blocks, over those of the group, or over those of the block's parameter; no axes."""

    def global_norm(self, vector: Vector) -> Tensor:
        """Euclidean norm of this vector over all blocks, or within `by_name` over those of the group; no axes."""


Update = Callable[[Context, Vector, Vector, Slots], tuple[Vector, Slots]]


@dataclass(frozen=True)
class Optimizer:
    """A rule that changes parameters.

    Attributes
    ----------
    name
        Name, also in key names and pictures.
    slots
        Names of the vectors it remembers, which begin as zeros.
    update
        ``update(context, gradient, parameters, slots) -> (change, slots)``.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.adam(1e-3)
    adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    name: str
    slots: tuple[str, ...]
    update: Update

    @property
    def parts(self) -> tuple[Optimizer, ...]:
        """The optimisers that it is made of."""
        return ()

    @property
    def trains(self) -> bool:
        """Whether its parameters have a gradient and an update."""
        return all(part.trains for part in self.parts)

    @property
    def period(self) -> int:
        """Each so many steps it updates; see `every`."""
        return 1

    @property
    def average(self) -> str | None:
        """The slot that holds an average of the parameters, if there is one; see `averaged`."""
        return None

    @property
    def is_outermost(self) -> bool:
        """Whether it needs the whole change of the parameters, so that no other rule may change them after it."""
        return any(part.is_outermost for part in self.parts)

    @property
    def origins(self) -> dict[str, tuple[Any, ...]]:
        """For each slot the optimiser and the settings that give its values a meaning: equal ones continue from each other."""
        scales = tuple((name, self.settings[name]) for name in ("beta_1", "beta_2", "decay") if name in self.settings)
        return {slot: (self.name, slot, *scales) for slot in self.slots}

    @property
    def learning_rate(self) -> Rate | None:
        """Its learning rate, or that of its first part that has one."""
        own = self.settings.get("learning_rate")
        return own if own is not None else next((part.learning_rate for part in self.parts if part.learning_rate is not None), None)

    @property
    def schedules(self) -> tuple[str, ...]:
        """Its settings that are functions of the step."""
        own = tuple(repr(setting) for setting in self.settings.values() if callable(setting))
        return own + tuple(schedule for part in self.parts for schedule in part.schedules)

    @property
    def follows(self) -> Optimizer | None:
        """The rule by which its parameters follow others; see `dagtrain.optim.track`."""
        return next((part.follows for part in self.parts if part.follows is not None), None)

    def rules(self, names: Sequence[str]) -> dict[str, Rule]:
        """The optimiser of each of these parameters: this one, unless a part of it chooses by name. Those without one are left out."""
        return dict.fromkeys(names, Rule((), self))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The arguments of the function that made it."""
        return dict(self.update.keywords) if isinstance(self.update, partial) else {}

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.settings.items())})"


class Rule(NamedTuple):
    """The optimiser of a parameter, and the patterns that chose it, each with its place in its `by_name`."""

    patterns: tuple[tuple[int, str], ...]
    optimizer: Optimizer


def rate_at(learning_rate: Rate, step: Any) -> Any:
    """The learning rate for the update at this step."""
    return learning_rate(step) if callable(learning_rate) else learning_rate


def rate_for(learning_rate: Rate, context: Context) -> Any:
    """The learning rate of an update: that of its step, times the trainer's scale."""
    return rate_at(learning_rate, context.step) * context.learning_rate_scale


# ---- arguments, checked where they are written


def rate(name: str, value: Any) -> Any:
    """A learning rate: a number from 0 up, or a schedule."""
    return value if callable(value) else not_negative(name, value)


RANGES: Mapping[str, Callable[[str, Any], Any]] = {
    "learning_rate": rate,
    **dict.fromkeys(("beta_1", "beta_2", "decay", "momentum", "warmup_fraction"), fraction),
    **dict.fromkeys(("epsilon", "factor", "final_divisor", "limit", "max_norm", "power", "rate", "start_divisor", "trust"), positive),
    **dict.fromkeys(("final", "initial", "momentum_decay", "peak", "value", "weight_decay"), not_negative),
    **dict.fromkeys(("every", "steps"), whole),
    "warmup_steps": partial(whole, least=0),
}
"""The range of each setting, in every optimiser and schedule."""


def within_range(name: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> partial[Any]:
    """The function of an optimiser or schedule with its settings, each within its range."""
    for what, value in settings.items():
        if what in RANGES:
            RANGES[what](f"{name}: {what}", value)
    return partial(function, **settings)


def make(name: str, slots: tuple[str, ...], update: Callable[..., tuple[Vector, Slots]], **settings: Any) -> Optimizer:
    """An optimiser with these settings, checked."""
    return Optimizer(name, slots, within_range(name, update, settings))


# ---- the plain reference


class WholeVector:
    """The context of an update of the whole vector at once."""

    learning_rate_scale = 1.0

    def __init__(self, step: Tensor, dtype: np.dtype[Any]) -> None:
        self.step, self.dtype = step, dtype

    def scalar(self, value: Any) -> Tensor:
        """A number cast to the dtype of the vectors."""
        scalar = as_tensor(value)
        if scalar.shape:
            raise ShapeError(f"a scalar has no axes, got shape {scalar.shape}.")
        return cast(scalar, self.dtype)

    def norm(self, vector: Vector, per: Per = "all") -> Tensor:
        """Euclidean norm of this vector, which is the only block."""
        return norm(as_tensor(vector))

    global_norm = norm


def apply_once(
    optimizer: Optimizer, parameters: Any, gradient: Any, slots: Mapping[str, Any] | None = None, step: int = 0
) -> tuple[Any, dict[str, Any]]:
    """One update of a whole vector: the plain reference that the blocks of training are tested against.

    Parameters
    ----------
    optimizer
        The rule.
    parameters, gradient
        Vectors of one shape and float dtype.
    slots
        Vectors by the names in ``optimizer.slots``; zeros if None.
    step
        Number of updates made before.

    Returns
    -------
    parameters, slots
        Those after the update.

    Raises
    ------
    ShapeError
        If the gradient has another shape than the parameters.

    Examples
    --------
    >>> from dagtrain import optim
    >>> parameters, slots = apply_once(optim.sgd(0.1), np.array([1.0, 2.0]), np.array([1.0, -1.0]))
    >>> parameters
    array([0.9, 2.1])
    """
    parameters, gradient = np.asarray(parameters), np.asarray(gradient)
    if parameters.shape != gradient.shape or parameters.ndim != 1:
        raise ShapeError(f"apply_once takes two vectors of one length, got parameters {parameters.shape} and gradient {gradient.shape}.")
    before = (
        {name: np.zeros_like(parameters) for name in optimizer.slots}
        if slots is None
        else {n: np.asarray(slots[n]) for n in optimizer.slots}
    )

    def updated(parameters: Tensor, gradient: Tensor, slots: Slots, step: Tensor) -> tuple[Tensor, Slots]:
        change, after = optimizer.update(WholeVector(step, spec_of(parameters).dtype), gradient, parameters, slots)
        return parameters + change, {name: after[name] for name in optimizer.slots}

    if (step + 1) % optimizer.period:
        return parameters, before
    count = np.asarray(step, np.float64)
    graph = trace_nested(updated, parameters, gradient, before, count).graph
    result, *after = graph.plan()(parameters, gradient, *before.values(), count)
    return result, dict(zip(optimizer.slots, after, strict=True))
