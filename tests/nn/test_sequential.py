"""Sequential: names, shapes, keys, state, errors that name the layer, and a whole model that learns."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn, optim
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.ops.random import key
from dagtrain.plan.interpret import interpret, node_values
from dagtrain.trace import flatten, names, trace_nested, unflatten
from dagtrain.transform.gradient import gradient

F4, I8 = np.dtype("f4"), np.dtype("i8")


def training_graph(model, params, state, x, y, loss="cross_entropy"):
    """(params, state, x, y, key) → loss, new state, gradients."""
    find = nn.losses.find(loss)

    def cost(params, state, x, y, key):
        out, after = model.apply(params, state, x, key=key, training=True)
        return find(out, y), after

    graph = trace_nested(cost, params, state, x, y, key(0)).graph
    leaves = list(graph.inputs.values())[: len(names(params))]
    value = next(iter(graph.outputs.values()))
    gradients = gradient(value, leaves)
    return dt.Graph(graph.inputs, {**graph.outputs, **{f"gradient_{i}": g for i, g in enumerate(gradients)}}).verify()


def test_layers_are_named_by_class_and_number():
    model = nn.Sequential([nn.Dense(4), nn.BatchNorm(), nn.Dense(3, name="head"), nn.Dense(2), nn.Sequential([nn.Dense(2)])])
    assert model.names == ("dense_1", "batch_norm_1", "head", "dense_2", "sequential_1")


def test_parameters_and_state_are_nested_by_name_where_there_are_any():
    model = nn.Sequential([nn.Flatten(), nn.Sequential([nn.Dense(4), nn.BatchNorm()], name="encoder"), nn.Dropout(0.1), nn.Dense(2)])
    params, state = model.init(key(0), (8, 2, 3))
    assert {name: p.shape for name, p in flatten(params)[0].items()} == {
        "encoder.dense_1.kernel": (6, 4),
        "encoder.dense_1.bias": (4,),
        "encoder.batch_norm_1.scale": (4,),
        "encoder.batch_norm_1.offset": (4,),
        "dense_1.kernel": (4, 2),
        "dense_1.bias": (2,),
    }
    assert names(state) == ["encoder.batch_norm_1.mean", "encoder.batch_norm_1.variance"]
    assert all(p.dtype == F4 for p in flatten(params)[0].values())


def test_init_is_a_function_of_the_key_and_layers_differ():
    model = nn.Sequential([nn.Dense(6), nn.Dense(6)])
    first, again, other = (flatten(model.init(key(k), (2, 6))[0])[0] for k in (1, 1, 2))
    np.testing.assert_array_equal(first["dense_1.kernel"], again["dense_1.kernel"])
    assert not np.array_equal(first["dense_1.kernel"], other["dense_1.kernel"])
    assert not np.array_equal(first["dense_1.kernel"], first["dense_2.kernel"])


def test_apply_is_the_layers_in_turn_on_arrays_and_tensors():
    model = nn.Sequential([nn.Dense(5, "relu"), nn.Dense(3)])
    params, state = model.init(key(0), (4, 2))
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(F4)
    hidden = np.maximum(x @ params["dense_1"]["kernel"] + params["dense_1"]["bias"], 0)
    expected = hidden @ params["dense_2"]["kernel"] + params["dense_2"]["bias"]
    np.testing.assert_array_equal(model.apply(params, state, x)[0], expected)
    graph = trace_nested(lambda p, x: model.apply(p, {}, x)[0], params, x).graph
    np.testing.assert_array_equal(interpret(graph, *flatten(params)[0].values(), x)[0], expected)


def test_nodes_know_their_layer():
    model = nn.Sequential([nn.Sequential([nn.Dense(5, "relu")], name="encoder"), nn.Dense(3)])
    params, _ = model.init(key(0), (4, 2))
    graph = trace_nested(lambda p, x: model.apply(p, {}, x)[0], params, dt.Spec((4, 2), F4)).graph
    scopes = [node.origin.scope for node in graph.nodes if node.op in ("relu", "matmul")]
    assert scopes == [("encoder", "dense_1"), ("encoder", "dense_1"), ("dense_1",)]


def test_two_dropouts_never_draw_the_same_mask():
    model = nn.Sequential([nn.Dropout(0.5), nn.Dropout(0.5), nn.Sequential([nn.Dropout(0.5), nn.Dropout(0.5)])])
    spec = dt.Spec((50, 40), F4)
    graph = trace_nested(lambda x, k: model.apply({}, {}, x, key=k, training=True)[0], spec, key(0)).graph
    masks = [v for n, v in node_values(graph, [np.ones(spec.shape), key(1)]).items() if n.op == "less"]
    assert len(masks) == 4
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert 0.4 < np.mean(a == b) < 0.6


def test_arrays_and_tensors_draw_the_same_masks():
    model = nn.Sequential([nn.Dropout(0.5), nn.Dropout(0.2)])
    x = np.ones((20, 10), F4)
    graph = trace_nested(lambda x, k: model.apply({}, {}, x, key=k, training=True)[0], x, key(0)).graph
    np.testing.assert_array_equal(interpret(graph, x, key(5))[0], model.apply({}, {}, x, key=key(5), training=True)[0])


def test_state_is_carried_by_layer():
    model = nn.Sequential([nn.BatchNorm(momentum=0.5), nn.Dense(2)])
    params, state = model.init(key(0), (4, 3))
    x = np.full((4, 3), 2, F4)
    _, after = model.apply(params, state, x, training=True)
    np.testing.assert_array_equal(after["batch_norm_1"]["mean"], np.ones(3, F4))
    _, unchanged = model.apply(params, after, x)
    np.testing.assert_array_equal(unchanged["batch_norm_1"]["mean"], np.ones(3, F4))


@dataclass(frozen=True)
class Twice(nn.Layer):
    def forward(self, c, x):
        return np.concatenate([x, x], axis=-1)


def test_a_users_layer_takes_part_and_its_shape_is_inferred():
    params, _ = nn.Sequential([Twice(), nn.Dense(2)]).init(key(0), (4, 3))
    assert params["dense_1"]["kernel"].shape == (6, 2)
    assert str(nn.Sequential([Twice()]).output_spec((4, 3))) == "float32[4, 6]"


def test_models_can_be_pickled_and_compared():
    model = nn.Sequential([nn.Dense(5, "relu"), nn.Dropout(0.1)])
    assert pickle.loads(pickle.dumps(model)) == model


@pytest.mark.parametrize("activation", sorted(nn.activations.ACTIVATIONS))
def test_no_node_of_a_float32_training_graph_is_float64(activation):
    model = nn.Sequential(
        [nn.Dense(6, activation), nn.BatchNorm(), nn.Dropout(0.3), nn.LayerNorm(), nn.Activation(activation), nn.Flatten(), nn.Dense(4)]
    )
    params, state = model.init(key(0), (8, 5))
    graph = training_graph(model, params, state, dt.Spec((8, 5), F4), dt.Spec((8,), I8))
    wide = [node for node in graph.nodes if node.dtype == np.float64]
    assert wide == []


@pytest.mark.slow
@pytest.mark.parametrize("activation", sorted(nn.activations.ACTIVATIONS))
def test_gradient_of_a_whole_model_by_finite_differences(activation):
    model = nn.Sequential([nn.Dense(6, activation), nn.BatchNorm(), nn.Dropout(0.3), nn.LayerNorm(), nn.Dense(4)])
    params, state = model.init(key(0), dt.Spec((8, 5), np.dtype("f8")))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5)), rng.integers(0, 4, 8)
    graph = training_graph(model, params, state, x, y)
    arrays = [p + 0.1 * rng.normal(size=p.shape) for p in flatten(params)[0].values()]
    direction = [rng.normal(size=a.shape) for a in arrays]

    def run(step):
        moved = [a + step * d for a, d in zip(arrays, direction, strict=True)]
        return interpret(graph, *moved, *flatten(state)[0].values(), x, y, key(3))

    derivative = sum(np.sum(g * d) for g, d in zip(run(0)[-len(arrays) :], direction, strict=True))
    assert derivative == pytest.approx((run(1e-6)[0] - run(-1e-6)[0]) / 2e-6, rel=1e-6)


def test_a_model_learns_with_adam():
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=2, size=(4, 8))
    y = rng.integers(0, 4, 128)
    x = (centres[y] + rng.normal(size=(128, 8))).astype(F4)
    model = nn.Sequential([nn.Dense(16, "relu"), nn.Dropout(0.1), nn.Dense(4)])
    params, state = model.init(key(0), dt.Spec(x.shape, F4))
    graph = training_graph(model, params, state, x, y)
    leaves, structure = flatten(params)
    shapes = [p.shape for p in leaves.values()]
    cuts = np.cumsum([p.size for p in leaves.values()])[:-1]
    flat, slots = np.concatenate([p.ravel() for p in leaves.values()]), None
    history = []
    for step in range(80):
        arrays = [part.reshape(s) for part, s in zip(np.split(flat, cuts), shapes, strict=True)]
        loss, *grads = interpret(graph, *arrays, x, y, key(step))
        history.append(float(loss))
        flat, slots = optim.apply_once(optim.adam(0.02), flat, np.concatenate([g.ravel() for g in grads]), slots, step)
    params = unflatten(structure, [part.reshape(s) for part, s in zip(np.split(flat, cuts), shapes, strict=True)])
    assert flat.dtype == F4
    assert history[0] > 1.0
    assert nn.metrics.accuracy(model.apply(params, {}, x)[0], y) > 0.97


# ---- errors


def test_shape_errors_name_the_layer():
    model = nn.Sequential([nn.Dense(4), nn.Sequential([nn.Dense(3), nn.Dense(2)], name="head")])
    params, _ = model.init(key(0), (8, 5))
    with pytest.raises(ShapeError, match=r"layer 'dense_1': .*'kernel' has the shape \(5, 4\), but .* asks for \(6, 4\)"):
        model.apply(params, {}, np.zeros((8, 6), F4))
    params["head"]["dense_2"]["kernel"] = np.zeros((7, 2), F4)
    with pytest.raises(ShapeError, match=r"layer 'head': layer 'dense_2': .*'kernel' has the shape \(7, 2\), but .* asks for \(3, 2\)"):
        model.apply(params, {}, np.zeros((8, 5), F4))
    with pytest.raises(ShapeError, match="layer 'dense_1': Dense needs samples and features"):
        nn.Sequential([nn.Dense(4)]).init(key(0), (8,))


def test_parameters_of_another_model_are_refused():
    model, other = nn.Sequential([nn.Dense(4)]), nn.Sequential([nn.Dense(4), nn.Dense(3)])
    params, _ = other.init(key(0), (8, 5))
    with pytest.raises(ArgumentError, match=r"'dense_2\.kernel', which no layer of this model asks for"):
        model.apply(params, {}, np.zeros((8, 5), F4), training=True)
    with pytest.raises(ArgumentError, match="layer 'dense_1': the parameters lack 'kernel'"):
        model.apply({}, {}, np.zeros((8, 5), F4))


def test_missing_key_names_the_layer():
    with pytest.raises(ArgumentError, match="layer 'dropout_1': Dropout needs a key"):
        nn.Sequential([nn.Dropout(0.5)]).apply({}, {}, np.zeros((8, 5), F4), training=True)


def test_wrong_lists_of_layers():
    with pytest.raises(ArgumentError, match="at least one layer"):
        nn.Sequential([])
    with pytest.raises(ArgumentError, match="takes a list of layers"):
        nn.Sequential(nn.Dense(3), nn.Dense(2))
    with pytest.raises(ArgumentError, match="number 1 is 'relu'"):
        nn.Sequential([nn.Dense(3), "relu"])
    with pytest.raises(ArgumentError, match="number 0 is <class"):
        nn.Sequential([nn.Flatten])
    with pytest.raises(ArgumentError, match=r"letters, digits, '_' and '-', got 'a\.b'"):
        nn.Sequential([nn.Dense(3, name="a.b")])
    with pytest.raises(ArgumentError, match="two layers have the name 'dense_1'"):
        nn.Sequential([nn.Dense(3), nn.Dense(3, name="dense_1")])


@dataclass(frozen=True)
class Mixing(nn.Layer):
    def forward(self, c, x):
        return x.reshape((-1, 1))


def test_a_layer_must_keep_the_samples():
    with pytest.raises(ShapeError, match=r"layer 'mixing_1': Mixing made .* keeps the samples"):
        nn.Sequential([Mixing()]).init(key(0), (8, 5))


def test_a_model_of_a_known_input_needs_no_spec():
    model = nn.Sequential([nn.Dense(3), nn.Dense(2)], input_shape=[4])
    assert model.known_inputs == (dt.Spec((1, 4), F4),)
    assert model.summary().parameters == 4 * 3 + 3 + 3 * 2 + 2
    assert model.output_spec() == dt.Spec((1, 2), F4)
    assert [column.width for column in nn.layers_for_drawing(model)] == [4, 3, 2]
    first, explicit = (flatten(model.init(key(0), *spec)[0])[0] for spec in ((), ((8, 4),)))
    assert all(np.array_equal(first[name], explicit[name]) for name in first)


@pytest.mark.parametrize("call", ["init", "summary", "output_spec"])
def test_samples_of_another_shape_than_the_model_was_made_for(call):
    model = nn.Sequential([nn.Dense(3)], input_shape=(4,))
    with pytest.raises(ShapeError, match=r"samples of shape \(4,\), as its input_shape says, got samples of shape \(5,\)"):
        getattr(model, call)(*[key(0)] * (call == "init"), (8, 5))


@pytest.mark.parametrize("wrong", [64, (0,), (None, 64), (2.0,), (True,), "64"])
def test_what_is_no_shape_of_a_sample(wrong):
    with pytest.raises(ArgumentError, match=r"input_shape=\(64,\); got"):
        nn.Sequential([nn.Dense(3)], input_shape=wrong)


def test_a_model_without_a_declared_input_needs_one_each_time():
    model = nn.Sequential([nn.Sequential([nn.Dense(3)]), nn.Dense(2)])
    model.init(key(0), (8, 4))
    for call in (model.init, model.output_spec, model.summary):
        with pytest.raises(ArgumentError, match="does not declare the shape of its input"):
            call(*[key(0)] * (call == model.init))
