"""The run of `dagtrain train digits`: data, cluster, training, pictures, result."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dagtrain.checkpoint.runs import place_text
from dagtrain.cli.cluster import connected
from dagtrain.data import Split, load_digits
from dagtrain.engines.client import workers_of
from dagtrain.errors import ArgumentError, MissingDependencyError
from dagtrain.graph import Graph
from dagtrain.report.table import plural
from dagtrain.train.stopping import TERMINATED, TERMINATED_STATUS

__all__ = ["Settings", "run"]

LEARNING_RATE = 2e-2


@dataclass(frozen=True)
class Settings:
    """The options of the command, and the line that resumes its run."""

    engine: str = "auto"
    workers: int | None = None
    scheduler: str | None = None
    security: Any = None
    epochs: int = 30
    batch_size: int = 192
    shards: int = 8
    seed: int = 0
    output: Path = Path("runs/digits")
    checkpoint: str | None = None
    resume: bool = False
    line: str = ""
    no_pictures: bool = False


def run(settings: Settings, as_json: bool = False) -> None:
    """Train, and print the result as text or as one JSON object."""
    if not as_json:
        train(settings)
        return
    with only_stderr():
        result = train(settings)
    click.echo(json.dumps(result))


def train(settings: Settings) -> dict[str, Any]:
    """Train the network and draw it; return the numbers that ``--json`` prints."""
    import dagtrain as dt

    if settings.resume and settings.checkpoint is None:
        raise ArgumentError("--resume continues from the checkpoints in a folder: add --checkpoint FOLDER.")
    if not settings.no_pictures:
        make_folder(settings.output)
    with connected(settings.workers, settings.scheduler, settings.engine, settings.security) as client:
        data = load_digits() if client is None else spread(load_digits(), client)
        model = dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dense(10)])
        steps = settings.epochs * -(-len(data.x) // settings.batch_size)
        trainer = dt.Trainer(
            model,
            loss="cross_entropy",
            optimizer=dt.optim.adam(dt.optim.schedules.cosine(LEARNING_RATE, steps)),
            metrics=["accuracy"],
            shards=settings.shards,
            seed=settings.seed,
            engine=settings.engine,
            client=client,
        )
        began = time.perf_counter()
        history = trainer.fit(
            data.x,
            data.y,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            validation_data=(data.x_validation, data.y_validation),
            checkpoint=settings.checkpoint,
            resume=settings.resume,
        )
        if history.stopped:
            if history.stopped == TERMINATED:  # job systems send it again, to the whole group; the command ends in any case
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            tell_stopped(trainer, settings)
            raise SystemExit(TERMINATED_STATUS) if history.stopped == TERMINATED else KeyboardInterrupt
        seconds = time.perf_counter() - began
        if any(event.kind == "resume" and event.step == steps for event in history.events):
            click.echo(f"the run was finished before, with {plural(settings.epochs, 'epoch')}: nothing was left to train")
        held_out = len(data.x_validation)
        right = round(history.history["val_accuracy"][-1] * held_out)
        click.echo(f"held-out accuracy {right / held_out:.2%}: {right} of {held_out} digits")
        if not settings.no_pictures:
            draw(trainer, model, data.x, settings.output)
    return {
        "accuracy": right / held_out,
        "loss": history.history["val_loss"][-1],
        "fingerprint": history.fingerprint,
        "engine": history.info["engine"],
        "workers": history.info["workers"] or 0,
        "shards": history.info["shards"],
        "epochs": history.epochs,
        "seconds": seconds,
        "samples_per_second": len(data.x) * history.epochs / sum(history.history["seconds"]),
    }


def tell_stopped(trainer: Any, settings: Settings) -> None:
    """Print the accuracy of the steps that are done, computed in this process, and the line that resumes the run."""
    if trainer.progress.state is not None:
        data = load_digits()
        right, held_out = int((trainer.predict(data.x_validation).argmax(axis=1) == data.y_validation).sum()), len(data.x_validation)
        click.echo(f"held-out accuracy {right / held_out:.2%} after {place_text(trainer.progress.place)}: {right} of {held_out} digits")
    if settings.checkpoint is None:
        click.echo("Nothing was saved: add --checkpoint FOLDER to save a stopped run.", err=True)
    else:
        click.echo(f"Continue with: {settings.line}", err=True)


def spread(data: Split, client: Any) -> Split:
    """The data as dask arrays with one partition for each worker."""
    import dask.array as da

    workers = max(1, len(workers_of(client)))
    arrays = [da.from_array(part, chunks=(-(-len(part) // workers), *part.shape[1:])) for part in data]
    return data._replace(**dict(zip(data._fields, arrays, strict=True)))


def make_folder(folder: Path) -> None:
    """Make the output folder before training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"the folder {folder} cannot be made: {error.strerror}. Give another one with --output.") from error


def draw(trainer: Any, model: Any, x: Any, folder: Path) -> None:
    """Write the pictures and print their paths; without Graphviz, print that there are none."""
    from dagtrain.draw import draw_network
    from dagtrain.nn.summary import layers_for_drawing

    graph = used_inputs(trainer.graph())
    lanes = trainer.history.info["engine"] == "lanes"

    def placement(path: Path) -> None:
        trainer.placement().visualize(path)

    pictures: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "graph": ("the computational graph of one shard, layer by layer", lambda path: graph.visualize(path, collapse=True)),
        "ops": ("the same, op by op", lambda path: graph.visualize(path, collapse=False)),
        "network": ("the network", lambda path: draw_network(layers_for_drawing(model, x), path)),
        **({"placement": ("the ranks: what each computes and owns, and what they exchange", placement)} if lanes else {}),
        "step": ("the tasks of one training step, with workers and times", lambda path: trainer.step_graph().visualize(path, measure=True)),
    }
    try:
        for name, (what, write) in pictures.items():
            path = folder / f"{name}.svg"
            write(path)
            click.echo(f"{path}: {what}")
    except MissingDependencyError as error:
        click.echo(f"No pictures: {error}", err=True)


def used_inputs(graph: Graph) -> Graph:
    """The graph without unread inputs, such as the random key of a network without dropout."""
    read = {source for node in graph.nodes for source in node.inputs}
    return Graph({name: tensor for name, tensor in graph.inputs.items() if tensor in read}, graph.outputs)


@contextmanager
def only_stderr() -> Iterator[None]:
    """Redirect the standard output of this process and its children to standard error."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
