"""A placement as a picture: each rank a column, each host a box, and arrows for the messages of a step.

    ┌ host ────────────────────────┐
    │   rank 0            rank 1   │
    │ shards 0–3        shards 4–7 │      what a rank computes
    └─────│─────────────────│──────┘
          │      ╲   ╱      │             partial sums, to the ranks that own the slices
      blocks 0–1        blocks 2–3        what a rank owns and updates
          │      ╲   ╱      │             new parameters, to all ranks
      parameters        parameters

With many ranks, arrows for every pair would be unreadable: then one node stands for all exchanges of a phase and shows their total, and
similar ranks are drawn as one column between the first and the last of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

from dagtrain.draw.diagram import Diagram, Edge, Group, LegendItem, Line, Node
from dagtrain.draw.style import WORKERS
from dagtrain.draw.text import bytes_text, count_text, shorten
from dagtrain.engines.ranks.subtrees import under
from dagtrain.errors import ArgumentError
from dagtrain.report.table import plural
from dagtrain.transport import Phase

if TYPE_CHECKING:
    from dagtrain.engines.ranks.placement import Placement, RankPlacement

__all__ = ["placement_diagram"]

PAIRS = 3
"""Number of ranks up to which each pair has its own arrows."""
WORDS = {
    Phase.REDUCE_SCATTER: "partial sums",
    Phase.ALL_REDUCE_NORM: "squared norms",
    Phase.ALL_GATHER: "parameters",
    Phase.ALL_GATHER_OPTIMIZER: "optimiser state",
    Phase.ALL_GATHER_WEIGHTS: "weights",
}
Channels = Mapping[tuple[int, int], str]


class Column(NamedTuple):
    """Ranks that are drawn as one, mostly a single rank."""

    ranks: tuple[RankPlacement, ...]
    host: str
    """Name of its box, empty without one."""

    @property
    def key(self) -> str:
        """Its key in the diagram."""
        return f"rank {self.ranks[0].number}"


def placement_diagram(
    placement: Placement,
    *,
    channels: Channels | None = None,
    pairs: bool | None = None,
    most: int = 8,
    legend: bool = True,
    title: str | None = None,
    direction: str = "TB",
) -> Diagram:
    """Describe the picture of a placement.

    Parameters
    ----------
    placement
        To draw.
    channels
        By pair of ranks, the kind of channel between them ("shared", "socket", "comm"), if known.
    pairs
        Whether each pair of ranks has arrows of its own; None does so for up to three ranks.
    most
        With more ranks than this, similar ranks are drawn as one column.
    legend
        Whether to explain colours.
    title
        Written below the picture; by default the number of bytes exchanged.
    direction
        "TB" (down), "BT", "LR" or "RL".

    Raises
    ------
    ArgumentError
        If a pair in `channels` names a rank that does not exist.

    Examples
    --------
    >>> from dagtrain.engines.ranks.placement import WorkerInfo, StepShape, place
    >>> diagram = placement_diagram(place(StepShape(2, (10,)), [WorkerInfo("a"), WorkerInfo("b")]))
    >>> [node.lines[0].text for node in diagram.nodes]
    ['rank 0', 'block 0', 'parameters', 'rank 1', 'parameters']
    """
    count = len(placement.ranks)
    for pair in channels or {}:
        if len(set(pair)) != 2 or not set(pair) <= set(range(count)):
            raise ArgumentError(f"channels names the pair {pair!r}, but the ranks are 0 to {count - 1}: pass pairs of two of them.")
    columns = _columns(placement.ranks, most)
    if pairs is None:
        pairs = count <= PAIRS
    sizes = {(edge.source, edge.target, edge.phase): edge.nbytes for edge in placement.edges() if edge.nbytes}
    nodes: list[Node] = []
    groups = [Group(f"host {host}", host) for host in dict.fromkeys(column.host for column in columns) if host]
    for i, column in enumerate(columns):
        nodes += _column(placement, column, WORKERS[i % len(WORKERS)], sizes)
    edges = _local(nodes, columns)
    kinds = {frozenset(pair): kind for pair, kind in (channels or {}).items()}
    if pairs and len(columns) == count:
        edges += [_pair(placement, a, b, phase, nbytes, kinds) for (a, b, phase), nbytes in sizes.items() if phase in _ROWS]
    else:
        for phase in _ROWS:
            hub, spokes = _hub(placement, columns, phase, sizes, kinds)
            nodes += hub
            edges += spokes
    if placement.idle:
        groups.append(Group("idle", f"idle: more workers than shards ({placement.shape.shards})"))
        nodes += _idle(placement.idle, most)
    if title is None:
        title = _title(placement, sizes)
    items = _legend(nodes, edges) if legend else []
    return Diagram(tuple(nodes), tuple(edges), tuple(groups), tuple(items), title, direction, rows=_rows(nodes, columns))


_ROWS = {Phase.REDUCE_SCATTER: ("computes", "owns"), Phase.ALL_GATHER: ("owns", "has")}
"""Phases that are drawn as arrows, with their rows of the two columns."""
_STROKES = {Phase.REDUCE_SCATTER: "scattered", Phase.ALL_GATHER: "gathered"}
Sizes = Mapping[tuple[int, int, Phase], int]


# ---- columns


def _columns(ranks: Sequence[RankPlacement], most: int) -> list[Column]:
    """One column a rank; with many ranks, of each run of similar ones the first, those between as one column, and the last."""
    hosts = len({rank.host for rank in ranks})
    if len(ranks) <= most:
        return [Column((rank,), rank.host if hosts > 1 else "") for rank in ranks]
    by_host = 1 < hosts <= len(ranks) / 4
    columns = []
    for _, run in groupby(ranks, lambda a: (a.host if by_host else "", a.threads, len(a.shards), len(a.roots), bool(a.blocks))):
        similar = tuple(run)
        parts = [similar[:1], similar[1:-1], similar[-1:]] if len(similar) > 4 else [(rank,) for rank in similar]
        columns += [Column(part, part[0].host if by_host else "") for part in parts]
    return columns


def _box(host: str) -> str | None:
    return f"host {host}" if host else None


def _names(column: Column) -> list[Line]:
    first, last = column.ranks[0], column.ranks[-1]
    threads = plural(first.threads, "thread")
    if first is last:
        return [Line(f"rank {first.number}", "title"), Line(f"{_short(first, column.host)} · {threads}")]
    return [Line(f"ranks {first.number}–{last.number}", "title"), Line(f"{len(column.ranks)} alike, {threads} each")]


def _rows(nodes: Sequence[Node], columns: Sequence[Column]) -> tuple[tuple[str, ...], ...]:
    """Keys of the nodes of each row, in the order of the columns."""
    keys = {node.key for node in nodes}
    rows = [[key for column in columns if (key := f"{column.key} {row}") in keys] for row in ("computes", "owns", "has")]
    return tuple(tuple(row) for row in rows if row)


def _short(rank: RankPlacement, host: str) -> str:
    """A worker's address without the host that its box names."""
    address = rank.worker.partition("://")[2] or rank.worker
    return shorten(address.removeprefix(host) if host and address != host else address, 28)


def _column(placement: Placement, column: Column, color: str, sizes: Sizes) -> list[Node]:
    """Nodes for the shards that the ranks compute, the blocks they own, and the parameters they have after a step."""
    ranks, shape = column.ranks, placement.shape
    item = int(shape.dtype[-1])
    each = "" if len(ranks) == 1 else " each"
    shards = [s for rank in ranks for s in rank.shards]
    parts = [_range(shards) for rank in ranks for shards in under(rank.roots, rank.shards, shape.shards).values()]
    sums = f"sum{'s' if len(parts) > 1 else ''} {shorten(', '.join(parts), 30)}"
    lines = [*_names(column), Line(_numbers("shard", shards), "plain"), Line(f"{len(ranks[0].shards)} each" if each else sums)]
    numbers = {rank.number for rank in ranks}
    if weights := sum(n for (a, _, phase), n in sizes.items() if a in numbers and phase is Phase.ALL_GATHER_WEIGHTS):
        lines.append(Line(f"gives {bytes_text(weights)} of weights"))
    tips = [f"rank {a.number} on {a.worker}, host {a.host or 'not known'}, {plural(a.threads, 'thread')}" for a in ranks]
    tip = "\n".join([*tips[:20], f"shards {_range(shards)}", f"a partial sum for each of {', '.join(parts)}"])
    nodes = [Node(f"{column.key} computes", tuple(lines), color, _box(column.host), tip)]
    blocks = [b for rank in ranks for b in rank.blocks]
    if blocks:
        elements = sum(placement.elements_of(rank.number) for rank in ranks)
        lines = [
            Line(_numbers("block", blocks), "title"),
            Line(f"{count_text(elements)} elements", "plain"),
            Line(bytes_text(elements * item)),
        ]
        if shape.states and placement.ranks[placement.owners[0]] in ranks:
            lines.append(Line(f"and {bytes_text(shape.states)} of states of layers"))
        for_norms = sum(n for (a, _, phase), n in sizes.items() if a in numbers and phase is Phase.ALL_REDUCE_NORM)
        if for_norms:
            lines.append(Line(f"gives {bytes_text(for_norms)} for norms"))
        tip = f"{elements:,} of {shape.parameters:,} parameters"
        for group in shape.groups:
            if count := sum(shape.blocks[b] for b in blocks if b in group.blocks):
                lines.append(Line(shorten(f"{group.name}: {count_text(count)}", 30)))
                tip += f"\n{count:,} of the group {group.name}"
        if shape.slots:
            tip += f"{', and as many elements' if not shape.groups else ', and their elements'} of {', '.join(shape.slots)}, "
            tip += "which all ranks get at a segment's end"
        nodes.append(Node(f"{column.key} owns", tuple(lines), "update", None, tip))
    whole = shape.vector * item + shape.states
    lines = [Line("parameters", "title"), Line(f"{bytes_text(whole)}{each}")]
    nodes.append(Node(f"{column.key} has", tuple(lines), "parameter", None, "the whole vector, for the next step"))
    return nodes


def _idle(idle: Sequence[str], most: int) -> list[Node]:
    names = [address.partition("://")[2] or address for address in idle]
    if len(names) > most:
        return [Node("idle", (Line(f"{len(names)} workers", "title"),), "constant", "idle", "\n".join(idle[:40]))]
    return [Node(f"idle {i}", (Line(shorten(name)),), "constant", "idle", idle[i]) for i, name in enumerate(names)]


# ---- arrows


def _local(nodes: Sequence[Node], columns: Sequence[Column]) -> list[Edge]:
    """Edges within a rank."""
    keys = {node.key for node in nodes}
    edges = []
    for column in columns:
        rows = [f"{column.key} {row}" for row in ("computes", "owns", "has")]
        rows = [row for row in rows if row in keys]
        if len(rows) == 3:  # a rank without blocks has no such edges
            edges += [Edge(a, b, kind="local", tooltip="stays in its rank", weight=8) for a, b in pairwise(rows)]
    return edges


def _pair(placement: Placement, a: int, b: int, phase: Phase, nbytes: int, kinds: Mapping[frozenset[int], str]) -> Edge:
    start, end = _ROWS[phase]
    kind = kinds.get(frozenset((a, b)))
    label = f"{'partial' if phase is Phase.REDUCE_SCATTER else 'updated'} {bytes_text(nbytes)}{_in_parts(placement)}" + (
        f" · {kind}" if kind else ""
    )
    spans = ", ".join(f"{p.region}[{p.start}:{p.stop}]" for p in placement.spans(a, b)[phase])
    tip = f"{WORDS[phase]}, {nbytes:,} bytes a step from rank {a} to rank {b}{f' by {kind}' if kind else ''}\n{shorten(spans, 300)}"
    return Edge(f"rank {a} {start}", f"rank {b} {end}", label, _STROKES[phase], tip)


def _in_parts(placement: Placement) -> str:
    """Words for a message that is sent in parts: as gradients become final, and as the next step needs the parameters."""
    return f" in {len(placement.buckets)} parts" if len(placement.buckets) > 1 else ""


def _hub(
    placement: Placement, columns: Sequence[Column], phase: Phase, sizes: Sizes, kinds: Mapping[frozenset[int], str]
) -> tuple[list[Node], list[Edge]]:
    """All exchanges of a phase as one node."""
    messages = {(a, b): nbytes for (a, b, p), nbytes in sizes.items() if p is phase}
    if not messages:
        return [], []
    start, end = _ROWS[phase]
    key, total = f"all {phase.name}", sum(messages.values())
    how = "reduce-scatter" if phase is Phase.REDUCE_SCATTER else "all-gather"
    lines = [Line(f"{WORDS[phase]}: {bytes_text(total)}", "title"), Line(f"{how}, {count_text(len(messages))} messages")]
    lines += [Line(text) for text in _by_channel(placement, messages, kinds)]
    if len(placement.buckets) > 1:
        lines.append(Line(f"{_in_parts(placement).strip()}, layer by layer"))
    edges = []
    for column in columns:
        numbers = {rank.number for rank in column.ranks}
        sent = {pair: n for pair, n in messages.items() if pair[0] in numbers}
        received = {pair: n for pair, n in messages.items() if pair[1] in numbers}
        for ends, sizes_of, verb in (((f"{column.key} {start}", key), sent, "sent"), ((key, f"{column.key} {end}"), received, "received")):
            if sizes_of:
                tip = f"{WORDS[phase]}: {sum(sizes_of.values()):,} bytes a step {verb} in {plural(len(sizes_of), 'message')}"
                edges.append(Edge(*ends, bytes_text(sum(sizes_of.values())), _STROKES[phase], tip))
    return [Node(key, tuple(lines), "layer", None, f"{total:,} bytes a step, {how}")], edges


def _by_channel(placement: Placement, messages: Mapping[tuple[int, int], int], kinds: Mapping[frozenset[int], str]) -> list[str]:
    """Bytes by kind of channel if known, otherwise within and between hosts."""
    sums: Counter[str] = Counter()
    hosts = {rank.number: rank.host for rank in placement.ranks}
    for (a, b), nbytes in messages.items():
        sums[kinds.get(frozenset((a, b)), "" if kinds else "between hosts" if hosts[a] != hosts[b] else "within hosts")] += nbytes
    if not kinds and len(set(hosts.values())) == 1:
        return []
    return [f"{name or 'not known'}: {bytes_text(n)}" for name, n in sorted(sums.items())]


# ---- words


def _title(placement: Placement, sizes: Sizes) -> str:
    sums: Counter[Phase] = Counter()
    for (_, _, phase), nbytes in sizes.items():
        sums[phase] += nbytes
    ranks = plural(len(placement.ranks), "rank")
    hosts = {rank.host for rank in placement.ranks}
    ranks += f" on {len(hosts)} hosts" if len(hosts) > 1 else ""
    if len(placement.ranks) == 1:
        return f"{ranks}: nothing is exchanged"
    ending = sums.pop(Phase.ALL_GATHER_OPTIMIZER, 0)
    parts = ", ".join(f"{WORDS[phase]} {bytes_text(sums[phase])}" for phase in sorted(sums))
    end = f"{bytes_text(ending)} of optimiser state" if ending else "nothing"
    return f"{ranks}: {bytes_text(sum(sums.values()))} exchanged in a step ({parts}), {end} at a segment's end"


def _legend(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[LegendItem]:
    kinds = {edge.kind for edge in edges} | {node.kind for node in nodes}
    words = {
        WORKERS[0]: "computes gradients, adds within its subtrees",
        "update": "blocks that the rank owns and updates",
        "parameter": "the whole vector after the step",
        "scattered": "partial sums, to the slice's owner",
        "gathered": "updated slices, to all ranks",
        "local": "stays in its rank",
        "constant": "worker without a rank",
    }
    return [LegendItem(kind, text) for kind, text in words.items() if kind in kinds]


def _numbers(noun: str, numbers: Sequence[int]) -> str:
    return f"{noun}{'s' if len(numbers) > 1 else ''} {shorten(_range(numbers), 30)}"


def _range(numbers: Sequence[int]) -> str:
    """Integers as short text: ``0–3, 7``."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)
