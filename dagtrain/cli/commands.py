"""The group of commands; an error becomes one message and an exit status.

Status 0: done. 2: a user error, that is a `DagtrainError` or a wrong option. 130: Ctrl-C. 143: SIGTERM.
`dagtrain doctor` also ends with 1 (warnings) and 2 (failures).
"""

from __future__ import annotations

from typing import Any

import click

from dagtrain._version import __version__
from dagtrain.cli.cluster import never_lost
from dagtrain.cli.clusters import cluster
from dagtrain.cli.deploy import certs, doctor
from dagtrain.cli.draw import draw_expression
from dagtrain.cli.info import info
from dagtrain.cli.scale import plan_scale
from dagtrain.cli.train import train
from dagtrain.errors import DagtrainError

__all__ = ["main"]

USER_ERROR, INTERRUPTED, TERMINATED = 2, 130, 143


class Commands(click.Group):
    """A group that turns dagtrain's errors and Ctrl-C into a line on standard error."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with never_lost():
                return super().invoke(ctx)
        except DagtrainError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(USER_ERROR)
        except KeyboardInterrupt:
            click.echo("\nStopped by Ctrl-C.", err=True)
            ctx.exit(INTERRUPTED)
        except SystemExit as end:
            if end.code == TERMINATED:
                click.echo("Stopped by SIGTERM.", err=True)
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="dagtrain", message="%(prog)s %(version)s")
def main() -> None:
    """Computational graphs and training on Dask, with pictures of what ran."""


main.add_command(draw_expression)
main.add_command(train)
main.add_command(info)
main.add_command(plan_scale)
main.add_command(certs)
main.add_command(doctor)
main.add_command(cluster)
