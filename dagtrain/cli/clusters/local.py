"""`dagtrain cluster local`."""

from __future__ import annotations

from typing import Any

import click

from dagtrain.cli.clusters.start import launch, start_options

__all__ = ["local"]


@click.command("local", short_help="On this machine.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Worker processes.")
@click.option("--nthreads", type=click.IntRange(1), default=1, show_default=True, help="Threads of each worker.")
@click.option("--memory-limit", default="auto", show_default=True, help="Of each worker: 2GiB, or a fraction of the machine's; 0 for none.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the scheduler. [a free one]")
@click.option("--dashboard-port", type=click.IntRange(0, 65535), default=0, help="Of the dashboard. [a free one]")
@click.option("--tls", is_flag=True, help="Encrypt, with new certificates: no other user of this machine can use the cluster.")
@start_options("local", timeout=120)
def local(dry_run: bool, **options: Any) -> None:
    """Start a scheduler and workers on this machine, in the background. Only programs on this machine can reach them."""
    from dagtrain.deploy.clusters import Local

    launch(Local(**options), dry_run)
