"""`dagtrain cluster slurm`."""

from __future__ import annotations

from typing import Any

import click

from dagtrain.cli.clusters.start import launch, start_options
from dagtrain.errors import ArgumentError

__all__ = ["slurm"]


@click.command(
    "slurm",
    short_help="In a job of Slurm.",
    context_settings={"allow_interspersed_args": False},
    epilog="Example:  dagtrain cluster slurm --nodes 4 -- dagtrain train digits --scheduler {scheduler} --checkpoint runs/a --resume",
)
@click.option("--nodes", type=click.IntRange(1), default=2, show_default=True, help="Nodes, each with one worker.")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="Processors of a node, and threads of its worker.")
@click.option("--memory", default="2GiB", show_default=True, help="Memory limit of each worker; a node gets 2 GiB more.")
@click.option("--time", default="1:00:00", show_default=True, help="Time limit: minutes, hours:minutes:seconds, or days-hours.")
@click.option("--partition", default="", help="Partition of the nodes.")
@click.option("--account", default="", help="Account that pays.")
@click.option("--interface", default="", help="Network interface of the nodes, such as ib0.")
@click.option("--jobqueue", is_flag=True, help="By dask-jobqueue: the scheduler here, and a job for each worker, which comes when it can.")
@click.option("--setup", multiple=True, metavar="LINE", help="Line of bash before the start, such as 'module load python'; repeatable.")
@click.option("--sbatch", multiple=True, metavar="OPTION", help="Further option of sbatch, such as --sbatch=--qos=high; repeatable.")
@click.option("--signal-seconds", type=int, default=120, show_default=True, help="How long before the limit COMMAND is to stop and save.")
@click.option("--restarts", type=click.IntRange(0), default=20, show_default=True, help="How often the job is queued again to continue.")
@click.option("--tls", is_flag=True, help="Encrypt, with new certificates: no other user of the network can use the cluster.")
@click.option("--wait/--no-wait", default=True, help="Wait until all workers are there, or leave the job in the queue.  [default: wait]")
@start_options("slurm", timeout=600)
@click.argument("program", metavar="[COMMAND]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def slurm(context: click.Context, /, dry_run: bool, jobqueue: bool, **options: Any) -> None:
    """Submit a job with a scheduler, a worker on each node, and COMMAND, which trains there; the job ends with COMMAND.

    {scheduler} in COMMAND stands for the scheduler's address. Near the time limit COMMAND receives SIGTERM, and the job is queued again:
    let COMMAND save and resume, as dagtrain train digits --checkpoint FOLDER --resume does. Without COMMAND the cluster is there for
    programs elsewhere.

    With --jobqueue the cluster is a SLURMCluster of dask-jobqueue: its scheduler runs in the background on this machine.
    """
    from dagtrain.deploy.clusters import Slurm, SlurmJobs

    if not jobqueue:
        launch(Slurm(**options), dry_run)
        return
    for name, option in (("program", "COMMAND"), ("signal_seconds", "--signal-seconds"), ("restarts", "--restarts")):
        if options.pop(name) != () and context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise ArgumentError(f"with --jobqueue no program runs in a job: leave out {option}, and start the program here afterwards.")
    launch(SlurmJobs(**options), dry_run)
