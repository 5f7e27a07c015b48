"""Optimisers made of parts: clipping, weight decay, and the chain that joins them.

    chain(clip_by_global_norm(1.0), l2(1e-4), adam(1e-3))

Each part is an `Optimizer`; in a chain, the change of one part is the gradient of the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.hinting import hinted
from dagtrain.optim.optimizer import Context, Optimizer, Rate, Rule, Slots, Vector, make, rate_for

__all__ = ["add_decayed_weights", "chain", "chained", "clip_by_global_norm", "clip_by_value", "l2"]


def _clip(context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, limit: float) -> tuple[Vector, Slots]:
    return np.clip(gradient, -limit, limit), {}


@hinted
def clip_by_value(limit: float) -> Optimizer:
    """Clip each element of the gradient to [-limit, limit]. Stands before an optimiser in a `chain`.

    Raises
    ------
    ArgumentError
        If `limit` is not above 0.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(optim.chain(clip_by_value(1.0), optim.sgd(0.1)), np.zeros(2), np.array([5.0, -0.5]))[0]
    array([-0.1 ,  0.05])
    """
    return make("clip_by_value", (), _clip, limit=limit)


def _clip_norm(context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, max_norm: float) -> tuple[Vector, Slots]:
    # The maximum in the denominator makes the factor exactly 1 without clipping, and avoids a division by zero.
    norm = context.global_norm(gradient).astype(np.float64)
    return gradient * context.scalar(max_norm / np.maximum(norm, max_norm)), {}


@hinted
def clip_by_global_norm(max_norm: float) -> Optimizer:
    """Scale the whole gradient down to Euclidean norm `max_norm` where its norm is larger. Stands before an optimiser in a `chain`.

    Raises
    ------
    ArgumentError
        If `max_norm` is not above 0.

    Notes
    -----
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", arXiv:1211.5063, algorithm 1.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(optim.chain(clip_by_global_norm(1.0), optim.sgd(1.0)), np.zeros(2), np.array([3.0, 4.0]))[0]
    array([-0.6, -0.8])
    """
    return make("clip_by_global_norm", (), _clip_norm, max_norm=max_norm)


def _l2(context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, weight_decay: float) -> tuple[Vector, Slots]:
    return gradient + parameters * weight_decay, {}


@hinted
def l2(weight_decay: float) -> Optimizer:
    """Add the gradient of ``weight_decay / 2 * sum(parameters**2)``. Stands before an optimiser in a `chain`.

    Raises
    ------
    ArgumentError
        If `weight_decay` is negative.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(optim.chain(l2(0.5), optim.sgd(0.1)), np.array([2.0]), np.array([0.0]))[0]
    array([1.9])
    """
    return make("l2", (), _l2, weight_decay=weight_decay)


def _decay(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, weight_decay: float, learning_rate: Rate
) -> tuple[Vector, Slots]:
    return gradient - parameters * context.scalar(rate_for(learning_rate, context) * weight_decay), {}


@hinted
def add_decayed_weights(weight_decay: float, learning_rate: Rate = 1.0) -> Optimizer:
    """Also shrink the parameters by ``learning_rate * weight_decay`` of themselves. Stands *after* an optimiser in a `chain`.

    The optimiser's own change stays: ``chain(adam(r), add_decayed_weights(w, r))`` is ``adamw(r, weight_decay=w)``.

    Raises
    ------
    ArgumentError
        If an argument is negative.

    Notes
    -----
    Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv:1711.05101, algorithm 1.

    Examples
    --------
    >>> from dagtrain import optim
    >>> optim.apply_once(optim.chain(optim.sgd(0.1), add_decayed_weights(0.5, 0.1)), np.array([2.0]), np.array([0.0]))[0]
    array([1.9])
    """
    return make("add_decayed_weights", (), _decay, weight_decay=weight_decay, learning_rate=learning_rate)


def _chained(
    context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, parts: tuple[Optimizer, ...], names: tuple[dict[str, str], ...]
) -> tuple[Vector, Slots]:
    after: Slots = {}
    for part, renamed in zip(parts, names, strict=True):
        gradient, part_slots = part.update(context, gradient, parameters, {slot: slots[outer] for slot, outer in renamed.items()})
        after.update({outer: part_slots[slot] for slot, outer in renamed.items()})
    return gradient, after


class _Chain(Optimizer):
    @property
    def parts(self) -> tuple[Optimizer, ...]:
        return self.settings["parts"]  # type: ignore[no-any-return]  # see settings

    @property
    def period(self) -> int:
        return max(part.period for part in self.parts)

    @property
    def average(self) -> str | None:
        return self.update.keywords["names"][-1].get(self.parts[-1].average)  # type: ignore[attr-defined,no-any-return]  # see settings

    @property
    def origins(self) -> dict[str, tuple[Any, ...]]:
        named = zip(self.parts, self.update.keywords["names"], strict=True)  # type: ignore[attr-defined]  # see settings
        found = [(outer, part.origins[slot]) for part, names in named for slot, outer in names.items()]
        # Of several alike, each counts by its place.
        return {outer: origin + (i,) * ([o for _, o in found].count(origin) > 1) for i, (outer, origin) in enumerate(found)}

    def rules(self, names: Sequence[str]) -> dict[str, Rule]:
        each = [part.rules(names) for part in self.parts]
        chosen: dict[str, Rule] = {}
        for name in names:
            rules = [rules[name] for rules in each if name in rules]
            if len(rules) == len(each):
                patterns = tuple(pattern for rule in rules for pattern in rule.patterns)
                chosen[name] = Rule(patterns, chained([rule.optimizer for rule in rules]) if patterns else self)
        return chosen

    @property
    def settings(self) -> dict[str, Any]:
        return {"parts": self.update.keywords["parts"]}  # type: ignore[attr-defined]  # made by chain() below, always a partial

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.parts))})"


def chain(*parts: Optimizer) -> Optimizer:
    """Apply optimisers one after the other; the change of one is the gradient of the next.

    Slots keep names that one part alone uses; to a name that several use, the part's name and index are prefixed.

    Raises
    ------
    ArgumentError
        If there is no part, or a part is no optimiser.

    Examples
    --------
    >>> from dagtrain import optim
    >>> chain(clip_by_global_norm(1.0), optim.adam(1e-3)).slots
    ('first', 'second')
    """
    if not parts:
        raise ArgumentError("chain needs at least one optimiser.")
    for i, part in enumerate(parts):
        if not isinstance(part, Optimizer):
            raise ArgumentError(f"chain: number {i} is {part!r}, which is not an optimiser.")
        if part.period > 1:
            raise ArgumentError("chain: every(…) stands around a chain, as in every(2, chain(…)), since its steps are left out as a whole.")
    return chained(parts)


def chained(parts: Sequence[Optimizer]) -> Optimizer:
    """The chain of these optimisers."""
    parts = tuple(parts)
    if inner := next((part for part in parts[:-1] if part.is_outermost), None):
        raise ArgumentError(f"chain: {inner!r} needs the whole change, so nothing follows it: write it around the chain, or at its end.")
    counts = Counter(slot for part in parts for slot in part.slots)
    names = tuple({slot: slot if counts[slot] == 1 else f"{part.name}_{i}_{slot}" for slot in part.slots} for i, part in enumerate(parts))
    slots = tuple(outer for renamed in names for outer in renamed.values())
    return _Chain("chain", slots, partial(_chained, parts=parts, names=names))
