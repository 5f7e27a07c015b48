"""scripts/run and scripts/test with a stand-in `python3` that records its commands."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALL = "--quiet -rs --rerun-show-tracebacks --numprocesses 3 --dist worksteal"
FAST = "-m not cluster and not fault and not slow"

# Answers the version check by $OLD, `-m venv` by a copy of itself, `-m pip install` by $BROKEN, and records what was installed or run.
PYTHON = """#!/bin/bash
case "$*" in
  "-c import sys; sys.exit("*) exit "${OLD:-0}" ;;
  "-m pip --version") ;;
  "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && cp "$0" "$4/bin/dagtrain" ;;
  "-m pip install "*) echo "install ${@: -1}" >> "$LOG"; exit "${BROKEN:-0}" ;;
  *) echo "$(basename "$0") $*" >> "$LOG"; exit "${FAILED:-0}" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A function that runs a script of a copy of the project from another folder; returns exit code, messages and records."""
    project, bin_, elsewhere, log = (tmp_path / name for name in ("a project", "bin", "elsewhere", "log"))
    for folder in (project / "dagtrain", bin_, elsewhere):
        folder.mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", project / "scripts")
    shutil.copy(ROOT / "pyproject.toml", project)
    shutil.copy(ROOT / "dagtrain" / "_version.py", project / "dagtrain")
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"):
        (bin_ / name).write_text(PYTHON)
        (bin_ / name).chmod(0o755)

    def run(script, *arguments, **variables):
        log.write_text("")
        environment = {"PATH": f"{bin_}:/usr/bin:/bin", "LOG": str(log), **variables}
        done = subprocess.run(
            [project / "scripts" / script, *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr, log.read_text().replace(str(project), "PROJECT").splitlines()

    run.project = project
    return run


def test_first_run_installs_then_trains(machine):
    assert machine("run")[2] == ["install PROJECT[run]", "dagtrain train digits --workers 2"]


def test_options_are_passed_on(machine):
    assert machine("run", "--epochs", "3")[2][-1] == "dagtrain train digits --workers 2 --epochs 3"
    assert machine("test", "-k", "two words")[2][-1] == "python -m pytest -k two words"
    assert machine("test", "--fast", "tests/ops")[2][-1] == f"python -m pytest {FAST} tests/ops"


def test_cost_is_printed_and_the_exit_code_is_that_of_pytest(machine):
    code, message, notes = machine("test", "--fast", FAILED="7")
    assert code == 7
    assert re.search(r"^CPU seconds of all processes: \d+\.\d+ of the user, \d", message, re.MULTILINE)
    assert notes[-1] == f"python -m pytest {FAST} {ALL}"


def test_second_run_installs_nothing(machine):
    machine("test")
    assert machine("test")[2] == [f"python -m pytest {ALL}"]


@pytest.mark.parametrize("file", ["pyproject.toml", "dagtrain/_version.py"])
def test_changed_project_is_installed_again(machine, file):
    machine("test")
    with (machine.project / file).open("a") as changed:
        changed.write("\n# changed\n")
    assert machine("test")[2][0] == "install PROJECT[dev]"


def test_failed_installation_ends_the_script_and_is_repeated(machine):
    code, _, notes = machine("test", BROKEN="1")
    assert code != 0
    assert notes == ["install PROJECT[dev]"]
    assert machine("test")[2] == ["install PROJECT[dev]", f"python -m pytest {ALL}"]


def test_old_python_is_refused_with_a_reason(machine):
    code, message, notes = machine("run", OLD="1")
    assert code != 0
    assert "Python 3.11 or newer" in message
    assert notes == []


@pytest.mark.parametrize("kind", sorted(path.name for path in (ROOT / "scripts" / "cluster").iterdir() if path.name != "stop"))
def test_clusters_are_started_by_the_command_of_their_kind(machine, kind):
    *installed, ran = machine(f"cluster/{kind}", "--name", "two words")[2]
    assert all(note.startswith("install PROJECT[run") for note in installed)
    assert re.fullmatch(rf"dagtrain cluster {kind} (--file \S+ )?--name two words", ran)


def test_stop_of_a_cluster_installs_nothing(machine):
    code, message, notes = machine("cluster/stop")
    assert code == 1
    assert re.search(r"Nothing was started from here: there is no .*\.venv\.", message)
    assert notes == []
    machine("cluster/local")
    assert machine("cluster/stop", "mine")[2] == ["dagtrain cluster stop mine"]


def test_the_gallery_refuses_names_that_it_would_not_run(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gallery", "b1_digits", "--write"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "scripts" / "gallery"), run_name="__main__")
    assert "--write runs nothing" in capsys.readouterr().err


def test_a_short_form_does_not_take_the_place_of_a_full_one(monkeypatch, capsys):
    measured = (ROOT / "docs" / "proofs" / "gallery.json").read_text()
    monkeypatch.setattr("sys.argv", ["gallery", "b1_digits", "--quick"])
    runpy.run_path(str(ROOT / "scripts" / "gallery"), run_name="__main__")
    assert capsys.readouterr().out == "== b1_digits: measured in full before\n"
    assert (ROOT / "docs" / "proofs" / "gallery.json").read_text() == measured


def test_the_gallery_is_what_its_script_makes_of_the_measurements():
    """Each example has a row, measured; the page is theirs, and its pictures are there."""
    gallery = runpy.run_path(str(ROOT / "scripts" / "gallery"))
    measured = json.loads(gallery["MEASURED"].read_text())
    assert set(measured) == set(gallery["ROWS"]) == {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert gallery["PAGE"].read_text() == gallery["page"](measured)
    assert {row["picture"] for row in measured.values() if row["picture"]} == {path.name for path in gallery["PICTURES"].iterdir()}
