"""Versions of Python and the packages that processes exchange objects of."""

from __future__ import annotations

from typing import Any

from dagtrain.deploy.check import Check, Facts, Level, Place, Verdict, by_value, listed

__all__ = ["CHECKS"]

NEEDED = ("dask", "distributed", "numpy")
OTHERS = ("cloudpickle", "msgpack", "toolz", "tornado", "lz4")


def versions(place: Place) -> dict[str, dict[str, str | None]]:
    """Process → package → version, by Dask's own message, which a process answers whatever its Python is."""
    if place.client is None:
        from distributed.versions import get_versions

        return {"client": get_versions(packages=["dagtrain"])["packages"]}
    answer: dict[str, Any] = place.client.get_versions(packages=["dagtrain"])
    processes = {"client": answer["client"], "scheduler": answer["scheduler"], **answer["workers"]}
    return {name: each["packages"] for name, each in processes.items()}


def of(package: str, facts: Facts) -> dict[str, str | None]:
    """Process → version of one package."""
    return {name: packages.get(package) for name, packages in facts["client"].items()}


def judge_python(facts: Facts) -> Verdict:
    """Byte code is that of one minor version."""
    installed = {name: ".".join(str(version).split(".")[:3]) for name, version in of("python", facts).items()}
    minors = {version.rpartition(".")[0] for version in installed.values()}
    level = Level.FAILURE if len(minors) > 1 else Level.WARNING if len(set(installed.values())) > 1 else Level.OK
    return Verdict(level, by_value(installed))


def judge_dagtrain(facts: Facts) -> Verdict:
    """The same version everywhere, on the scheduler too."""
    installed = of("dagtrain", facts)
    missing = [name for name, version in installed.items() if version is None]
    if missing:
        return Verdict(Level.FAILURE, f"not installed on {listed(missing)}")
    return Verdict(Level.FAILURE if len(set(installed.values())) > 1 else Level.OK, by_value(installed))


def judge_needed(facts: Facts) -> Verdict:
    """The packages on which results and messages depend."""
    return _packages(NEEDED, facts, Level.FAILURE)


def judge_others(facts: Facts) -> Verdict:
    """The packages that Dask compares, too."""
    return _packages(OTHERS, facts, Level.WARNING)


def _packages(names: tuple[str, ...], facts: Facts, level: Level) -> Verdict:
    texts = {name: by_value({process: version or "absent" for process, version in of(name, facts).items()}) for name in names}
    differing = [f"{name} {text}" for name, text in texts.items() if len(set(of(name, facts).values())) > 1]
    return Verdict(level, ", ".join(differing)) if differing else Verdict(Level.OK, ", ".join(f"{name} {texts[name]}" for name in names))


_SAME = "Install the same versions in every process, for example from one image or lock file, and restart them."

CHECKS = [
    Check("versions", "Python", ("client",), versions, judge_python, _SAME),
    Check(
        "versions",
        "dagtrain",
        ("client",),
        versions,
        judge_dagtrain,
        "pip install dagtrain, in one version, on the scheduler and every worker.",
    ),
    Check("versions", "packages", ("client",), versions, judge_needed, _SAME),
    Check("versions", "messages", ("client",), versions, judge_others, _SAME),
]
