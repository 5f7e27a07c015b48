"""Attention and layer norm beside PyTorch, with every kind of mask, in blocks and in little memory."""

import tracemalloc

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, ShapeError
from dagtrain.graph import Graph, constant
from dagtrain.ops import attention_kernels, find
from dagtrain.plan.interpret import interpret
from dagtrain.transform import gradient

RNG = np.random.default_rng(0)
OPTIONS = {"scale": 0.4, "causal": False, "fill": None, "empty": "zero", "time": -2}


def attended(q, k, v, mask=None, **options):
    """The outputs, and the gradients of their sum with the weights sin(0), sin(1), ..."""
    arrays = [q, k, v]
    leaves = [dt.input(name, a.shape, a.dtype) for name, a in zip("qkv", arrays, strict=True)]
    masks = [] if mask is None else [constant(mask)]
    y = find("attention")(*leaves, *masks, **{**OPTIONS, **options})
    weights = np.sin(np.arange(y.size)).reshape(y.shape)
    gradients = gradient((y * weights).sum(), leaves)
    return interpret(Graph(dict(zip("qkv", leaves, strict=True)), {"y": y, **{f"g{i}": g for i, g in enumerate(gradients)}}), *arrays)


def of_torch(q, k, v, mask=None, causal=False, time=-2):
    torch = pytest.importorskip("torch", reason="PyTorch is what attention is compared with")
    tensors = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    order = (lambda t: t.transpose(-2, -3)) if time == -3 else (lambda t: t)
    given = None if mask is None else torch.tensor(mask)
    y = order(torch.nn.functional.scaled_dot_product_attention(*map(order, tensors), given, is_causal=causal, scale=OPTIONS["scale"]))
    (y * torch.sin(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)).sum().backward()
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def test_values_and_gradients_are_those_of_torch(monkeypatch):
    q, k, v = (RNG.normal(size=(2, 3, n, f)) for n, f in ((5, 4), (7, 4), (7, 6)))
    partly = RNG.random((2, 1, 5, 7)) > 0.4
    partly[..., 0] = True
    cases = [{}, {"mask": np.ones((1, 1, 5, 7), bool)}, {"mask": partly}, {"causal": True}]
    for block in (attention_kernels._BLOCK, 40, 7):  # all at once, some heads at once, some rows at once
        monkeypatch.setattr(attention_kernels, "_BLOCK", block)
        attention_kernels.geometry_of.cache_clear()
        for case in cases:
            for ours, theirs in zip(attended(q, k, v, **case), of_torch(q, k, v, **case), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12, err_msg=f"{block} {case}")
        turned = [a.swapaxes(1, 2).copy() for a in (q, k, v)]
        for ours, theirs in zip(attended(*turned, time=-3, causal=True), of_torch(*turned, time=-3, causal=True), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    attention_kernels.geometry_of.cache_clear()


def test_a_query_that_sees_no_key_gets_zeros_and_gives_no_gradient():
    q, k, v = (RNG.normal(size=(2, 4, 3)) for _ in range(3))
    mask = np.ones((2, 4, 4), bool)
    mask[1, 2], mask[0, 1, 2:] = False, False
    y, *gradients = attended(q, k, v, mask)
    assert (y[1, 2] == 0).all()
    assert (gradients[0][1, 2] == 0).all()
    assert all(np.isfinite(g).all() for g in gradients)
    seen = np.ones((2, 4), bool)
    seen[1, 2] = False
    np.testing.assert_allclose(y[seen], of_torch(q, k, v, mask)[0][seen], rtol=1e-12)
    # What a row without keys holds changes nothing.
    changed = q.copy()
    changed[1, 2] += 100
    for a, b in zip(attended(changed, k, v, mask), (y, *gradients), strict=True):
        np.testing.assert_array_equal(a, b)
    with np.errstate(invalid="ignore"):
        assert np.isnan(attended(q, k, v, mask, empty="nan")[0][1, 2]).all()  # as what users write with softmax


def test_a_plan_makes_no_table_of_all_queries_and_keys():
    rows, shape = 1500, (1, 1, 1500, 8)
    arrays = [RNG.normal(size=shape).astype("f4") for _ in range(3)]

    def cost(q, k, v):
        return (find("attention")(q, k, v, **{**OPTIONS, "causal": True}) ** 2).sum()

    run = dt.trace(dt.value_and_grad(cost, (0, 1, 2)), *arrays).plan().bind()
    run(*arrays)
    tracemalloc.start()
    run(*arrays)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows * rows  # a quarter of a table of float32


def test_float16_is_computed_in_float32():
    q = np.full((1, 4, 64), 60, "f2")
    y = find("attention").kernel(q, q, q, **{**OPTIONS, "scale": 1.0})
    assert (y == 60).all()
    assert y.dtype == np.float16
    slopes = find("attention_gradient").kernel(np.ones_like(q), q, q, q, **{**OPTIONS, "scale": 1.0})
    assert [float(slope.max()) for slope in slopes] == [0, 0, 1]
    x = np.array([[30000, -30000, 30000, -30000]], "f2")
    np.testing.assert_allclose(find("layer_norm").kernel(x, np.ones(4, "f2"), np.zeros(4, "f2"), epsilon=1e-5, center=True)[0], np.sign(x))


def test_shapes_and_dtypes_that_do_not_fit_are_named():
    q = dt.input("q", (2, 3, 4))
    for shapes, message in (
        ([(2, 5, 3), (2, 5, 3)], "as many features"),
        ([(2, 5, 4), (2, 6, 4)], "as many positions"),
        ([(3, 5, 4), (3, 5, 4)], "the same samples"),
        ([(5, 4), (5, 4)], "as many axes"),
    ):
        with pytest.raises(ShapeError, match=message):
            find("attention")(q, *(dt.input("kv", s) for s in shapes), **OPTIONS)
    with pytest.raises(ShapeError, match=r"a mask of shape \(3, 4\) does not fit scores of shape \(2, 3, 3\)"):
        find("attention")(q, q, q, np.ones((3, 4), bool), **OPTIONS)
    with pytest.raises(DTypeError, match=r"truth values.*mask > 0"):
        find("attention")(q, q, q, np.ones((3, 3)), **OPTIONS)
    with pytest.raises(ShapeError, match=r"scale is float32\[4\] or one number"):
        find("layer_norm")(q, np.ones(3, "f4"), 0.0, epsilon=1e-5, center=True)


def test_gelu_of_large_numbers_has_no_nan_and_no_cancellation():
    torch = pytest.importorskip("torch", reason="PyTorch is what attention is compared with")
    for approximate in (True, False):
        x = np.array([-200.0, -5.0, 0.0, 5.0, 200.0], "f4")
        y, share = find("gelu").kernel(x, approximate=approximate)
        np.testing.assert_allclose(y, torch.nn.functional.gelu(torch.tensor(x), approximate="tanh" if approximate else "none"), atol=2e-6)
        slope = find("gelu_gradient").kernel(np.ones(5, "f4"), x, share, approximate=approximate)
        assert np.isfinite(slope).all()
        assert (share[0], share[4]) == (0, 1)
