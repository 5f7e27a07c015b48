"""The direction of imports: a folder imports only folders above it, at the top of a file and inside functions alike."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dagtrain

PACKAGE = Path(dagtrain.__file__).parent

# The spine, from the top down: each may import those before it.
SPINE = ["errors", "arguments", "registry", "graph", "ops", "face", "trace", "transform", "plan", "functional", "tasks", "draw"]
ALLOWED: dict[str, set[str]] = {name: set(SPINE[:i]) for i, name in enumerate(SPINE)}
ALLOWED["_version"] = set()
ALLOWED["nn"] = ALLOWED["optim"] = {"errors", "arguments", "registry", "graph", "ops", "face", "trace"}
ALLOWED["data"] = {"errors", "arguments", "graph"}
ALLOWED["report"] = {"errors"}
ALLOWED["train"] = {*SPINE, "nn", "optim", "data", "report", "_version"}
ALLOWED["cluster"] = {*ALLOWED["train"], "train"}
ALLOWED["cli"] = {*ALLOWED["cluster"], "cluster", ""}

# Packages that may be absent or are slow to import, and the folders and files that are about them.
AT_THE_EDGES = {
    "dask": {"tasks", "cluster", "train/graph.py"},
    "distributed": {"cluster"},
    "graphviz": set(),
    "pygraphviz": set(),
    "sklearn": set(),
    "pandas": set(),
    "pyarrow": set(),
    "bokeh": set(),
    "click": {"cli"},
    "torch": set(),
    "jax": set(),
}
NEVER = {"torch", "jax"}


def folder_of(file: Path) -> str:
    part = file.relative_to(PACKAGE).parts[0]
    return "" if part == "__init__.py" else part.removesuffix(".py")


def modules(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that is imported anywhere below, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write out which module is imported"
            if node.module == "dagtrain":
                yield from ((of_package(alias.name), node.lineno) for alias in node.names)
            else:
                yield node.module or "", node.lineno


def of_package(name: str) -> str:
    """Which module ``from dagtrain import name`` is about."""
    if name == "__version__":
        return "dagtrain._version"
    return f"dagtrain.{name}" if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists() else "dagtrain"


def at_the_top(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What is imported when the module is: not inside functions, not for type checkers alone."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from modules(ast.Module([node], []))
        elif isinstance(node, ast.If | ast.Try) and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from modules(node)


FILES = sorted(PACKAGE.rglob("*.py"))


def wrong_imports(folder: str, tree: ast.AST) -> list[str]:
    found = []
    for module, line in modules(tree):
        if module == "dagtrain" or module.startswith("dagtrain."):
            target = module.split(".")[1] if "." in module else ""
            if target != folder and target not in ALLOWED[folder]:
                found.append(f"line {line}: {folder}/ imports {module}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_folder_imports_only_folders_above_it(file: Path) -> None:
    folder = folder_of(file)
    if folder:  # the package's own face imports what it shows
        assert folder in ALLOWED, f"{folder}/ is new: give it its place in the table above"
        assert not wrong_imports(folder, ast.parse(file.read_text()))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_packages_at_the_edges_are_imported_where_they_are_used(file: Path) -> None:
    folder, tree = folder_of(file), ast.parse(file.read_text())
    for module, line in at_the_top(tree):
        root = module.partition(".")[0]
        about = AT_THE_EDGES.get(root, {folder})
        where = file.relative_to(PACKAGE).as_posix()
        assert folder in about or where in about, f"line {line}: import {module} inside the function that uses it"
    assert not {m.partition(".")[0] for m, _ in modules(tree)} & NEVER


def test_wrong_direction_is_seen_also_inside_functions() -> None:
    hidden = "def f():\n    from dagtrain.plan import Plan\n"
    assert wrong_imports("graph", ast.parse(hidden)) == ["line 2: graph/ imports dagtrain.plan"]
    assert wrong_imports("ops", ast.parse("import dagtrain.transform.rules"))
    assert wrong_imports("nn", ast.parse("from dagtrain import optim"))
    assert wrong_imports("nn", ast.parse("from dagtrain import Trainer"))
    assert not wrong_imports("tasks", ast.parse(hidden))


def test_graph_to_plan_needs_numpy_alone() -> None:
    code = (
        "import sys\nfor name in ('dask', 'distributed', 'graphviz', 'pygraphviz', 'sklearn', 'pandas', 'click', 'threadpoolctl'):\n"
        "    sys.modules[name] = None\n"
        "import dagtrain as dt, numpy as np\n"
        "graph = dt.trace(lambda x: np.sum(np.tanh(x) ** 2), np.zeros(3))\n"
        "print(graph.plan()(np.ones(3))[0])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert float(out.stdout) == pytest.approx(3 * 0.5800256583859735)


def test_importing_the_package_imports_no_heavy_one() -> None:
    code = "import sys, dagtrain; print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"dask", "distributed", "sklearn", "pandas", "torch", "jax", "graphviz", "pygraphviz", "bokeh"} & set(out.stdout.split())
