"""`dagtrain cluster kubernetes`."""

from __future__ import annotations

from typing import Any

import click

from dagtrain.cli.clusters.start import launch, start_options

__all__ = ["kubernetes"]


@click.command("kubernetes", short_help="On Kubernetes, by kubectl.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Worker pods.")
@click.option("--nthreads", type=click.IntRange(1), default=1, show_default=True, help="Threads of each worker.")
@click.option("--memory-limit", default="2GiB", show_default=True, help="Of each worker; its container gets a quarter more.")
@click.option("--image", default="dagtrain:local", show_default=True, help="Of all pods, with dagtrain in it.")
@click.option("--namespace", default="default", show_default=True, help="An existing one.")
@click.option("--context", default="", help="Of kubectl's settings. [the current one]")
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True, help="Of the job that trains the digits.")
@click.option("--claim", default="", metavar="NAME", help="A PersistentVolumeClaim for the job's checkpoint. [none: its pod holds it]")
@click.option("--tls-secret", default="", metavar="NAME", help="Encrypt, by a secret with the files of `dagtrain certs`.")
@click.option("--operator", is_flag=True, help="Let Dask's operator make the cluster, of a DaskCluster.")
@start_options("kubernetes", timeout=300)
def kubernetes(dry_run: bool, **options: Any) -> None:
    """Start a scheduler and workers on Kubernetes, and a job that trains the digits there.

    --dry-run prints the manifests.
    """
    from dagtrain.deploy.clusters import Kubernetes

    launch(Kubernetes(**options), dry_run)
