"""`dask ssh` that refuses unknown host keys, and ends its remote processes on SIGTERM.

    python -m dagtrain.deploy.clusters.verified_ssh FILE:FILE… OPTIONS…

The files are lists of known hosts, the options those of `dask ssh`. By itself `dask ssh` accepts every host key (`AutoAddPolicy` in
distributed/deploy/old_ssh.py), and reacts to Ctrl-C alone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["main", "verifying"]


def verifying(files: Sequence[str]) -> Any:
    """A class like `paramiko.SSHClient` that connects to no host whose key is not in these files."""
    import paramiko

    class Client(paramiko.SSHClient):  # type: ignore[misc]  # paramiko has no types
        def __init__(self) -> None:
            super().__init__()
            for file in filter(os.path.exists, files):
                self.load_system_host_keys(file)

        def set_missing_host_key_policy(self, policy: object) -> None:
            super().set_missing_host_key_policy(paramiko.RejectPolicy())

    return Client


def main(arguments: Sequence[str]) -> None:
    """Run `dask ssh`."""
    import paramiko
    from distributed.cli import dask_ssh

    paramiko.SSHClient = verifying(arguments[0].split(":"))
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts this in the background has SIGINT ignored
        signal.signal(number, interrupt)
    dask_ssh.main(arguments[1:], prog_name="dask ssh")


def interrupt(*_: Any) -> None:
    """End as by Ctrl-C; a second signal changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(sys.argv[1:])
