"""`dagtrain certs`: certificates for a cluster that encrypts. `dagtrain doctor`: an examination of this machine and a cluster."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import click

from dagtrain.cli.cluster import connect, encrypted, encryption_options
from dagtrain.errors import ClusterError

__all__ = ["certs", "doctor"]


@click.command(
    "certs", short_help="Certificates for a cluster that encrypts.", epilog="Example:  dagtrain certs certs --hosts 10.0.0.1,node7"
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--hosts", default="", metavar="NAMES", help="Names and addresses of the cluster's hosts, with commas between.")
@click.option("--days", type=click.IntRange(1), default=365, show_default=True, help="How long the certificates are valid.")
def certs(folder: Path, hosts: str, days: int) -> None:
    """Make an authority, and certificates for scheduler, workers and clients, in FOLDER; print the commands that use them.

    Existing files are never overwritten. Every host of the cluster needs the files of its role and ca.pem.
    """
    from dagtrain.deploy.certificates import command_lines, make_certificates

    for path in make_certificates(folder, [host.strip() for host in hosts.split(",") if host.strip()], days):
        click.echo(str(path))
    click.echo(f"\nValid for {days} days. Keep the keys secret: each lets its owner run any code on the cluster.\n")
    for line in command_lines(folder):
        click.echo(f"    {line}")


@click.command("doctor", short_help="Check this machine and a cluster.")
@click.option("--scheduler", metavar="ADDRESS", help="Check the cluster with this scheduler too, such as tcp://10.0.0.1:8786.")
@encryption_options
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Where a fit will write its checkpoints.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=8.0, show_default=True, help="Seconds for an answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the report.")
@click.pass_context
def doctor(
    ctx: click.Context, /, scheduler: str | None, certs: Path | None, checkpoint: Path | None, timeout: float, as_json: bool, **files: Any
) -> None:
    """Check versions, bits, memory, network, lifetimes, security and tools; say what was seen, and what to do.

    Nothing is changed. Exit status 0: all is well. 1: there are warnings (!). 2: something fails (✗).
    """
    from dagtrain.deploy.check import Level, Line
    from dagtrain.deploy.doctor import examine, exit_code, report

    problem = []
    with contextlib.ExitStack() as stack:
        client = None
        if scheduler is not None:
            try:
                client = stack.enter_context(connect(scheduler, encrypted(certs, **files), timeout))
            except ClusterError as error:
                problem = [Line("network", "scheduler", Level.FAILURE, str(error), "")]
        lines = [*problem, *examine(client, checkpoint, certs)]
    code = exit_code(lines)
    click.echo(json.dumps({"exit_code": code, "checks": [line._asdict() for line in lines]}) if as_json else report(lines))
    ctx.exit(code)
