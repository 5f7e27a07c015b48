"""`dagtrain train`: train a network on real data, in this process or on a Dask cluster, and draw what ran."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dagtrain.cli.cluster import encrypted, encryption_options

__all__ = ["train"]


@click.group("train", short_help="Train a network on real data.")
def train() -> None:
    """Train a network on real data."""


@train.command("digits", short_help="Handwritten digits: 97 % held out, in seconds.")
@click.option("--workers", type=click.IntRange(min=1), help="Start a Dask cluster with this number of workers on this machine.")
@click.option("--scheduler", metavar="ADDRESS", help="Use the cluster with this scheduler, such as tcp://10.0.0.1:8786.")
@encryption_options
@click.option(
    "--engine",
    type=click.Choice(["auto", "inline", "lanes", "scheduler"]),
    default="auto",
    show_default=True,
    help="inline: this process, no cluster is started. lanes: a step is placed once on the workers and repeated there. "
    "scheduler: every part of a step is a Dask task. auto: lanes if there is a cluster.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=30, show_default=True, help="How many times every sample is used.")
@click.option("--batch-size", type=click.IntRange(min=1), default=192, show_default=True, help="Samples of one step.")
@click.option("--shards", type=click.IntRange(min=1), default=8, show_default=True, help="Parts of a step; the weights depend on it.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the first weights and the order of samples.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/digits"),
    show_default=True,
    help="Folder for the pictures.",
)
@click.option(
    "--checkpoint", metavar="FOLDER", help="Write a checkpoint after each epoch, and when training is stopped: a folder or s3://…"
)
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint there, with the same options; without one, start.")
@click.option("--no-pictures", is_flag=True, help="Draw nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else; progress goes to standard error.")
@click.pass_context
def digits(context: click.Context, /, workers: int | None, scheduler: str | None, engine: str, as_json: bool, **options: Any) -> None:
    """Train a network of 64, 128 and 10 neurons on scikit-learn's handwritten digits.

    Without --workers and --scheduler it trains in this process. The final weights depend on the seed, the shards, the epochs and the batch
    size, and on nothing else: their fingerprint is the same on any number of workers.

    Ctrl-C and SIGTERM stop training after a step. With --checkpoint FOLDER --resume the same line, run again, continues to the same bits.
    """
    from dagtrain.cli.digits import Settings, run

    security = encrypted(*(options.pop(name) for name in ("certs", "tls_ca_file", "tls_cert", "tls_key")))
    run(Settings(engine=engine, workers=workers, scheduler=scheduler, security=security, line=resuming_line(context), **options), as_json)


def resuming_line(context: click.Context) -> str:
    """The command line of this run, with --resume."""
    words = context.command_path.split()
    for option in context.command.params:
        name = str(option.name)
        if name != "resume" and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            words += [option.opts[0]] if getattr(option, "is_flag", False) else [option.opts[0], str(context.params[name])]
    return shlex.join([*words, "--resume"])
