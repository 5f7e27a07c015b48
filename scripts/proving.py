"""What the scripts `prove-…` share: commands and conditions with deadlines, and the course of a proof.

    needs ──▶ stage.start ──▶ check, check, … ──▶ table as JSON
    (exit 2)        └───────────┴── a failure (exit 1), Ctrl-C, SIGTERM ──▶ stage.close, always

A stage is what a script starts: daemons, namespaces, folders. Its `close` also works if `start` was interrupted anywhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

ROOT = Path(__file__).resolve().parent.parent
TOLD = 10  # seconds after which a wait is told
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SOFTWARE = """import json, platform
from importlib.metadata import version
packages = "dagtrain", "dask", "distributed", "numpy"
print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in packages}}))"""


class ProofError(Exception):
    """A need that is absent, a command that failed, or a check that saw something else."""


class Stage(Protocol):
    """What a script starts and ends."""

    def start(self) -> None: ...

    def versions(self) -> dict[str, str]: ...  # of everything that takes part

    def close(self) -> None: ...


S = TypeVar("S", bound=Stage)


# Commands and conditions.


def run(*command: str | Path, timeout: float = 600, errors: int | None = subprocess.PIPE, **variables: str) -> str:
    """The standard output of a command; a `ProofError` with the end of its messages if it fails.

    errors=STDOUT: the output with the messages; errors=None: they are shown as they come.
    """
    line = " ".join(map(str, command))
    try:
        done = subprocess.run(
            command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ProofError(f"{line} took longer than {timeout:g} s.") from error
    if done.returncode:
        end = "\n".join((done.stdout + (done.stderr or "")).splitlines()[-20:])
        raise ProofError(f"{line} failed with {done.returncode}:\n{end}")
    return done.stdout.strip()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def until(what: str, condition: Callable[[], bool], timeout: float = 900) -> float:
    """Wait for a condition; return the seconds that it took. What takes long is told."""
    began, told = time.monotonic(), False
    while not condition():
        waited = time.monotonic() - began
        if waited > timeout:
            raise ProofError(f"{what}: not within {timeout:g} s.")
        if waited > TOLD and not told:
            told = True
            say(f"Waiting up to {timeout:g} s: {what} ...")
        time.sleep(0.2)
    return round(time.monotonic() - began, 1)


def expect(condition: bool, text: str) -> None:
    """Raise a `ProofError` with the text unless the condition holds."""
    if not condition:
        raise ProofError(text)


def refuses(reason: str, command: Callable[..., str], *arguments: str | Path) -> str:
    """Demand that a command fails for a reason; return the line that names it."""
    try:
        output = command(*arguments)
    except ProofError as error:
        lines = [line for line in str(error).splitlines() if reason in line]
        expect(bool(lines), f"{arguments} failed for another reason than {reason!r}: {error}")
        return lines[-1]
    raise ProofError(f"{arguments} was accepted:\n{output}")


def fingerprint(text: str) -> str:
    """The last fingerprint that a job has printed."""
    printed = re.findall(r"fingerprint +([0-9a-f]{64})\s*$", text, re.MULTILINE)
    expect(bool(printed), f"no fingerprint was printed:\n{text[-2000:]}")
    return str(printed[-1])


# The machine.


def absent_programs(packages: Mapping[str, str]) -> list[str]:
    """The programs that are absent, each with Debian's package that has it; and root, if this is another user."""
    absent = ["root"] if os.geteuid() else []
    return absent + [f"{program} (package {package})" for program, package in packages.items() if not shutil.which(program)]


def install(*extras: str) -> None:
    """Install dagtrain with each of these extras into .venv, made if needed: from an index, which may take minutes."""
    commands = "; ".join(f"ensure_environment {extra}" for extra in extras)
    run("bash", "-euc", f". '{ROOT}/scripts/environment'; {commands}", timeout=1800, errors=None)


def programs() -> Path:
    """The folder of python, dask and dagtrain: of this script's Python if dagtrain is installed there, else of .venv, made if needed."""
    if importlib.util.find_spec("dagtrain") and importlib.util.find_spec("cryptography"):
        return Path(sys.executable).parent
    install("run,certs")
    return ROOT / ".venv" / "bin"


def software(command: Callable[..., str], *words: str | Path) -> dict[str, str]:
    """Versions of Python, its packages and the kernel, where this command starts Python."""
    inside: dict[str, str] = json.loads(command(*words, "-c", SOFTWARE))
    return {"kernel": platform.release(), **inside}


# The proof.


def parser(description: str | None, needs: str) -> argparse.ArgumentParser:
    """A parser of the options that all proofs have; they can add their own."""
    options = argparse.ArgumentParser(description=description, epilog=needs, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", action="append", metavar="CHECK", help="this check alone, if it builds on no other; can be repeated")
    options.add_argument("result", nargs="?", type=Path, metavar="RESULT.json", help="file for the table")
    return options


def prove(
    arguments: argparse.Namespace,
    needs: str,
    absent: Sequence[str],
    stage: Callable[[], S],
    checks: Sequence[Callable[[S], Mapping[str, Any]]],
) -> int:
    """Run the checks on a stage, and print a table of what each returned; the exit status."""
    names = [check.__name__ for check in checks]
    unknown = [name for name in arguments.only or () if name not in names]
    if unknown:
        say(f"There is no check {unknown[0]}: they are {', '.join(names)}.")
        return 2
    if absent:
        say(f"{needs}\nAbsent: {', '.join(absent)}.")
        return 2
    for number in SIGNALS:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    say(needs)
    running = stage()
    try:
        running.start()
        table: dict[str, Any] = {"versions": running.versions()}
        for check in checks:
            if not arguments.only or check.__name__ in arguments.only:
                say(f"{check.__name__}: {check.__doc__}")
                table[check.__name__] = check(running)
                say(json.dumps(table[check.__name__]))  # what was seen stays if a later check fails
    except ProofError as error:
        say(f"Failed: {error}")
        return 1
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        say("Cleaning up ...")
        running.close()
    print(text := json.dumps(table, indent=1))
    if arguments.result:
        arguments.result.parent.mkdir(parents=True, exist_ok=True)
        arguments.result.write_text(text + "\n")
    return 0
