"""Recurrent sequences as ops, beyond their samples: lengths of nothing and one, single outputs, rows by themselves, memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.backends.blas import guard
from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Graph
from dagtrain.ops import Op, find, parts
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient

from ..each import each

CELLS = ("rnn", "lstm", "gru")


def inputs_of(cell: str, steps: int, rows: int, dtype: str = "f8", masked: bool = True, features: int = 3, units: int = 4) -> list[Any]:
    rng = np.random.default_rng(0)
    wide = {"rnn": 1, "lstm": 4, "gru": 3}[cell] * units
    shapes = [
        (steps, rows, features),
        (features, wide),
        (units, wide),
        (2, wide)[cell != "gru" :],
        *[(rows, units)] * (1 + (cell == "lstm")),
    ]
    return [*(rng.normal(size=shape).astype(dtype) for shape in shapes), *([rng.random((steps, rows)) > 0.3] if masked else [])]


def attributes_of(cell: str, keep: bool) -> dict[str, Any]:
    return {"reverse": False} if cell == "rnn" else {"reverse": False, "keep": keep}


def gradient_inputs(op: Op, arrays: list[Any], states: int) -> list[Any]:
    outputs = op.kernel(*arrays, **attributes_of(op.name, True))
    return [*arrays[:3], *arrays[4:], outputs[0], *outputs[1 + states :], *outputs[: 1 + states]]


@each([(cell, steps, rows, dtype) for cell in CELLS for steps, rows, dtype in ((0, 2, "f8"), (1, 1, "f8"), (3, 0, "f4"), (2, 1, "f4"))])
def test_short_sequences_and_single_outputs(cell: str, steps: int, rows: int, dtype: str) -> None:
    op, arrays = find(cell), inputs_of(cell, steps, rows, dtype)
    slopes, states = find(f"{cell}_gradient"), 1 + (cell == "lstm")
    for record, values, attributes in (
        (op, arrays, attributes_of(cell, True)), (op, arrays, attributes_of(cell, False)),
        (slopes, gradient_inputs(op, arrays, states), {"reverse": False}),
    ):  # fmt: skip
        leaves = [dt.input(f"x{i}", value.shape, value.dtype) for i, value in enumerate(values)]
        assert record.expand is not None
        expanded = Graph({str(leaf.name): leaf for leaf in leaves}, {str(i): t for i, t in enumerate(record.expand(*leaves, **attributes))})
        right = interpret(expanded, *values)
        results = record.kernel(*values, **attributes)
        for i, (result, expected) in enumerate(zip(results, right, strict=True)):
            assert result.dtype == dtype
            np.testing.assert_allclose(result, expected, rtol=1e-10 if dtype == "f8" else 1e-4, atol=1e-5)
            alone = [np.full_like(result, np.nan) if k == i else None for k in range(len(results))]
            np.testing.assert_array_equal(record.kernel(*values, out=list(alone), **attributes)[i], result)
            assert alone[i] is None or np.isfinite(alone[i]).all()


@each(CELLS)
def test_a_row_is_the_same_to_the_bit_whatever_the_others_are(cell: str) -> None:
    op, arrays = find(cell), inputs_of(cell, 6, 5, "f4", units=32)
    outputs = op.kernel(*arrays, **attributes_of(cell, True))
    changed = [arrays[0].copy(), *arrays[1:]]
    changed[0][:, 1:] *= -3
    changed[-1] = arrays[-1].copy()
    changed[-1][:, 1:] ^= True
    others = op.kernel(*changed, **attributes_of(cell, True))
    assert outputs[0][:, 0].tobytes() == others[0][:, 0].tobytes()
    assert outputs[0][:, 1:].tobytes() != others[0][:, 1:].tobytes()


@each([(cell, masked) for cell in CELLS for masked in (False, True)])
def test_a_plan_allocates_nothing_in_its_steps(cell: str, masked: bool) -> None:
    arrays = inputs_of(cell, 50, 32, "f4", masked, features=16, units=64)
    leaves = [dt.input(f"x{i}", value.shape, value.dtype) for i, value in enumerate(arrays)]
    outputs = parts(find(cell)(*leaves, **attributes_of(cell, True)))
    slopes = gradient(outputs[0].sum() + outputs[1].sum(), leaves[:4])
    graph = Graph({str(leaf.name): leaf for leaf in leaves}, {str(i): t for i, t in enumerate(slopes)})
    for part in (graph, Graph(graph.inputs, {"y": outputs[0]})):
        bound = part.plan().bind()
        with guard():
            bound(*arrays)
            tracemalloc.start()
            try:
                bound(*arrays)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert peak < 150_000  # NumPy's own buffers of 33 kB each and views; all steps of one state have 410 kB


def test_what_was_kept_is_not_made_without_a_gradient() -> None:
    leaves = [dt.input(f"x{i}", value.shape, value.dtype) for i, value in enumerate(inputs_of("lstm", 3, 2))]
    graph = Graph({str(leaf.name): leaf for leaf in leaves}, {"y": parts(find("lstm")(*leaves, reverse=False, keep=True))[0]})
    assert "keep=False" in graph.plan().source


@each([
    (0, (3, 4), ShapeError, r"lstm: a sequence is \(steps, rows, features\), got \(3, 4\)"),
    (1, (3, 12), ShapeError, r"4 units the kernel has the shape \(3, 16\), got \(3, 12\)"),
    (5, (2, 3), ShapeError, r"the first cell has the shape \(2, 4\), got \(2, 3\)"),
    (6, (2, 3), ShapeError, r"the mask has the shape \(3, 2\), got \(2, 3\)"),
    (6, (3, 2), DTypeError, "a mask is of booleans, got float64"),
])  # fmt: skip
def test_mistakes_are_named(position: int, shape: tuple[int, ...], kind: type[Exception], words: str) -> None:
    arrays = inputs_of("lstm", 3, 2)
    arrays[position] = np.zeros(shape, bool if position == 6 and kind is ShapeError else "f8")
    with pytest.raises(kind, match=words):
        find("lstm")(*arrays, reverse=False, keep=True)
