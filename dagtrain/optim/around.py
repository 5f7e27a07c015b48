"""Optimisers around another one: updates of every k-th step, a schedule for all its rates, Lookahead, and averages of the parameters.

    averaged(lookahead(adam(1e-3)))        every(2, chain(clip_by_global_norm(1.0), adam(1e-3)))

Around `by_name` each group has one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, positive, whole
from dagtrain.errors import ArgumentError
from dagtrain.hinting import hinted
from dagtrain.optim.named import find
from dagtrain.optim.optimizer import Context, Optimizer, Rate, Rule, Slots, Vector, rate, rate_at

__all__ = ["averaged", "every", "lookahead", "scaled"]


class _Around(Optimizer):
    """An optimiser whose setting `optimizer` is the rule within, and whose `again` makes the same around another rule."""

    @property
    def rule(self) -> Optimizer:
        return self.settings["optimizer"]  # type: ignore[no-any-return]  # made by the functions below

    @property
    def parts(self) -> tuple[Optimizer, ...]:
        return (self.rule,)

    @property
    def period(self) -> int:
        return self.rule.period

    @property
    def average(self) -> str | None:
        return self.rule.average

    @property
    def origins(self) -> dict[str, tuple[Any, ...]]:
        new = {slot: (self.name, slot) for slot in self.slots if slot not in self.rule.slots}
        return {**self.rule.origins, **new}

    def again(self, rule: Optimizer) -> Optimizer:
        raise NotImplementedError

    def rules(self, names: Sequence[str]) -> dict[str, Rule]:
        chosen = self.rule.rules(names)
        return {n: Rule(r.patterns, self.again(r.optimizer)) if r.patterns else Rule((), self) for n, r in chosen.items()}


def _trained(name: str, example: str, optimizer: Any) -> Optimizer:
    """The optimiser that another one is around; a name is one with its usual rate."""
    optimizer = find(optimizer) if isinstance(optimizer, str) else optimizer
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"{name} takes an optimiser, as in {example}, got {optimizer!r}.")
    if not optimizer.trains:
        raise ArgumentError(f"{name} takes an optimiser that trains, got {optimizer!r}.")
    return optimizer


# ---- every k-th step


class _Counting:
    """The context of a rule that is updated in every k-th step, and counts these alone."""

    def __init__(self, context: Context, steps: int) -> None:
        self._context, self.step = context, np.floor(context.step / steps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _update_sometimes(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, steps: int, optimizer: Optimizer
) -> tuple[Vector, Slots]:
    return optimizer.update(_Counting(context, steps), gradient, parameters, slots)


class _Every(_Around):
    @property
    def period(self) -> int:
        return int(self.settings["steps"])

    def again(self, rule: Optimizer) -> Optimizer:
        return _sometimes(self.period, rule)

    def __repr__(self) -> str:
        return f"every({self.period}, {self.rule!r})"


@hinted
def every(steps: int, optimizer: str | Optimizer) -> Optimizer:
    """Update in every k-th step only: the k-th, the 2k-th and so on. In the others, parameters and slots stay as they are.

    The optimiser counts its own updates alone, so schedules and corrections of bias are as if there were no other steps. Gradients of the
    steps between are dropped, not added up: that is what `shards` are for.

    Raises
    ------
    ArgumentError
        If `steps` is no whole number from 1 up, or the optimiser trains nothing.

    Notes
    -----
    Delayed updates of the policy, as in Fujimoto, van Hoof and Meger, "Addressing function approximation error in actor-critic methods",
    arXiv:1802.09477, section 5.2.

    Examples
    --------
    >>> from dagtrain import optim
    >>> [float(optim.apply_once(every(2, optim.sgd(0.1)), np.ones(1), np.ones(1), step=step)[0][0]) for step in range(4)]
    [1.0, 0.9, 1.0, 0.9]
    """
    rule = _trained("every", "every(2, optim.adam(1e-3))", optimizer)
    return _sometimes(whole("every: steps", steps), rule)


def _sometimes(steps: int, optimizer: Optimizer) -> Optimizer:
    """The optimiser in every k-th step; what trains nothing as it is."""
    if not optimizer.trains:
        return optimizer
    if optimizer.period > 1:
        raise ArgumentError(f"every: one of its optimisers already leaves out steps: {optimizer!r}.")
    return _Every("every", optimizer.slots, partial(_update_sometimes, steps=steps, optimizer=optimizer))


# ---- a schedule for all rates


class _Scaling:
    """The context of a rule whose rates are multiplied by a schedule."""

    def __init__(self, context: Context, schedule: Rate) -> None:
        self._context, self.learning_rate_scale = context, context.learning_rate_scale * rate_at(schedule, context.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _update_scaled(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, optimizer: Optimizer, schedule: Rate
) -> tuple[Vector, Slots]:
    return optimizer.update(_Scaling(context, schedule), gradient, parameters, slots)


class _Scaled(_Around):
    def again(self, rule: Optimizer) -> Optimizer:
        return _with_schedule(rule, self.settings["schedule"])

    def __repr__(self) -> str:
        return f"scaled({self.rule!r}, {self.settings['schedule']!r})"


@hinted
def scaled(optimizer: str | Optimizer, schedule: Rate) -> Optimizer:
    """Multiply all learning rates of an optimiser by a schedule: one warm-up for all groups of parameters, for example.

    Raises
    ------
    ArgumentError
        If the schedule is a negative number, or the optimiser trains nothing.

    Examples
    --------
    >>> from dagtrain import optim
    >>> rule = scaled(optim.by_name({"*.bias": optim.sgd(0.2), "*": optim.sgd(0.1)}), optim.warmup(1.0, 10))
    >>> optim.apply_once(scaled(optim.sgd(0.1), optim.warmup(1.0, 10)), np.zeros(1), np.ones(1))[0]
    array([-0.01])
    """
    return _with_schedule(
        _trained("scaled", "scaled(optim.adam(1e-3), optim.warmup(1.0, 100))", optimizer), rate("scaled: schedule", schedule)
    )


def _with_schedule(optimizer: Optimizer, schedule: Rate) -> Optimizer:
    """The optimiser by a schedule; what trains nothing as it is. One of every k-th step counts its own, so the schedule goes within."""
    if not optimizer.trains:
        return optimizer
    if isinstance(optimizer, _Every):
        return _sometimes(optimizer.period, _with_schedule(optimizer.rule, schedule))
    return _Scaled("scaled", optimizer.slots, partial(_update_scaled, optimizer=optimizer, schedule=schedule))


# ---- what needs the whole change


class _Outermost(_Around):
    @property
    def is_outermost(self) -> bool:
        return True

    def again(self, rule: Optimizer) -> Optimizer:
        settings = {name: value for name, value in self.settings.items() if name != "optimizer"}
        return _outermost(type(self), self.name, self.slots[-1], self.update.func, rule, **settings)  # type: ignore[attr-defined]  # a partial

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items() if name != "optimizer")
        return f"{self.name}({self.rule!r}, {settings})"


def _outermost(kind: type[_Outermost], name: str, slot: str, update: Any, optimizer: Optimizer, **settings: Any) -> Optimizer:
    """An optimiser with a slot of its own around another one; what trains nothing as it is."""
    if not optimizer.trains:
        return optimizer
    if optimizer.period > 1:
        raise ArgumentError(f"{name}: every(…) stands around it, as in every(2, {name}(…)), got {optimizer!r}.")
    if slot in optimizer.slots or (slot == "ahead" and optimizer.is_outermost):
        raise ArgumentError(f"{name} cannot stand around {optimizer!r}: averaged(lookahead(…)) is the order of both, each once.")
    return kind(name, (*optimizer.slots, slot), partial(update, optimizer=optimizer, **settings))


def _look_ahead(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, optimizer: Optimizer, steps: int, rate: float
) -> tuple[Vector, Slots]:
    # The slot holds how far the parameters are ahead of the slow ones, so it begins as zeros.
    change, after = optimizer.update(context, gradient, parameters, {name: slots[name] for name in optimizer.slots})
    ahead = slots["ahead"] + change
    meets = np.where(np.remainder(context.step + 1, steps) == 0, 1.0, 0.0)
    return change - ahead * context.scalar(meets * (1 - rate)), {**after, "ahead": ahead * context.scalar(1 - meets)}


@hinted
def lookahead(optimizer: str | Optimizer, steps: int = 5, rate: float = 0.5) -> Optimizer:
    """Lookahead: after every `steps` updates, return to the line from where they began: ``begin + rate * (now - begin)``.

    Parameters
    ----------
    optimizer
        Makes the updates; goes on with its slots.
    steps
        Updates between.
    rate
        The part of the way that is kept, above 0 and up to 1.

    Raises
    ------
    ArgumentError
        If an argument is outside its range, or the optimiser trains nothing or has Lookahead or an average itself.

    Notes
    -----
    Zhang, Lucas, Hinton and Ba, "Lookahead optimizer: k steps forward, 1 step back", arXiv:1907.08610, algorithm 1. The slot holds
    ``now - begin``.

    Examples
    --------
    >>> from dagtrain import optim
    >>> rule, parameters, slots = lookahead(optim.sgd(1.0), steps=2), np.zeros(1), None
    >>> for step in range(2):
    ...     parameters, slots = optim.apply_once(rule, parameters, np.array([-1.0]), slots, step)
    >>> parameters
    array([1.])
    """
    optimizer = _trained("lookahead", "lookahead(optim.adam(1e-3))", optimizer)
    if positive("lookahead: rate", rate) > 1:
        raise ArgumentError(f"lookahead: rate must be a number above 0 and up to 1, got {rate!r}.")
    return _outermost(_Outermost, "lookahead", "ahead", _look_ahead, optimizer, steps=whole("lookahead: steps", steps), rate=rate)


def _update_average(
    context: Context,
    gradient: Vector,
    parameters: Vector,
    slots: Slots,
    *,
    optimizer: Optimizer,
    decay: float,
    start: int,
    every: int,
) -> tuple[Vector, Slots]:
    change, after = optimizer.update(context, gradient, parameters, {name: slots[name] for name in optimizer.slots})
    # Number n of those that count has the part (1 - decay) / (1 - decay**n) in their mean, or 1 / n; before the first, the last one counts.
    made = context.step + 1 - start
    n = np.maximum(made / every, 1.0)
    part = 1.0 / n if decay == 1 else (1 - decay) / (1 - decay**n)
    part = np.where(np.logical_or(np.remainder(made, every) == 0, made <= every), part, 0.0)
    average = slots["average"] * context.scalar(1 - part) + (parameters + change) * context.scalar(part)
    return change, {**after, "average": average}


class _Averaged(_Outermost):
    @property
    def average(self) -> str:
        return "average"

    @property
    def origins(self) -> dict[str, tuple[Any, ...]]:
        kept = tuple(self.settings[name] for name in ("decay", "start", "every"))
        return {**super().origins, "average": (self.name, "average", *kept)}


@hinted
def averaged(optimizer: str | Optimizer, decay: float = 0.999, start: int = 0, every: int = 1) -> Optimizer:
    """Keep an average of the parameters beside them; training itself does not change.

    ``trainer.predict(x, weights="average")``, ``trainer.evaluate(x, y, weights="average")`` and ``trainer.weights("average")`` use it. The
    running statistics of `BatchNorm` stay those of training.

    Parameters
    ----------
    optimizer
        Makes the updates.
    decay
        Of the weight of older parameters in the mean, each time others join it, in [0, 1]. With 1 all count alike.
    start
        Updates before averaging begins; until then the average is the parameters themselves.
    every
        Parameters join the mean after every so many updates: with 1, all.

    Raises
    ------
    ArgumentError
        If an argument is outside its range, or the optimiser trains nothing or has an average itself.

    Notes
    -----
    Averages are those of Polyak and Juditsky (1992). With decay 1, `start` at the end of most of training and `every` the steps of an epoch
    or a cycle it is stochastic weight averaging: Izmailov et al., "Averaging weights leads to wider optima and better generalization",
    arXiv:1803.05407, algorithm 1. With a decay below 1 it is a moving average with the correction of bias of Adam, so the first parameters
    do not weigh more than others.

    Examples
    --------
    >>> from dagtrain import optim
    >>> rule, parameters, slots = averaged(optim.sgd(1.0), decay=1.0), np.zeros(1), None
    >>> for step in range(3):
    ...     parameters, slots = optim.apply_once(rule, parameters, np.array([-1.0]), slots, step)
    >>> parameters, slots["average"]
    (array([3.]), array([2.]))
    """
    optimizer = _trained("averaged", "averaged(optim.adam(1e-3))", optimizer)
    fraction("averaged: decay", decay, one=True)
    settings = {"decay": decay, "start": whole("averaged: start", start, 0), "every": whole("averaged: every", every)}
    return _outermost(_Averaged, "averaged", "average", _update_average, optimizer, **settings)
