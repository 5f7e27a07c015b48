"""How the values of a state after each shard of a batch become one: one record each.

    old ──▶ shard s of the batch ──▶ new[s]       contribution[s] = contributes(new[s], old, part)
    total = combine over the fixed tree of the shards with rows;       state = becomes(old, total)

The part is the shard's fraction of the batch's rows. States by shard are not combined: each shard has a value of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array, Tensor

__all__ = ["REDUCTIONS", "Reduction", "check_reduction"]


def _new(new: Tensor, old: Tensor, part: Tensor) -> Tensor:
    return new


def _left(left: Array, right: Array, out: Array | None = None) -> Array:
    if out is None:
        return left.copy()
    if out is not left:
        np.copyto(out, left)
    return out


class Reduction(NamedTuple):
    """A way to make one value of those after each shard.

    Attributes
    ----------
    kinds
        Kinds of the dtypes that have it.
    contributes
        (new, old, part) → what a shard contributes, in its graph.
    combine
        ``combine(left, right, out=...)``, for neighbours in the tree.
    becomes
        Writes the new state over the old one, from the total.
    """

    kinds: str
    contributes: Callable[[Tensor, Tensor, Tensor], Tensor] = _new
    combine: Callable[..., Array] = _left
    becomes: Callable[[Array, Array], Any] = np.copyto


REDUCTIONS = {
    "mean": Reduction("f", lambda new, old, part: new * part, np.add),
    "sum": Reduction("fiu", lambda new, old, part: new - old, np.add, lambda old, total: np.add(old, total, out=old)),
    "max": Reduction("fiub", combine=np.maximum),
    "first": Reduction("fiub"),
    "shard": Reduction("fiub"),
}


def check_reduction(name: str, reduce: str, dtype: np.dtype[Any]) -> None:
    """Raise ArgumentError unless a state of this dtype has this reduction."""
    reduction = REDUCTIONS[one_of("reduce:", reduce, REDUCTIONS)]
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise ArgumentError(f"the state {name!r} has the dtype {dtype}: a state holds floats, integers or booleans.")
    if dtype.kind in reduction.kinds:
        return
    others = ", ".join(f'"{other}"' for other, each in REDUCTIONS.items() if dtype.kind in each.kinds)
    why = "their mean over shards is no whole number" if reduce == "mean" else "they have no sum"
    raise ArgumentError(f"the state {name!r} holds values of {dtype}, and {why}: take reduce={others}, or dtype=c.dtype.")
