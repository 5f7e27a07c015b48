"""The code in README.md and docs/ runs, commands print the output shown, links have targets, the table of ops is the registry's."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from dagtrain import nn, optim
from dagtrain.cli import main
from dagtrain.numpy_api.calls import FUNCTIONS
from dagtrain.ops import OPS
from dagtrain.ops.record import ZERO

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    """Code of a language, with the line where each piece begins."""
    text = page.read_text()
    return [(text[: m.start(2)].count("\n"), m[2]) for m in BLOCK.finditer(text) if m[1] == language]


def with_python():
    """Pages with code in Python; those whose code starts a cluster are marked."""
    for page in PAGES:
        code = "".join(code for _, code in blocks(page, "python"))
        if code:
            yield pytest.param(page, id=page.name, marks=[pytest.mark.cluster] if "Client(" in code else [])


@pytest.mark.parametrize("page", list(with_python()))
def test_python_runs(settings_of_dask, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * line + code, page, "exec"), names)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "console")], ids=lambda p: p.name)
def test_commands_print_the_output_shown(page):
    for _, text in blocks(page, "console"):
        command, _, printed = text.partition("\n")
        assert CliRunner().invoke(main, shlex.split(command)[2:], prog_name="dagtrain").stdout == printed


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        linked = page.parent / file
        assert linked.exists(), target
        if heading:
            assert f"# {heading.replace('-', ' ')}" in linked.read_text().lower(), target


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"(?:examples|benchmarks)/\w+\.py|scripts/[\w/-]+(?:\.py)?", "\n".join(p.read_text() for p in PAGES))))
)
def test_files_that_are_named_exist(name):
    assert (ROOT / name).is_file()


def ops_table():
    """The text of docs/graphs.md between its marks."""
    kinds = {"with a derivative": [], "with derivative zero": [], "without a derivative": []}
    for op in OPS.values():
        if op.name not in ("part", "barrier", "closed_over"):
            has = op.gradient is not None or op.expand is not None
            kind = "with derivative zero" if op.gradient is ZERO else "with a derivative" if has else "without a derivative"
            kinds[kind].append(f"`{op.name}`")
    return "\n".join(["| | ops |", "|---|---|", *(f"| {kind} | {', '.join(sorted(names))} |" for kind, names in kinds.items())])


def functions_table():
    """The same for NumPy's functions, by the file that implements them."""
    kinds = {
        "reductions": "sums, means, extremes, counts", "sorting": "order", "moves": "shape, picking, surrounding",
        "joining": "joining and cutting",
        "products": "products, norms, linear equations", "fourier": "Fourier transforms",
        "functions": "by element, of neighbours, polynomials",
    }  # fmt: skip
    names = {kind: [] for kind in kinds}
    for call in FUNCTIONS.values():
        kind = call.function.__module__.rpartition(".")[2]
        names["products" if kind in ("linalg", "solving") else kind].append(f"`{call.name.removeprefix('np.')}`")
    return "\n".join(
        ["| | NumPy's functions |", "|---|---|", *(f"| {text} | {', '.join(sorted(names[k]))} |" for k, text in kinds.items())]
    )


@pytest.mark.parametrize(("name", "table"), [("ops", ops_table), ("functions", functions_table)])
def test_tables_in_the_docs_are_those_of_the_registries(name, table):
    text = (ROOT / "docs" / "graphs.md").read_text()
    assert text.partition(f"<!-- {name}: begin -->\n")[2].partition(f"\n<!-- {name}: end -->")[0] == table()


def test_the_tour_of_the_package_names_every_folder():
    page = (ROOT / "docs" / "architecture.md").read_text()
    folders = [folder.parent.name for folder in (ROOT / "dagtrain").glob("*/__init__.py")]
    assert [name for name in folders if f"`{name}/`" not in page] == []
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py|/))`", page)
    assert [
        name for name in named if not any(list(ROOT.glob(f"{at}{name}")) for at in ("", "dagtrain/", "dagtrain/*/", "dagtrain/engines/*/"))
    ] == []


def test_the_pages_name_every_layer_activation_loss_optimiser_and_schedule():
    layers, training, optimizers = ((ROOT / "docs" / f"{page}.md").read_text() for page in ("layers", "training", "optimizers"))
    windows = {name for room in ("convolution", "pooling", "global_pooling", "resizing") for name in getattr(nn.layers, room).__all__}
    shown = set(re.findall(r"\w+", layers.replace("1D/2D/3D", "1D SpatialDropout2D SpatialDropout3D")))
    assert {*nn.layers.__all__, *nn.activations.ACTIVATIONS} - windows - {"LocalResponseNorm"} <= shown
    assert {f"`{name}`" for name in nn.losses.LOSSES} <= set(re.findall(r"`\w+`", training))
    others = {"Context", "Optimizer", "Schedule", "apply_once", "find"}
    assert set(optim.__all__) - others <= set(re.findall(r"\w+", optimizers))
