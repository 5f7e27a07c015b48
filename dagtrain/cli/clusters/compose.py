"""`dagtrain cluster compose`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dagtrain.cli.clusters.start import launch, start_options

__all__ = ["compose"]


@click.command("compose", short_help="In containers on this machine, by Docker Compose.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Worker containers.")
@click.option("--memory-limit", default="1GiB", show_default=True, help="Of each worker; its container gets a quarter more.")
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True, help="Of the trainer of the digits.")
@click.option("--port", type=click.IntRange(1, 65535), default=8786, show_default=True, help="Of the scheduler, on this machine.")
@click.option("--dashboard-port", type=click.IntRange(1, 65535), default=8787, show_default=True, help="Of the dashboard.")
@click.option("--tls", is_flag=True, help="Encrypt, with new certificates.")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("docker-compose.yml"),
    show_default=True,
    help="The project's docker-compose.yml.",
)
@start_options("compose", timeout=900)
def compose(dry_run: bool, **options: Any) -> None:
    """Start a scheduler, workers and a trainer of the digits in containers. Only programs on this machine can reach them."""
    from dagtrain.deploy.clusters import Compose

    launch(Compose(**options), dry_run)
