"""The context of a layer: names, identity, keys, state, and the errors of layers of one's own."""

import copy
import pickle
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn.context import RESERVED
from dagtrain.nn.layer import Layer
from dagtrain.nn.tracing import first_pass
from dagtrain.ops.random import key
from dagtrain.trace import flatten
from tests.nn.own_layers import DENSE, Pair, Scale, Stack, X, layer_of, names


def test_layers_are_named_by_their_own_name_or_the_field_that_holds_them() -> None:
    assert names(Pair(Scale(), Scale(name="own"))) == ["first.scale", "own.scale"]
    stack = Stack([Scale(), nn.Dense(3), Scale()], {"left": nn.Dense(2), "right": nn.Dense(2, use_bias=False)}, Scale())
    assert names(stack) == [
        "blocks.scale_1.scale",
        "blocks.dense_1.kernel",
        "blocks.dense_1.bias",
        "blocks.scale_2.scale",
        "heads.left.kernel",
        "heads.left.bias",
        "heads.right.kernel",
        "last.scale",
    ]


def test_a_layer_used_twice_shares_by_identity_and_equal_ones_do_not() -> None:
    layer = Scale()
    assert names(Pair(layer, layer)) == ["first.scale"]
    assert names(Pair(Scale(), Scale())) == ["first.scale", "second.scale"]
    assert names(nn.Sequential([layer, nn.Dense(4), layer])) == ["scale_1.scale", "dense_1.kernel", "dense_1.bias"]
    dense = nn.Dense(4)
    assert dense == nn.Dense(4)
    assert names(nn.Sequential([dense, nn.Dense(4), dense])) == ["dense_1.kernel", "dense_1.bias", "dense_2.kernel", "dense_2.bias"]


@pytest.mark.parametrize("again", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_sharing_survives_a_copy(again: Any) -> None:
    layer = nn.Dense(4)
    assert names(again(Pair(layer, layer))) == ["first.kernel", "first.bias"]
    assert names(again(nn.Sequential([layer, layer]))) == ["dense_1.kernel", "dense_1.bias"]


def test_replace_makes_another_layer() -> None:
    layer = Scale()
    assert names(Pair(layer, replace(layer))) == ["first.scale", "second.scale"]


def test_a_shared_layer_adds_up_its_gradients() -> None:
    layer = Scale("normal")
    model = Pair(layer, layer)
    params, _ = model.init(key(0), X)
    gradient = dt.grad(lambda p: np.sum(model.apply(p, {}, X)[0]))(params)
    np.testing.assert_allclose(gradient["first"]["scale"], 2 * params["first"]["scale"] * X.sum(axis=0), rtol=1e-5)


def test_another_method_shares_the_parameters() -> None:
    @dataclass(frozen=True)
    class Embedding(nn.Layer):
        rows: int
        width: int

        def table(self, c: nn.Context) -> Any:
            return c.parameter("table", (self.rows, self.width), "normal")

        def forward(self, c: nn.Context, numbers: Any) -> Any:
            return np.take(self.table(c), numbers, axis=0)

        def logits(self, c: nn.Context, h: Any) -> Any:
            return h @ self.table(c).T

    @dataclass(frozen=True)
    class Tied(nn.Layer):
        embedding: Embedding

        def forward(self, c: nn.Context, numbers: Any) -> Any:
            return c(self.embedding, c(self.embedding, numbers), method="logits")

    model, numbers = Tied(Embedding(5, 3)), np.array([0, 3, 4])
    params, _ = model.init(key(0), numbers)
    table = params["embedding"]["table"]
    assert list(params) == ["embedding"]
    np.testing.assert_allclose(model.apply(params, {}, numbers)[0], table[numbers] @ table.T, rtol=1e-6)


# ---- keys and first values


def test_adding_a_layer_changes_no_other_first_value_or_noise() -> None:
    def model(*added: nn.Layer) -> nn.Sequential:
        return nn.Sequential([nn.Dense(8, name="hidden"), *added, nn.Dropout(0.5, name="noise"), nn.Dense(2, name="out")])

    plain, wider = model(), model(nn.Dropout(0.0), nn.Activation("tanh"), nn.Dense(8, kernel_initializer=lambda k, s, d: np.eye(8)))
    first, second = (flatten(m.init(key(3), X)[0])[0] for m in (plain, wider))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    ones = nn.Sequential([nn.Dropout(0.5, name="noise")]), nn.Sequential([nn.Dropout(0.3), nn.Dropout(0.5, name="noise")])
    kept = [m.apply({}, {}, np.ones((40, 10), "f4"), key=key(1), training=True)[0] != 0 for m in ones]
    inner = nn.Sequential([nn.Dropout(0.3)]).apply({}, {}, np.ones((40, 10), "f4"), key=key(1), training=True)[0] != 0
    np.testing.assert_array_equal(kept[1], kept[0] & inner)


def test_a_layer_used_twice_adds_a_loss_of_its_parameters_once_and_of_its_outputs_twice() -> None:
    @dataclass(frozen=True)
    class Penalised(nn.Layer):
        def forward(self, c: nn.Context, x: Any) -> Any:
            w = c.parameter("w", x.shape[-1:])
            c.add_loss("weights", np.sum(w**2))
            c.add_loss("outputs", np.sum((w * x) ** 2, axis=-1))
            return w * x

    layer = Penalised()
    losses = first_pass(Pair(layer, layer), key(0), (X,)).shared.losses
    assert list(losses) == ["first.weights", "first.outputs", "first.outputs#2"]


def test_each_call_of_a_layer_has_a_key_of_its_own() -> None:
    drop = nn.Dropout(0.5)
    masks = nn.Sequential([drop, drop]).apply({}, {}, np.ones((400, 10), "f4"), key=key(0), training=True)[0] != 0
    assert 0.2 < masks.mean() < 0.3  # two independent ones; one mask twice would keep half


# ---- state


@dataclass(frozen=True)
class Count(nn.Layer):
    """Counts its calls, and multiplies by the count before."""

    def forward(self, c: nn.Context, x: Any) -> Any:
        count = c.state("count", (), "zeros")
        c.update("count", count + 1)
        return x * c.state("count", ())


def test_a_state_that_was_written_reads_as_the_new_value_and_evaluation_writes_none() -> None:
    count = Count()
    model = Pair(count, count)
    params, state = model.init(key(0), X)
    assert state == {"first": {"count": np.float32(0)}}
    y, after = model.apply(params, state, X, training=True)
    np.testing.assert_allclose(y, 2 * X)  # 1, then 2
    assert after["first"]["count"] == 2
    y, same = model.apply(params, after, X)
    assert same["first"]["count"] == 2
    np.testing.assert_allclose(y, 4 * X)


def test_batch_norm_that_is_not_trainable_uses_the_running_statistics() -> None:
    layer = nn.BatchNorm(trainable=False)
    params, state = layer.init(key(0), X)
    y, after = layer.apply(params, state, X, training=True)
    np.testing.assert_allclose(y, X, rtol=1e-4)
    np.testing.assert_array_equal(after["mean"], np.zeros(4))
    trained = nn.BatchNorm().run(params, state, X, training=True, fixed={"scale", "offset"})
    np.testing.assert_array_equal(trained.outputs, y)


# ---- masks


@dataclass(frozen=True)
class MaskedMean(nn.Layer):
    def forward(self, c: nn.Context, x: Any, mask: Any) -> Any:
        return np.sum(x * mask[..., None], axis=1) / np.sum(mask, axis=1)[:, None]


def test_a_sequential_hands_the_mask_to_layers_that_take_one() -> None:
    x, mask = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f4"), np.array([[1, 1, 0], [1, 0, 0]], "f4")
    model = nn.Sequential([nn.Dropout(0.1), nn.Activation("tanh"), MaskedMean(), nn.Dense(2)])
    params, _ = model.init(key(0), dt.Spec(x.shape, x.dtype), dt.Spec(mask.shape, mask.dtype))
    mean = np.stack([np.tanh(x[0, :2]).mean(axis=0), np.tanh(x[1, 0])])
    y = model.apply(params, {}, x, mask)[0]
    np.testing.assert_allclose(y, mean @ params["dense_1"]["kernel"] + params["dense_1"]["bias"], rtol=1e-5)


def test_a_mask_that_would_be_dropped_or_ignored_is_an_error() -> None:
    specs = dt.Spec((2, 3, 4), np.dtype("f4")), dt.Spec((2, 3), np.dtype("f4"))
    with pytest.raises(ArgumentError, match=r"layer 'flatten_1': Flatten would drop the mask"):
        nn.Sequential([nn.Flatten(), MaskedMean()]).init(key(0), *specs)
    with pytest.raises(ArgumentError, match=r"none of the model's layers takes a mask"):
        nn.Sequential([nn.Dense(3), nn.Flatten()]).init(key(0), *specs)


# ---- errors


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (lambda self, c, x: None, r"Mine.forward returned None"),
        (lambda self, c: c, r"Mine takes the inputs \(\), got 1 of them"),
        (lambda self, c, x, y: x, r"Mine takes the inputs \(x, y\), got 1 of them"),
        (lambda self, c, x: c(nn.Dense(3), x), r"is in no field of Mine and has no name"),
        (lambda self, c, x: c(np.tanh, x), r"Mine calls <ufunc 'tanh'>, which is no layer"),
        (lambda self, c, x: x * c.parameter("a.b", ()), r"the name of a parameter is made of letters.*got 'a.b'"),
        (lambda self, c, x: x * c.parameter("w", ()) * c.parameter("w", ()), r"parameter 'w' is asked for twice in one call"),
        (lambda self, c, x: (c.update("n", 1), x)[1], r"there is no state 'n' to update: ask for it with c.state"),
        (lambda self, c, x: (c.state("n", (2,)), c.update("n", np.zeros(3)), x)[2], r"has the shape \(2,\), and its update \(3,\)"),
        (lambda self, c, x: x * c.state("n", (), reduce="median"), r"reduce:"),
        (lambda self, c, x: c(DENSE, x, name="a", method="weights"), r"Dense has no method 'weights'"),
        (lambda self, c, x: c(DENSE, x, name="a", method="init"), r"Dense has no method 'init'"),
        (lambda self, c, x: c(DENSE, x, name="a") + c(nn.Dense(3), x, name="a"), r"two layers have the name 'a'"),
        (lambda self, c, x: c(DENSE, x, name="w") * c.parameter("w", ()), r"'w' is the name of a parameter and of a layer|have one name"),
        (lambda self, c, x: (c.add_loss("a", x), c.add_loss("a", x)), r"the loss 'a' was added already"),
    ],
)
def test_mistakes_in_a_layer_are_named(forward: Any, says: str) -> None:
    with pytest.raises((ArgumentError, ShapeError), match=says):
        layer_of(forward).init(key(0), X)


def test_a_layer_without_forward_says_so() -> None:
    with pytest.raises(ArgumentError, match=r"Empty has no forward: define forward\(self, c, x\)"):
        type("Empty", (nn.Layer,), {})().init(key(0), X)


def test_what_is_asked_for_in_evaluation_alone_does_not_exist() -> None:
    model = layer_of(lambda self, c, x: x if c.training else x * c.parameter("w", ()))
    with pytest.raises(ArgumentError, match=r"lack 'w'.*asked for outside training alone does not exist"):
        model.apply(*model.init(key(0), X), X)


def test_a_key_outside_training_is_an_error() -> None:
    model = layer_of(lambda self, c, x: x + c.key()[0].astype("f4"))
    with pytest.raises(ArgumentError, match="Mine asks for a key outside training"):
        model.apply({}, {}, X)


def test_inputs_of_another_shape_are_an_error_that_names_both() -> None:
    params, _ = Scale().init(key(0), X)
    with pytest.raises(ShapeError, match=r"'scale' has the shape \(4,\), but for these inputs the layer asks for \(5,\)"):
        Scale().apply(params, {}, np.ones((2, 5), "f4"))


def test_the_methods_that_cannot_be_called_in_a_context_are_those_of_every_layer() -> None:
    public = {name for name, value in vars(Layer).items() if callable(value) and not name.startswith("_")}
    assert public - {"forward"} == set(RESERVED)


def test_parameters_are_made_in_the_asked_dtype() -> None:
    assert flatten(nn.Sequential([nn.Dense(3)]).init(key(0), X, dtype="float64")[0])[0]["dense_1.kernel"].dtype == np.float64
    assert Scale().init(key(0), dt.Spec((2, 3), np.dtype("i8")), dtype="float64")[0]["scale"].dtype == np.float64


def test_a_scope_is_part_of_the_names_and_of_the_picture() -> None:
    def forward(self: Any, c: nn.Context, x: Any) -> Any:
        with c.scope("query") as inner:
            x = x * inner.parameter("scale", ())
        return x * c.parameter("scale", ())

    params, _ = layer_of(forward).init(key(0), X)
    assert list(flatten(params)[0]) == ["query.scale", "scale"]


def test_summary_counts_shared_and_frozen_parameters_once_and_marks_them() -> None:
    layer = nn.Dense(4)
    summary = nn.Sequential([layer, nn.Dense(4, trainable=False), layer]).summary((1, 4))
    assert (summary.parameters, summary.frozen) == (40, 20)
    assert [row.name for row in summary.rows] == ["dense_1", "dense_2", "dense_1"]
    assert "dense_1 (shared)" in str(summary)
    assert "dense_2 (frozen)" in str(summary)
    assert "of these parameters 20 are frozen" in str(summary)


def test_summary_of_a_layer_that_computes_around_others_has_a_row_for_it() -> None:
    @dataclass(frozen=True)
    class Residual(nn.Layer):
        inner: nn.Layer = field(default_factory=lambda: nn.Dense(4))

        def forward(self, c: nn.Context, x: Any) -> Any:
            return x + c(self.inner, x)

    summary = nn.Sequential([Residual(), nn.Flatten()]).summary((2, 4))
    assert [(row.name, row.flops) for row in summary.rows] == [
        ("residual_1/inner", nn.Dense(4).summary((2, 4)).flops),
        ("residual_1", 4.0),
        ("flatten_1", 0.0),
    ]
