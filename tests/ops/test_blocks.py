"""Kernels that pass over blocks: several blocks, and what is left over at the end, are as the op in one piece in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.ops import find

from ..each import each
from .test_records import normalised, share_of_gelu, standardised

RNG = np.random.default_rng(0)
X = RNG.normal(1.0, 2.0, (30_011, 7))
G = RNG.normal(size=X.shape)
SCALE, OFFSET = RNG.normal(size=7), RNG.normal(size=7)


def gradients(z: Any, inverse: Any, axis: Any) -> tuple[Any, ...]:
    """Of a normalisation over an axis, by x, scale and offset."""
    v = G * SCALE
    dx = inverse * (v - v.mean(axis, keepdims=True) - z * (v * z).mean(axis, keepdims=True))
    return dx, (G * z).sum(0), G.sum(0)


def softmax(x: Any) -> Any:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


_y, MEAN, VARIANCE = standardised(X, SCALE, OFFSET, 1e-5)
_Y, MEANS, INVERSES = normalised(X, SCALE, OFFSET, 1e-5, True)
INVERSE = 1 / np.sqrt(VARIANCE + 1e-5)
SHARE = share_of_gelu(X, True)
STEEP = 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * X * X)
CASES = [
    ("batch_norm", (X, SCALE, OFFSET), {"epsilon": 1e-5}, (_y, MEAN, VARIANCE)),
    ("batch_norm_gradient", (G, X, SCALE, MEAN, VARIANCE), {"epsilon": 1e-5}, gradients((X - MEAN) * INVERSE, INVERSE, 0)),
    ("layer_norm", (X, SCALE, OFFSET), {"epsilon": 1e-5, "center": True}, (_Y, MEANS, INVERSES)),
    ("layer_norm_gradient", (G, X, SCALE, MEANS, INVERSES), {"center": True}, gradients((X - MEANS) * INVERSES, INVERSES, 1)),
    ("gelu", (X,), {"approximate": True}, (X * SHARE, SHARE)),
    ("gelu_gradient", (G, X, SHARE), {"approximate": True}, (G * (SHARE + X * SHARE * (1 - SHARE) * STEEP),)),
    ("softmax", (X,), {"axis": 1}, (softmax(X),)),
    ("log_softmax", (X.reshape(7, -1),), {"axis": 1}, (np.log(softmax(X.reshape(7, -1))),)),
]


@each(CASES)
def test_blocks_give_what_one_piece_gives(name: str, arrays: Any, attributes: Any, expected: Any) -> None:
    single = [a.astype("f4") for a in arrays]
    strided = [np.repeat(a, 2, -1)[..., ::2] for a in single]
    turned = [np.asfortranarray(a) for a in single]
    for inputs in (single, strided, turned):
        results = find(name).kernel(*inputs, **attributes)
        for result, right in zip(results if isinstance(results, tuple) else (results,), expected, strict=True):
            assert result.dtype == np.float32
            np.testing.assert_allclose(result, right, rtol=2e-4, atol=2e-5 * np.abs(right).max())


def test_nothing_gives_nothing() -> None:
    options = {"scale": 1.0, "causal": True, "fill": None, "empty": "zero", "time": -2}
    with np.errstate(all="ignore"):
        for rows, features in ((0, 4), (3, 0), (0, 0)):
            x, line, column = np.zeros((rows, features)), np.ones(features), np.zeros((rows, 1))
            for name, arrays, attributes in (
                ("batch_norm", (x, line, line), {"epsilon": 0.1}),
                ("batch_norm_gradient", (x, x, line, line, line), {"epsilon": 0.1}),
                ("layer_norm", (x, line, line), {"epsilon": 0.1, "center": True}),
                ("layer_norm_gradient", (x, x, line, column, column), {"center": True}),
                ("gelu", (x,), {"approximate": False}),
            ):
                assert find(name).kernel(*arrays, **attributes)[0].shape == x.shape
        for queries, keys in (((0, 3, 4), (0, 3, 4)), ((2, 0, 4), (2, 3, 4)), ((2, 3, 4), (2, 0, 4)), ((2, 3, 0), (2, 3, 0))):
            q, k = np.ones(queries), np.ones(keys)
            assert (find("attention").kernel(q, k, k, **options) == 0).all() == (keys[1] == 0 or not q.size)
            assert [g.shape for g in find("attention_gradient").kernel(q, q, k, k, **options)] == [queries, keys, keys]
