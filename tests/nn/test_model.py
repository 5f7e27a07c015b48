"""Functional models: two inputs, a shared encoder, several outputs, a residual block, a model of inner values; names and copies."""

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.checkpoint.describe import build, describe
from dagtrain.errors import ArgumentError, DagtrainError, ShapeError, UnknownNameError
from dagtrain.ops.random import key
from dagtrain.trace import flatten

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(5, 4)).astype("f4"), RNG.normal(size=(5, 3)).astype("f4")


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def dense(params: Any, x: Any) -> Any:
    return x @ params["kernel"] + params["bias"]


def two_inputs(**auxiliary: Any) -> nn.Model:
    a, b = nn.Input((4,), name="a"), nn.Input((3,), name="b")
    h = nn.Concatenate()([nn.Dense(8, "relu")(a), nn.Dense(8, "relu")(b)])
    return nn.Model(inputs=[a, b], outputs={"kind": nn.Dense(2)(h), "size": nn.Dense(1)(h)})


def test_two_inputs_and_two_outputs() -> None:
    model = two_inputs()
    params, state = model.init(key(0))
    outputs = model.apply(params, state, A, B)[0]
    h = np.concatenate([relu(dense(params["dense_1"], A)), relu(dense(params["dense_2"], B))], axis=1)
    np.testing.assert_allclose(outputs["kind"], dense(params["dense_3"], h), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["size"], dense(params["dense_4"], h), rtol=1e-5, atol=1e-6)
    by_name = model.apply(params, state, {"b": B, "a": A})[0]
    assert all(by_name[name].tobytes() == outputs[name].tobytes() for name in outputs)


def test_a_shared_encoder() -> None:
    left, right = nn.Input((4,), name="left"), nn.Input((4,), name="right")
    encoder = nn.Sequential([nn.Dense(6, "tanh"), nn.Dense(3)], name="encoder")
    model = nn.Model([left, right], nn.Dense(1)(nn.Multiply()([encoder(left), encoder(right)])))
    params, _ = model.init(key(0))
    assert list(flatten(params)[0]) == [
        *(f"encoder.dense_{i}.{name}" for i in (1, 2) for name in ("kernel", "bias")),
        "dense_1.kernel",
        "dense_1.bias",
    ]

    def encode(x: Any) -> Any:
        return dense(params["encoder"]["dense_2"], np.tanh(dense(params["encoder"]["dense_1"], x)))

    other = RNG.normal(size=(5, 4)).astype("f4")
    expected = dense(params["dense_1"], encode(A) * encode(other))
    np.testing.assert_allclose(model.apply(params, {}, A, other)[0], expected, rtol=1e-5, atol=1e-6)


def test_a_residual_block_by_operators() -> None:
    x = nn.Input((4,))
    h = nn.Dense(4, "relu")(x)
    model = nn.Model(x, h * (x + h))
    params, _ = model.init(key(0))
    y = relu(dense(params["dense_1"], A))
    np.testing.assert_allclose(model.apply(params, {}, A)[0], y * (A + y), rtol=1e-5)


def test_a_model_of_an_inner_value_and_another_head() -> None:
    x = nn.Input((4,), name="x")
    features = nn.Dense(6, "relu", name="features")(x)
    model = nn.Model(x, nn.Dense(2, name="head")(features))
    params, _ = model.init(key(0))
    encoder = nn.Model(model.inputs, model.value("features"))
    np.testing.assert_array_equal(encoder.apply({"features": params["features"]}, {}, A)[0], relu(dense(params["features"], A)))
    other = nn.Model(model.inputs, nn.Dense(5, name="new")(model.value("features")))
    assert other.layers["features"] is model.layers["features"]
    assert list(other.init(key(0))[0]) == ["features", "new"]


def test_a_model_is_a_layer() -> None:
    inner_x = nn.Input((4,))
    inner = nn.Model(inner_x, nn.Dense(4)(inner_x) + inner_x, name="block")
    x = nn.Input((4,))
    model = nn.Model(x, inner(inner(x)))
    params, _ = model.init(key(0))
    once = dense(params["block"]["dense_1"], A) + A
    np.testing.assert_allclose(model.apply(params, {}, A)[0], dense(params["block"]["dense_1"], once) + once, rtol=1e-5)
    stacked = nn.Sequential([inner, nn.Flatten()])
    np.testing.assert_allclose(stacked.apply(params, {}, A)[0], once, rtol=1e-5)


# ---- names, first values and noise


def with_extras(dropout: bool, auxiliary: bool) -> nn.Model:
    x = nn.Input((4,), name="x")
    h = nn.Dropout(0.5, name="noise")(nn.Dense(8, "relu")(x))
    side = {"aux": nn.Dense(3)(nn.Dense(4, "relu")(h))} if auxiliary else {}
    if dropout:
        h = nn.Dropout(0.2)(h)
    return nn.Model(x, {"main": nn.Dense(3)(nn.Dense(8)(h))}, auxiliary=side)


def test_a_dropout_and_an_auxiliary_head_change_no_other_name_first_value_or_noise() -> None:
    plain, wide = with_extras(False, False), with_extras(True, True)
    first, second = (flatten(model.init(key(1))[0])[0] for model in (plain, wide))
    assert set(first) < set(second)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    masks = []
    for model in (plain, wide):
        params, state = model.init(key(1))
        shallow = nn.Model(model.inputs, model.value("noise"))
        masks.append(shallow.apply({"dense_1": params["dense_1"]}, state, A, key=key(2), training=True)[0])
    assert masks[0].tobytes() == masks[1].tobytes()


def test_auxiliary_outputs_exist_in_training_alone() -> None:
    model = with_extras(False, True)
    params, state = model.init(key(0))
    trained, evaluated = model.run(params, state, A, key=key(0), training=True), model.run(params, state, A)
    assert (trained.auxiliary["aux"].shape, evaluated.auxiliary) == ((5, 3), {})
    assert list(trained.outputs) == list(evaluated.outputs) == ["main"]
    assert [row.flops for row in model.summary().rows if row.name in ("dense_4", "dense_5")] == [0, 0]


# ---- copies


def copies(model: nn.Model) -> list[nn.Model]:
    return [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), build(describe(model))]


def test_copies_compute_the_same_and_share_what_was_shared() -> None:
    shared = nn.Dense(4, "tanh")
    x = nn.Input((4,), name="x")
    inner = nn.Sequential([shared, nn.Dense(4)])
    model = nn.Model({"x": x}, {"y": inner(shared(x)), "z": nn.Sequential([inner, nn.Dense(2)])(x)}, auxiliary={"a": nn.Dense(1)(x)})
    params, state = model.init(key(0))
    assert list(params) == ["dense_1", "sequential_1", "sequential_2", "dense_2"]
    expected = model.apply(params, state, A)[0]
    for again in copies(model):
        assert flatten(again.init(key(0))[0])[0].keys() == flatten(params)[0].keys()
        assert again.apply(params, state, A)[0]["z"].tobytes() == expected["z"].tobytes()
        assert list(again.auxiliary or ()) == ["a"]


def test_two_models_in_one_pickle_keep_their_common_layers() -> None:
    model = two_inputs()
    encoder = nn.Model(model.inputs, model.value("concatenate_1"))
    again, inner = pickle.loads(pickle.dumps((model, encoder)))
    assert inner.layers["dense_1"] is again.layers["dense_1"]


@pytest.mark.slow
def test_a_chain_of_many_layers_needs_no_recursion() -> None:
    x = value = nn.Input((4,))
    for _ in range(1500):
        value = nn.Activation("tanh")(value)
    model = nn.Model(x, value)
    assert len(copies(model)[0].steps) == 1500


# ---- errors


@dataclass(frozen=True)
class Split(nn.Layer):
    def forward(self, c: nn.Context, x: Any) -> Any:
        return {"low": x[:, :2], "high": x[:, 2:]}


def test_layers_with_several_outputs() -> None:
    x = nn.Input((4,))
    halves = Split()(x)
    assert {name: value.shape for name, value in halves.items()} == {"low": (None, 2), "high": (None, 2)}
    model = nn.Model(x, [halves["high"], halves["low"]])
    high, low = model.apply({}, {}, A)[0]
    np.testing.assert_array_equal(np.concatenate([low, high], axis=1), A)
    assert build_custom(model).apply({}, {}, A)[0][0].tobytes() == high.tobytes()


def build_custom(model: nn.Model) -> Any:
    return build(describe(model), {"Split": Split})


def test_shapes_are_checked_where_a_layer_is_called() -> None:
    a, b = nn.Input((4,)), nn.Input((3,))
    with pytest.raises(ShapeError, match="Add takes inputs of one shape"):
        a + b
    with pytest.raises(ShapeError, match="Concatenate takes inputs that differ in axis -1 alone"):
        nn.Concatenate()([nn.Input((2, 3)), nn.Input((3, 3))])
    with pytest.raises(ShapeError, match=r"the input 'a' takes samples of shape \(4,\), got \(3,\)"):
        two_inputs().apply({}, {}, B, B)
    with pytest.raises(ArgumentError, match="the model takes the inputs a, b, got 1 of them"):
        two_inputs().apply({}, {}, A)
    with pytest.raises(ShapeError, match=r"got a dict of a, c: 'c' is none of them"):
        two_inputs().apply({}, {}, {"a": A, "c": B})


X = nn.Input((4,), name="x")
H = nn.Dense(3)(X)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.Model(X, 3), "outputs are what layers return"),
        (lambda: nn.Model(A, H), "inputs are dagtrain.nn.Input"),
        (lambda: nn.Model(H, nn.Dense(2)(H)), "inputs are dagtrain.nn.Input"),
        (lambda: nn.Model(nn.Input((4,), "z"), H), "the outputs need the input 'x': add it to inputs"),
        (lambda: nn.Model([X, nn.Input((4,), "z")], H), "no output needs the input 'z'"),
        (lambda: nn.Model(X, []), "it has no outputs"),
        (lambda: nn.Model(X, H, auxiliary={"aux": H}), "the others need names too"),
        (lambda: nn.Model(X, {"a": H}, auxiliary={"a": H}), "two outputs have the name 'a'"),
        (lambda: nn.Model(X, nn.Dense(2, name="dense_1")(H)), "two layers have the name 'dense_1'"),
        (lambda: nn.Input(4), r"as in Input\(\(64,\)\)"),
        (lambda: nn.Input((None, 4)), r"as in Input\(\(64,\)\)"),
        (lambda: nn.Input((4,), name="a b"), "made of letters"),
        (lambda: nn.Input((4,), dtype="float33"), "float33"),
        (lambda: nn.Dense(3)(A), "a layer is called on symbolic values"),
        (lambda: X + 1, "a symbolic value is combined with others alone"),
        (lambda: np.tanh(X), r"np.tanh of a symbolic value: write a layer"),
        (lambda: np.concatenate([X, X]), "write a layer"),
        (lambda: nn.Concatenate(axis=0), "other than 0"),
        (lambda: nn.Add()(X), "takes two inputs or more"),
        (lambda: nn.Model(X, H).value("dense_2"), "unknown layer of the model 'dense_2'"),
    ],
)
def test_mistakes_are_named(make: Any, says: str) -> None:
    with pytest.raises((DagtrainError, TypeError), match=says):
        make()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(table={}),
        lambda d: d["table"].update(steps=[["dense_1", "__class__", ["x"]]]),
        lambda d: d["table"].update(steps=[["dense_1", "init", ["x"]]]),
        lambda d: d["table"].update(steps=[["dense_9", "forward", ["x"]]]),
        lambda d: d["table"].update(steps=[["dense_1", "forward", [[3, 0]]]]),
        lambda d: d["table"].update(outputs=[7, 0]),
        lambda d: d["table"].update(inputs={"x": {"shape": [-1], "dtype": "float32"}}),
        lambda d: d["table"].update(inputs={"x": {"shape": [4], "dtype": "O"}}),
        lambda d: d.update(layers={"dense_1": {"python": "os.system"}}),
        lambda d: d["layers"].update(dense_1={"shared": "nowhere"}),
    ],
)
def test_a_forged_description_builds_nothing(change: Any) -> None:
    x = nn.Input((4,), name="x")
    description = describe(nn.Model(x, nn.Dense(3)(x)))
    change(description)
    with pytest.raises(ValueError, match=r"cannot be built|describes no|dagtrain has no"):
        build(description)


def test_a_loss_for_an_output_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown output of the model with a loss 'kid'\. Did you mean 'kind'"):
        dt.Trainer(two_inputs(), loss={"kid": "cross_entropy"})
