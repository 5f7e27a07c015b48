"""What the bits of results and the speed of ranks depend on: BLAS, its kernel, NumPy's functions, threads, cores."""

from __future__ import annotations

import os
import platform
from typing import Any

from dagtrain.deploy.check import Check, Facts, Level, Place, Verdict, by_value, listed, of_workers
from dagtrain.deploy.hosts import host_key, on_hosts
from dagtrain.report.table import plural

__all__ = ["CHECKS"]


def software_here(place: Place) -> dict[str, str] | None:
    """What `fit` compares when a group forms."""
    try:
        from dagtrain.step.software import software
    except ImportError:  # the check "dagtrain" names this process
        return None

    return {**software(), "kernel": os.environ.get("OPENBLAS_CORETYPE", "chosen by the processor"), "machine": platform.machine()}


def judge_software(facts: Facts) -> Verdict:
    """The same bits need the same software."""
    texts = {}
    for name in ("blas", "functions", "kernel", "machine", "numpy", "dagtrain"):
        values = {process: str(value.get(name)) for process, value in facts.items()}
        texts[name] = (len(set(values.values())) > 1, by_value(values))
    differing = [f"{name}: {text}" for name, (differs, text) in texts.items() if differs]
    if differing:
        return Verdict(Level.WARNING, f"these processes will give different bits: {', '.join(differing)}")
    return Verdict(Level.OK, f"{texts['blas'][1]}; functions {texts['functions'][1]}")


def threads(place: Place) -> dict[str, Any]:
    """A worker's threads, those of its BLAS, and the cores that it may use."""
    from threadpoolctl import threadpool_info

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    blas = max((int(library["num_threads"]) for library in threadpool_info() if library.get("user_api") == "blas"), default=1)
    return {"host": host_key(), "threads": int(place.server.state.nthreads), "blas": blas, "cores": cores}


def judge_cores(facts: Facts) -> Verdict:
    """Every step waits for the slowest rank, so ranks need cores of their own."""
    texts, crowded = [], []
    for names, values in on_hosts(of_workers(facts)):
        total, cores = sum(value["threads"] for value in values), max(value["cores"] for value in values)
        texts.append(f"{plural(total, 'thread')} of {plural(len(names), 'worker')} on {plural(cores, 'core')}")
        if total > cores:
            crowded.append(f"{texts[-1]} ({listed(names)})")
    return Verdict(Level.WARNING, listed(crowded)) if crowded else Verdict(Level.OK, listed(dict.fromkeys(texts)))


def judge_blas_threads(facts: Facts) -> Verdict:
    """Training limits BLAS to one thread; other tasks take as many as the environment allows."""
    many = {}
    for names, values in on_hosts(of_workers(facts)):
        total, cores = sum(value["threads"] * value["blas"] for value in values), max(value["cores"] for value in values)
        if total > cores and any(value["blas"] > 1 for value in values):
            many[listed(names)] = f"up to {total} BLAS threads on {cores} cores"
    if many:
        return Verdict(Level.WARNING, by_value(many))
    return Verdict(Level.OK, by_value({name: value["blas"] for name, value in facts.items()}) + " a thread")


CHECKS = [
    Check(
        "bits",
        "software",
        ("client", "workers"),
        software_here,
        judge_software,
        "Install one NumPy, and set OPENBLAS_CORETYPE to a kernel that all processors have; fit(exact=True) refuses a difference.",
        deadline=15.0,
    ),
    Check("bits", "cores", ("workers",), threads, judge_cores, "Start fewer workers on the host, or give them fewer threads (--nthreads)."),
    Check(
        "bits",
        "BLAS threads",
        ("workers",),
        threads,
        judge_blas_threads,
        "Set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1 for the workers.",
    ),
]
