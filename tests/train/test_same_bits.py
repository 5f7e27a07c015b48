"""The final weights are a function of model, data, seed and shards, and of nothing else."""

import json
import os
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.step.update import blocks_of

pytestmark = [pytest.mark.slow, pytest.mark.combined]


def test_one_of_the_trainers_has_several_blocks(make, fit_digits, request):
    trainer = make()
    fit_digits(trainer, epochs=1, rows=64)
    blocks = blocks_of(trainer.program.layout.size)
    assert len(blocks) == {"plain": 1, "mixed": 4}[request.node.callspec.params["make"]]


@pytest.fixture(scope="module")
def reference(make, fit_digits):
    """The history of a run on one thread."""
    return fit_digits(make(engine="inline", threads=1))


@pytest.mark.parametrize("threads", [*(pytest.param(n, marks=pytest.mark.long) for n in (2, 4, 8)), 3, 20])
def test_the_number_of_threads_changes_nothing(make, fit_digits, reference, threads):
    history = fit_digits(make(engine="inline", threads=threads))
    assert history.fingerprint == reference.fingerprint
    assert history.history["loss"] == reference.history["loss"]


@pytest.mark.parametrize("chunks", [(100, 64), (37, 64), ((1, 300, 215), (60, 4))], ids=str)
def test_the_chunks_of_the_data_change_nothing(make, digits, reference, chunks):
    x, y = da.from_array(digits.x[:516], chunks=chunks), da.from_array(digits.y[:516], chunks=(200,))
    history = make(engine="inline").fit(x, y, epochs=3, batch_size=64, verbose=0)
    assert history.fingerprint == reference.fingerprint


@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda x: x.astype("f8"), np.ndarray.tolist],
    ids=["F", "strided", "wide", "list"],
)
def test_the_layout_and_the_type_of_the_data_change_nothing(digits, change):
    def fit(x):
        model = dt.nn.Sequential([dt.nn.Dense(16, "tanh"), dt.nn.Dense(10)])
        return dt.Trainer(model, loss="cross_entropy", shards=4).fit(x, digits.y[:200], batch_size=50, verbose=0).fingerprint

    assert fit(change(digits.x[:200])) == fit(digits.x[:200])


@pytest.mark.parametrize("option", [{"seed": 1}, {"shards": 7}], ids=str)
def test_the_seed_and_the_shards_change_the_bits(make, fit_digits, reference, option):
    assert reference.fingerprint != fit_digits(make(**option)).fingerprint


@pytest.mark.parametrize("option", [{"batch_size": 65}, {"epochs": 2}, {"shuffle": False}, {"rows": 515}], ids=str)
def test_what_the_run_depends_on_changes_the_bits(make, fit_digits, reference, option):
    assert reference.fingerprint != fit_digits(make(), **option).fingerprint


def test_validation_changes_nothing(make, digits, fit_digits, reference):
    validation = (digits.x_validation, digits.y_validation)
    assert fit_digits(make(), validation_data=validation).fingerprint == reference.fingerprint


@pytest.mark.parametrize("engine", ["inline", "auto"])
def test_fitting_twice_is_fitting_longer(make, fit_digits, reference, engine):
    parts = make(engine=engine)
    first, second = fit_digits(parts, epochs=1), fit_digits(parts, epochs=2)
    assert second.fingerprint == reference.fingerprint
    assert first.history["loss"] + second.history["loss"] == reference.history["loss"]


def test_using_a_trainer_between_two_fits_changes_nothing(make, digits, fit_digits):
    trainer = make()
    fit_digits(trainer, epochs=1)
    trainer.evaluate(digits.x_validation, digits.y_validation)
    trainer.predict(digits.x_validation)
    trainer.step_graph(2).compute(scheduler="sync")
    with pytest.raises(ValueError, match="read-only"):
        trainer.parameters["dense_1"]["kernel"][...] = 0
    fit_digits(trainer, epochs=1)
    assert trainer.history.fingerprint == fit_digits(make(), epochs=2).fingerprint


@pytest.mark.parametrize("rows", [8, 9, 64, 71, 72], ids=str)
def test_any_rest_of_the_last_batch_is_the_same_for_all_threads(make, fit_digits, rows):
    """Of 8 shards, 64 + 7 samples leave one empty in the last batch; 64 + 8 samples give each one."""
    batch_size = min(rows, 64)
    fingerprints = {fit_digits(make(threads=n), rows=rows, batch_size=batch_size).fingerprint for n in (1, 3)}
    assert len(fingerprints) == 1


SCRIPT = """
import numpy as np
import dagtrain as dt
x = np.random.default_rng(0).random((516, 64), "f4")
layers = [dt.nn.BatchNorm(), dt.nn.Dense(1024, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(10)]
optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2))
trainer = dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], shards=8)
history = trainer.fit(x, x.argmax(1) % 10, batch_size=64, verbose=0)
keys = [history.fingerprint, trainer.graph(9).key, trainer.program.for_workers([9]).key, *trainer.step_graph().last]
"""


@pytest.mark.parametrize(
    ("seed", "threads", "modules"),
    [
        pytest.param("0", "1", "numpy", marks=pytest.mark.long),
        pytest.param("1", "2", "distributed, scipy.linalg, dagtrain.draw", marks=pytest.mark.long),
        ("424242", "4", "dagtrain.train, dask.array, scipy.linalg"),
    ],
)
def test_processes_agree_whatever_their_hashes_threads_and_imports(seed, threads, modules):
    """Other hash seeds, numbers of BLAS threads and orders of import, as on other machines of the same kind."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-c", f"import {modules}\n{SCRIPT}\nimport json\nprint(json.dumps(keys))"]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=True)
    here = {}
    exec(SCRIPT, here)
    assert json.loads(there.stdout) == here["keys"]
