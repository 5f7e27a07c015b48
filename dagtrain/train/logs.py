"""Callbacks that log a run: to files of values or JSON, to TensorBoard, to MLflow.

    on_train_begin   continue the log of a resumed run without the epochs that will be repeated; begin any other anew
    on_epoch_end     loss, metrics and times ──▶ a line, or a point at the number of updates made

Optional packages are imported when training begins.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from dagtrain.errors import ArgumentError, MissingDependencyError
from dagtrain.optim.optimizer import rate_at
from dagtrain.report.records import Event
from dagtrain.train.callback import Callback, Logs
from dagtrain.train.history import History, epochs_of
from dagtrain.train.stopping import INTERRUPTED, TERMINATED

__all__ = ["CSVLogger", "JSONLines", "MLflow", "TensorBoard"]

LONGEST_PARAMETER = 500
"""Most characters of a parameter in MLflow's older versions."""


class CSVLogger(Callback):
    """Write the history to a file of comma-separated values, a line an epoch.

    The file holds the whole history, also that before a resume, and is replaced as a whole, so it is never half written.

    Parameters
    ----------
    path
        The file.
    separator
        Separator between values.
    """

    def __init__(self, path: str | os.PathLike[str], separator: str = ",") -> None:
        self.path, self.separator = os.fspath(path), separator

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Replace the file."""
        history, text = self.trainer.history, io.StringIO()
        lines = csv.DictWriter(text, ["epoch", *history.history], "", delimiter=self.separator, lineterminator="\n")
        lines.writeheader()
        lines.writerows(epochs_of(history))
        replace_file(self.path, text.getvalue())


class JSONLines(Callback):
    """Append a line of JSON to a file for each epoch and each event.

    A line is ``{"epoch": 0, "loss": 0.31, ...}``, or ``{"event": "a worker was lost", "kind": "repeated", "step": 40, "seconds": 1.25,
    "workers": ["tcp://…"]}``; NaN and infinity are null. If the process is killed, at most the last line is incomplete. A resumed run keeps
    the events and the epochs before its checkpoint; any other begins the file anew.

    Parameters
    ----------
    path
        The file.

    Examples
    --------
    >>> import dagtrain as dt, json, numpy as np, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy")
    >>> _ = trainer.fit(np.eye(4), np.array([0, 1, 0, 1]), epochs=2, callbacks=[JSONLines(path)], verbose=0)
    >>> [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
    [0, 1]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._events = 0

    def on_train_begin(self) -> None:
        """Remove the epochs that will be repeated, and a line that was not finished."""
        history, lines = self.trainer.history, []
        self._events = 0
        if is_resumed(history):
            written: set[Any] = set()
            for line in read_lines(self.path):
                epoch = line.get("epoch")
                if epoch is None or (epoch < history.epochs and epoch not in written):
                    lines.append(line)
                    written.add(epoch)
            lines += [line for line in epochs_of(history) if line["epoch"] not in written]
        replace_file(self.path, json_lines(lines))
        self._append([])

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Append the epoch."""
        self._append([{"epoch": epoch, **logs}])

    def on_train_end(self) -> None:
        """Append the last events."""
        self._append([])

    def _append(self, lines: list[Mapping[str, Any]]) -> None:
        events: list[Event] = self.trainer.history.events[self._events :]
        self._events += len(events)
        lines_of_events = [
            {"event": e.text, "kind": e.kind, "step": e.step, "seconds": e.seconds, "workers": list(e.workers)} for e in events
        ]
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json_lines([*lines_of_events, *lines]))


class TensorBoard(Callback):
    """Write loss, metrics and learning rate of each epoch as TensorBoard's event files; needs the package ``tensorboardX``.

    The horizontal axis is the number of updates made. A resumed run hides the points after its checkpoint, which it repeats.

    Parameters
    ----------
    folder
        Folder of this run; those of several runs in one folder are compared by ``tensorboard --logdir``.
    steps
        Whether to write loss and metrics of each step, too.
    """

    def __init__(self, folder: str | os.PathLike[str], steps: bool = False) -> None:
        self.folder, self.steps = os.fspath(folder), steps
        self._writer: Any = None
        self._start = 0

    def on_train_begin(self) -> None:
        """Open a new file, and write the configuration."""
        self.on_train_end()  # of a fit that ended by an error
        package = imported("tensorboardX", "TensorBoard", 'pip install "dagtrain[tensorboard]"')
        done = self.trainer.state.step
        # The package names a file by the second alone: a fit that resumes in the same second would replace the file.
        self._writer = package.SummaryWriter(self.folder, purge_step=done + 1, filename_suffix=f".{done}")
        rows = [f"| {name} | `{value}` |" for name, value in configuration(self.trainer).items()]
        self._writer.add_text("configuration", "\n".join(["| setting | value |", "|---|---|", *rows]), done)

    def on_epoch_begin(self, epoch: int) -> None:
        """Note the number of updates before the epoch."""
        self._start = self.trainer.state.step - self.trainer.progress.place[1]

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Write the points of the step."""
        if self.steps:
            self._write("step", logs, self._start + batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the points of the epoch."""
        self._write("epoch", {**logs, **learning_rate(self.trainer)}, self.trainer.state.step)
        self._writer.flush()

    def on_train_end(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, group: str, logs: Logs, updates: int) -> None:
        for name, value in logs.items():
            self._writer.add_scalar(f"{group}/{name}", value, updates)


class MLflow(Callback):
    """Log parameters, and loss, metrics and learning rate of each epoch, to MLflow; needs the package ``mlflow``.

    Within ``with mlflow.start_run():`` it logs to that run, which it does not end. Otherwise it makes a run; a resumed training continues
    the last run with its name. The step of a value is the number of updates made.

    Parameters
    ----------
    name
        Name of the run.
    experiment
        Name of the experiment; made if it does not exist.
    tracking_uri
        Address of the tracking server; by default that of the environment.
    """

    def __init__(self, name: str | None = None, experiment: str = "Default", tracking_uri: str | None = None) -> None:
        if name is not None and "'" in name:
            raise ArgumentError(f"MLflow: the name of a run holds no quotation mark, got {name!r}.")
        self.name, self.experiment, self.tracking_uri = name, experiment, tracking_uri
        self._package: Any = None
        self._client: Any = None
        self._run = ""
        self._ends = True

    def on_train_begin(self) -> None:
        """Find or make the run, and log its parameters."""
        self._package = imported("mlflow", "MLflow", "pip install mlflow")
        self._client = self._package.MlflowClient(self.tracking_uri)
        active = self._package.active_run()
        self._ends = active is None
        before = None if active else self._run_before()
        if before is not None:
            self._run = before.info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = (active or self._client.create_run(self._experiment_id(), run_name=self.name)).info.run_id
        settings = configuration(self.trainer).items()
        self._client.log_batch(self._run, params=[self._package.entities.Param(k, v[:LONGEST_PARAMETER]) for k, v in settings])

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Log the values."""
        values = {**logs, **learning_rate(self.trainer)}
        now, step = int(time.time() * 1000), self.trainer.state.step
        metric = self._package.entities.Metric
        self._client.log_batch(self._run, metrics=[metric(name, value, now, step) for name, value in values.items()])

    def on_train_end(self) -> None:
        """End the run."""
        if self._ends:
            stopped = self.trainer.history.stopped in (INTERRUPTED, TERMINATED)
            self._client.set_terminated(self._run, "KILLED" if stopped else "FINISHED")

    def _experiment_id(self) -> str:
        experiment = self._client.get_experiment_by_name(self.experiment)
        return str(self._client.create_experiment(self.experiment) if experiment is None else experiment.experiment_id)

    def _run_before(self) -> Any:
        """The last run with the name, if training is resumed; else None."""
        if self.name is None or not is_resumed(self.trainer.history):
            return None
        query = f"attributes.run_name = '{self.name}'"
        runs = self._client.search_runs([self._experiment_id()], query, max_results=1, order_by=["attributes.start_time DESC"])
        return next(iter(runs), None)


# ---- what they log


def imported(package: str, callback: str, command: str) -> Any:
    """An optional package."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(f"the callback {callback} needs {package}. Install it with: {command}") from error


def is_resumed(history: History) -> bool:
    """Whether a history continues that of an earlier fit."""
    return history.epochs > 0 or any(event.kind == "resume" for event in history.events)


def learning_rate(trainer: Any) -> dict[str, float]:
    """The learning rate of the last update, with its name, and with that of its group; nothing if the optimiser has none."""
    state, values = trainer.state, {}
    for group in trainer.program.groups:
        if (rate := group.optimizer.learning_rate) is not None:
            updates = (state.step - state.starts.get(group.name, 0)) // group.optimizer.period
            values[f"learning_rate {group.name}".strip()] = float(rate_at(rate, max(updates - 1, 0))) * state.learning_rate_scale
    return values


def configuration(trainer: Any) -> dict[str, str]:
    """The settings of a run, as text."""
    objective, (_, batches) = trainer._objective, trainer._sample
    settings = {
        "model": getattr(trainer.model, "__qualname__", trainer.model),  # of a cost function, whose text is its place in memory
        **({"loss": ", ".join(loss.name for loss in objective.losses)} if hasattr(objective, "losses") else {}),
        "optimizer": trainer.optimizer,
        "batch_size": batches.batch_size,
        **trainer.history.info,
    }
    return {name: str(value) for name, value in settings.items()}


# ---- files


def replace_file(path: str, text: str) -> None:
    """Write a file as a whole."""
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.part", path)


def json_lines(lines: Iterable[Mapping[str, Any]]) -> str:
    """Each as a line of JSON, in which null stands for numbers that JSON does not have."""
    texts = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()} for line in lines]
    return "".join(f"{json.dumps(text, ensure_ascii=False)}\n" for text in texts)


def read_lines(path: str) -> list[dict[str, Any]]:
    """The lines of a file that hold a JSON object; none if there is no file."""
    lines = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            texts = file.read().splitlines()
    except FileNotFoundError:
        return []
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:  # not finished, since the process was killed
            continue
        if isinstance(line, dict) and isinstance(line.get("epoch"), int | None):
            lines.append(line)
    return lines
