"""Saving, loading and resuming: the same bits on any engine, and clear errors for what does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import dagtrain as dt
from dagtrain.checkpoint import runs
from dagtrain.errors import ArgumentError, CheckpointError, NotFiniteError

pytestmark = pytest.mark.combined

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(130, 12)).astype("f4"), RNG.integers(0, 4, 130)


def small(**options: Any) -> Any:
    """A trainer with running statistics, random numbers, slots, and a norm over all blocks."""
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(16, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(4)]
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2))
    options = {"optimizer": optimizer, "shards": 3, "engine": "inline", **options}
    return dt.Trainer(options.pop("model", dt.nn.Sequential(layers)), loss="cross_entropy", metrics=["accuracy"], **options)


def fit(trainer: Any, epochs: int, **options: Any) -> Any:
    return trainer.fit(X, Y, **{"epochs": epochs, "batch_size": 32, "verbose": 0, **options})


@pytest.fixture(scope="module")
def undisturbed() -> Any:
    return fit(small(), 6)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "runs" / "a")


# ---- going on


def test_three_epochs_and_three_are_six(undisturbed: Any, folder: str) -> None:
    fit(small(threads=1), 3, checkpoint=folder, resume=True)
    history = fit(small(threads=2), 6, checkpoint=folder, resume=True)
    assert history.fingerprint == undisturbed.fingerprint
    for name in ("loss", "accuracy"):
        assert history.history[name] == undisturbed.history[name]
    assert [event.text for event in history.events] == [f"went on from {folder}/epoch-000003"]


def test_another_process_resumes(undisturbed: Any, folder: str) -> None:
    program = "from test_store import *; fit(small(threads=1), 3, checkpoint=sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, folder], check=True, cwd=Path(__file__).parent, timeout=60)
    assert fit(small(threads=2), 6, checkpoint=folder, resume=True).fingerprint == undisturbed.fingerprint


def test_another_engine_resumes_and_back(threads: Any, undisturbed: Any, folder: str) -> None:
    fit(small(threads=1), 2, checkpoint=folder, resume=True)
    between = fit(small(engine="scheduler", client=threads), 4, checkpoint=folder, resume=True)
    assert between.info["engine"] == "scheduler"
    assert fit(small(), 6, checkpoint=folder, resume=True).fingerprint == undisturbed.fingerprint


def test_a_run_that_is_done_stays_as_it_is(folder: str) -> None:
    first = fit(small(), 2, checkpoint=folder)
    again = fit(small(), 2, checkpoint=folder, resume=True)
    assert again.fingerprint == first.fingerprint
    assert again.history == first.history
    assert again.epochs == 2


def test_the_same_trainer_continues_from_itself(undisturbed: Any, folder: str) -> None:
    trainer = small()
    fit(trainer, 3, checkpoint=folder)
    assert fit(trainer, 3, checkpoint=folder).fingerprint == undisturbed.fingerprint
    assert sorted(os.listdir(folder)) == ["epoch-000004", "epoch-000005", "epoch-000006"]


def test_a_loaded_trainer_continues(undisturbed: Any, folder: str) -> None:
    fit(small(), 3, checkpoint=folder)
    assert fit(dt.load(folder, threads=2), 3).fingerprint == undisturbed.fingerprint


@pytest.mark.parametrize(("keep", "epochs"), [(1, [5]), (3, [3, 4, 5]), (None, [1, 2, 3, 4, 5])])
def test_the_last_few_are_kept(folder: str, keep: int | None, epochs: list[int]) -> None:
    fit(small(), 5, checkpoint=folder, keep=keep)
    assert sorted(os.listdir(folder)) == [f"epoch-{n:06d}" for n in epochs]
    for name in os.listdir(folder):
        assert len(os.listdir(f"{folder}/{name}")) == 2


def test_nothing_of_the_users_is_removed(folder: str) -> None:
    fit(small(), 1, checkpoint=folder)
    for path in (f"{folder}/notes.txt", f"{folder}/epoch-000001/notes.txt", f"{folder}/epoch-1/state-0.safetensors"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_text("mine")
    fit(small(), 4, checkpoint=folder, resume=True, keep=1)
    assert sorted(os.listdir(folder)) == ["epoch-000001", "epoch-000004", "epoch-1", "notes.txt"]
    assert os.listdir(f"{folder}/epoch-000001") == ["notes.txt"]
    assert os.listdir(f"{folder}/epoch-1") == ["state-0.safetensors"]


def test_a_damaged_last_checkpoint_warns_and_the_one_before_it_is_used(undisturbed: Any, folder: str) -> None:
    fit(small(), 4, checkpoint=folder)
    (tensors,) = Path(folder, "epoch-000004").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"epoch-000004/state-.* was cut off.* Going on from .*epoch-000003"):
        history = fit(small(), 6, checkpoint=folder, resume=True)
    assert history.fingerprint == undisturbed.fingerprint


def test_if_every_checkpoint_is_damaged_the_error_of_the_last_is_raised(folder: str) -> None:
    fit(small(), 2, checkpoint=folder)
    for path in Path(folder).glob("*/checkpoint.json"):
        path.write_text("{}")
    with pytest.raises(CheckpointError, match=r"epoch-000002/checkpoint\.json"):
        fit(small(), 6, checkpoint=folder, resume=True)


# ---- settings that do not fit


OTHER = {
    "seed: 0 there, 1 here": ({"seed": 1}, {}),
    "approximate: False there, True here": ({"approximate": True}, {}),
    "batch_size: 32 there, 16 here": ({}, {"batch_size": 16}),
    "shards: 3 there, 4 here": ({"shards": 4}, {}),
    "shuffle: True there, False here": ({}, {"shuffle": False}),
    r"optimizer\.parts\[1\]\.learning_rate: 0.01 there, 0.02 here": (
        {"optimizer": dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(2e-2))},
        {},
    ),
    "the optimizer's slots: first, second there, velocity here": ({"optimizer": dt.optim.sgd(0.1, momentum=0.9)}, {}),
    r"parameter dense_1\.kernel: shape \(12, 16\) there, \(12, 17\) here": (
        {"model": dt.nn.Sequential([dt.nn.BatchNorm(), dt.nn.Dense(17, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(4)])},
        {},
    ),
    r"model\.layers\[2\]\.rate: 0.2 there, 0.3 here": (
        {"model": dt.nn.Sequential([dt.nn.BatchNorm(), dt.nn.Dense(16, "tanh"), dt.nn.Dropout(0.3), dt.nn.Dense(4)])},
        {},
    ),
}


@pytest.mark.parametrize("difference", OTHER)
def test_other_settings_are_refused_and_named(folder: str, difference: str) -> None:
    fit(small(), 1, checkpoint=folder)
    trainer, call = OTHER[difference]
    with pytest.raises(ArgumentError, match=f"epoch-000001 cannot be continued.*{difference}"):
        fit(small(**trainer), 2, checkpoint=folder, resume=True, **call)


def test_other_data_is_refused(folder: str) -> None:
    fit(small(), 1, checkpoint=folder)
    with pytest.raises(ArgumentError, match="samples: 130 there, 100 here"):
        small().fit(X[:100], Y[:100], epochs=2, batch_size=32, verbose=0, checkpoint=folder, resume=True)


def test_a_function_of_the_users_that_computes_something_else_is_refused(folder: str) -> None:
    def of(power: int) -> Any:
        return dt.Trainer(dt.nn.Sequential([dt.nn.Dense(1)]), loss=lambda o, t: np.mean(np.abs(o[:, 0] - t) ** power), engine="inline")

    fit(of(2), 1, checkpoint=folder)
    fit(of(2), 2, checkpoint=folder, resume=True)
    with pytest.raises(ArgumentError, match="the model or the loss computes something else"):
        fit(of(3), 3, checkpoint=folder, resume=True)


def test_checkpoints_are_not_mixed_or_overwritten(folder: str) -> None:
    fit(small(), 2, checkpoint=folder)
    with pytest.raises(ArgumentError, match=r"up to epoch 2\. Continue them with resume=True"):
        fit(small(), 2, checkpoint=folder)
    other = small(seed=1)
    fit(other, 2)
    with pytest.raises(ArgumentError, match="seed: 0 there, 1 here"):
        fit(other, 3, checkpoint=folder, resume=True)


def test_resume_needs_a_folder() -> None:
    with pytest.raises(ArgumentError, match="resume=True needs the folder"):
        fit(small(), 1, resume=True)


@pytest.fixture
def other_numpy(folder: str, monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(np, "__version__", "1.0")
        fit(small(), 1, checkpoint=folder)
    return folder


def test_other_software_warns(other_numpy: str) -> None:
    with pytest.warns(UserWarning, match=r"epoch-000001 was made with other software \(numpy: 1.0 there"):
        fit(small(), 2, checkpoint=other_numpy, resume=True)


def test_other_software_is_refused_with_exact(other_numpy: str) -> None:
    with pytest.raises(CheckpointError, match=r"numpy: 1\.0 there.* leave out exact=True"):
        fit(small(), 2, checkpoint=other_numpy, resume=True, exact=True)
    with pytest.raises(CheckpointError, match=r"numpy: 1\.0 there"):
        dt.load(other_numpy, exact=True)
    assert dt.load(other_numpy).predict(X).shape == (130, 4)


# ---- save and load


def test_a_loaded_trainer_predicts_and_evaluates_the_same(folder: str) -> None:
    trainer = small()
    fit(trainer, 2)
    trainer.save(folder)
    again = dt.load(folder, engine="inline")
    np.testing.assert_array_equal(again.predict(X), trainer.predict(X))
    assert again.evaluate(X, Y) == trainer.evaluate(X, Y)
    assert (again.model, again.seed, again.shards) == (trainer.model, 0, 3)


def test_saving_again_replaces_the_checkpoint(folder: str) -> None:
    trainer = small()
    for _ in range(3):
        history = fit(trainer, 1)
        trainer.save(folder)
    assert len(os.listdir(folder)) == 2
    assert json.loads(Path(folder, "checkpoint.json").read_text())["fingerprint"] == history.fingerprint


def test_other_tools_can_read_the_parameters_by_name(folder: str) -> None:
    trainer = small()
    fit(trainer, 1)
    trainer.save(folder)
    (path,) = Path(folder).glob("*.safetensors")
    arrays = load_file(path)
    np.testing.assert_array_equal(arrays["parameters.dense_2.kernel"], trainer.parameters["dense_2"]["kernel"])
    assert arrays["statistics.batch_norm_1.mean"].shape == (12,)
    assert arrays["slots.first"].shape == (sum(v.size for n, v in arrays.items() if n.startswith("parameters.")),)


def test_a_trainer_that_was_not_fitted_cannot_be_saved(folder: str) -> None:
    with pytest.raises(ArgumentError, match="cannot be saved before its model knows its input"):
        small().save(folder)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (lambda s: s.parameters[24:], r"the parameter dense_1.kernel is nan at \[0, 0\]"),
        (lambda s: s.statistics.view("f4")[13:], r"the state batch_norm_1.variance is nan at \[1\]"),
        (lambda s: s.slots["second"], r"the optimiser's second of batch_norm_1.scale is nan at \[0\]"),
    ],
)
def test_a_state_that_is_not_finite_is_never_the_latest(folder: str, where: Any, name: str) -> None:
    trainer = small()
    fit(trainer, 1, checkpoint=folder)
    before = trainer.history.fingerprint
    where(trainer.progress.state)[0] = np.nan
    for path in (folder, f"{folder}/epoch-000001"):
        with pytest.raises(NotFiniteError, match=name):
            trainer.save(path)
    assert dt.load(folder).progress.state.fingerprint == before


def test_a_run_whose_slots_overflow_stops_before_it_is_saved(folder: str) -> None:
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(1)]), loss="mean_squared_error", optimizer=dt.optim.adam(1e-2), engine="inline")
    x, y = np.full((8, 2), 1e12, "f4"), np.zeros((8, 1), "f4")
    with pytest.raises(NotFiniteError):
        trainer.fit(x, y, epochs=2, verbose=0, checkpoint=folder)
    assert runs.latest(runs.open_store(folder)) is None


class Twice(dt.nn.Layer):
    """A model of the user's own."""

    def forward(self, c: dt.nn.Context, x: Any) -> Any:
        return 2 * x @ c.parameter("w", (x.shape[1], 4), "zeros")


def test_a_model_of_the_users_must_be_given(folder: str) -> None:
    trainer = dt.Trainer(Twice(), loss="cross_entropy", engine="inline")
    fit(trainer, 1)
    trainer.save(folder)
    with pytest.raises(ArgumentError, match=r"the model holds parts that are not dagtrain's own \(it is .*Twice\): give them, .*custom="):
        dt.load(folder)
    np.testing.assert_array_equal(dt.load(folder, custom={"Twice": Twice}).predict(X), trainer.predict(X))
    np.testing.assert_array_equal(dt.load(folder, Twice()).predict(X), trainer.predict(X))


def test_a_model_that_does_not_fit_is_refused(folder: str) -> None:
    trainer = small()
    fit(trainer, 1)
    trainer.save(folder)
    with pytest.raises(ArgumentError, match=r"with these arguments: the arrays are not those.*parameter w: shape none there"):
        dt.load(folder, Twice())
    with pytest.raises(ArgumentError, match=r"slots: first, second there, none here"):
        dt.load(folder, optimizer=dt.optim.sgd(0.1))


def test_a_model_argument_that_computes_something_else_warns(folder: str) -> None:
    trainer = small()
    fit(trainer, 1)
    trainer.save(folder)
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(16, "relu", kernel_initializer="ones"), dt.nn.Dropout(0.2), dt.nn.Dense(4)]
    with pytest.warns(UserWarning, match=r"layers\[1\].activation: 'tanh' there, 'relu' here\.$"):
        dt.load(folder, dt.nn.Sequential(layers))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dt.load(folder, trainer.model)
        dt.load(folder, dt.nn.Sequential(list(trainer.model.layers), input_shape=X.shape[1:]))


def distance(parameters: Any, x: Any, y: Any) -> Any:
    return np.mean((x @ parameters["w"][0] + parameters["w"][1] - y) ** 2)


def test_a_cost_function_resumes_with_its_nest_of_parameters(folder: str) -> None:
    def trainer() -> Any:
        return dt.Trainer(distance, optimizer="sgd", parameters={"w": [np.zeros(12), np.zeros(())]}, engine="inline")

    undisturbed = fit(trainer(), 4)
    fit(trainer(), 2, checkpoint=folder)
    with pytest.raises(ArgumentError, match="is of a cost function: give it"):
        dt.load(folder)
    again = dt.load(folder, distance)
    assert isinstance(again.parameters["w"], list)
    assert fit(again, 2).fingerprint == undisturbed.fingerprint
    assert fit(trainer(), 4, checkpoint=folder, resume=True).fingerprint == undisturbed.fingerprint


# ---- behind fsspec


@pytest.fixture
def remote() -> str:
    return f"memory://{uuid.uuid4().hex}/runs/a"


def test_a_run_behind_fsspec_resumes(undisturbed: Any, remote: str) -> None:
    import fsspec

    fit(small(), 4, checkpoint=remote)
    history = fit(small(), 6, checkpoint=remote, resume=True)
    assert history.fingerprint == undisturbed.fingerprint
    system, path = fsspec.url_to_fs(remote)
    assert sorted(p.rpartition("/")[2] for p in system.ls(path, detail=False)) == ["epoch-000004", "epoch-000005", "epoch-000006"]
    assert dt.load(remote).progress.state.fingerprint == history.fingerprint
    assert dt.load(f"{remote}/epoch-000005/").progress.epochs == 5


def test_behind_fsspec_the_manifest_is_written_last_and_counts(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    trainer = small()
    fit(trainer, 1)
    put, names = MemoryFileSystem.pipe_file, []

    def watched(self: Any, path: str, value: bytes, **options: Any) -> None:
        names.append(path.rpartition("/")[2])
        if len(names) == 4:
            raise ConnectionError("gone")
        put(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", watched)
    trainer.save(remote)
    before = dt.load(remote).progress.state.fingerprint
    fit(trainer, 1)
    with pytest.raises(CheckpointError, match=r"memory://.*/checkpoint.json: cannot be written: ConnectionError: gone"):
        trainer.save(remote)
    assert dt.load(remote).progress.state.fingerprint == before
    assert [n.partition("-")[0] for n in names] == ["state", "checkpoint.json"] * 2


def test_an_address_of_files_is_a_path(folder: str) -> None:
    trainer = small()
    fit(trainer, 1)
    trainer.save(f"file://{folder}")
    assert dt.load(folder).progress.epochs == 1


def test_an_address_that_no_file_system_answers_to_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="nowhere://x: cannot be opened"):
        dt.load("nowhere://x")


@pytest.mark.parametrize("path", ["", 3, None, b"x", "a\0b"])
def test_a_path_is_text(path: Any) -> None:
    with pytest.raises(ArgumentError, match="a checkpoint's path is text"):
        dt.load(path)
