"""The stages between a finished graph and its plan, by name, so that a user can stop after any of them and look.

::

    stabilise ─▶ simplify ─▶ fold ─▶ merge ─▶ prune

Each stage adds one step to those of the stages before it and repeats all until nothing changes, so the graph is complete after each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from dagtrain.arguments import one_of
from dagtrain.graph import Graph, Tensor
from dagtrain.transform.fold import fold, merging
from dagtrain.transform.prune import prune
from dagtrain.transform.rewrite import RuleSet, Step, rewrite, same, simplify
from dagtrain.transform.rules import APPROXIMATIONS, SIMPLIFICATIONS, STABILISATIONS

__all__ = ["STAGES", "optimize", "stabilise"]

STAGES: Mapping[str, str] = MappingProxyType(
    {
        "stabilise": "numerically stable forms in the place of unstable ones",
        "simplify": "shorter forms with the same bits, and a few that are better",
        "fold": "small results of constants computed beforehand",
        "merge": "one node for two that differ in the order of their operands",
        "prune": "loops without unused outputs, carries and inputs",
    }
)
"""Name of each stage → what it adds, in order."""

_STABILISING = RuleSet(STABILISATIONS)
_SIMPLIFYING = RuleSet((*STABILISATIONS, *SIMPLIFICATIONS))
_APPROXIMATING = RuleSet((*STABILISATIONS, *SIMPLIFICATIONS, *APPROXIMATIONS))
MOST_ROUNDS = 16


def stabilise(graph: Graph, *, keep: Iterable[Tensor] = ()) -> Graph:
    """Put numerically stable forms in the place of unstable ones: log_softmax, logsumexp, softplus, log1p, expm1.

    It runs before differentiation, because a derivative inherits the form, and again on the finished graph, because gradients make new
    forms.

    Parameters
    ----------
    graph
        Forward graph, or one that holds gradients already.
    keep
        Nodes that must survive, such as inner targets of differentiation.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> print(stabilise(dt.trace(lambda x: np.log(1 + np.exp(x)), np.zeros(2))))
    graph(x: float64[2]) -> (output: float64[2])
      %0 = input(name='x')                                  float64[2]
      %1 = softplus(%0)                                     float64[2]
      return output=%1
    """
    return simplify(graph, _STABILISING, keep=keep)


def optimize(graph: Graph, *, approximate: bool = False, until: str | None = None) -> Graph:
    """Rewrite a finished graph into a shorter and stabler one with the same inputs and outputs.

    It is for graphs that will be run; a graph that will still be differentiated takes `stabilise` alone.

    Parameters
    ----------
    graph
        Any graph.
    approximate
        Also use rules that are wrong for NaN, infinities, the sign of zero, or the last places.
    until
        Name of the last stage to do (see `STAGES`); all of them by default.

    Raises
    ------
    UnknownNameError
        If there is no such stage.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> print(optimize(dt.trace(lambda x: (x + 0.0 * 1) * 1 - (-x), np.zeros(2))))
    graph(x: float64[2]) -> (output: float64[2])
      %0 = input(name='x')                                  float64[2]
      %1 = constant(0.0)                                    float64[]
      %2 = add(%0, %1)                                      float64[2]
      %3 = add(%2, %0)                                      float64[2]
      return output=%3
    """
    names = list(STAGES)
    stages = names if until is None else names[: names.index(one_of("stage", until, STAGES)) + 1]
    rules = _STABILISING if "simplify" not in stages else _APPROXIMATING if approximate else _SIMPLIFYING
    for _ in range(MOST_ROUNDS):
        steps: list[Step] = [rules.apply]
        if "fold" in stages:
            steps.append(fold)
        if "merge" in stages:
            steps.append(merging())
        graph = rewrite(graph, steps)
        pruned = prune(graph) if "prune" in stages else graph
        if same(pruned, graph):
            break
        graph = pruned
    return graph
