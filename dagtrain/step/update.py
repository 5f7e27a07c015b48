"""An optimiser compiled: one pass over the flat vector of parameters, by groups, in blocks that fit the cache.

    vector   [ group 0: block 0, block 1 | group 1: block 2 | … ]     see `dagtrain.step.group_update`

A step of weight 0 (every row masked) changes neither parameters nor slots.

The blocks depend on the sizes of the groups alone. The norm of a vector is the root of its blocks' sums of squares, added in float64 in the
order of the blocks, so its bits depend on neither threads nor workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from dagtrain.graph import Array, Graph
from dagtrain.optim.groups import ParameterGroup
from dagtrain.optim.optimizer import Per
from dagtrain.plan import Plan
from dagtrain.step.group_update import BLOCK, GroupUpdate, Unit, blocks_of
from dagtrain.step.state import State

__all__ = ["BLOCK", "BoundUpdate", "Update", "blocks_of"]

Scalars = Sequence[Sequence[Any] | None]
"""For each unit the scalars of its blocks; None where the unit is not updated in this step."""


class _Unit(NamedTuple):
    """A unit of a group: its blocks, and the norms that it needs."""

    group: GroupUpdate
    unit: Unit
    blocks: range
    rounds: Sequence[int]
    """The round of each norm of the group."""
    sources: Sequence[range]
    """The blocks whose squares each norm adds."""


class Update:
    """The update of a vector of parameters, by groups and by blocks within them; picklable.

    Parameters
    ----------
    optimizer
        Of all `size` parameters, as one group; see `of_groups` for several.
    size
        Number of parameters.
    dtype
        Of the vector.
    block
        Most elements of a block, by default `BLOCK`.

    Attributes
    ----------
    groups
        In the order of the vector.
    blocks
        The blocks of all groups; none reaches over the end of its group.
    group_blocks
        The numbers of each group's blocks.
    squares_of
        How many squares each block has for a norm: one, or one for each parameter that shares it.
    slots
        Name of each slot in the state → the place of its group in the vector.
    norm_count
        Rounds of norms before the update: a round may need those before it.
    """

    def __init__(self, optimizer: Any, size: int, dtype: Any = np.float32, block: int | None = None) -> None:
        self._compile([(ParameterGroup("", optimizer, ()), [size])], dtype, block)

    @classmethod
    def of_groups(cls, groups: Sequence[tuple[ParameterGroup, Sequence[int]]], dtype: Any = np.float32, block: int | None = None) -> Update:
        """The update of these groups, each with the elements of its parameters, in the order of the vector."""
        update = cls.__new__(cls)
        update._compile(groups, dtype, block)
        return update

    def _compile(self, groups: Sequence[tuple[ParameterGroup, Sequence[int]]], dtype: Any, block: int | None) -> None:
        self.dtype = np.dtype(dtype)
        starts = accumulate((sum(sizes) for _, sizes in groups), initial=0)
        self.groups = [GroupUpdate(g, start, sizes, self.dtype, block) for (g, sizes), start in zip(groups, starts, strict=False)]
        self.slots = {name: group.place for group in self.groups for name in group.slots}
        self.blocks = [block for group in self.groups for unit in group.units for block in unit.blocks]
        self.squares_of = [max(len(unit.sizes), 1) for group in self.groups for unit in group.units for _ in unit.blocks]
        self._squares_at = [0, *accumulate(self.squares_of)]
        ends = accumulate((sum(len(unit.blocks) for unit in group.units) for group in self.groups), initial=0)
        self.group_blocks = [range(a, b) for a, b in pairwise(ends)]
        rounds, self.norm_count = _rounds([group.per for group in self.groups])
        self._units: list[_Unit] = []
        every = range(len(self.blocks))
        for group, of_group, rounds_of_group in zip(self.groups, self.group_blocks, rounds, strict=True):
            first = of_group.start
            for unit in group.units:
                blocks = range(first, first + len(unit.blocks))
                sources = [{"all": every, "group": of_group, "parameter": blocks}[per] for per in group.per]
                self._units.append(_Unit(group, unit, blocks, rounds_of_group, sources))
                first = blocks.stop
        self._unit_of = [u for u, unit in enumerate(self._units) for _ in unit.blocks]

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graph of each group's update, by its name: "update", with several groups "update" and that of the group."""
        return {f"update {group.name}".strip(): group.graph for group in self.groups if group.graph is not None}

    @property
    def plans(self) -> list[Plan]:
        """The plans of all groups."""
        return [each for group in self.groups for each in group.plans]

    @property
    def arrangement(self) -> tuple[Any, ...]:
        """What tells updates of the same plans apart; empty for one group without a name that is updated in each step."""
        if len(self._units) == 1 and not self.groups[0].name and self.groups[0].period == 1:
            return ()
        groups = [(group.name, group.place.start, group.place.stop, group.period, tuple(group.slots)) for group in self.groups]
        units = ((u, b.start, b.stop, self._units[u].unit.sizes) for u, b in zip(self._unit_of, self.blocks, strict=True))
        return (*groups, *units)

    @property
    def needs_norm(self) -> bool:
        """Whether the update of the first block needs the whole gradient."""
        return self.norm_count > 0

    def squares(self, k: int, i: int, state: State, gradient: Array, weight: float, norms: Sequence[Any]) -> Array:
        """The sums of squares of block `i` for norm `k`, given the loss's total weight and the norms before; 0 if its group has none."""
        u, block = self._unit_of[i], self.blocks[i]
        group, unit, _, rounds, _ = self._units[u]
        squares = np.zeros(self.squares_of[i])
        if k in rounds:
            place = rounds.index(k)
            parameters, *slots = group.vectors(state, block)
            values: dict[str, Any] = {"parameters": parameters, "gradient": gradient[block]}
            values |= dict(zip(group.slots.values(), slots, strict=True))
            values |= {"step": float(group.count(state)), "learning_rate_scale": state.learning_rate_scale, "weight": weight}
            values |= {f"norm_{j}": norms[before][u] for j, before in enumerate(rounds[:place])}
            of_block = group.squares(unit, place, block.stop - block.start, values)
            squares[: len(of_block)] = of_block
        return squares

    def norm(self, k: int, squares: Array) -> tuple[Any, ...]:
        """Norm `k` for each unit, from the squares of all blocks in order; None for a unit that has none.

        The squares of a unit's blocks are added in their order. A block of several parameters has a norm for each.
        """
        parts = squares.tolist()
        known: dict[range, Any] = {}
        norms: list[Any] = []
        for group, unit, blocks, rounds, sources in self._units:
            place = rounds.index(k) if k in rounds else None
            if place is None:
                norms.append(None)
            elif unit.sizes and group.per[place] == "parameter":
                at = self._squares_at[blocks.start]
                norms.append(np.sqrt(squares[at : at + len(unit.sizes)]).astype(self.dtype))
            else:
                source = sources[place]
                if source not in known:
                    known[source] = self.dtype.type(np.sqrt(sum((parts[self._squares_at[i]] for i in source), 0.0)))
                norms.append(known[source])
        return tuple(norms)

    def norms(self, state: State, gradient: Array, weight: float) -> list[tuple[Any, ...]]:
        """The norms in the update, in order; see `norm`."""
        norms: list[tuple[Any, ...]] = []
        for k in range(self.norm_count):
            squares = [self.squares(k, i, state, gradient, weight, norms) for i in range(len(self.blocks))]
            norms.append(self.norm(k, np.concatenate(squares)))
        return norms

    @property
    def has_rate(self) -> bool:
        """Whether an optimiser has a learning rate that `State.learning_rate_scale` changes."""
        nodes = (node for graph in self.graphs.values() for node in graph.nodes)
        return any(any(s.op == "input" and s.name == "learning_rate_scale" for s in node.inputs) for node in nodes)

    def scalar_values(self, state: State, weight: float, norms: Sequence[Any], blocks: Sequence[int] | None = None) -> Scalars:
        """The scalars of each unit, from a state's step and learning rate scale, the loss's total weight and the norms.

        By default for all blocks, else for `blocks` alone.
        """
        values: list[Sequence[Any] | None] = []
        needed = range(len(self._units)) if blocks is None else {self._unit_of[i] for i in blocks}
        for u, (group, unit, _, rounds, _) in enumerate(self._units):
            count = group.count(state)
            if (count + 1) % group.period or u not in needed:
                values.append(None)
            else:
                values.append(group.scalars(unit, float(count), state.learning_rate_scale, weight, *(norms[k][u] for k in rounds)))
        return values

    def bind(self, state: State, gradient: Array, threads: int = 1, blocks: Sequence[int] | None = None) -> BoundUpdate:
        """The update tied to the memory of this state and gradient; thread ``i % threads`` runs block `i`.

        By default all blocks can be updated, else only `blocks`.
        """
        return BoundUpdate(self, state, gradient, threads, range(len(self.blocks)) if blocks is None else blocks)


class BoundUpdate:
    """An update tied to memory: ``block(i, scalars)`` updates block `i` of the state in place."""

    def __init__(self, update: Update, state: State, gradient: Array, threads: int, blocks: Sequence[int]) -> None:
        self._calls = {}
        spaces: dict[tuple[int, int, int, bool], list[Array]] = {}
        for i in blocks:
            u, block = update._unit_of[i], update.blocks[i]
            group, unit, *_ = update._units[u]
            length = block.stop - block.start
            vectors = group.vectors(state, block)
            space = i % threads, group.place.start, length, len(unit.sizes) > 0
            bound = group.block_plan(unit, length).bind(vectors, spaces.get(space))
            spaces[space] = bound.buffers
            self._calls[i] = u, bound.run, (vectors[0], gradient[block], *vectors[1:])

    def block(self, i: int, scalars: Scalars) -> None:
        """Update one block."""
        unit, run, vectors = self._calls[i]
        values = scalars[unit]
        if values is not None:
            run(*vectors, *values)


def _rounds(groups: Sequence[Sequence[Per]]) -> tuple[list[list[int]], int]:
    """The round of each norm of each group, and their number: a norm of all groups is in one round of all.

    Examples
    --------
    >>> _rounds([["all", "group", "all"], ["all", "all"]])
    ([[0, 1, 2], [0, 2]], 3)
    """
    rounds: list[list[int]] = [[] for _ in groups]
    count = 0
    while any(len(done) < len(per) for done, per in zip(rounds, groups, strict=True)):
        own = [done for done, per in zip(rounds, groups, strict=True) if len(done) < len(per) and per[len(done)] != "all"]
        # A norm of all groups waits until every group comes to it.
        for done in own or [done for done, per in zip(rounds, groups, strict=True) if len(done) < len(per)]:
            done.append(count)
        count += 1
    return rounds, count
