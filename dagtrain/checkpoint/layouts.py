"""The arrays in a manifest: the parameters in one vector of floats, and the states of layers, each with its dtype and its reduction."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.checkpoint.kinds import DICT, DTYPE, LIST, TEXT, record, sequence, shape, whole
from dagtrain.nn.reductions import REDUCTIONS
from dagtrain.step.layout import VectorLayout
from dagtrain.step.statistics import Layout, StatisticsLayout
from dagtrain.trace.tree import Leaf

__all__ = ["STATES", "layout_differences", "read_layout", "write_layout", "write_states"]

FLOATS = ("<f4", "<f8")


def read_layout(value: Any, name: str) -> VectorLayout:
    """The layout of an entry of floats, as a flat dict."""
    layout = DICT(value, name)
    if layout["dtype"] not in FLOATS:
        raise ValueError(f"the dtype of its {name} is none of {', '.join(FLOATS)}")
    pairs = LIST(layout["arrays"], "arrays")
    if any(type(p) is not list or len(p) != 2 or type(p[0]) is not str for p in pairs):
        raise ValueError(f"its entry {name!r} is no list of names and shapes")
    shapes = {p[0]: shape(1 << 48)(p[1], name) for p in pairs}
    if len(shapes) < len(pairs):
        raise ValueError(f"two of its {name} have one name")
    return VectorLayout(tuple(shapes), tuple(shapes.values()), dict.fromkeys(shapes, Leaf), layout["dtype"])


def write_layout(layout: VectorLayout) -> dict[str, Any]:
    """The entry of a layout of floats."""
    return {"dtype": layout.dtype, "arrays": list(zip(layout.names, layout.shapes, strict=True))}


def _states(shards: int, arrays: tuple[dict[str, Any], ...]) -> StatisticsLayout:
    names = tuple(array["name"] for array in arrays)
    if len(set(names)) < len(names):
        raise ValueError("two of its states have one name")
    for array in arrays:
        rule = REDUCTIONS.get(array["reduction"])
        if rule is None or array["dtype"].kind not in rule.kinds:
            raise ValueError(f"its state {array['name']!r} of {array['dtype']} is reduced by {array['reduction']!r}, which does not exist")
    shapes, reductions = (tuple(array[key] for array in arrays) for key in ("shape", "reduction"))
    return StatisticsLayout(names, shapes, tuple(array["dtype"].str for array in arrays), reductions, dict.fromkeys(names, Leaf), shards)


STATE = record(lambda **state: state, name=TEXT, shape=shape(1 << 48), dtype=DTYPE, reduction=TEXT)
STATES = record(_states, shards=whole(1), arrays=sequence(STATE))
"""The layout of states, as a flat dict."""


def write_states(layout: StatisticsLayout) -> dict[str, Any]:
    """The entry of a layout of states."""
    dtypes = (np.dtype(dtype).name for dtype in layout.dtypes)
    columns = zip(layout.names, layout.shapes, dtypes, layout.reductions, strict=True)
    return {"shards": layout.shards, "arrays": [dict(zip(("name", "shape", "dtype", "reduction"), c, strict=True)) for c in columns]}


def layout_differences(there: Layout, here: Layout) -> list[str]:
    """The differences between the arrays of a checkpoint and others, one text each."""
    kind, what = ("parameter", "shape ") if isinstance(there, VectorLayout) else ("state", "")
    a, b = _described(there), _described(here)
    names = dict.fromkeys([*a, *b])
    texts = [f"{kind} {n}: {what}{a.get(n, 'none')} there, {b.get(n, 'none')} here" for n in names if a.get(n) != b.get(n)]
    if not texts and there.names != here.names:
        texts = [f"the {kind}s are in another order"]
    if isinstance(there, VectorLayout) and isinstance(here, VectorLayout) and there.dtype != here.dtype:
        texts.append(f"dtype of the {kind}s: {np.dtype(there.dtype)} there, {np.dtype(here.dtype)} here")
    return texts[:8]


def _described(layout: Layout) -> dict[str, str]:
    """Each array in words."""
    if isinstance(layout, VectorLayout):
        return {name: str(each) for name, each in zip(layout.names, layout.shapes, strict=True)}
    columns = zip(layout.names, layout.arrays, layout.reductions, strict=True)
    return {name: f"{spec}, by {reduction}" for name, spec, reduction in columns}
