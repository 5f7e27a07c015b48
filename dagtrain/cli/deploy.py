"""`dagtrain certs`: certificates for a cluster that encrypts."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["certs"]


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
