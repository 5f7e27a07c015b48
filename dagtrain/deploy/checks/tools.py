"""What else a run needs: programs for pictures, packages of the dashboard, a folder for checkpoints, clocks, file descriptors."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from typing import Any

from dagtrain.deploy.check import Check, Facts, Level, Place, Verdict, by_value, listed
from dagtrain.deploy.gather import ask

__all__ = ["CHECKS"]

SLOW, SKEW, FEW = 0.5, 2.0, 1024
"""Seconds of an fsync, seconds between two clocks, file descriptors of a process."""


def pictures(place: Place) -> list[str]:
    """What can render a picture here."""
    import shutil

    return [name for name, there in (("dot", shutil.which("dot")), ("pygraphviz", find_spec("pygraphviz"))) if there]


def judge_pictures(facts: Facts) -> Verdict:
    """One is enough."""
    renderers = facts["client"]
    return Verdict(Level.OK, listed(renderers)) if renderers else Verdict(Level.WARNING, "neither dot nor pygraphviz")


def packages(place: Place) -> dict[str, bool]:
    """Packages without which Dask's pages are empty."""
    return {name: find_spec(name) is not None for name in ("bokeh", "prometheus_client")}


def judge_pages(facts: Facts) -> Verdict:
    """The dashboard is drawn on the scheduler; every process has /metrics of its own. A cluster needs neither, but some metrics mislead."""
    without = [name for name, there in facts.items() if not there["prometheus_client"]]
    if without and len(without) < len(facts):
        return Verdict(Level.WARNING, f"/metrics is empty on {listed(without)}")
    dashboard = "the dashboard" if facts["scheduler"]["bokeh"] else "no dashboard: the scheduler has no bokeh"
    return Verdict(Level.OK, f"{dashboard}; {'no /metrics: prometheus_client is not installed' if without else '/metrics everywhere'}")


def checkpoint(place: Place) -> dict[str, Any] | None:
    """Write a small file into the checkpoint's folder and take the time of an fsync."""
    import tempfile
    from pathlib import Path

    if place.checkpoint is None or "://" in place.checkpoint:
        return None
    path = Path(place.checkpoint).absolute()
    folder = next(parent for parent in (path, *path.parents) if parent.exists())
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0" * 65536)
        file.flush()
        began = time.perf_counter()
        os.fsync(file.fileno())
        return {"folder": str(folder), "seconds": time.perf_counter() - began}


def judge_checkpoint(facts: Facts) -> Verdict:
    """A checkpoint waits for a few of them; what cannot be written is an error of the check."""
    answer = facts["client"]
    slow = answer["seconds"] > SLOW
    return Verdict(Level.WARNING if slow else Level.OK, f"{answer['folder']} can be written; fsync takes {answer['seconds'] * 1e3:.2g} ms")


def clocks(place: Place) -> dict[str, list[float]] | None:
    """Process → the least and the most seconds by which its clock may be ahead of this one."""
    if place.client is None:
        return None
    answers = ask(place.client, ["scheduler", *place.workers], time.time, 4.0)
    return {name: [there - ended, there - began] for name, (there, began, ended) in answers.items()}


def judge_clocks(facts: Facts) -> Verdict:
    """Training measures time by monotonic clocks; certificates and the times of events depend on the date."""
    apart = {name: max(least, -most, 0.0) for name, (least, most) in facts["client"].items()}
    if not apart:
        return Verdict(Level.OK, "no other process")
    worst = max(apart, key=lambda name: apart[name])
    far = apart[worst] > SKEW
    wrong = [f"{name} by {seconds:.0f} s" for name, seconds in apart.items() if seconds > SKEW]
    return Verdict(Level.WARNING, listed(wrong)) if far else Verdict(Level.OK, f"within {max(apart[worst], 0.1):.1f} s of this machine's")


def descriptors(place: Place) -> dict[str, int] | None:
    """The most files and sockets of this process, and the number of workers."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {"limit": soft if soft >= 0 else 1 << 30, "workers": len(place.workers)}


def judge_descriptors(facts: Facts) -> Verdict:
    """A scheduler has about ten sockets for each worker, a worker some for each peer."""
    limits = {name: value["limit"] for name, value in facts.items()}
    short = [name for name, v in facts.items() if v["limit"] < 100 + v["workers"] * (10 if name == "scheduler" else 4)]
    if short:
        return Verdict(Level.FAILURE, f"too few for this many workers: {listed(f'{name} {limits[name]}' for name in short)}")
    few = {name: limit for name, limit in limits.items() if limit < FEW}
    return Verdict(Level.WARNING, by_value(few)) if few else Verdict(Level.OK, by_value(limits))


CHECKS = [
    Check("tools", "pictures", ("client",), pictures, judge_pictures, 'pip install "dagtrain[viz]"'),
    Check("tools", "pages", ("scheduler", "workers"), packages, judge_pages, "pip install prometheus_client on every host."),
    Check(
        "tools",
        "checkpoint",
        ("client",),
        checkpoint,
        judge_checkpoint,
        "Give a folder that can be written, on a local or faster disk.",
        10.0,
    ),
    Check("tools", "clocks", ("client",), clocks, judge_clocks, "Run NTP on every host."),
    Check(
        "tools", "file descriptors", ("client", "scheduler", "workers"), descriptors, judge_descriptors, "Raise ulimit -n to 4096 or more."
    ),
]
