import json
import subprocess
import sys

import pytest


def rows(result):
    return {line.split()[0]: line.split() for line in result.stdout.splitlines()[1:] if line.strip()}


def test_table_of_the_standard_example(command):
    result = command("draw", "(a+b)*(b+1)", "a=2", "b=1")
    assert result.exit_code == 0
    table = {name: words[-2:] for name, words in rows(result).items()}
    assert table == {"a": ["2", "2"], "b": ["1", "5"], "c": ["3", "2"], "d": ["2", "3"], "e": ["6", "1"]}


def test_picture_holds_values_and_derivatives(command, tmp_path):
    assert command("draw", "(a+b)*(b+1)", "a=2", "b=1", "-o", "e.svg").exit_code == 0
    picture = (tmp_path / "e.svg").read_text()
    for text in ("c = a + b", "d = b + 1", "e = c × d", "∂e/∂a = 2", "∂e/∂b = 5", "∂e/∂c = 2", "∂e/∂d = 3"):
        assert text in picture


@pytest.mark.parametrize(
    ("ending", "start"), [("svg", b"<"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("dot", b"digraph"), ("mmd", b"flowchart")]
)
def test_ending_tells_the_format(command, tmp_path, ending, start):
    assert command("draw", "a*2", "a=2", "-o", f"e.{ending}").exit_code == 0
    assert start in (tmp_path / f"e.{ending}").read_bytes()[:200]


def test_expression_may_begin_with_a_minus(command):
    assert rows(command("draw", "-a*o", "a=1", "o=-2"))["o"] == ["o", "-2", "-1"]
    assert command("draw", "-o*2", "o=3").stdout.splitlines()[-1].split()[-2:] == ["-6", "1"]


def test_of_a_list_the_derivative_of_the_sum(command):
    result = command("draw", "x*x", "x=[1,2,3]")
    assert "∂Σy/∂name" in result.stdout
    assert "[2, 4, 6]" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("foo(a)", "a=1"), "no function foo"),
        (("a", "a=1", "a=2"), "twice"),
        (("a", "a=1", "-o", "e.bmp"), "bmp"),
        (("a", "a=1", "-o", "no/where.svg"), "no folder"),
        (("a", "a 1"), "is no value"),
    ],
)
def test_errors_are_one_message_and_status_2(command, arguments, words):
    result = command("draw", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_infinite_values_are_shown_without_complaint(command):
    result = command("draw", "1/a", "a=0")
    assert rows(result)["b"][-2:] == ["inf", "1"]
    assert result.stderr == ""


def test_functions_are_listed(command):
    assert "tanh" in command("draw", "--functions").stdout


def test_version_info_and_help(command):
    assert command("--version").stdout.startswith("dagtrain ")
    assert "BLAS" in command("info").stdout
    for words in ([], ["draw"], ["train"], ["train", "digits"], ["info"]):
        assert "Usage: dagtrain" in command(*words, "--help").stdout


def test_help_needs_no_heavy_package():
    heavy = ["distributed", "sklearn", "pandas", "bokeh"]
    code = f"import sys, json, dagtrain.cli; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == []
