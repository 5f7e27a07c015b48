"""DOT text → SVG, PNG, PDF, by the installed Graphviz.

    `dot` on the path ──▶ else pygraphviz (its wheels hold Graphviz) ──▶ else an error that says what to install

Either runs in its own process: it can be stopped when it takes too long, it may be called from any thread, and a crash ends only it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dagtrain.arguments import one_of
from dagtrain.draw.style import light
from dagtrain.errors import ExecutionError, MissingDependencyError

__all__ = ["FORMATS", "format_of", "layout"]

FORMATS = ("svg", "png", "pdf", "dot", "html", "mmd")
TIMEOUT = 60.0

_BY_PYGRAPHVIZ = """
import sys, warnings
warnings.simplefilter("ignore")
import pygraphviz
program, kind = sys.argv[1:]
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode("utf-8"))
sys.stdout.buffer.write(graph.draw(format=kind, prog=program))
"""


def format_of(filename: str | os.PathLike[str] | None, format: str | None) -> str:
    """The format by its name or by a file's ending; SVG by default."""
    named = format if format is not None else (Path(filename).suffix[1:] if filename is not None else "")
    kind = named.lower() or "svg"
    kind = {"gv": "dot", "mermaid": "mmd", "htm": "html"}.get(kind, kind)
    return one_of("picture format", kind, FORMATS)


def layout(dot: str, format: str, *, fixed: bool = False, timeout: float = TIMEOUT) -> bytes:
    """Lay out DOT text and draw it.

    Parameters
    ----------
    dot
        DOT text.
    format
        "svg", "png" or "pdf".
    fixed
        Whether the text gives all positions (then Graphviz only draws).
    timeout
        Seconds after which Graphviz is stopped.

    Raises
    ------
    MissingDependencyError
        If there is no Graphviz.
    ExecutionError
        If Graphviz fails or takes too long.
    """
    program = "neato" if fixed else "dot"
    if format != "svg":
        # A transparent background would leave dark text on whatever colour the viewer has.
        dot = dot.replace('bgcolor="transparent"', f'bgcolor="{light("canvas")}" dpi="144"', 1)
    command = _command(program, format)
    try:
        done = subprocess.run(command, input=dot.encode(), capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise ExecutionError(
            f"Graphviz did not finish within {timeout:g} s. Draw less: collapse=True, a part of the graph, or timeout= for more time."
        ) from None
    if done.returncode or not done.stdout:
        words = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise ExecutionError(f"Graphviz could not draw the picture: {words[-1]}")
    return done.stdout


def _command(program: str, format: str) -> list[str]:
    path = shutil.which("dot")
    if path is not None:
        return [path, f"-K{program}", f"-T{format}"]
    if importlib.util.find_spec("pygraphviz") is not None:
        return [sys.executable, "-c", _BY_PYGRAPHVIZ, program, format]
    raise MissingDependencyError.of("Graphviz", "rendering a picture", "viz")
