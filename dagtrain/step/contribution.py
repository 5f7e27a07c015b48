"""Training by contributions: a function says how a shard changes the parameters, in the place of a cost that is differentiated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.graph import Tensor, scope
from dagtrain.nn.reductions import check_reduction
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.random import key as first_key
from dagtrain.ops.shape import concatenate
from dagtrain.step.figures import Figure, mean_figure
from dagtrain.step.objective import Objective, check_weight, pair, row_of
from dagtrain.trace import flatten
from dagtrain.trace.tree import leaves, map_leaves

__all__ = ["Contribution", "ContributionObjective"]

ARGUMENTS = ("parameters", "states", "x", "y", "sample_weight", "key")


class Contribution:
    """A rule of learning that need not be the gradient of a cost, such as contrastive divergence.

    Parameters
    ----------
    function
        Takes those of ``parameters, states, x, y, sample_weight, key`` that it names, and returns ``(gradients, sums)``; with states
        ``(gradients, states, sums)``. The gradients are nested as the parameters and added up over the rows of the shard; the optimiser
        goes against them, after a division by the batch's total weight. The sums are a dict of pairs (sum over rows, weight), one for each
        name in `sums`; a weight depends on the data alone.
    sums
        Names of what is reported; the weight of the first divides the gradients.
    states
        First values by name of what is kept from step to step, such as the particles of a chain: arrays.
    reduce
        How the values after each shard become one, by name of the state; "mean" by default. See `dagtrain.nn.Context.state`.

    Examples
    --------
    Oja's rule, which turns a vector to the direction of the greatest variance:

    >>> import dagtrain as dt, numpy as np
    >>> def oja(parameters, x):
    ...     y = x @ parameters["w"]
    ...     gradient = parameters["w"] * np.sum(y**2) - x.T @ y
    ...     return {"w": gradient}, {"power": (np.sum(y**2), len(x))}
    >>> x = np.random.default_rng(0).normal(size=(512, 3)) * [3.0, 1.0, 0.1]
    >>> trainer = dt.Trainer(dt.Contribution(oja, sums=["power"]), parameters={"w": np.ones(3) / 2}, optimizer=dt.optim.sgd(0.02))
    >>> history = trainer.fit(x, epochs=10, verbose=0)
    >>> abs(trainer.parameters["w"]).round(1)
    array([1., 0., 0.], dtype=float32)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        sums: Sequence[str] = ("loss",),
        states: Mapping[str, Any] | None = None,
        reduce: Mapping[str, str] | None = None,
    ) -> None:
        if not callable(function):
            raise ArgumentError(f"a Contribution takes a function, not a {type(function).__name__}.")
        self.function, self.sums = function, (sums,) if isinstance(sums, str) else tuple(sums)
        self.states, self.reduce = {name: np.asarray(value) for name, value in (states or {}).items()}, dict(reduce or {})
        self.named = list(inspect.signature(function).parameters)
        self.__name__ = str(getattr(function, "__name__", "contribution"))
        if not self.sums or len(set(self.sums)) < len(self.sums) or any(name.startswith("val_") for name in self.sums):
            raise ArgumentError(f"sums are different names, at least one, and none begins with val_: got {list(self.sums)}.")
        for name in self.named:
            one_of(f"argument of {self.__name__}", name, ARGUMENTS)
        if bool(self.states) != ("states" in self.named):
            raise ArgumentError(f"{self.__name__} {'takes no' if self.states else 'takes'} states, and {len(self.states)} are given.")
        for name, reduction in self.reduce.items():
            check_reduction(one_of("state", name, self.states), reduction, self.states[name].dtype)


class ContributionObjective(Objective):
    """The objective of a `Contribution` and its first parameters."""

    def __init__(self, rule: Contribution, parameters: Any) -> None:
        if parameters is None:
            raise ArgumentError("a contribution needs its first parameters: Trainer(dt.Contribution(rule), parameters={...}).")
        self.rule, self.parameters = rule, parameters
        self.random = "key" in rule.named

    def initial(self, seed: int, x: Any) -> tuple[Any, Any]:
        """The user's first parameters and states."""
        floats = {name: value.astype(self.dtype) if value.dtype.kind == "f" else value for name, value in self.rule.states.items()}
        return self.parameters, floats

    def reductions(self, x: Any) -> Mapping[str, str]:
        """The user's."""
        return self.rule.reduce

    def figures(self, x: Any) -> tuple[Figure, ...]:
        """One for each sum; the first as the loss, under its own name."""
        return tuple(Figure(name, slice(2 * i, 2 * i + 2), mean_figure) for i, name in enumerate(self.rule.sums))

    def description(self, describe: Callable[[Any, str], Any]) -> dict[str, Any]:
        """The name of the function."""
        return {"kind": "contribution", "model": describe(self.rule.function, "the contribution")}

    def contribution(
        self,
        parameters: Any,
        statistics: Any,
        x: Any,
        y: Any,
        sample_weight: Any,
        part: Tensor,
        key: Tensor,
        scales: Tensor | None = None,
        *,
        fixed: Collection[str] = (),
    ) -> dict[str, Any]:
        """What the function returns, checked."""
        gradients, states, sums = self._call(parameters, statistics, x, y, sample_weight, key)
        (given, structure), (targets, expected) = flatten(gradients), flatten(parameters)
        if structure != expected:
            raise ArgumentError(
                f"{self.rule.__name__} returns gradients nested as {structure}, and the parameters are nested as {expected}."
            )
        gradient = {}
        for (name, target), value in zip(targets.items(), given.values(), strict=True):
            g = as_tensor(value)
            if g.shape != target.shape:
                raise ShapeError(f"{self.rule.__name__}: the gradient of {name!r} has shape {g.shape}, the parameter {target.shape}.")
            if name not in fixed:
                gradient[name] = cast(g, target.dtype)
        check_weight([weight for _, weight in sums], [*leaves(parameters), *leaves(statistics), key])
        after = self.contributed(statistics, states, part, self.reductions(row_of(x)))
        return {"gradient": gradient, "statistics": after, "sums": self._joined(sums)}

    def scores(self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        """The function's sums, with a key of their own."""
        if "shard" in self.rule.reduce.values():
            raise ArgumentError(f"{self.rule.__name__} has states by shard, which exist in training alone: it cannot be evaluated.")
        sums = self._call(parameters, statistics, x, y, sample_weight, as_tensor(first_key(0)))[2]
        return {"sums": self._joined(sums), "rows": []}

    def _call(
        self, parameters: Any, states: Any, x: Any, y: Any, sample_weight: Any, key: Tensor
    ) -> tuple[Any, Any, list[tuple[Any, Any]]]:
        rule = self.rule
        given = {"parameters": parameters, "states": states, "x": x, "y": y, "sample_weight": sample_weight, "key": key}
        for name in ("y", "sample_weight"):
            if given[name] is None and name in rule.named:
                raise ArgumentError(f"{rule.__name__} takes {name}, and fit got none.")
            if given[name] is not None and name not in rule.named:
                raise ArgumentError(f"fit got {name}, and {rule.__name__} does not take it: name it among its arguments.")
        result = rule.function(**{name: map_leaves(as_tensor, given[name]) for name in rule.named})
        returns = "(gradients, states, sums)" if rule.states else "(gradients, sums)"
        sums = result[-1] if isinstance(result, tuple) and len(result) == returns.count(",") + 1 else None
        if not isinstance(sums, Mapping) or set(sums) != set(rule.sums):
            raise ArgumentError(
                f"{rule.__name__} returns {returns}, with sums a dict of pairs (sum, weight) for {', '.join(rule.sums)}; "
                f"got {result!r:.200}."
            )
        pairs = [sums[name] for name in rule.sums]
        for name, each in zip(rule.sums, pairs, strict=True):
            if not isinstance(each, tuple) or len(each) != 2 or any(as_tensor(value).shape for value in each):
                raise ArgumentError(f"{rule.__name__}: the sum {name!r} is a pair of two numbers, the sum over rows and the weight.")
        return result[0], result[1] if rule.states else {}, pairs

    @staticmethod
    def _joined(sums: Sequence[tuple[Any, Any]]) -> Tensor:
        with scope("sums"):
            return concatenate([pair(*each) for each in sums]) if len(sums) > 1 else pair(*sums[0])
