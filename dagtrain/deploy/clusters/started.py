"""The record of a started cluster: a JSON file of its name, from which any later command lists it and stops it.

    $XDG_STATE_HOME/dagtrain/clusters/NAME.json     the record, written anew as each thing starts
                                     /NAME/         its logs and files; they stay until the name is used again

Without $XDG_STATE_HOME it is ~/.local/state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagtrain.deploy.clusters.processes import Process
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["Started", "check_name", "files_of", "load", "make_state_folder", "names", "record_of"]


@dataclass(frozen=True)
class Started:
    """What was started under a name.

    Attributes
    ----------
    name
        The cluster's name.
    kind
        How it was started, such as "local".
    host
        Name of the host whose processes are listed.
    launcher
        The process that starts it.
    up
        Whether it was started to the end.
    scheduler
        Address of the scheduler; empty before it is known, and where none can be reached from here.
    dashboard
        Address of the dashboard in a browser.
    certificates
        The folder for ``dagtrain … --certs FOLDER``; empty without TLS.
    processes
        What runs on the host, in the order of the starts.
    external
        What runs elsewhere: a job's number, a project's name, a file of manifests.
    """

    name: str
    kind: str
    host: str = field(default_factory=socket.gethostname)
    launcher: Process = field(default_factory=lambda: Process.of(os.getpid()))
    up: bool = False
    scheduler: str = ""
    dashboard: str = ""
    certificates: str = ""
    processes: tuple[Process, ...] = ()
    external: Mapping[str, str] = field(default_factory=dict)

    def write(self, new: bool = False) -> None:
        """Write the record; `new` demands that there is none of this name.

        Raises
        ------
        FileExistsError
            If there is one.
        """
        path = record_of(self.name)
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        complete = path.with_suffix(f".{os.getpid()}")  # a reader sees the old record or the new one
        try:
            with os.fdopen(os.open(complete, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            if new:
                os.link(complete, path)
            else:
                os.replace(complete, path)
        finally:
            complete.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete the record; logs stay."""
        record_of(self.name).unlink(missing_ok=True)


def state_folder() -> Path:
    """Where records and logs are; the folder may not exist.

    Raises
    ------
    ArgumentError
        If the user has no home.
    """
    setting = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(setting) if os.path.isabs(setting) else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise ArgumentError("this user has no home for the records of clusters: set XDG_STATE_HOME to the path of a folder.") from error
    return base / "dagtrain" / "clusters"


def make_state_folder() -> None:
    """Make it if it is absent.

    Raises
    ------
    ArgumentError
        If it cannot be written.
    """
    folder = state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ArgumentError(
            f"the records of clusters cannot be written to {folder}: {error.strerror}. Set XDG_STATE_HOME to a folder of your own."
        ) from error


def check_name(name: str) -> str:
    """The name, if it can name files, jobs and containers."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise ArgumentError(f"a cluster's name has small letters, digits and hyphens between them, at most 40; got {name!r}.")
    return name


def record_of(name: str) -> Path:
    """The file of a record."""
    return state_folder() / f"{check_name(name)}.json"


def files_of(name: str) -> Path:
    """The folder of a cluster's logs and files; it may not exist."""
    return state_folder() / check_name(name)


def new_files_of(name: str) -> Path:
    """The same, empty."""
    folder = files_of(name)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder


def names() -> list[str]:
    """The names of all records."""
    return sorted(path.stem for path in state_folder().glob("*.json"))


def load(name: str) -> Started:
    """Read and check a record.

    Raises
    ------
    ArgumentError
        If there is none of this name.
    ClusterError
        If it is damaged.
    """
    path = record_of(name)
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        known = ", ".join(names()) or "none"
        raise ArgumentError(f"no cluster {name!r} was started by this user on this machine. Known: {known}.") from None
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    try:
        started = _checked(value)
        if started.name != name:
            raise ValueError(f"it is the record of {started.name!r}")
    except (TypeError, ValueError, KeyError) as error:
        raise damaged(path, error) from error
    return started


def _checked(value: Any) -> Started:
    types = {"name": str, "kind": str, "host": str, "up": bool, "scheduler": str, "dashboard": str, "certificates": str, "external": dict}
    for key, type_ in types.items():
        if not isinstance(value[key], type_):
            raise TypeError(f"{key} is {value[key]!r}")
    if not all(isinstance(word, str) for word in value["external"].values()):
        raise TypeError(f"external is {value['external']!r}")
    processes = [_process(entry) for entry in (value["launcher"], *value["processes"])]
    return Started(**{**{key: value[key] for key in types}, "launcher": processes[0], "processes": tuple(processes[1:])})


def _process(value: Any) -> Process:
    pid, start = value
    if not isinstance(pid, int) or pid < 1 or not isinstance(start, str):
        raise TypeError(f"a process is {value!r}")
    return Process(pid, start)


def damaged(path: Path, error: Exception) -> ClusterError:
    """The error for a record that cannot be used."""
    return ClusterError(f"the record {path} is damaged ({type(error).__name__}: {error}): end what it names by hand, then delete it.")
