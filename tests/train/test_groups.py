"""Groups of parameters in training: against PyTorch's parameter groups, frozen ones, and their checkpoints."""

import json

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import optim
from dagtrain.engines.ranks.placement import WorkerInfo, place
from dagtrain.engines.ranks.stages import shape_of
from dagtrain.errors import ArgumentError
from dagtrain.ops.random import derive
from dagtrain.train.logs import learning_rate

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(48, 6)).astype("f4")
Y = (X @ RANDOM.normal(size=(6, 3)) + 0.1).astype("f4")
STEPS = 10


def first():
    draw = np.random.default_rng(1)
    shapes = {"hidden": {"kernel": (6, 8), "bias": (8,)}, "out": {"kernel": (8, 3), "bias": (3,)}}
    return {layer: {name: draw.normal(scale=0.5, size=shape) for name, shape in arrays.items()} for layer, arrays in shapes.items()}


def cost(p, x, y):
    hidden = np.tanh(x @ p["hidden"]["kernel"] + p["hidden"]["bias"])
    return np.mean(np.sum((hidden @ p["out"]["kernel"] + p["out"]["bias"] - y) ** 2, axis=1))


def trained(optimizer, steps=STEPS, **options):
    trainer = dt.Trainer(cost, first(), optimizer=optimizer, engine="inline", shards=3, **options)
    trainer.fit(X, Y, epochs=steps, batch_size=48, verbose=0)
    return trainer


def in_torch(groups, clip=None, steps=STEPS):
    """The parameters by torch, with an optimiser for each list of names, after `clip` has changed the gradients."""
    torch = pytest.importorskip("torch", reason="PyTorch is what groups are compared with")
    p = {f"{a}.{b}": torch.nn.Parameter(torch.tensor(v)) for a, arrays in first().items() for b, v in arrays.items()}
    optimizers = [getattr(torch.optim, kind)([p[n] for n in names], **settings) for names, kind, settings in groups]
    x, y = torch.tensor(X.astype("f8")), torch.tensor(Y.astype("f8"))
    for _ in range(steps):
        hidden = torch.tanh(x @ p["hidden.kernel"] + p["hidden.bias"])
        loss = ((hidden @ p["out.kernel"] + p["out.bias"] - y) ** 2).sum(dim=1).mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            clip(torch, p)
        for optimizer in optimizers:
            optimizer.step()
    return {name: value.detach().numpy() for name, value in p.items()}


def agrees(trainer, expected):
    for name, value in expected.items():
        layer, array = name.split(".")
        np.testing.assert_allclose(trainer.parameters[layer][array], value, rtol=2e-4, atol=2e-5, err_msg=name)


BIASES, KERNELS = ["hidden.bias", "out.bias"], ["hidden.kernel", "out.kernel"]
SGD, ADAM = ("SGD", {"lr": 0.05, "momentum": 0.9}), ("AdamW", {"lr": 0.02, "weight_decay": 0.1})
RULES = {"*.bias": optim.sgd(0.05, momentum=0.9), "*": optim.adamw(0.02, weight_decay=0.1)}


def test_groups_are_those_of_torch():
    agrees(trained(optim.by_name(RULES)), in_torch([(BIASES, *SGD), (KERNELS, *ADAM)]))


def clip_all(torch, p):
    torch.nn.utils.clip_grad_norm_(p.values(), 0.5)


def clip_each(torch, p):
    for names in (KERNELS, BIASES):
        torch.nn.utils.clip_grad_norm_([p[n] for n in names], 0.5)


def test_a_norm_within_a_group_is_of_its_gradient_and_around_the_groups_of_all():
    clip, torch_groups = optim.clip_by_global_norm(0.5), [(BIASES, *SGD), (KERNELS, *ADAM)]
    agrees(trained(optim.chain(clip, optim.by_name(RULES))), in_torch(torch_groups, clip_all))
    within = optim.by_name({pattern: optim.chain(clip, rule) for pattern, rule in RULES.items()})
    agrees(trained(within), in_torch(torch_groups, clip_each))


def test_decay_without_biases_in_one_optimiser():
    decay = optim.by_name({"*.bias": optim.l2(0.0), "*": optim.l2(0.1)})
    settings = {"lr": 0.05, "momentum": 0.9}
    expected = in_torch([(BIASES, "SGD", settings), (KERNELS, "SGD", {**settings, "weight_decay": 0.1})])
    agrees(trained(optim.chain(decay, optim.sgd(0.05, momentum=0.9))), expected)


FROZEN = {"hidden.*": optim.frozen(), **RULES}


def test_frozen_parameters_stay_and_have_neither_gradient_nor_slots():
    trainer = trained(optim.by_name(FROZEN))
    agrees(trainer, in_torch([(["out.bias"], *SGD), (["out.kernel"], *ADAM)]))
    for name, value in first()["hidden"].items():
        assert trainer.parameters["hidden"][name].tobytes() == value.astype("f4").tobytes()
    assert {name: len(slot) for name, slot in trainer.state.slots.items()} == {"*.bias/velocity": 3, "*/first": 24, "*/second": 24}
    assert [name for name in trainer.graph().outputs if "hidden" in name] == []
    assert trainer.program.for_workers([16]).layout.trained == 27


def test_what_layers_declare_as_frozen_stays_without_by_name():
    model = dt.nn.Sequential([dt.nn.Dense(3, "tanh", trainable=False), dt.nn.Dense(1)])
    trainer = dt.Trainer(model, loss="mean_squared_error", optimizer="adam", engine="inline")
    trainer.fit(X, X[:, 0], epochs=2, verbose=0)
    untrained = model.init(derive(dt.key(0), 0), X[:1].astype("f4"))[0]
    assert np.array_equal(trainer.parameters["dense_1"]["kernel"], untrained["dense_1"]["kernel"])
    assert not np.array_equal(trainer.parameters["dense_2"]["kernel"], untrained["dense_2"]["kernel"])
    assert {name: len(slot) for name, slot in trainer.state.slots.items()} == {"first": 4, "second": 4}


def pairs():
    return {"actor": first(), "target": first()}


def test_a_target_follows_after_each_update():
    """By the formula, from the parameters that the actor has in each step."""

    def both(p, x, y):
        return cost(p["actor"], x, y)

    rules = {"target.hidden.*": optim.track("actor.hidden.*", 0.25, every=2), "target.out.*": optim.track("actor.out.*", 1.0), "*": "adam"}
    trainer = dt.Trainer(both, pairs(), optimizer=optim.by_name(rules), engine="inline", shards=3)
    expected = first()["hidden"]["kernel"].astype("f4")
    for step in range(5):
        trainer.fit(X, Y, epochs=1, batch_size=48, verbose=0)
        parameters = trainer.parameters
        if step % 2:
            expected = expected + np.float32(0.25) * (parameters["actor"]["hidden"]["kernel"] - expected)
        np.testing.assert_array_equal(parameters["target"]["hidden"]["kernel"], expected)
        np.testing.assert_array_equal(parameters["target"]["out"]["kernel"], parameters["actor"]["out"]["kernel"])
    alone = dt.Trainer(cost, first(), optimizer="adam", engine="inline", shards=3)
    alone.fit(X, Y, epochs=5, batch_size=48, verbose=0)
    np.testing.assert_array_equal(alone.parameters["out"]["bias"], trainer.parameters["actor"]["out"]["bias"])
    assert "target.hidden.* follows actor.hidden.*" in trainer.step_graph().diagram().title


def test_what_follows_has_the_same_shape():
    rules = {"hidden.kernel": optim.track("out.kernel", 0.1), "*": "adam"}
    with pytest.raises(ArgumentError, match=r"'hidden\.kernel' of shape \(6, 8\) cannot follow 'out\.kernel' of shape \(8, 3\)"):
        trained(optim.by_name(rules))


def test_a_group_that_is_updated_in_every_second_step():
    torch_steps = in_torch([(["hidden.kernel", "hidden.bias", "out.bias", "out.kernel"], "SGD", {"lr": 0.05})], steps=1)
    trainer = trained(optim.by_name({"out.*": optim.every(2, optim.sgd(0.05)), "*": optim.sgd(0.05)}), steps=1)
    np.testing.assert_array_equal(trainer.parameters["out"]["kernel"], first()["out"]["kernel"].astype("f4"))
    np.testing.assert_allclose(trainer.parameters["hidden"]["kernel"], torch_steps["hidden.kernel"], rtol=1e-4, atol=1e-6)
    trainer.fit(X, Y, batch_size=48, verbose=0)
    assert not np.array_equal(trainer.parameters["out"]["kernel"], first()["out"]["kernel"].astype("f4"))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_kinds_of_steps_change_no_bits(threads):
    optimizer = optim.chain(optim.clip_by_global_norm(0.5), optim.by_name(FROZEN))
    trainer = trained(optimizer, threads=threads)
    state = trained(optimizer, steps=STEPS - 1).step_graph().compute("sync").state
    assert state.fingerprint == trainer.state.fingerprint
    assert {n: v.tobytes() for n, v in state.slots.items()} == {n: v.tobytes() for n, v in trainer.state.slots.items()}


def test_pictures_name_the_groups():
    trainer = trained(optim.by_name(FROZEN), steps=1)
    assert "*.bias (3), * (24)" in str(trainer.step_graph().diagram().title)
    shape = shape_of(trainer.program.for_workers([16]), 3)
    texts = [line.text for node in place(shape, [WorkerInfo("a"), WorkerInfo("b")]).diagram().nodes for line in node.lines]
    assert {"*.bias: 3", "*: 24"} <= set(texts)


def test_logs_have_the_rate_of_each_group():
    schedule = optim.piecewise([2, 3], [0.3, 0.2, 0.1])
    rules = {"hidden.*": optim.frozen(), "out.bias": optim.every(2, optim.chain(optim.l2(0.1), optim.sgd(schedule))), "*": optim.adam(0.5)}
    assert learning_rate(trained(optim.by_name(rules), steps=6)) == {"learning_rate out.bias": 0.2, "learning_rate *": 0.5}


def test_a_checkpoint_has_the_groups_and_goes_on_with_them(tmp_path):
    def trainer():
        model = dt.nn.Sequential([dt.nn.Dense(8, "tanh"), dt.nn.Dense(3)])
        rules = {"dense_1.kernel": optim.frozen(), "*.bias": optim.sgd(0.1, momentum=0.9), "*": optim.adam()}
        return dt.Trainer(model, loss="mean_squared_error", optimizer=optim.by_name(rules), engine="inline")

    whole = trainer().fit(X, Y, epochs=4, verbose=0).fingerprint
    trainer().fit(X, Y, epochs=2, verbose=0, checkpoint=tmp_path)
    loaded = dt.load(tmp_path, engine="inline")
    assert repr(loaded.optimizer) == repr(trainer().optimizer)
    assert loaded.fit(X, Y, epochs=2, verbose=0).fingerprint == whole
    assert trainer().fit(X, Y, epochs=4, verbose=0, checkpoint=tmp_path, resume=True).fingerprint == whole
    manifest = json.loads((tmp_path / "epoch-000004" / "checkpoint.json").read_text())
    assert [(g["name"], g["parameters"], g["trained"]) for g in manifest["groups"]] == [
        ("*.bias", ["dense_1.bias", "dense_2.bias"], True),
        ("*", ["dense_2.kernel"], True),
        ("frozen", ["dense_1.kernel"], False),
    ]


def test_a_checkpoint_without_groups_names_none(tmp_path):
    trained(optim.adam(), steps=1).save(tmp_path)
    assert "groups" not in json.loads((tmp_path / "checkpoint.json").read_text())


def test_a_checkpoint_of_other_groups_is_not_continued(tmp_path):
    trained(optim.by_name(FROZEN), steps=1).save(tmp_path / "epoch-000001")
    other = dt.Trainer(cost, first(), optimizer=optim.by_name({"out.*": optim.frozen(), **RULES}), engine="inline", shards=3)
    with pytest.raises(ArgumentError, match=r"group of hidden\.kernel: 'frozen' there, '\*' here"):
        other.fit(X, Y, epochs=2, batch_size=48, verbose=0, checkpoint=tmp_path, resume=True)


def test_patterns_are_checked_before_the_first_step():
    with pytest.raises(ArgumentError, match=r"the pattern 'hiden\.\*' matches no parameter; near: hidden\."):
        trained(optim.by_name({"hiden.*": optim.frozen(), "*": "sgd"}))


def test_batch_norm_that_by_name_freezes_uses_its_running_statistics():
    model = dt.nn.Sequential([dt.nn.BatchNorm(), dt.nn.Dense(1)])
    rules = {"batch_norm_1.*": optim.frozen(), "*": optim.sgd(0.1)}
    trainer = dt.Trainer(model, loss="mean_squared_error", optimizer=optim.by_name(rules), shards=2, engine="inline")
    trainer.fit(X, X[:, 0], verbose=0)
    weights = trainer.weights()
    assert (weights["batch_norm_1.mean"] == 0).all()
    assert (weights["batch_norm_1.variance"] == 1).all()
    trained = dt.Trainer(model, loss="mean_squared_error", optimizer=optim.sgd(0.1), shards=2, engine="inline")
    trained.fit(X, X[:, 0], verbose=0)
    assert not (trained.weights()["batch_norm_1.mean"] == 0).any()
