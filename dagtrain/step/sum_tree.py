"""The fixed sum tree over shards: its shape depends on their number alone, so a sum has the same bits wherever its parts are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dagtrain.graph import Array

__all__ = ["add_tree", "tree_levels"]


def tree_levels(shards: int) -> list[list[tuple[int, int]]]:
    """The fixed sum tree: for each level, pairs (a, b) of shards; the sum at b is added to that at a.

    Examples
    --------
    >>> tree_levels(5)
    [[(0, 1), (2, 3)], [(0, 2)], [(0, 4)]]
    """
    levels, width = [], 1
    while width < shards:
        levels.append([(i, i + width) for i in range(0, shards - width, 2 * width)])
        width *= 2
    return levels


def add_tree(vectors: Sequence[Array | None], out: Array | None = None, add: Callable[..., Array] = np.add) -> Array | None:
    """Sum of the vectors by the fixed tree; None (an empty shard) adds nothing. The inputs do not change.

    Parameters
    ----------
    vectors
        One for each shard.
    out
        Array for the sum; a new one by default.
    add
        ``add(left, right, out=...)``, where neighbours are not added up.
    """
    current = list(vectors)
    owned: set[int] = set()  # indices whose sum is in memory of this call
    for level in tree_levels(len(current)):
        for left, right in level:
            a, b = current[left], current[right]
            if b is None:
                continue
            if a is None:
                current[left] = b
                if right in owned:
                    owned.add(left)
            elif left in owned:
                add(a, b, out=a)
            else:
                current[left] = add(a, b)
                owned.add(left)
    total = current[0]
    if out is None or total is None:
        return total.copy() if total is not None and 0 not in owned else total
    out[...] = total
    return out
