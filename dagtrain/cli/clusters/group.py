"""The group `dagtrain cluster`, and its commands for what was started."""

from __future__ import annotations

import json

import click

from dagtrain.cli.clusters.compose import compose
from dagtrain.cli.clusters.kubernetes import kubernetes
from dagtrain.cli.clusters.local import local
from dagtrain.cli.clusters.slurm import slurm
from dagtrain.cli.clusters.ssh import ssh

__all__ = ["cluster"]


@click.group("cluster", short_help="Start, list and stop Dask clusters.")
def cluster() -> None:
    """Start a Dask cluster in the background, list what was started, and stop it.

    Each start prints the addresses of the scheduler and its dashboard, and the commands that use them.
    """


@cluster.command("list", short_help="What was started, and whether it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list instead of the table.")
def list_(as_json: bool) -> None:
    """The clusters that this user has started and not stopped."""
    from dagtrain.deploy.clusters import clusters

    rows = clusters()
    if as_json:
        fields = ("kind", "scheduler", "dashboard", "certificates", "external")
        of = [{field: getattr(started, field) for field in fields if started is not None} for _, started, _ in rows]
        click.echo(json.dumps([{"name": name, "state": state, **more} for (name, _, state), more in zip(rows, of, strict=True)]))
        return
    for name, started, state in rows:
        more = "" if started is None else f"  {started.kind}  {started.scheduler or '-'}  {started.dashboard or '-'}"
        click.echo(f"{name}{more}  {state}")
    if not rows:
        click.echo("No cluster was started.", err=True)


@cluster.command("stop", short_help="Stop what was started under a name.")
@click.argument("name", required=False)
def stop(name: str | None) -> None:
    """End all that was started under NAME, which can be left out if there is only one."""
    from dagtrain.deploy.clusters import stop
    from dagtrain.deploy.clusters.started import names
    from dagtrain.errors import ArgumentError

    if name is None:
        known = names()
        if len(known) != 1:
            raise ArgumentError(f"which one? Started were: {', '.join(known)}." if known else "no cluster was started: nothing to stop.")
        name = known[0]
    running = stop(name)
    click.echo(f"{name}: stopped." if running else f"{name}: nothing ran any more.")


cluster.add_command(local)
cluster.add_command(kubernetes)
cluster.add_command(slurm)
cluster.add_command(ssh)
cluster.add_command(compose)
