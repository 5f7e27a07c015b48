"""Versions of Python and the packages that processes exchange objects of."""

from __future__ import annotations

from typing import Any

from dagtrain.deploy.check import Check, Facts, Level, Place, Verdict, by_value, listed
from dagtrain.deploy.gather import ask

__all__ = ["CHECKS"]

NEEDED = ("dask", "distributed", "numpy")
OTHERS = ("cloudpickle", "msgpack", "toolz", "tornado", "lz4")


def versions(place: Place) -> dict[str, dict[str, str | None]]:
    """Process → package → version, of all processes that answer: a function of Dask, found by its name whatever the version of Python."""
    from distributed.versions import get_versions

    answers: dict[str, Any] = {"client": (get_versions(), 0.0, 0.0)}
    if place.client is not None:
        answers |= ask(place.client, ["scheduler", *place.workers], get_versions, 4.0)
    return {name: answer["packages"] for name, (answer, _, _) in answers.items()}


def dagtrain_here(place: Place) -> str:
    """The version that this process imports; empty without one."""
    try:
        from dagtrain._version import __version__
    except ImportError:
        return ""
    return __version__


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
    missing = [name for name, version in facts.items() if not version]
    if missing:
        return Verdict(Level.FAILURE, f"not installed on {listed(missing)}")
    return Verdict(Level.FAILURE if len(set(facts.values())) > 1 else Level.OK, by_value(facts))


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
        ("client", "scheduler", "workers"),
        dagtrain_here,
        judge_dagtrain,
        "pip install dagtrain, in one version, on the scheduler and every worker.",
    ),
    Check("versions", "packages", ("client",), versions, judge_needed, _SAME),
    Check("versions", "messages", ("client",), versions, judge_others, _SAME),
]
