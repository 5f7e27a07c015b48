"""Every op's batching rule, on the record's own samples: the op on all rows at once is the op on each row, stacked."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, UnsupportedError
from dagtrain.graph import Graph
from dagtrain.ops import OPS, Op, Sample
from dagtrain.ops.record import parts
from dagtrain.plan.interpret import interpret
from dagtrain.transform.batching import RULES, batched
from dagtrain.transform.batching_rules import WITHOUT

from ..each import each
from ..ops.cases import CASES, draw

ROWS = 3


def test_every_op_has_a_rule_or_is_known_to_have_none() -> None:
    assert set(OPS) - set(RULES) == set(WITHOUT)


@pytest.mark.slow
@each(CASES)
def test_the_op_on_all_rows_is_the_op_on_each_row(op: Op, sample: Sample) -> None:
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {sample}".encode()))
    rows = [[draw(d, rng) for d in sample.draws] for _ in range(ROWS)]
    count = len(sample.draws)
    choices = [tuple(range(count)), *((i,) for i in range(count) if count > 1)]
    for with_rows in choices:
        # Inputs without rows are those of the first row.
        of_rows = [[row[i] if i in with_rows else rows[0][i] for i in range(count)] for row in rows]
        leaves = [dt.input(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(rows[0])]
        full = {leaves[i]: dt.input(f"all{i}", (ROWS, *leaves[i].shape), leaves[i].dtype) for i in with_rows}
        node = op(*leaves, **sample.attributes)
        outputs = parts(node) if node.spec.parts else [node]
        results = [tensor for tensor, _ in batched(outputs, full, ROWS)]
        assert [t.spec[:2] for t in results] == [((ROWS, *t.shape), t.dtype) for t in outputs]
        graph = Graph({f"x{i}": full.get(leaf, leaf) for i, leaf in enumerate(leaves)}, {str(i): t for i, t in enumerate(results)}).verify()
        one = Graph({f"x{i}": leaf for i, leaf in enumerate(leaves)}, {str(i): t for i, t in enumerate(outputs)})
        with np.errstate(all="ignore"):
            together = interpret(graph, *(np.stack([r[i] for r in rows]) if i in with_rows else rows[0][i] for i in range(count)))
            alone = [interpret(one, *row) for row in of_rows]
        for value, right in zip(together, zip(*alone, strict=True), strict=True):
            atol = 1e-12 if op.name.startswith("tiled_") else 1e-14  # the rule of an op in tiles, which rounds otherwise, is the exact op
            np.testing.assert_allclose(value, np.stack(right), rtol=1e-12, atol=atol, err_msg=f"{op.name} with rows at {with_rows}")


def test_an_op_without_a_rule_is_named() -> None:
    ruleless = Op("ruleless", np.sin, lambda spec: spec)
    try:
        with pytest.raises(UnsupportedError, match=r"'ruleless'.*test_batching\.py.*dt\.scan"):
            dt.vmap(lambda x: ruleless(x) + 1)(np.ones((2, 3)))
        assert dt.vmap(lambda x, y: x + ruleless(y), in_axes=(0, None))(np.zeros(2), 0.0).tolist() == [0, 0]  # the same for all rows
    finally:
        del OPS["ruleless"]


def test_random_numbers_need_a_key_for_each_row_and_are_those_of_the_key() -> None:
    keys = np.stack([dt.key(i) for i in range(ROWS)])

    def noisy(key: Any, x: Any) -> Any:
        return x + dt.normal(dt.fold_in(key, 1), (2,)) * dt.bernoulli(key, 0.5, (2,))

    together = dt.vmap(noisy, in_axes=(0, None))(keys, 1.0)
    assert together.tolist() == np.stack([dt.compile(noisy)(key, 1.0) for key in keys]).tolist()
    with pytest.raises(ArgumentError, match=r"random_uniform.*test_batching\.py.*fold_in\(key, i\)"):
        dt.vmap(lambda x: x + dt.uniform(dt.key(0), (2,)))(np.ones((ROWS, 2)))
    shared = dt.uniform(dt.key(7), (2,))  # drawn outside, for all rows
    assert dt.vmap(lambda x: x * shared)(np.ones((ROWS, 2))).shape == (ROWS, 2)
