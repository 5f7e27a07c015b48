"""`dagtrain cluster ssh`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dagtrain.cli.clusters.start import launch, start_options
from dagtrain.errors import ArgumentError

__all__ = ["ssh"]


@click.command(
    "ssh", short_help="On hosts that you can log in to.", epilog="Example:  dagtrain cluster ssh hosts.txt --user me --nthreads 4"
)
@click.argument("hosts", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--user", help="Who logs in. [this user]")
@click.option("--port", type=click.IntRange(1, 65535), default=22, show_default=True, help="Of the hosts' SSH servers.")
@click.option("--identity", type=click.Path(path_type=Path), metavar="FILE", help="Private key. [those of ~/.ssh and of the agent]")
@click.option("--known-hosts", type=click.Path(path_type=Path), metavar="FILE", help="Keys of hosts. [~/.ssh/known_hosts]")
@click.option("--remote-python", default=sys.executable, metavar="PATH", help="Python with dagtrain on the hosts. [the path of this one]")
@click.option("--scheduler", metavar="HOST", help="Where the scheduler runs. [the first host]")
@click.option("--scheduler-port", type=click.IntRange(1, 65535), default=8786, show_default=True, help="Its port.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Workers of each host.")
@click.option("--nthreads", type=click.IntRange(1), default=1, show_default=True, help="Threads of each worker.")
@click.option("--memory-limit", default="auto", show_default=True, help="Of each worker: 2GiB, or a fraction of its host's; 0 for none.")
@click.option("--certs", type=click.Path(path_type=Path), metavar="FOLDER", help="Encrypt; the same path here and on all hosts.")
@start_options("ssh", timeout=120)
def ssh(hosts: Path, certs: Path | None, dry_run: bool, **options: Any) -> None:
    """Start a scheduler on one host and workers on all, in the background, by `dask ssh`.

    HOSTS is a file with one name or address on each line; a # begins a comment. All hosts are checked before anything starts: their keys,
    the login, the Python there and its dagtrain. ~/.ssh/config is not read, as dask ssh does not read it.
    """
    from dagtrain.deploy.clusters import Ssh
    from dagtrain.deploy.clusters.remote_hosts import parse_hosts

    try:
        text = hosts.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"the list of hosts {hosts} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    launch(Ssh(parse_hosts(text), certificates=certs, **options), dry_run, shown=["hosts"])
