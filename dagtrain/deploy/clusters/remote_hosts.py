"""What is asked of other hosts by the system's `ssh`: what they lack, before a start, and to end processes, after one.

Each question is a small program for the remote Python, which reads it from its standard input; its answer is one line of JSON.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from dagtrain._version import __version__
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["MARK", "Login", "Unusable", "check_hosts", "end_marked", "parse_hosts"]

MARK = "DAGTRAIN_CLUSTER"
"""The environment variable that marks each process of a cluster on its hosts, its children too."""
CONNECT, ANSWER, LEAVE = 10, 60, 30
"""Seconds for a connection, for an answer of a busy host, and for a process that received SIGTERM."""

LOOK = """
import importlib.metadata, json, os, socket, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
mark, port, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
answer = {"Python": "%d.%d" % sys.version_info[:2], "distributed": version("distributed"), "dagtrain": version("dagtrain")}
answer["absent"] = [file for file in files if not os.access(file, os.R_OK)]
answer["port"] = ""
if port:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            answer["port"] = error.strerror
"""

FIND = """
import json, os, sys, time
try:
    import psutil
except ImportError:
    psutil = None
def marked():
    for process in psutil.process_iter() if psutil else ():
        try:
            if process.uids().real == os.getuid() and process.environ().get(MARK) == sys.argv[1] and process.status() != "zombie":
                yield process
        except psutil.Error:
            pass
"""

LOOK_AND_FIND = f"""{LOOK}
MARK = {MARK!r}
{FIND}
answer["leftover"] = [process.pid for process in marked()]
print("\\n" + json.dumps(answer))
"""

END = f"""
MARK = {MARK!r}
{FIND}
def end(act, seconds):
    until = time.monotonic() + seconds
    for process in marked():
        try:
            act(process)
        except psutil.Error:
            pass
    while (left := [process.pid for process in marked()]) and time.monotonic() < until:
        time.sleep(0.1)
    return left
if end(lambda process: process.terminate(), float(sys.argv[2])):
    end(lambda process: process.kill(), 5)
print("\\n" + json.dumps({{"left": [process.pid for process in marked()]}}))
"""


class Unusable(Exception):  # noqa: N818  # it is caught here, and becomes a sentence of a ClusterError
    """Why a host cannot be used, and the cure."""


class Login(NamedTuple):
    """How to log in to the hosts, as words of the `ssh` command, and their Python."""

    words: tuple[str, ...]
    python: str

    @classmethod
    def of(cls, user: str | None, port: int, identity: Path | None, known_hosts: Path | None, python: str) -> Login:
        """The login of these options. As `dask ssh` does, it ignores ~/.ssh/config, and never asks for a password."""
        words = ["ssh", "-F", "none", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"ConnectTimeout={CONNECT}"]
        if known_hosts:
            words += ["-o", f"UserKnownHostsFile={known_hosts.absolute()}", "-o", "GlobalKnownHostsFile=none"]
        if identity:
            words += ["-o", "IdentitiesOnly=yes", "-i", str(identity.absolute())]
        if user:
            words += ["-l", user]
        return cls((*words, "-p", str(port)), python)

    def command(self, host: str, *arguments: str) -> list[str]:
        """The command that runs a program from standard input on a host."""
        return [*self.words, host, shlex.join([self.python, "-", *arguments])]

    def ask(self, host: str, program: str, *arguments: str, seconds: float = ANSWER) -> dict[str, Any]:
        """The answer of a program on a host.

        Raises
        ------
        Unusable
            Without an answer.
        """
        try:
            done = subprocess.run(
                self.command(host, *arguments), input=program, capture_output=True, text=True, timeout=CONNECT + seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unusable(
                f"it did not answer within {CONNECT + seconds:g} s. Is it overloaded, or does its shell wait for input?"
            ) from None
        except FileNotFoundError:
            raise ClusterError(
                "the program ssh was not found: install OpenSSH's client (Debian: apt-get install openssh-client)."
            ) from None
        if done.returncode:
            raise Unusable(self.reason(host, done))
        try:
            answer = json.loads(done.stdout.rstrip().rpartition("\n")[2])
        except ValueError:
            raise Unusable(f"{self.python} answered what is no JSON: {done.stdout[-200:]!r}") from None
        return dict(answer)

    def by_hand(self, host: str) -> str:
        """The command that a user types."""
        pairs = zip(self.words, [*self.words[1:], ""], strict=True)
        options = [word for option, value in pairs if option in ("-l", "-p", "-i") for word in (option, value)]
        files = [word for word in self.words if word.startswith("UserKnownHostsFile=")]
        return shlex.join(["ssh", *options, *(word for file in files for word in ("-o", file)), host])

    def reason(self, host: str, done: subprocess.CompletedProcess[str]) -> str:
        """Why the command of a host failed."""
        text = done.stderr
        last = (text.strip().splitlines() or [f"status {done.returncode}"])[-1].strip()
        if "IDENTIFICATION HAS CHANGED" in text:
            return "its host key is not the known one. If the host was installed anew, remove the old key with ssh-keygen -R; else beware."
        if "Host key verification failed" in text or "host key is known" in text:
            return f"its host key is not known. Connect once by hand and compare the fingerprint that is shown: {self.by_hand(host)}"
        if "Permission denied" in text and done.returncode == 255:
            return f"it accepts no key of this user ({last}). Give --user or --identity, or install your key with ssh-copy-id."
        if "UNPROTECTED PRIVATE KEY" in text:
            return f"others can read the key, so ssh refuses it: {last}"
        if done.returncode == 255:
            return f"no connection: {last} (~/.ssh/config is not read, as dask ssh does not read it)."
        if done.returncode in (126, 127):
            return f"there is no Python {self.python} ({last}). Give its path there with --remote-python."
        return f"{self.python} failed with status {done.returncode}: {last}"


def parse_hosts(text: str) -> tuple[str, ...]:
    r"""The hosts of a file: one on each line; a # begins a comment.

    Examples
    --------
    >>> parse_hosts("# the rack\nnode1\n\n10.0.0.2  # slow\n")
    ('node1', '10.0.0.2')
    """
    hosts = [line.partition("#")[0].strip() for line in text.splitlines()]
    hosts = [host for host in hosts if host]
    for number, host in enumerate(hosts):
        if not re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9._]*", host):
            cure = (
                "user and port are options; dask ssh knows no IPv6 addresses" if re.search("[@:]", host) else "write one host on each line"
            )
            raise ArgumentError(f"{host!r} is not a name or an IPv4 address of a host: {cure}.")
        if host in hosts[:number]:
            raise ArgumentError(f"the host {host} is listed twice: give more --workers for each host instead.")
    if not hosts:
        raise ArgumentError("no hosts are listed: write one on each line.")
    return tuple(hosts)


def on_all(hosts: Sequence[str], ask: Callable[[str], object]) -> dict[str, str]:
    """Ask all hosts at once; for each host that cannot be used, the reason."""

    def reason(host: str) -> str:
        try:
            ask(host)
        except Unusable as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(min(len(hosts), 32)) as pool:
        return {host: text for host, text in zip(hosts, pool.map(reason, hosts), strict=True) if text}


def check_hosts(login: Login, mark: str, ports: Mapping[str, int], files: Sequence[str]) -> None:
    """Log in to all hosts at once, and look for what a start needs.

    Parameters
    ----------
    login
        How to log in.
    mark
        The cluster's mark.
    ports
        Host → a port that has to be free there; 0 for none.
    files
        Files that each host needs.

    Raises
    ------
    ClusterError
        Names each host that cannot be used, and the cure.
    """
    expected = versions()

    def look(host: str) -> None:
        answer = login.ask(host, LOOK_AND_FIND, mark, str(ports[host]), *files)
        if not answer["dagtrain"]:
            raise Unusable(f"its {login.python} has no dagtrain: install dagtrain {__version__} there, or give --remote-python.")
        for name, here in expected.items():
            if answer[name] != here:
                raise Unusable(f"it has {name} {answer[name] or '(none)'} and this machine {here}: install the same on both.")
        if answer["absent"]:
            raise Unusable(f"it cannot read {', '.join(answer['absent'])}: copy the certificates to the same folder there.")
        if answer["leftover"]:
            numbers = " ".join(map(str, answer["leftover"]))
            raise Unusable(f"processes of an earlier cluster of this name run there: end them with kill {numbers}, or give another --name.")
        if answer["port"]:
            raise Unusable(f"port {ports[host]} cannot be used there ({answer['port']}): give another --scheduler-port.")

    faults = on_all(list(ports), look)
    if faults:
        lines = "".join(f"\n    {host}: {text}" for host, text in faults.items())
        raise ClusterError(f"{len(faults)} of {len(ports)} hosts cannot be used; nothing was started.{lines}")


def versions() -> dict[str, str]:
    """What has to be the same on all hosts: Dask sends pickled functions."""
    return {"dagtrain": __version__, "distributed": version("distributed"), "Python": f"{sys.version_info[0]}.{sys.version_info[1]}"}


def end_marked(login: Login, mark: str, hosts: Sequence[str]) -> None:
    """End all processes of a cluster on its hosts: by SIGTERM, then by SIGKILL.

    Raises
    ------
    ClusterError
        Names each host on which a process may still run.
    """

    def end(host: str) -> None:
        left = login.ask(host, END, mark, str(LEAVE), seconds=LEAVE + ANSWER)["left"]
        if left:
            raise Unusable(f"processes run on after SIGKILL: {' '.join(map(str, left))}")

    faults = on_all(hosts, end)
    if faults:
        lines = "".join(f"\n    {host}: {text}" for host, text in faults.items())
        raise ClusterError(f"it is not known whether all processes on {len(faults)} of {len(hosts)} hosts have ended.{lines}")
