"""Groups of parameters, each with an optimiser of its own, chosen by the parameters' dotted names.

    by_name({"*.bias": sgd(0.1), "dense_1.*": frozen(), "*": adam(1e-3)})

    dense_1.kernel dense_1.bias dense_2.kernel dense_2.bias     first match wins
         frozen         sgd          adam          sgd
    vector  [ *.bias: dense_1.bias dense_2.bias | *: dense_2.kernel | frozen: dense_1.kernel ]

A group is updated alone: with its own scalars, its own slots, and norms of its own gradient.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

from dagtrain.arguments import positive, whole
from dagtrain.errors import ArgumentError
from dagtrain.hinting import hinted
from dagtrain.optim.named import find
from dagtrain.optim.optimizer import Context, Optimizer, Per, Rule, Slots, Vector

__all__ = ["ParameterGroup", "by_name", "frozen", "groups_of", "track"]

_LISTED = 8
"""Most names in an error."""


class ParameterGroup(NamedTuple):
    """Parameters that are updated together.

    Attributes
    ----------
    name
        The patterns that chose it; empty for the only trained group of an optimiser without `by_name`.
    optimizer
        Its rule.
    parameters
        Dotted names, in the order of the model.
    follows
        For a group made by `track`, the parameter that each of its own follows.
    """

    name: str
    optimizer: Optimizer
    parameters: tuple[str, ...]
    follows: tuple[str, ...] = ()

    @property
    def slots(self) -> dict[str, str]:
        """The names of its slots in the state → their names in its optimiser."""
        return {f"{self.name}/{slot}" if self.name else slot: slot for slot in self.optimizer.slots}


# ---- choice by name


def _unnamed(context: Context, gradient: Vector, parameters: Vector, slots: Slots, **settings: Any) -> tuple[Vector, Slots]:
    raise ArgumentError("by_name chooses an optimiser by the names of parameters, and a vector has none: give the optimiser itself.")


class _ByName(Optimizer):
    @property
    def _rules(self) -> tuple[tuple[str, Optimizer], ...]:
        return self.settings["rules"]  # type: ignore[no-any-return]  # made by by_name() below

    def rules(self, names: Sequence[str]) -> dict[str, Rule]:
        chosen: dict[str, Rule] = {}
        for i, (pattern, optimizer) in enumerate(self._rules):
            matched = [name for name in names if fnmatchcase(name, pattern)]
            new = [name for name in matched if name not in chosen]
            if not new:
                raise ArgumentError(_useless(pattern, matched, [p for p, _ in self._rules[:i]], names))
            for name, rule in optimizer.rules(new).items():
                follows = rule.optimizer.follows
                chosen[name] = Rule(((i, pattern), *rule.patterns), _alone(rule.optimizer) if follows is None else _bound(follows, pattern))
        return {name: chosen[name] for name in names if name in chosen}

    def __repr__(self) -> str:
        return f"by_name({{{', '.join(f'{pattern!r}: {optimizer!r}' for pattern, optimizer in self._rules)}}})"


def _useless(pattern: str, matched: Sequence[str], earlier: Sequence[str], names: Sequence[str]) -> str:
    if matched:
        return (
            f"by_name: earlier patterns ({', '.join(map(repr, earlier))}) take all parameters that {pattern!r} matches, as the first match "
            "wins: write it before them."
        )
    return f"by_name: the pattern {pattern!r} matches no parameter{_near(pattern, names)}. The parameters are {_listed(names)}."


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.replace("*", ""), names, n=3, cutoff=0.3)
    return f"; near: {', '.join(near)}" if near else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


@hinted
def by_name(rules: Mapping[str, str | Optimizer]) -> Optimizer:
    """Choose an optimiser for each parameter by its dotted name, such as ``"dense_1.kernel"``.

    The parameters that a pattern chooses are a *group*: `clip_by_global_norm` within it limits the norm of the group's gradient, and around
    it, as in ``chain(clip_by_global_norm(1.0), by_name({...}))``, that of the whole gradient.

    Parameters
    ----------
    rules
        Pattern → optimiser, or its name. In a pattern ``*`` stands for any text, ``?`` for one character, ``[ab]`` for one of these; small
        and capital letters differ. The first pattern that matches a name counts, in the order of the dict.

    Raises
    ------
    ArgumentError
        If there is no pattern, or a value is no optimiser. When training begins: if a pattern matches nothing, or nothing matches a
        parameter.

    Notes
    -----
    Layers declared as not trainable stay frozen, unless a pattern matches parameters of such layers alone.

    Examples
    --------
    >>> from dagtrain import optim
    >>> by_name({"*.bias": optim.sgd(0.1), "*": optim.adam(1e-3)})
    by_name({'*.bias': sgd(learning_rate=0.1), '*': adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08)})
    """
    if not isinstance(rules, Mapping) or not rules:
        raise ArgumentError(f'by_name takes a dict, as in by_name({{"*.bias": optim.sgd(0.1), "*": optim.adam(1e-3)}}), got {rules!r}.')
    for pattern in rules:
        if not isinstance(pattern, str) or not pattern:
            raise ArgumentError(f"by_name: a pattern is text, such as 'dense_1.*', got {pattern!r}.")
    return _ByName("by_name", (), partial(_unnamed, rules=tuple((pattern, find(rule)) for pattern, rule in rules.items())))


class _GroupContext:
    """The context of a rule within `by_name`, whose global norm is that of the group."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def norm(self, vector: Vector, per: Per = "group") -> Any:
        return self._context.norm(vector, "group" if per == "all" else per)

    def global_norm(self, vector: Vector) -> Any:
        return self._context.norm(vector, "group")


def _update_alone(context: Context, gradient: Vector, parameters: Vector, slots: Slots, *, rule: Optimizer) -> tuple[Vector, Slots]:
    return rule.update(_GroupContext(context), gradient, parameters, slots)


class _Alone(Optimizer):
    @property
    def rule(self) -> Optimizer:
        return self.update.keywords["rule"]  # type: ignore[attr-defined,no-any-return]  # made by _alone() below

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
        return self.rule.origins

    def __repr__(self) -> str:
        return repr(self.rule)


def _alone(rule: Optimizer) -> Optimizer:
    return _Alone(rule.name, rule.slots, partial(_update_alone, rule=rule)) if rule.trains else rule


# ---- without an update


class _Frozen(Optimizer):
    @property
    def trains(self) -> bool:
        return False


def _unchanged(context: Context, gradient: Vector, parameters: Vector, slots: Slots, **settings: Any) -> tuple[Vector, Slots]:
    return gradient * 0.0, {}


def frozen() -> Optimizer:
    """Keep the parameters as they are, for a group in `by_name`: they have no gradient, no slots and no exchange between workers.

    Examples
    --------
    >>> from dagtrain import optim
    >>> by_name({"encoder.*": frozen(), "*": optim.adam(1e-3)})
    by_name({'encoder.*': frozen(), '*': adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08)})
    """
    return _Frozen("frozen", (), partial(_unchanged))


class _Track(_Frozen):
    @property
    def follows(self) -> Optimizer:
        return self

    @property
    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings.items() if name != "own"}

    def followed(self, name: str) -> str:
        """The name of the parameter that a parameter follows."""
        own = self.update.keywords["own"]  # type: ignore[attr-defined]  # made by _bound() below
        if own is None:
            raise ArgumentError('track stands in by_name, as in by_name({"target.*": optim.track("actor.*", 0.005), "*": optim.adam()}).')
        pattern = self.settings["pattern"]
        match = re.fullmatch("(.*)".join(map(re.escape, own.split("*"))), name)
        if match is None or own.count("*") != pattern.count("*"):
            raise ArgumentError(f"track: {own!r} cannot follow {pattern!r}: both need as many *, for the same texts, and no ? or [.")
        rest = iter(match.groups())
        return "".join(next(rest) if part == "*" else part for part in re.split(r"(\*)", pattern))


def _bound(track: Optimizer, own: str) -> Optimizer:
    return _Track("track", (), partial(_unchanged, **{**track.settings, "own": own}))


@hinted
def track(pattern: str, rate: float, every: int = 1) -> Optimizer:
    """Let the parameters of a group in `by_name` follow others: ``new = old + rate * (followed - old)`` after the update of a step.

    Target networks and averages of weights. Each parameter follows the one whose name has the same text for ``*``: in
    ``{"target.*": track("actor.*", 0.005)}`` the parameter ``target.dense_1.kernel`` follows ``actor.dense_1.kernel``. They have no
    gradient, no slots and no exchange between workers, and begin with values of their own; with rate 1 they are copies.

    Parameters
    ----------
    pattern
        Names of parameters that are trained, and have the same shapes.
    rate
        Above 0 and up to 1.
    every
        After every so many steps.

    Raises
    ------
    ArgumentError
        If an argument is outside its range. When training begins: if a parameter follows none that is trained and has its shape.

    Notes
    -----
    Lillicrap et al., "Continuous control with deep reinforcement learning", arXiv:1509.02971, algorithm 1; with rate 1, the copies of Mnih
    et al., "Human-level control through deep reinforcement learning", Nature 518 (2015).

    Examples
    --------
    >>> from dagtrain import optim
    >>> by_name({"target.*": track("actor.*", 0.005), "*": optim.sgd(0.1)})
    by_name({'target.*': track(pattern='actor.*', rate=0.005, every=1), '*': sgd(learning_rate=0.1)})
    """
    if not isinstance(pattern, str) or not pattern:
        raise ArgumentError(f"track: the pattern is text, such as 'actor.*', got {pattern!r}.")
    if positive("track: rate", rate) > 1:
        raise ArgumentError(f"track: rate must be a number above 0 and up to 1, got {rate!r}.")
    return _Track("track", (), partial(_unchanged, pattern=pattern, rate=rate, every=whole("track: every", every), own=None))


# ---- the groups of a model


def groups_of(optimizer: Optimizer, names: Sequence[str], declared: Collection[str] = ()) -> list[ParameterGroup]:
    """The groups of these parameters: trained ones in the order of their patterns, then those that follow others, then the frozen ones.

    Parameters
    ----------
    optimizer
        Of the trainer.
    names
        Dotted names of all parameters.
    declared
        Those that their layers declare as frozen.

    Raises
    ------
    ArgumentError
        If a pattern matches nothing, nothing matches a parameter, or no parameter is trained.

    Examples
    --------
    >>> from dagtrain import optim
    >>> for group in groups_of(by_name({"*.b": optim.sgd(0.1), "*": optim.adam()}), ["a.w", "a.b", "c.w", "c.b"], {"a.w", "a.b"}):
    ...     print(group.name, group.parameters)
    *.b ('c.b',)
    * ('c.w',)
    frozen ('a.w', 'a.b')
    """
    rules = optimizer.rules(names)
    if unmatched := [name for name in names if name not in rules and name not in declared]:
        raise ArgumentError(
            f"no pattern of {optimizer!r} matches the parameter {unmatched[0]!r}"
            f'{f" ({_listed(unmatched)})" if len(unmatched) > 1 else ""}: add one, such as "*": optim.adam(), or optim.frozen().'
        )
    members: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for name, rule in rules.items():
        members.setdefault(rule.patterns, []).append(name)
    trained: list[ParameterGroup] = []
    following: list[ParameterGroup] = []
    frozen_names = [name for name in names if name not in rules]
    for patterns in sorted(members):
        chosen, own = rules[members[patterns][0]].optimizer, members[patterns]
        if chosen.trains and (not patterns or not all(name in declared for name in own)):
            frozen_names += [name for name in own if name in declared]
            own = [name for name in own if name not in declared]
        title = " & ".join(pattern for _, pattern in patterns)
        if isinstance(chosen.follows, _Track):
            following.append(ParameterGroup(title, chosen.follows, tuple(own), tuple(map(chosen.follows.followed, own))))
        elif chosen.trains and own:
            trained.append(ParameterGroup(title, chosen, tuple(own)))
        else:
            frozen_names += own
    if names and not trained:
        raise ArgumentError(f"no parameter is trained: all of {_listed(names)} are frozen.")
    held, learns = set(frozen_names), dict.fromkeys(name for group in trained for name in group.parameters)
    for group in following:
        for name, followed in zip(group.parameters, group.follows, strict=True):
            if followed not in learns:
                kind = "is not trained" if followed in names else f"does not exist{_near(followed, [*learns])}"
                raise ArgumentError(f"track: {name!r} would follow {followed!r}, which {kind}.")
    return [*trained, *following, *([ParameterGroup("frozen", frozen(), tuple(name for name in names if name in held))] if held else [])]
