"""The direction of imports: a folder imports only folders above it, at the top of a file and inside functions alike."""

from __future__ import annotations

import ast
import functools
import gc
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import dagtrain

PACKAGE = Path(dagtrain.__file__).parent

# The spine, from the top down: each may import those before it.
SPINE = [
    "errors",
    "arguments",
    "registry",
    "hinting",
    "graph",
    "ops",
    "numpy_api",
    "trace",
    "transform",
    "backends",
    "plan",
    "functional",
    "tasks",
    "draw",
]
ALLOWED: dict[str, set[str]] = {name: set(SPINE[:i]) for i, name in enumerate(SPINE)}
ALLOWED["_version"] = set()
ALLOWED["transport"] = set()
ALLOWED["nn"] = ALLOWED["optim"] = {"errors", "arguments", "registry", "hinting", "graph", "ops", "numpy_api", "trace"}
ALLOWED["data"] = {"errors", "arguments", "graph", "trace"}
ALLOWED["audio"] = {"errors", "arguments", "registry", "hinting", "graph"}
ALLOWED["report"] = {"errors"}
ALLOWED["text"] = {*SPINE[: SPINE.index("tasks")], "nn"}
ALLOWED["step"] = {*SPINE, "nn", "optim", "data", "_version"}
ALLOWED["engines"] = {*ALLOWED["step"], "step", "report", "transport"}
ALLOWED["checkpoint"] = {*ALLOWED["step"], "step", "report", "text"}
ALLOWED["train"] = {*ALLOWED["engines"], "engines", "checkpoint"}
ALLOWED["explain"] = {*ALLOWED["train"], "train"}
ALLOWED["unsupervised"] = ALLOWED["rl"] = {*ALLOWED["explain"], "explain"}
ALLOWED["series"] = {*ALLOWED["explain"], "explain"}
ALLOWED["scaling"] = {*ALLOWED["train"], "train"}
ALLOWED["deploy"] = {*ALLOWED["scaling"], "scaling"}
ALLOWED["dashboard"] = {*ALLOWED["deploy"], "deploy"}
ALLOWED["cli"] = {*ALLOWED["dashboard"], "dashboard", ""}

# The rooms of engines/, from the top down.
ENGINES = ["client", "inline", "evaluation", "commits", "engine", "cluster", "scheduler", "ranks"]

# Packages that may be absent or are slow to import, and the folders and files that may import them.
AT_THE_EDGES = {
    "dask": {"tasks", "engines/cluster", "engines/scheduler", "engines/ranks", "dashboard"},
    "distributed": {"engines/cluster", "engines/scheduler", "engines/ranks", "dashboard"},
    "graphviz": set(),
    "pygraphviz": set(),
    "sklearn": set(),
    "pandas": set(),
    "pyarrow": set(),
    "bokeh": {"dashboard/page.py"},
    "prometheus_client": set(),
    "click": {"cli"},
    "cryptography": set(),
    "gymnasium": set(),
    "matplotlib": set(),
    "torch": set(),
    "jax": set(),
}
NEVER = {"torch", "jax"}

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""The fields of a statement that hold statements."""


def folder_of(file: str) -> str:
    part = file.partition("/")[0]
    return "" if part == "__init__.py" else part.removesuffix(".py")


def room_of(file: str) -> str:
    """The folder or file within engines/, by a path there."""
    return file.split("/")[1].removesuffix(".py")


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement, inside functions too; an expression holds none."""
    for field in BLOCKS:
        for node in getattr(tree, field, ()):
            yield node
            yield from statements(node)


def modules(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module imported anywhere in the tree, and the line."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level, node.lineno
            elif node.module == "dagtrain":
                yield from ((of_package(alias.name), node.lineno) for alias in node.names)
            else:
                yield node.module or "", node.lineno


def of_package(name: str) -> str:
    """The module that ``from dagtrain import name`` imports."""
    return f"dagtrain.{name}" if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists() else "dagtrain"


def at_the_top(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Imports at a module's import: not inside functions, not for type checkers alone."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from modules(ast.Module([node], []))
        elif isinstance(node, ast.If | ast.Try) and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from modules(node)


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Every file of the package, parsed."""
    gc.disable()  # it takes two thirds of the time, and frees nothing
    try:
        return {file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}
    finally:
        gc.enable()


def wrong_imports(file: str, tree: ast.AST) -> list[str]:
    """Imports from folders that are not above the file's."""
    folder, violations = folder_of(file), []
    assert folder in ALLOWED, f"{folder}/ is new: give it its place in the table above"
    for module, line in modules(tree):
        if module.startswith("."):
            violations.append(f"{file}:{line}: write out which module is imported")
        elif module == "dagtrain" or module.startswith("dagtrain."):
            target = module.split(".")[1] if "." in module else ""
            if target != folder and target not in ALLOWED[folder]:
                violations.append(f"{file}:{line}: {folder}/ imports {module}")
            if target == folder == "engines" and room_of(file) != "__init__":
                room, of = room_of(file), module.partition("engines.")[2].partition(".")[0]
                if of != room and of not in ENGINES[: ENGINES.index(room)]:
                    violations.append(f"{file}:{line}: engines/{room} imports {module}")
    return violations


def imports_at_the_top(file: str, tree: ast.Module) -> list[str]:
    """Imports at the top of a file that belong inside functions, and any import of packages that are never imported."""
    places = {folder_of(file), file.rpartition("/")[0], file}
    violations = [(m, line) for m, line in at_the_top(tree) if not AT_THE_EDGES.get(m.partition(".")[0], places) & places]
    violations += [(m, line) for m, line in modules(tree) if m.partition(".")[0] in NEVER]
    return [f"{file}:{line}: import {module} inside the function that uses it, if at all" for module, line in violations]


def test_folder_imports_only_folders_above_it() -> None:
    inner = {file: tree for file, tree in trees().items() if folder_of(file)}  # dagtrain/__init__.py imports its public names
    assert len(inner) > 100
    assert [fault for file, tree in inner.items() for fault in wrong_imports(file, tree)] == []


def test_packages_at_the_edges_are_imported_where_they_are_used() -> None:
    assert [fault for file, tree in trees().items() for fault in imports_at_the_top(file, tree)] == []


def run_time_imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Every module that may be imported while the package runs, inside functions too, but not for type checkers alone.

    Each with a name in it that is imported, or "".
    """
    for child in (child for field in BLOCKS for child in getattr(node, field, ())):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, "") for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((child.module or "", alias.name) for alias in child.names)
        else:
            yield from run_time_imports(child)


def circles(files: Mapping[str, ast.AST]) -> list[list[str]]:
    """Modules that import each other, directly or through others."""
    names = {".".join(["dagtrain", *Path(file).with_suffix("").parts]).removesuffix(".__init__"): tree for file, tree in files.items()}
    imports = {}
    for name, tree in names.items():
        targets = {f"{module}.{part}" if f"{module}.{part}" in names else module for module, part in run_time_imports(tree)}
        imports[name] = targets & names.keys() - {name}
    reached: dict[str, set[str]] = {}
    for name in imports:
        reached[name], stack = set(), [name]
        while stack:
            new = imports[stack.pop()] - reached[name]
            reached[name] |= new
            stack += new
    groups = {tuple(sorted(m for m in reached[name] if name in reached[m])) for name in names if name in reached[name]}
    return sorted(map(list, groups))


def test_no_modules_import_each_other() -> None:
    inner = {file: tree for file, tree in trees().items() if folder_of(file)}
    assert circles(inner) == []


def test_import_cycles_inside_functions_are_found() -> None:
    files = {
        "graph/a.py": ast.parse("from dagtrain.graph import b"),
        "graph/b.py": ast.parse("def f():\n    import dagtrain.graph.c"),
        "graph/c.py": ast.parse("from dagtrain.graph.a import f"),
        "graph/d.py": ast.parse("if TYPE_CHECKING:\n    from dagtrain.graph.e import f"),
        "graph/e.py": ast.parse("from dagtrain.graph.d import f\nfrom dagtrain.graph.a import f"),
    }
    assert circles(files) == [["dagtrain.graph.a", "dagtrain.graph.b", "dagtrain.graph.c"]]


def test_wrong_imports_at_the_top_are_seen() -> None:
    assert imports_at_the_top("draw/svg.py", ast.parse("x = 1\nimport dask.array")) == [
        "draw/svg.py:2: import dask.array inside the function that uses it, if at all"
    ]
    assert imports_at_the_top("nn/layers.py", ast.parse("def f():\n    import torch"))
    assert not imports_at_the_top("draw/svg.py", ast.parse("def f():\n    import dask.array"))
    assert not imports_at_the_top("tasks/lower.py", ast.parse("import dask.array"))


def test_wrong_direction_is_seen_also_inside_functions() -> None:
    hidden = "def f():\n    from dagtrain.plan import Plan\n"
    assert wrong_imports("graph/node.py", ast.parse(hidden)) == ["graph/node.py:2: graph/ imports dagtrain.plan"]
    assert wrong_imports("ops/a.py", ast.parse("import dagtrain.transform.rules"))
    assert wrong_imports("nn/a.py", ast.parse("from dagtrain import optim"))
    assert wrong_imports("nn/a.py", ast.parse("from dagtrain import Trainer"))
    assert wrong_imports("nn/a.py", ast.parse("from . import dense"))
    assert wrong_imports("engines/scheduler/a.py", ast.parse("from dagtrain.engines.ranks.placement import place"))
    assert not wrong_imports("engines/ranks/a.py", ast.parse("from dagtrain.engines.cluster.waiting import results"))
    assert not wrong_imports("tasks/a.py", ast.parse(hidden))


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
