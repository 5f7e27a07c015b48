"""The mistakes of a user who writes a layer or an optimiser for the first time: each is an error of dagtrain that names the layer."""

from dataclasses import dataclass

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DagtrainError

from ..each import each

nn = dt.nn
X, Y = np.random.default_rng(0).normal(size=(8, 4)).astype("f4"), np.arange(8) % 2


def fit(layer, **options):
    dt.Trainer(nn.Sequential([layer, nn.Dense(2)]), loss="cross_entropy", **options).fit(X, Y, verbose=0)


def layer(forward, **fields):
    """A layer whose class is not a dataclass, with this forward."""
    made = type("Mine", (nn.Layer,), {"forward": forward})()
    vars(made).update(fields)
    return made


@dataclass(frozen=True)
class Frozen(nn.Layer):
    def forward(self, c, x):
        self.seen = x
        return x


CASES = [
    (lambda self, x: x, r"Mine takes the inputs \(\), got 1 of them\. .* forward\(self, c, x\)"),
    (lambda self, c, a, b: a + b, r"Mine takes the inputs \(a, b\), got 1 of them\."),
    (lambda self, c, x: None, r"Mine\.forward returned None: it must return its outputs"),
    (lambda self, c, x: [x, x], "has several outputs: a Sequential takes one"),
    (lambda self, c, x: np.zeros((7, 3)), "a layer keeps the samples on the first axis"),
    (lambda self, c, x: c(nn.Dense(3), x), "is in no field of Mine and has no name"),
    (
        lambda self, c, x: nn.Dense(3)(x),
        r"called on a tensor: in forward\(self, c, x\) the context calls layers, as in c\(self\.field, x\)",
    ),
    (lambda self, c, x: c(self, x), r"Mine\.forward calls itself: that has no end"),
    (lambda self, c, x: c(np.tanh, x), r"which is no layer: write c\(self\.field, x\)"),
    (lambda self, c, x: c(nn.Dense, x), r"<class .*Dense'>, which is no layer"),
    (lambda self, c, x: nn.Dense(3)(c, x), r"called on the context: in forward\(self, c, x\) the context calls layers"),
    (lambda self, c, x: {}, r"Mine\.forward returned \{\}: it must return its outputs"),
    (lambda self, c, x: "x", r"Mine\.forward returned 'x': it must return arrays"),
    (lambda self, c, x: (c.add_loss("a", "b"), x)[1], "the loss 'a' that a layer adds is one number, or one for each sample, got 'b'"),
    (lambda self, c, x: x * c.parameter("w", (4,), 1.0), r"an initialiser is a name or a function \(key, shape, dtype\) .*got 1\.0"),
    (lambda self, c, x: x * c.parameter("a.b", (4,)), "the name of a parameter is made of letters, digits"),
    (lambda self, c, x: x * c.parameter("w", 4), r"the shape of the parameter 'w' is a tuple of whole numbers.*got 4"),
    (lambda self, c, x: x * c.parameter("w", (None, 4)), r"the shape of the parameter 'w' is a tuple .*got \(None, 4\)"),
    (lambda self, c, x: x * c.parameter("w", (-1,)), r"the shape of the parameter 'w'"),
    (lambda self, c, x: x * c.parameter((4,)), r"Mine\.forward raised TypeError \(.*test_mistakes.py:\d+ in <lambda>\): .*'shape'"),
    (lambda self, c, x: x * c.parameter("w", (4,), dtype="nope"), "Mine.forward raised TypeError .*not understood"),
    (lambda self, c, x: x * c.parameter("w", (4,), lambda key, shape: np.ones(shape)), "Mine.forward raised TypeError"),
    (lambda self, c, x: x * c.add_weight("w", (4,)), r"unknown attribute of a context 'add_weight'\. Here it is c\.parameter"),
    (lambda self, c, x: x * c.parameter("w", (4,)) * c.parameter("w", (4,)), "asked for twice in one call"),
    (lambda self, c, x: x + c.parameter("w", (len(x), 4)), r"has the shape \(1, 4\), but for these inputs the layer asks for \(8, 4\)"),
    (lambda self, c, x: c.update("mean", x.mean(axis=0)), r"no state 'mean' to update: ask for it with c\.state\('mean', shape\) first"),
    (lambda self, c, x: x * undefined, r"Mine\.forward raised NameError \(.*test_mistakes.py:\d+ in <lambda>\)"),  # noqa: F821  # a mistake
    (lambda self, c, x: x if x.sum() > 0 else -x, "the truth of .* is not known while a graph is being built"),
]


@each(CASES)
def test_the_error_says_what_is_wrong(forward, message):
    with pytest.raises(DagtrainError, match=message):
        fit(layer(forward), shards=1)


WRONG_CALLS = [
    (lambda m, p, s: m.apply(p, s, None), "the input 'x' is None, not an array"),
    (lambda m, p, s: m.apply(p, s, X.tolist()), r"the input 'x' is a list, not an array: np\.asarray"),
    (lambda m, p, s: m.apply(p, s, np.ma.masked_array(X, X > 0)), "a masked array would lose its mask"),
    (lambda m, p, s: m.apply(p, s, X.astype(str)), "the input 'x' holds no numbers, but has dtype <U"),
    (lambda m, p, s: m.apply(p, None, X), "the states of a model are nested dicts of arrays, got None: params, state = model.init"),
    (lambda m, p, s: m.apply((p, s), {}, X), "the parameters of a model are nested dicts of arrays, got a tuple"),
    (lambda m, p, s: m.apply({"dense_1": {"kernel": [1]}}, s, X), r"the parameters are arrays, but 'dense_1\.kernel' is a list"),
    (lambda m, p, s: m.apply({}, s, X), "layer 'dense_1': the parameters lack 'kernel'"),
    (lambda m, p, s: m.apply(p, {**s, "more": X}, X, training=True), "hold 'more', which no layer of this model asks for"),
    (lambda m, p, s: m.apply(p, s, X, key="a", training=True), r"a key of random numbers is dagtrain\.key\(seed\), got 'a'"),
    (lambda m, p, s: m.init(None, X), r"a key of random numbers is dagtrain\.key\(seed\), got None"),
    (lambda m, p, s: m.init(dt.key(0), X, dtype="nope"), "parameters are floats, got dtype='nope'"),
    (lambda m, p, s: m.init(dt.key(0), 4), r"an array with samples on its first axis, or a shape such as \(32, 64\); got 4"),
]


def test_wrong_arguments_of_init_and_apply_are_named():
    model = nn.Sequential([nn.Dense(3), nn.BatchNorm()])
    params, state = model.init(dt.key(0), X)
    for use, message in WRONG_CALLS:
        with pytest.raises(DagtrainError, match=message):
            use(model, params, state)
    a = nn.Input((4,), name="a")
    both = nn.Model({"a": a, "b": (b := nn.Input((4,)))}, a + b)
    with pytest.raises(ArgumentError, match="the input 'b' is None"):
        both.apply({}, {}, X, None)
    with pytest.raises(ArgumentError, match=r"the name of a model's output is made of .* got 'a\.b'"):
        nn.Model(a, {"a.b": nn.Dense(2)(a)})


def test_a_shared_layer_that_training_alone_calls_first_has_no_name_outside():
    shared = nn.Dense(2)

    @dataclass(frozen=True)
    class Twice(nn.Layer):
        first: nn.Layer
        second: nn.Layer

        def forward(self, c, x):
            if c.training:
                c(self.first, x)
            return c(self.second, x)

    model = Twice(nn.Sequential([shared]), nn.Sequential([shared]))
    with pytest.raises(ArgumentError, match=r"lack 'kernel'.* init made 'first\.dense_1\.kernel'.*make the first call outside"):
        model.apply(*model.init(dt.key(0), X), X)


def test_a_frozen_layer_is_not_changed():
    with pytest.raises(
        ArgumentError, match=r"layer 'frozen_1': Frozen\.forward raised FrozenInstanceError .*test_mistakes.*cannot assign to field 'seen'"
    ):
        fit(Frozen())


def test_there_is_no_key_outside_training():
    trainer = dt.Trainer(
        nn.Sequential([layer(lambda self, c, x: x + dt.normal(c.key(), x.shape)), nn.Dense(2)], input_shape=(4,)), loss="cross_entropy"
    )
    with pytest.raises(ArgumentError, match="Mine asks for a key outside training"):
        trainer.predict(X)


def test_a_parameter_that_only_evaluation_asks_for_does_not_exist():
    trainer = dt.Trainer(
        nn.Sequential([layer(lambda self, c, x: x if c.training else x * c.parameter("w", (4,)))], input_shape=(4,)), loss="cross_entropy"
    )
    with pytest.raises(ArgumentError, match=r"the parameters lack 'w'.*outside training alone does not exist"):
        trainer.predict(X)


@each([lambda a: a / a, lambda a: a @ a, lambda a: a[0], lambda a: -a, lambda a: 1 + a, lambda a: a**2, list])
def test_symbolic_values_have_three_operators(use):
    with pytest.raises(ArgumentError, match=r"operators \+, - and \* alone: for others write a layer"):
        use(nn.Input((4,)))


def test_outputs_in_a_list_have_no_losses():
    x = nn.Input((4,))
    model = nn.Model(x, [nn.Dense(2)(x), nn.Dense(1)(x)])
    with pytest.raises(ArgumentError, match="several outputs without names: give them as a dict"):
        dt.Trainer(model, loss="cross_entropy")
    with pytest.raises(ArgumentError, match="loss is a list of 2, but the names of the outputs are not known: let the model give"):
        dt.Trainer(model, loss=["cross_entropy", "mse"])


def test_a_number_updates_a_state():
    def forward(self, c, x):
        c.state("count", ())
        c.update("count", 2.5)
        return x

    trainer = dt.Trainer(nn.Sequential([layer(forward), nn.Dense(2)]), loss="cross_entropy", shards=1)
    trainer.fit(X, Y, verbose=0)
    assert trainer.weights()["mine_1.count"] == 2.5


@each(
    [
        (lambda c, g, p, slots: g, ("m",), "returns the change of the parameters and a dict of all slots"),
        (lambda c, g, p, slots: (g, {}), ("m",), r"a dict of all slots \(m\)"),
        (lambda c, g, p, slots: (-0.1 * g, slots, 1), (), "returns the change of the parameters"),
        (lambda c, g, p, slots: (-c.learning_rate * g, slots), (), "the optimizer 'mine' raised AttributeError"),
    ]
)
def test_an_optimiser_returns_its_change_and_its_slots(update, slots, message):
    with pytest.raises(ArgumentError, match=message):
        fit(nn.Dense(3), optimizer=dt.optim.Optimizer("mine", slots, update))


def test_calls_on_symbolic_values_that_other_libraries_allow():
    a, b = nn.Input((4,), name="a"), nn.Input((4,), name="b")
    cases = [
        (
            lambda: nn.Concatenate([a, b]),
            r"Concatenate is called with symbolic values where it takes settings: write Concatenate\(\.\.\.\)\(x\)",
        ),
        (
            lambda: nn.Dropout(0.5)(a, training=True),
            r"unknown argument in a call of Dropout 'training'\. Here it is no argument: c\.training",
        ),
        (lambda: nn.Input((4,), batch_size=3), "unknown argument of Input 'batch_size'. Here it is no argument"),
        (lambda: nn.Sequential([a]), r"not a layer: give input_shape= instead"),
    ]
    for use, message in cases:
        with pytest.raises(ArgumentError, match=message):
            use()


@dataclass(frozen=True)
class Pair(nn.Layer):
    """Returns two outputs in training, or always; or gives one of them as an auxiliary one."""

    always: bool = False
    auxiliary: str = ""

    def forward(self, c, x):
        if self.auxiliary:
            c.auxiliary(self.auxiliary, x @ c.parameter("v", (4, 2)))
            return {"y": x @ c.parameter("w", (4, 2))}
        return (x, x) if c.training or self.always else x


def test_outputs_of_layers_and_inputs_of_models_that_do_not_fit():
    a, n = nn.Input((4,), name="a"), nn.Input((1,), name="n", dtype="int64")
    model = nn.Model([a, n], nn.Dense(2)(nn.Add()([*Pair()(a)])) + nn.Dense(2)(n))
    params, state = model.init(dt.key(0))
    clash = {"y": "mse", "z": "mse"}
    cases = [
        (lambda: model.apply(params, state, X, Y[:, None]), "layer 'pair_1' returns fewer outputs here than on symbolic values"),
        (lambda: model.apply(params, state, X, Y), r"the input 'n' takes samples of shape \(1,\), got \(\)\. Reshape it to \(-1, 1\)"),
        (lambda: model.apply(params, state, X, X[:, :1]), r"the input 'n' takes int64, got float32: convert it with \.astype\('int64'\)"),
        (lambda: nn.Add().apply({}, {}, {"a": X, "b": X}), "the inputs of Add have no names: give them as a tuple"),
        (lambda: dt.Trainer(Pair(auxiliary="y"), loss=clash).fit(X, {"y": X[:, :2], "z": X[:, :2]}, verbose=0), "of the name 'y': rename"),
        (lambda: dt.Trainer(nn.Dense(4), loss=clash).fit(X, {"y": X, "z": X}, verbose=0), "one loss, or let the model return {'y': array}"),
    ]
    for use, message in cases:
        with pytest.raises(DagtrainError, match=message):
            use()
