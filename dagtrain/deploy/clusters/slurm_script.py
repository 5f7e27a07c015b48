"""The job script of a cluster on Slurm, as text: a scheduler on the first node, a worker on each, and a program that trains.

    time limit ─ USR1 ─▶ script ─ TERM ─▶ program saves ─▶ scontrol requeue ─▶ the next start continues from its checkpoint
    stop ─────── TERM ─▶ script ─ TERM ─▶ program saves ─▶ the job ends

Slurm itself announces a time limit to all processes at once, and only when it is reached.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["ADDRESS", "FILE", "job_script"]

ADDRESS = "{scheduler}"
"""Stands for the scheduler's address in a program's arguments."""
FILE = "scheduler.json"
"""Where the scheduler's address is once all workers are there."""
JOIN = 120
"""Seconds for scheduler and workers to start: the nodes are there already."""

_SCRIPT = """\
#!/bin/bash
{directives}

# A Dask cluster and a program that trains on it, written by `dagtrain cluster slurm`.

{setup}
set -m # each background process has a process group of its own, and does not ignore Ctrl-C

folder={folder}
say() {{ echo "$(date '+%F %T') job $SLURM_JOB_ID: $*"; }}
fail() {{
    [ -z "$reason" ] || exit 143
    say "$*"
    tail -n 8 "$folder/scheduler.log" "$folder/workers.log"
    exit 1
}}

# Signals stop the program: USR1 near the time limit, TERM from `dagtrain cluster stop` and Slurm.
reason= signals=0 program= scheduler= workers=
stop() {{
    reason=$1 signals=$((signals + 1))
    [ -z "$program" ] || kill -TERM -- "-$program"
}}
trap 'stop limit' USR1
trap 'stop end' TERM
trap '{{ kill -TERM -- "-$workers"; kill -KILL -- "-$scheduler"; }} 2>/dev/null' EXIT

wait_for() {{
    program=$1
    [ -z "$reason" ] || kill -TERM -- "-$program"
    while seen=$signals; wait "$program"; status=$?; [ "$seen" != "$signals" ]; do :; done # a signal ends `wait` early
    program=
    return "$status"
}}
run() {{ "$@" & wait_for $!; }}

rm -f "$folder/starting.json" "$folder/{file}"
# Slurm sends SIGTERM to all processes at once. The scheduler blocks it: without a scheduler the program could not save.
{python} -c 'import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.execv(sys.argv[1], sys.argv[1:])' {scheduler} </dev/null >>"$folder/scheduler.log" 2>&1 &
scheduler=$!
srun --overlap --cpus-per-task={cpus} {worker} </dev/null >>"$folder/workers.log" 2>&1 &
workers=$!

until [ -s "$folder/starting.json" ]; do
    kill -0 "$scheduler" 2>/dev/null || fail "the scheduler has ended"
    [ "$SECONDS" -lt {join} ] || fail "the scheduler did not start within {join} s"
    [ -z "$reason" ] || fail
    sleep 0.2
done
run {python} -c 'import sys
from distributed import Client
with Client(scheduler_file=sys.argv[1]) as client:
    client.wait_for_workers(int(sys.argv[2]), timeout=float(sys.argv[3]))
    print(client.scheduler.address)' "$folder/starting.json" {nodes} {join} >"$folder/address" ||
    fail "not all workers came within {join} s"
DASK_SCHEDULER_ADDRESS=$(cat "$folder/address")
export DASK_SCHEDULER_ADDRESS
mv "$folder/starting.json" "$folder/{file}"
say "start $((${{SLURM_RESTART_COUNT:-0}} + 1)), scheduler at $DASK_SCHEDULER_ADDRESS"

{end}"""

_PROGRAM = """\
run {program}
say "the program ended with status $status"

# A stopped program ends with 143, or with 0 if it ends after `fit` as usual.
if [ "$reason" = limit ] && {{ [ "$status" = 143 ] || [ "$status" = 0 ]; }}; then
    if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {restarts} ]; then
        say "this was start $((SLURM_RESTART_COUNT + 1)), and no further one was granted"
    elif scontrol requeue "$SLURM_JOB_ID"; then
        say "queued again, to continue"
    fi
fi
exit "$status"
"""

_CLUSTER = """\
wait_for "$workers"
exit "$status"
"""


def job_script(
    directives: Iterable[str],
    setup: Sequence[str],
    variables: Mapping[str, str],
    folder: Path,
    python: str,
    scheduler: Sequence[str],
    worker: Sequence[str],
    cpus: int,
    nodes: int,
    program: Sequence[str],
    restarts: int,
) -> str:
    """The text of a job script.

    Parameters
    ----------
    directives
        Options of sbatch.
    setup
        Lines of bash before anything else, such as ``module load python``.
    variables
        Of the environment of all programs.
    folder
        For logs and addresses; all nodes see it.
    python
        The interpreter.
    scheduler, worker
        Their commands; the scheduler writes its address to ``starting.json`` in `folder`.
    cpus
        Of each worker.
    nodes
        Number of workers.
    program
        What trains, with `ADDRESS` for the scheduler's address; empty: the cluster is for programs elsewhere.
    restarts
        How often the job may be queued again.
    """
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    path = f'export PATH={shlex.quote(str(Path(python).parent))}:"$PATH"'
    end = _PROGRAM.format(program=" ".join(map(quoted, program)), restarts=restarts) if program else _CLUSTER
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {directive}" for directive in directives),
        setup="\n".join([*setup, path, *exports]),
        folder=shlex.quote(str(folder)),
        file=FILE,
        python=shlex.quote(python),
        scheduler=shlex.join(scheduler),
        cpus=cpus,
        worker=shlex.join(worker),
        join=JOIN,
        nodes=nodes,
        end=end,
    )


def quoted(word: str) -> str:
    """A word as bash reads it, with the scheduler's address in place of `ADDRESS`.

    Examples
    --------
    >>> print(quoted("$(date) {scheduler}"))
    '$(date) '"$DASK_SCHEDULER_ADDRESS"
    """
    return '"$DASK_SCHEDULER_ADDRESS"'.join(shlex.quote(part) if part else "" for part in word.split(ADDRESS)) or "''"
