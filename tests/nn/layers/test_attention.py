"""MultiHeadAttention and TransformerBlock beside PyTorch, their masks and positions."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, DTypeError, ShapeError, UnknownNameError
from dagtrain.functional import value_and_grad
from dagtrain.nn.layers.positions import rotated
from dagtrain.trace.tree import map_leaves

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 5, 8)), RNG.normal(size=(3, 7, 8))
PARTLY = np.arange(7) < np.array([[7], [3], [5]])


def weighed(y):
    return (y * np.cos(np.arange(y.size)).reshape(y.shape)).sum()


def results(layer, params, inputs, *others):
    """The output, and gradients by the parameters and by the first inputs."""
    cost = lambda params, inputs: weighed(layer.apply(params, {}, *inputs, *others)[0])  # noqa: E731
    _, (by_params, by_inputs) = value_and_grad(cost, (0, 1))(params, inputs)
    return layer.apply(params, {}, *inputs, *others)[0], by_params, by_inputs


def into_torch(module, params):
    """Copy the parameters of a MultiHeadAttention."""
    torch = pytest.importorskip("torch", reason="PyTorch is what attention is compared with")
    parts = [params[name] for name in ("query", "key", "value")]
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.tensor(np.concatenate([p["kernel"].T for p in parts])))
        module.in_proj_bias.copy_(torch.tensor(np.concatenate([p["bias"] for p in parts])))
        module.out_proj.weight.copy_(torch.tensor(params["output"]["kernel"].T))
        module.out_proj.bias.copy_(torch.tensor(params["output"]["bias"]))


def drawn(layer, *inputs):
    params, _ = layer.init(dt.key(0), *inputs)
    rng = np.random.default_rng(1)
    return map_leaves(lambda p: rng.normal(size=p.shape) * 0.5, params)


@pytest.mark.parametrize("case", ["self", "causal", "cross", "all on", "partly", "one row all off"])
def test_values_and_gradients_are_those_of_torch(case):
    torch = pytest.importorskip("torch", reason="PyTorch is what attention is compared with")
    inputs = [X] if case in ("self", "causal") else [X, Y]
    layer = nn.MultiHeadAttention(2, use_causal_mask=case == "causal")
    params = drawn(layer, *inputs)
    mask = {"all on": np.ones((3, 7), bool), "partly": PARTLY, "one row all off": PARTLY & np.array([[1], [0], [1]], bool)}.get(case)
    y, by_params, by_inputs = results(layer, params, inputs, *([] if mask is None else [mask]))
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    into_torch(module, params)
    query, value = (torch.tensor(a, requires_grad=True) for a in (inputs[0], inputs[-1]))
    value = query if len(inputs) == 1 else value
    hidden = None if mask is None else torch.tensor(~mask)
    triangle = torch.tensor(~np.tri(5, dtype=bool)) if case == "causal" else None
    expected, _ = module(query, value, value, key_padding_mask=hidden, attn_mask=triangle, need_weights=False)
    if case == "one row all off":
        # PyTorch gives NaN there; here that row's values are the bias, and no gradient passes.
        np.testing.assert_allclose(y[1], np.broadcast_to(params["output"]["bias"], (5, 8)))
        np.testing.assert_array_equal(by_inputs[0][1], 0)
        np.testing.assert_array_equal(by_inputs[1][1], 0)
        rows = [0, 2]
        np.testing.assert_allclose(y[rows], expected.detach().numpy()[rows], rtol=1e-9)
        assert all(np.isfinite(g).all() for part in by_params.values() for g in part.values())
        return
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    weighed_torch = (expected * torch.cos(torch.arange(expected.numel(), dtype=torch.float64)).reshape(expected.shape)).sum()
    weighed_torch.backward()
    np.testing.assert_allclose(by_inputs[0], query.grad.numpy(), rtol=1e-8, atol=1e-11)
    if len(inputs) == 2:
        np.testing.assert_allclose(by_inputs[1], value.grad.numpy(), rtol=1e-8, atol=1e-11)
    kernels = np.concatenate([by_params[name]["kernel"].T for name in ("query", "key", "value")])
    np.testing.assert_allclose(kernels, module.in_proj_weight.grad.numpy(), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(by_params["output"]["kernel"].T, module.out_proj.weight.grad.numpy(), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("first", [True, False])
def test_a_transformer_block_is_that_of_torch(first):
    torch = pytest.importorskip("torch", reason="PyTorch is what attention is compared with")
    block = nn.TransformerBlock(2, 12, activation="gelu", normalize_first=first)
    params = drawn(block, X)
    lengths = np.array([5, 2, 4])
    y, by_params, (by_x,) = results(block, params, [X], lengths)
    module = torch.nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=first, dtype=torch.float64
    )
    into_torch(module.self_attn, params["attention"])
    pairs = {"norm1": "attention_norm", "norm2": "dense_norm", "linear1": "dense", "linear2": "output"}
    with torch.no_grad():
        for theirs, ours in pairs.items():
            weight, bias = ("scale", "offset") if "norm" in theirs else ("kernel", "bias")
            getattr(module, theirs).weight.copy_(torch.tensor(params[ours][weight].T))
            getattr(module, theirs).bias.copy_(torch.tensor(params[ours][bias]))
    x = torch.tensor(X, requires_grad=True)
    expected = module(x, src_key_padding_mask=torch.tensor(np.arange(5) >= lengths[:, None]))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    (expected * torch.cos(torch.arange(expected.numel(), dtype=torch.float64)).reshape(expected.shape)).sum().backward()
    np.testing.assert_allclose(by_x, x.grad.numpy(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(by_params["dense"]["kernel"].T, module.linear1.weight.grad.numpy(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(by_params["attention_norm"]["scale"], module.norm1.weight.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_scores_are_those_of_the_output_and_dropout_changes_them_in_training_alone():
    for options in ({}, {"use_causal_mask": True}, {"rotary": True, "use_bias": False, "key_dim": 6, "value_dim": 3, "output_shape": 4}):
        plain, table = nn.MultiHeadAttention(2, **options), nn.MultiHeadAttention(2, dropout=0.5, return_attention_scores=True, **options)
        params = drawn(plain, X)
        mask = np.arange(5) < np.array([[5], [0], [2]])
        y = plain.apply(params, {}, X, mask)[0]
        again, weights = table.apply(params, {}, X, mask)[0]
        np.testing.assert_allclose(again, y, rtol=1e-10, atol=1e-12)
        assert y.shape == (3, 5, options.get("output_shape", 8))
        np.testing.assert_allclose(weights.sum(-1), np.broadcast_to(np.array([1, 0, 1])[:, None, None], (3, 2, 5)), atol=1e-12)
        dropped, _ = table.apply(params, {}, X, mask, key=dt.key(1), training=True)[0]
        assert not np.allclose(dropped, y)
        assert np.isfinite(dropped).all()


def test_a_block_that_is_used_twice_shares_its_parameters():
    block = nn.TransformerBlock(2, dropout=0.1)
    params, _ = nn.Sequential([block, block]).init(dt.key(0), X)
    assert list(params) == ["transformer_block_1"]
    y = nn.Sequential([block, block]).apply(params, {}, X, key=dt.key(1), training=True)[0]
    assert np.isfinite(y).all()


def test_a_sequential_hands_the_mask_on_and_padding_does_not_matter():
    model = nn.Sequential(
        [nn.Embedding(9, 8, mask_zero=True), nn.PositionEmbedding(9), nn.TransformerBlock(2), nn.MultiHeadAttention(2), nn.GRU(3)]
    )
    tokens = np.array([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]], "i4")
    params, state = model.init(dt.key(0), tokens)
    y = model.apply(params, state, tokens)[0]
    np.testing.assert_allclose(model.apply(params, state, np.pad(tokens, ((0, 0), (0, 4))))[0], y, rtol=1e-5, atol=1e-6)
    with pytest.raises(ArgumentError, match="would drop the mask"):
        nn.Sequential([nn.Embedding(9, 8, mask_zero=True), nn.TransformerBlock(2), nn.Flatten()]).init(dt.key(0), tokens)
    inputs = nn.Input((5, 8), name="x"), nn.Input((5,), dtype=bool, name="seen")
    symbolic = nn.Model(list(inputs), nn.TransformerBlock(2)(*inputs))
    params, state = symbolic.init(dt.key(0))
    assert symbolic.apply(params, state, X.astype("f4"), np.ones((3, 5), bool))[0].shape == (3, 5, 8)


def test_positions():
    table = nn.SinePositionEncoding().apply({}, {}, np.zeros((1, 6, 4)))[0][0]
    for p in range(6):
        np.testing.assert_allclose(table[p], [np.sin(p), np.cos(p), np.sin(p / 100), np.cos(p / 100)], atol=1e-12)
    turned = rotated(np.broadcast_to(RNG.normal(size=(1, 1, 1, 8)), (1, 9, 1, 8)), np.arange(9))[0, :, 0]
    products = turned @ turned.T
    for distance in range(9):
        np.testing.assert_allclose(np.diagonal(products, distance), products[0, distance], rtol=1e-10)
    for layer in (nn.PositionEmbedding(9), nn.SinePositionEncoding()):
        params = layer.init(dt.key(0), X)[0]
        whole = layer.apply(params, {}, X)[0]
        for p in (0, 4):
            one = nn.context.run_pass(  # as a decoder calls it
                nn.passes.Pass(False, np.dtype("f8"), parameters={(n,): v for n, v in params.items()}),
                layer, (X[:, p : p + 1], np.full(3, p)), "at",
            ).outputs  # fmt: skip
            np.testing.assert_allclose(one, whole[:, p : p + 1], rtol=1e-12)


def test_parameters_are_counted():
    def count(layer, *inputs):
        return layer.summary(*inputs).parameters

    assert count(nn.MultiHeadAttention(4), (1, 9, 32)) == 4 * (32 * 32 + 32)
    assert count(nn.MultiHeadAttention(4, 5, 6, use_bias=False, output_shape=7), (1, 9, 32)) == 4 * (32 * 5 * 2 + 32 * 6 + 6 * 7)
    assert count(nn.TransformerBlock(4, 50), (1, 9, 32)) == 4 * (32 * 32 + 32) + 32 * 50 + 50 + 50 * 32 + 32 + 4 * 32
    assert count(nn.models.TransformerLM(20, 3, 2, 8, 16), np.zeros((1, 5), "i4")) == 20 * 8 + 16 * 8 + 3 * (12 * 64 + 13 * 8) + 2 * 8 + 20


def test_mistakes_are_named():
    tokens = np.zeros((1, 17), "i4")
    for call, kind, message in (
        (lambda: nn.MultiHeadAttention(0), ArgumentError, "num_heads"),
        (lambda: nn.MultiHeadAttention(2, use_bias=1), ArgumentError, "use_bias is True or False"),
        (lambda: nn.MultiHeadAttention(3).init(dt.key(0), X), ShapeError, "8 features do not divide into 3 heads"),
        (lambda: nn.MultiHeadAttention(8, rotary=True).init(dt.key(0), X), ShapeError, "an even number of features, got 1"),
        (lambda: nn.MultiHeadAttention(2).init(dt.key(0), X, Y[:2]), ShapeError, "the same samples"),
        (lambda: nn.MultiHeadAttention(2).init(dt.key(0), X, Y, X), ShapeError, "key has 5 positions, value 7"),
        (lambda: nn.MultiHeadAttention(2).init(dt.key(0), X, np.ones((3, 4), bool)), ShapeError, r"here \(3, 2, 5, 5\); got \(3, 4\)"),
        (lambda: nn.MultiHeadAttention(2).init(dt.key(0), X, np.ones((3, 5), "f4")), ShapeError, "A mask is of booleans: mask.astype"),
        (lambda: nn.TransformerBlock(2).init(dt.key(0), X, np.ones((3, 5, 5), "f4")), DTypeError, "a mask is of booleans, got float32"),
        (lambda: nn.PositionEmbedding(4).init(dt.key(0), X), ShapeError, "5 positions is longer than max_length=4"),
        (lambda: nn.TransformerBlock(2, activation="gelo"), UnknownNameError, "gelu"),
        (lambda: nn.models.TransformerLM(9, positions="none"), UnknownNameError, "unknown positions of TransformerLM"),
        (lambda: nn.models.TransformerLM(9, width=10), ShapeError, "width=10 does not divide into num_heads=4"),
        (lambda: nn.models.TransformerLM(9, max_length=16).init(dt.key(0), tokens), ShapeError, "17 tokens is longer than max_length=16"),
    ):
        with pytest.raises(kind, match=message):
            call()
