"""What logs hold, of a whole run and of one that was killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, MissingDependencyError
from dagtrain.train.logs import learning_rate

X, Y = np.eye(8, dtype="f4"), np.arange(8) % 2
STEPS = 4
"""Steps of an epoch."""


def new(optimizer: Any = None) -> Any:
    optimizer = optimizer or dt.optim.adam(dt.optim.schedules.cosine(0.1, 12))
    model = dt.nn.Sequential([dt.nn.Dense(2)])
    return dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], engine="inline", shards=1)


def fit(*callbacks: Any, trainer: Any = None, epochs: int = 3, **options: Any) -> Any:
    return (trainer or new()).fit(X, Y, epochs=epochs, batch_size=2, verbose=0, callbacks=list(callbacks), **options)


class Stop(dt.callbacks.Callback):
    """Stop in the second epoch after its third step."""

    epoch = 0

    def on_epoch_begin(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        if (self.epoch, batch) == (1, 2):
            self.trainer.stop()


class Fail(Stop):
    """End there without `on_train_end`."""

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        if (self.epoch, batch) == (1, 2):
            raise ZeroDivisionError


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def values(rows: list[Any]) -> list[Any]:
    """The epochs among the lines, without their times."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_second")} for row in rows if "epoch" in row]


# ---- JSON lines


def test_json_lines_hold_each_epoch_and_event(tmp_path: Path) -> None:
    history = fit(dt.callbacks.JSONLines(tmp_path / "log"), dt.callbacks.Target("loss", 1e9))
    epoch, event = lines(tmp_path / "log")
    assert epoch == {"epoch": 0, **{name: column[0] for name, column in history.history.items()}}
    assert (event["event"], event["kind"], event["step"]) == (str(history.events[0]), "stop", STEPS)


def test_json_lines_of_a_resumed_run_hold_each_epoch_once(tmp_path: Path) -> None:
    fit(dt.callbacks.JSONLines(tmp_path / "whole"))
    path, folder = tmp_path / "log", tmp_path / "run"
    fit(dt.callbacks.JSONLines(path), epochs=2, checkpoint=folder)
    with open(path, "a") as file:
        file.write('{"epoch": 2, "loss": 9}\n{"epoch": 3, "lo')  # of a process that was killed before its next checkpoint
    fit(dt.callbacks.JSONLines(path), checkpoint=folder, resume=True)
    rows = lines(path)
    assert values(rows) == values(lines(tmp_path / "whole"))
    assert [row["kind"] for row in rows if "event" in row] == ["resume"]


def test_json_lines_that_are_lost_come_from_the_history(tmp_path: Path) -> None:
    fit(epochs=2, checkpoint=tmp_path / "run")
    history = fit(dt.callbacks.JSONLines(tmp_path / "log"), checkpoint=tmp_path / "run", resume=True)
    assert [row["loss"] for row in values(lines(tmp_path / "log"))] == history.history["loss"]


def test_another_run_begins_the_json_lines_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("no JSON\n")
    fit(dt.callbacks.JSONLines(path))
    fit(dt.callbacks.JSONLines(path), epochs=1)
    assert [row["epoch"] for row in values(lines(path))] == [0]


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    def not_a_number(predicted: Any, target: Any) -> Any:
        return np.mean(predicted) * np.nan

    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", metrics=[not_a_number], engine="inline", shards=1)
    fit(dt.callbacks.JSONLines(tmp_path / "log"), trainer=trainer, epochs=1)
    assert lines(tmp_path / "log")[0]["not_a_number"] is None


KILLED = """
import os, sys
import numpy as np, dagtrain as dt
trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", engine="inline", shards=1)
kill = dt.callbacks.LambdaCallback(on_epoch_begin=lambda epoch: epoch == 2 and os.kill(os.getpid(), 9))
logs = [dt.callbacks.JSONLines(sys.argv[1])]
trainer.fit(np.eye(8), np.arange(8) % 2, epochs=9, callbacks=[*logs, kill], verbose=0)
"""


@pytest.mark.fault
@pytest.mark.slow
def test_a_killed_process_leaves_the_lines_of_its_epochs(tmp_path: Path) -> None:
    path = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    assert [row["epoch"] for row in lines(path)] == [0, 1]


def test_csv_has_empty_places_where_nothing_was_measured(tmp_path: Path) -> None:
    trainer = new()
    fit(trainer=trainer, epochs=1, checkpoint=tmp_path / "run")
    logger = dt.callbacks.CSVLogger(tmp_path / "log.csv")
    fit(logger, epochs=2, checkpoint=tmp_path / "run", resume=True, validation_data=(X, Y))
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert rows[0]["val_loss"] == ""
    assert float(rows[1]["val_loss"]) > 0


# ---- TensorBoard


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package imports torch where it is installed, which takes seconds."""
    monkeypatch.setitem(sys.modules, "torch", sys.modules.get("torch"))


class Points(NamedTuple):
    """What a reader shows: tag → points by step, and the texts."""

    scalars: dict[str, dict[int, float]]
    texts: str


def read_events(folder: Path) -> Points:
    """Read the event files in their order, as TensorBoard does: the start of a session hides the points from its step on."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.record_writer import masked_crc32c

    points = Points({}, "")
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            record, checksum, data = data[12 : 12 + size], data[12 + size : 16 + size], data[16 + size :]
            assert struct.unpack("<I", checksum) == (masked_crc32c(record),)
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                for steps in points.scalars.values():
                    for step in [s for s in steps if s >= event.step]:
                        del steps[step]
            for value in event.summary.value:
                if value.tag.startswith("configuration"):
                    points = points._replace(texts=points.texts + value.tensor.string_val[0].decode())
                    continue
                steps = points.scalars.setdefault(value.tag, {})
                assert event.step not in steps, "no point is doubled"
                steps[event.step] = value.simple_value
    return points


def test_tensorboard_has_the_epochs_at_their_updates(without_torch: None, tmp_path: Path) -> None:
    history = fit(dt.callbacks.TensorBoard(tmp_path), validation_data=(X, Y))
    points = read_events(tmp_path)
    for name, column in history.history.items():
        assert points.scalars[f"epoch/{name}"] == pytest.approx(dict(zip((4, 8, 12), column, strict=True)), rel=1e-6)
    schedule = dt.optim.schedules.cosine(0.1, 12)
    assert points.scalars["epoch/learning_rate"] == pytest.approx({step: float(schedule(step - 1)) for step in (4, 8, 12)}, rel=1e-6)
    assert "| optimizer | `adam(learning_rate=cosine(initial=0.1, steps=12" in points.texts
    assert "| batch_size | `2` |" in points.texts


def test_tensorboard_of_a_resumed_run_has_each_point_once(without_torch: None, tmp_path: Path) -> None:
    fit(dt.callbacks.TensorBoard(tmp_path / "whole", steps=True))
    log, run = dt.callbacks.TensorBoard(tmp_path / "log", steps=True), tmp_path / "run"
    fit(log, epochs=2)
    fit(Stop(), checkpoint=run)  # the last checkpoint of a process that was killed after its second epoch
    fit(log, checkpoint=run, resume=True)
    assert {path.suffix for path in (tmp_path / "log").iterdir()} == {".0", ".7"}, "the first file is not replaced within its second"
    whole, resumed = (read_events(tmp_path / name).scalars for name in ("whole", "log"))
    assert list(whole["step/loss"]) == list(range(1, 13))
    for tag in ("step/loss", "step/accuracy", "epoch/loss", "epoch/accuracy", "epoch/learning_rate"):
        assert resumed[tag] == whole[tag]


# ---- MLflow


class Run(NamedTuple):
    """A run of the fake; its id stands where MLflow has it."""

    info: Any
    name: str | None
    params: dict[str, str]
    metrics: dict[str, list[tuple[int, float]]]
    status: list[str]


class FakeClient:
    """The methods of `mlflow.MlflowClient` that are used, with MLflow's signatures."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs, self.experiments = runs, {"Default": "0"}

    def __call__(self, tracking_uri: str | None = None) -> FakeClient:
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        return types.SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, experiment_id: str, run_name: str | None = None) -> Run:
        self.runs.append(Run(types.SimpleNamespace(run_id=str(len(self.runs)), experiment_id=experiment_id), run_name, {}, {}, ["RUNNING"]))
        return self.runs[-1]

    def search_runs(self, experiment_ids: list[str], filter_string: str, max_results: int, order_by: list[str]) -> list[Run]:
        name = filter_string.removeprefix("attributes.run_name = '").removesuffix("'")
        return [run for run in reversed(self.runs) if run.name == name and run.info.experiment_id in experiment_ids][:max_results]

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        run = self.runs[int(run_id)]
        run.params.update({param.key: param.value for param in params})
        for metric in metrics:
            run.metrics.setdefault(metric.key, []).append((metric.step, metric.value))

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[int(run_id)].status.append(status)

    set_terminated = update_run


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small package in the place of MLflow."""
    package: Any = types.ModuleType("mlflow")
    package.runs = []
    package.MlflowClient = FakeClient(package.runs)
    package.active_run = lambda: None
    record = types.SimpleNamespace
    package.entities = record(
        Param=lambda key, value: record(key=key, value=value),
        Metric=lambda key, value, timestamp, step: record(key=key, value=value, timestamp=timestamp, step=step),
    )
    monkeypatch.setitem(sys.modules, "mlflow", package)
    return package


def test_mlflow_has_parameters_and_values(mlflow: Any) -> None:
    history = fit(dt.callbacks.MLflow("a", experiment="digits"))
    (run,) = mlflow.runs
    assert run.info.experiment_id == "1"
    assert run.params["batch_size"] == "2"
    assert run.params["loss"] == "cross_entropy"
    assert run.metrics["loss"] == list(zip((4, 8, 12), history.history["loss"], strict=True))
    assert [step for step, _ in run.metrics["learning_rate"]] == [4, 8, 12]
    assert run.status == ["RUNNING", "FINISHED"]


def test_a_cost_function_is_logged_by_its_name(mlflow: Any) -> None:
    def cost(parameters: Any, x: Any) -> Any:
        return np.mean((x @ parameters["w"]) ** 2)

    dt.Trainer(cost, parameters={"w": np.ones(8, "f4")}).fit(X, verbose=0, callbacks=[dt.callbacks.MLflow()])
    assert mlflow.runs[0].params["model"].endswith("<locals>.cost")


def test_a_resumed_run_continues_the_last_run_of_its_name(mlflow: Any, tmp_path: Path) -> None:
    fit(dt.callbacks.MLflow("a"), epochs=1)
    with pytest.raises(ZeroDivisionError):
        fit(dt.callbacks.MLflow("a"), Fail(), checkpoint=tmp_path)
    fit(dt.callbacks.MLflow("b"), epochs=1)
    fit(dt.callbacks.MLflow("a"), checkpoint=tmp_path, resume=True)
    assert [[step for step, _ in run.metrics["loss"]] for run in mlflow.runs] == [[4], [4, 8, 12], [4]]
    assert mlflow.runs[1].status == ["RUNNING", "RUNNING", "FINISHED"]


def test_an_active_run_is_used_and_not_ended(mlflow: Any) -> None:
    run = mlflow.MlflowClient().create_run("0")
    mlflow.active_run = lambda: run
    fit(dt.callbacks.MLflow())
    assert len(mlflow.runs) == 1
    assert len(run.metrics["loss"]) == 3
    assert run.status == ["RUNNING"]


def test_a_name_that_a_query_cannot_hold_is_refused() -> None:
    with pytest.raises(ArgumentError, match="quotation mark"):
        dt.callbacks.MLflow("a' OR 'b")


@pytest.mark.parametrize(
    ("log", "package", "command"),
    [
        (lambda: dt.callbacks.TensorBoard("here"), "tensorboardX", 'pip install "dagtrain[tensorboard]"'),
        (dt.callbacks.MLflow, "mlflow", "pip install mlflow"),
    ],
    ids=["tensorboard", "mlflow"],
)
def test_an_absent_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, log: Any, package: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError) as error:
        fit(log())
    assert command in str(error.value)
    assert package in str(error.value)
    assert not os.path.exists("here")


# ---- the learning rate


def unscaled(context: Any, gradient: Any, parameters: Any, slots: Any) -> Any:
    return -gradient, slots


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [
        (dt.optim.sgd(0.5), 0.25),
        (dt.optim.chain(dt.optim.clip_by_global_norm(1.0), dt.optim.adamw(0.1, weight_decay=0.01)), 0.05),
        (
            dt.optim.Optimizer("own", (), lambda context, gradient, parameters, slots: (-gradient * context.learning_rate_scale, slots)),
            None,
        ),
    ],
    ids=["plain", "chain", "own"],
)
def test_the_learning_rate_is_found_and_scaled(optimizer: Any, rate: float | None) -> None:
    trainer = new(optimizer)
    fit(*[dt.callbacks.LearningRateScheduler(lambda epoch: rate or 0.0)] * (rate is not None), trainer=trainer, epochs=1)
    assert learning_rate(trainer) == ({} if rate is None else {"learning_rate": rate})
