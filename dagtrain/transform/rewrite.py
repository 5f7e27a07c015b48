"""Applying rewrite rules to a graph: one pass from the leaves up rewrites each node until no rule matches it.

A rule looks only at a node and a bounded neighbourhood below it, and the nodes below are settled first. So one pass is enough, and its time
is linear in the graph. A table by the op of a node and the ops of its inputs holds the rules that could match. Nothing recurses into a
graph's depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dagtrain.errors import GraphError
from dagtrain.graph import LEAVES, Graph, Tensor, located, rebuild, remake, with_bodies
from dagtrain.graph import input as new_input
from dagtrain.transform.conditions import CONDITIONS
from dagtrain.transform.patterns import Apply, Letter, Number, Pattern, build, holds, match, number_of
from dagtrain.transform.rules import Rule

__all__ = ["RuleSet", "Settle", "Step", "rewrite", "same", "simplify"]

Settle = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, Settle], Tensor]
"""Changes a node; returns the node itself if there is nothing to change."""

MOST_REWRITES = 256  # for one node of the graph, including those inside the results of rules
MOST_PASSES = 8
DEEPEST = 40
# Integers wrap around at their own width, so a rule may not carry such an op over to another width, nor to or from floats.
WRAPPING = frozenset({"add", "subtract", "multiply", "negative", "power", "square", "absolute", "sum", "prod", "cumsum", "cumprod"})
CARRIERS_OF_NUMBERS = frozenset({"constant", "broadcast_to", "reshape", "transpose"})


class RuleSet:
    """Rules, in a table by the op of a node and the ops of its inputs."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_op: dict[str, list[tuple[Apply, Rule]]] = {}
        for rule in self.rules:
            for pattern in rule.forms:
                assert isinstance(pattern, Apply)
                self._by_op.setdefault(pattern.op, []).append((pattern, rule))
        self._by_form: dict[tuple[Any, ...], list[tuple[Apply, Rule]]] = {}
        self._numbers = {n for rules in self._by_op.values() for pattern, _ in rules for n in _numbers(pattern)}

    def apply(self, node: Tensor, settle: Settle) -> Tensor:
        """The result of the first rule that matches; the node itself if none does."""
        if node.op not in self._by_op:
            return node
        forms = tuple([self._form(source) for source in node.inputs])
        rules = self._by_form.get((node.op, forms))
        if rules is None:
            rules = self._by_form[node.op, forms] = [c for c in self._by_op[node.op] if _could_match(c[0], forms)]
        for pattern, rule in rules:
            new = _try(pattern, rule, node, settle)
            if new is not None:
                return new
        return node

    def _form(self, source: Tensor) -> tuple[str, str | None]:
        """The op of an operand, and its number if a rule names it."""
        number = number_of(source) if source.op in CARRIERS_OF_NUMBERS else None
        return source.op, repr(number) if number in self._numbers else None


def _numbers(pattern: Apply) -> Iterator[float]:
    return (operand.value for operand in pattern.operands if isinstance(operand, Number))


def _could_match(pattern: Apply, forms: tuple[tuple[str, str | None], ...]) -> bool:
    return len(forms) == len(pattern.operands) and all(_admits(p, *form) for p, form in zip(pattern.operands, forms, strict=True))


def _admits(pattern: Pattern, op: str, number: str | None) -> bool:
    if isinstance(pattern, Letter):
        return True
    if isinstance(pattern, Number):
        return number is not None
    return pattern.op == op


def _try(pattern: Apply, rule: Rule, node: Tensor, settle: Settle) -> Tensor | None:
    inner: list[Tensor] = []
    bound: dict[str, object] = {}
    if not match(pattern, node, bound, inner) or (node.dtype.kind == "c" and not rule.only_moves):
        return None
    if any(_wraps(i, node) for i in inner):
        return None
    made: list[Tensor] = []

    def settled(tensor: Tensor) -> Tensor:
        made.append(tensor)
        return settle(tensor)

    try:
        if not holds(rule.condition, bound, CONDITIONS):
            return None
        with located(node.origin):
            new = build(rule.parsed_result, bound, node, CONDITIONS, settled)
    except GraphError:  # the op of the result is not defined for these dtypes
        return None
    return new if new.spec == node.spec and new is not node and not any(_wraps(i, node) for i in made) else None


def _wraps(inner: Tensor, node: Tensor) -> bool:
    """Whether an inner result wraps around (or is "or" instead of a sum) where the node itself does not, or at another width."""
    return inner.dtype.kind in "biu" and inner.op in WRAPPING and inner.dtype != node.dtype


class _Pass:
    """One pass over a graph, and its settled nodes."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.settled: set[Tensor] = set()
        self.depth = 0
        self.rewrites_left = MOST_REWRITES
        self.unfinished = False

    def settle(self, node: Tensor) -> Tensor:
        """Change a node whose inputs are settled until no step changes it."""
        if self.depth >= DEEPEST:
            self.unfinished = True
            return node
        if self.depth == 0:
            self.rewrites_left = MOST_REWRITES
        self.depth += 1
        while node not in self.settled and self.rewrites_left > 0:
            new = self._once(node)
            if new is node:
                break
            self.rewrites_left -= 1
            node = new
        self.depth -= 1
        self.settled.add(node)
        return node

    def _once(self, node: Tensor) -> Tensor:
        if node.spec.parts:
            node = with_bodies(node, self.body)
        for step in self.steps:
            new = step(node, self.settle)
            if new is not node:
                return new
        return node

    def body(self, graph: Graph) -> Graph:
        """A body with every node settled; the body itself if none changes."""
        new = self.run(graph)
        return graph if same(new, graph) else new

    def run(self, graph: Graph) -> Graph:
        """The graph with every node settled."""
        became: dict[Tensor, Tensor] = {}
        for node in graph.nodes:
            new = node if node.op in LEAVES else remake(node, tuple([became[source] for source in node.inputs]))
            became[node] = self.settle(new)
        new_graph = graph.replace(became)
        return graph if same(new_graph, graph) else new_graph


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs with the same inputs have identical nodes as outputs."""
    return all(x is y for x, y in zip(a.outputs.values(), b.outputs.values(), strict=True))


def rewrite(graph: Graph, steps: Sequence[Step], *, keep: Iterable[Tensor] = ()) -> Graph:
    """Change the nodes of a graph, and of the bodies of its loops, until no step changes any."""
    # Leaves stand for the nodes in `keep`, so that no pattern sees through them.
    stand_ins = {t: new_input(f"kept {i}", t.shape, t.dtype) for i, t in enumerate(keep)}
    opened = _open(graph, stand_ins) if stand_ins else graph
    changed = opened
    for _ in range(MOST_PASSES):
        walk = _Pass(steps)
        before, changed = changed, walk.run(changed)
        if not walk.unfinished or len(changed) > len(before):
            break
    if changed is opened:
        return graph
    return graph.replace(dict(zip(graph.outputs.values(), _close(changed, stand_ins), strict=True))) if stand_ins else changed


def _open(graph: Graph, stand_ins: dict[Tensor, Tensor]) -> Graph:
    became = rebuild(graph.outputs.values(), stand_ins)
    inputs = {str(i): leaf for i, leaf in enumerate([*graph.inputs.values(), *stand_ins.values()])}
    return Graph(inputs, {name: became[t] for name, t in graph.outputs.items()})


def _close(graph: Graph, stand_ins: dict[Tensor, Tensor]) -> list[Tensor]:
    became = rebuild(graph.outputs.values(), {leaf: t for t, leaf in stand_ins.items()})
    return [became[t] for t in graph.outputs.values()]


def simplify(graph: Graph, rules: RuleSet | Iterable[Rule], *, keep: Iterable[Tensor] = ()) -> Graph:
    """Rewrite a graph by rules until none matches.

    Parameters
    ----------
    graph
        Any graph; loops' bodies are rewritten with it.
    rules
        A `RuleSet`, or rules.
    keep
        Nodes that must survive, such as targets of differentiation: they, and nodes that lead only to them, stay unchanged.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> from dagtrain.transform import EXACT, Rule, simplify
    >>> graph = dt.trace(lambda x: np.negative(np.negative(x)), np.zeros(2))
    >>> print(simplify(graph, [Rule("--x", "x", EXACT)]))
    graph(x: float64[2]) -> (output: float64[2])
      %0 = input(name='x')                                  float64[2]
      return output=%0
    """
    table = rules if isinstance(rules, RuleSet) else RuleSet(rules)
    return rewrite(graph, [table.apply], keep=keep)
