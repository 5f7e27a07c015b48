"""What the start of every kind of cluster has in common: options, signals, and what is printed."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dagtrain.train.stopping import TERMINATED_STATUS

if TYPE_CHECKING:
    from dagtrain.deploy.clusters import Kind, Started

__all__ = ["launch", "start_options"]


def start_options(kind: str, timeout: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options --name, --timeout and --dry-run."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        seconds = click.FloatRange(0, min_open=True)
        command = click.option("--dry-run", is_flag=True, help="Print what would be done; do nothing.")(command)
        command = click.option(
            "--timeout", type=seconds, default=timeout, show_default=True, help="Seconds until the cluster is to be up."
        )(command)
        return click.option("--name", default=kind, show_default=True, help="Of the cluster, to tell several apart.")(command)

    return add


def launch(kind: Kind, dry_run: bool, shown: Sequence[str] | None = None) -> None:
    """Start a cluster, and print its addresses and the next commands; or print what would be done.

    Of the record's external references those in `shown` are printed, or all.
    """
    if dry_run:
        click.echo(str(kind.plan()))
        return
    with signals_as_exceptions():
        started = kind.start()
    click.echo(summary(started, tuple(started.external) if shown is None else shown))


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """SIGTERM and a closed terminal end the block by an exception, as Ctrl-C does: what was started is ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _: Any) -> None:
        raise SystemExit(TERMINATED_STATUS if number == signal.SIGTERM else 128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, handle) for number in numbers if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def summary(started: Started, shown: Sequence[str]) -> str:
    """The addresses of a cluster and the commands that use it."""
    from dagtrain.deploy.clusters.started import files_of

    program = this_program()
    places = {
        "scheduler": started.scheduler,
        "dashboard": started.dashboard,
        "training": started.dashboard.replace("/status", "/dagtrain") if started.scheduler else "",
        **{name: started.external[name] for name in shown},
        "logs": str(files_of(started.name)),
    }
    commands = {}
    if started.scheduler:
        certificates = ["--certs", started.certificates] if started.certificates else []
        use = ["--scheduler", started.scheduler, *certificates]
        commands = {"train": ["train", "digits", *use], "check": ["doctor", *use]}
    commands["stop"] = ["cluster", "stop", started.name]
    lines = [f"The cluster {started.name} is up." if started.up else f"The cluster {started.name} will be up once its job runs.", ""]
    lines += [f"{name:<10} {value}" for name, value in places.items() if value]
    lines += ["", *(f"{name:<10} {shlex.join([program, *words])}" for name, words in commands.items())]
    return "\n".join(lines)


def this_program() -> str:
    """How a user of this installation calls dagtrain."""
    program = Path(sys.executable).with_name("dagtrain")
    return "dagtrain" if shutil.which("dagtrain") == str(program) or not program.exists() else str(program)
