"""Where each node of a computational graph is drawn: its box or its collapsed layer, and which repeated layers fold into one.

    path of a node = (phase, *scope)          ("forward", "encoder", "dense_1")

A parameter has no scope of its own: it is drawn where it is used. Layers that follow each other and are the same but for their
parameters' values fold into the first of them, with their number on the box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dagtrain.draw.naming import PARAMETER_ROOTS
from dagtrain.graph import LEAVES, Graph, Tensor, users

__all__ = ["Path", "Placement", "is_parameter", "place"]

Path = tuple[str, ...]
FEWEST = 3
"""At least this many equal layers in a row fold into one."""


@dataclass(frozen=True)
class Placement:
    """The decision for each node."""

    paths: Mapping[Tensor, Path]
    representative: Mapping[Tensor, Tensor] = field(default_factory=dict)
    """A folded node → the node that stands for it."""
    repeats: Mapping[Path, Sequence[Path]] = field(default_factory=dict)
    """The first of folded layers → all of them."""
    depth: int | None = None
    """Scopes nested deeper than this are drawn as one node; None for never."""

    def stand_in(self, node: Tensor) -> Tensor:
        """The node that is drawn for this one."""
        return self.representative.get(node, node)

    def collapsed(self, node: Tensor) -> Path | None:
        """Path of the collapsed layer that holds the node, if one does."""
        path = self.paths[node]
        if self.depth is None or len(path) - 1 <= self.depth:
            return None
        return path[: self.depth + 2]


def is_parameter(node: Tensor) -> bool:
    """Whether a leaf is a parameter: an array, or an input named as one."""
    return node.op == "array" or (node.op == "input" and str(node.name).split(".")[0] in PARAMETER_ROOTS)


def is_statistic(node: Tensor) -> bool:
    """Whether a leaf is a running statistic or another state of a layer, by its name."""
    return node.op == "input" and str(node.name).startswith("statistics.")


def place(graph: Graph, *, depth: int | None, fold: bool) -> Placement:
    """Decide where each node is drawn.

    Parameters
    ----------
    graph
        What is drawn.
    depth
        0 collapses the outermost scopes into one node each, 1 those inside them, and so on; None collapses nothing.
    fold
        Whether equal layers in a row become one.
    """
    used_by = users(graph.nodes)
    paths: dict[Tensor, Path] = {}
    for node in graph.nodes:
        if node.op not in LEAVES:
            paths[node] = (node.origin.phase, *node.origin.scope)
    for node in graph.nodes:
        if node.op in LEAVES:
            homes = [paths[user] for user in used_by[node]]
            homes = [p for p in homes if p[0] == "forward"] or homes
            belongs = is_parameter(node) or is_statistic(node) or node.op == "constant"
            paths[node] = _common(homes) if homes and belongs else ("forward",)
    if not fold:
        return Placement(paths, depth=depth)
    representative, repeats = _fold(graph, paths)
    return Placement(paths, representative, repeats, depth)


def _common(paths: Sequence[Path]) -> Path:
    prefix = paths[0]
    for path in paths[1:]:
        same = 0
        while same < min(len(prefix), len(path)) and prefix[same] == path[same]:
            same += 1
        prefix = prefix[:same]
    return prefix or ("forward",)


def _fold(graph: Graph, paths: Mapping[Tensor, Path]) -> tuple[dict[Tensor, Tensor], dict[Path, list[Path]]]:
    members: dict[Path, list[Tensor]] = {}
    for node in graph.nodes:
        path = paths[node]
        for length in range(2, len(path) + 1):
            members.setdefault(path[:length], []).append(node)
    siblings: dict[Path, list[Path]] = {}
    for path in members:
        siblings.setdefault(path[:-1], []).append(path)
    representative: dict[Tensor, Tensor] = {}
    repeats: dict[Path, list[Path]] = {}
    # Forward before gradient: a layer's gradient refers to the layer itself. Outer before inner: a folded layer has no layers inside.
    for parent in sorted(siblings, key=lambda p: (p[0] != "forward", len(p))):
        if any(node in representative for child in siblings[parent] for node in members[child][:1]):
            continue
        run: list[Path] = []
        for child in [*siblings[parent], ()]:
            if child and run and _continues(members[run[-1]], members[child], representative):
                run.append(child)
                continue
            if len(run) >= FEWEST:
                repeats[run[0]] = run
                for other in run[1:]:
                    representative.update(zip(members[other], members[run[0]], strict=True))
            run = [child] if child else []
    return representative, repeats


def _continues(before: Sequence[Tensor], after: Sequence[Tensor], representative: Mapping[Tensor, Tensor]) -> bool:
    """Whether a layer equals the one before it, and its inputs are that layer's results or inputs."""
    if len(before) != len(after):
        return False
    places, earlier = {n: i for i, n in enumerate(after)}, {n: i for i, n in enumerate(before)}
    connected = False
    for old, new in zip(before, after, strict=True):
        if old.op != new.op or old.spec != new.spec or len(old.inputs) != len(new.inputs) or _fixed(old) != _fixed(new):
            return False
        for old_source, new_source in zip(old.inputs, new.inputs, strict=True):
            if new_source in places:
                if earlier.get(old_source) != places[new_source]:
                    return False
            elif old_source in earlier:
                return False
            elif new_source in earlier:
                connected = True
            elif representative.get(old_source, old_source) is not representative.get(new_source, new_source):
                return False
    return connected


def _fixed(node: Tensor) -> list[tuple[str, str]]:
    skipped = ("serial", "name", "value") if node.op != "constant" else ("serial",)
    return [(key, repr(value)) for key, value in node.attributes if key not in skipped]
