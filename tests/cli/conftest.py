"""Running the command in this process and as a process of its own."""

import os
import signal
import subprocess
import sys

import dask
import pytest
from click.testing import CliRunner

from dagtrain.cli import main

PROGRAM = "from dagtrain_command import main\nif __name__ == '__main__':\n    main()\n"


@pytest.fixture(autouse=True)
def settings():
    """The command changes Dask's settings for later schedulers of its process: undo it."""
    pytest.importorskip("distributed")  # else its own settings would end with these
    with dask.config.set({"distributed.scheduler.preload": []}):
        yield


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function that runs the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, list(arguments), prog_name="dagtrain")


@pytest.fixture
def process(tmp_path):
    """A function that starts the command as a process in an empty folder, in a process group of its own, as in a terminal."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell that runs the tests in the background makes them ignore Ctrl-C, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  # no other thread runs here
        )
        started.append(process)
        return process

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
            child.communicate()
