"""How long workers stay, and when Dask gives up: lifetimes, timeouts, adaptive scaling, the time limit of a batch job."""

from __future__ import annotations

import os
import time
from typing import Any

from dagtrain.deploy.check import Check, Facts, Level, Place, Verdict, by_value, listed, of_workers

__all__ = ["CHECKS"]

SOON, BRIEF = 600.0, 30.0
"""Seconds of a job's rest, and of a timeout, below which it disturbs training."""


def span(seconds: float | None) -> str:
    """A number of seconds in words.

    Examples
    --------
    >>> span(90), span(None), span(7200)
    ('90 s', 'none', '120 min')
    """
    return "none" if seconds is None else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def life(place: Place) -> dict[str, Any]:
    """A worker's lifetime and timeouts, and when its job ends."""
    worker, end = place.server, os.environ.get("SLURM_JOB_END_TIME", "")
    return {
        "lifetime": worker.lifetime or None,
        "restart": bool(worker.lifetime_restart),
        "death": worker.death_timeout or None,
        "job": float(end) - time.time() if end.isdigit() else None,
    }


def judge_lifetime(facts: Facts) -> Verdict:
    """Workers that leave one after another cost little; all at once, training waits for new ones."""
    lifetimes = {name: value["lifetime"] for name, value in of_workers(facts).items()}
    limited = {name: seconds for name, seconds in lifetimes.items() if seconds}
    text = by_value({name: span(seconds) for name, seconds in lifetimes.items()})
    if len(limited) > 1 and len(set(limited.values())) == 1:
        return Verdict(Level.WARNING, f"{text}: all leave at the same time")
    short = [name for name, seconds in limited.items() if seconds < SOON]
    return Verdict(Level.WARNING if short else Level.OK, text)


def judge_death(facts: Facts) -> Verdict:
    """A worker that starts before its scheduler waits for it."""
    timeouts = {name: value["death"] for name, value in of_workers(facts).items()}
    short = [name for name, seconds in timeouts.items() if seconds and seconds < BRIEF]
    return Verdict(Level.WARNING if short else Level.OK, by_value({name: span(seconds) for name, seconds in timeouts.items()}))


def judge_job(facts: Facts) -> Verdict:
    """The time limit of the batch job."""
    ends = {name: value["job"] for name, value in of_workers(facts).items() if value["job"] is not None}
    if not ends:
        return Verdict(Level.OK, "no limit is known")
    soon = [f"{name} in {span(seconds)}" for name, seconds in ends.items() if seconds < SOON]
    return Verdict(Level.WARNING, f"jobs end soon: {listed(soon)}") if soon else Verdict(Level.OK, f"{span(min(ends.values()))} left")


def timeouts(place: Place) -> dict[str, float | None]:
    """The scheduler's timeouts."""
    scheduler = place.server
    return {
        "worker-ttl": scheduler.worker_ttl or None,
        "no-workers": scheduler.no_workers_timeout or None,
        "idle": scheduler.idle_timeout or None,
    }


def judge_ttl(facts: Facts) -> Verdict:
    """Dask removes a silent worker for good after this time."""
    seconds = facts["scheduler"]["worker-ttl"]
    if seconds is None:
        return Verdict(Level.WARNING, "none: a worker whose host died silently stays listed")
    return Verdict(Level.WARNING if seconds < BRIEF else Level.OK, span(seconds))


def judge_no_workers(facts: Facts) -> Verdict:
    """Tasks fail after this time without any worker."""
    seconds = facts["scheduler"]["no-workers"]
    return Verdict(Level.WARNING if seconds is not None and seconds < 2 * BRIEF else Level.OK, span(seconds))


def judge_idle(facts: Facts) -> Verdict:
    """The scheduler ends after this time without a task: a pause between two fits counts."""
    seconds = facts["scheduler"]["idle"]
    return Verdict(Level.WARNING if seconds is not None and seconds < SOON else Level.OK, span(seconds))


def adaptive(place: Place) -> dict[str, Any] | None:
    """The adaptive scaling of the client's cluster; a client that connects by an address does not know it."""
    policy = getattr(getattr(place.client, "cluster", None), "_adaptive", None)
    return None if policy is None else {"minimum": policy.minimum, "maximum": str(policy.maximum)}


def judge_adaptive(facts: Facts) -> Verdict:
    """A cluster that may shrink to nothing starts each fit without workers."""
    policy = facts["client"]
    return Verdict(Level.WARNING if policy["minimum"] < 1 else Level.OK, f"{policy['minimum']} to {policy['maximum']} workers")


CHECKS = [
    Check(
        "life", "lifetime", ("workers",), life, judge_lifetime, "Give --lifetime-stagger, or a longer --lifetime, and --lifetime-restart."
    ),
    Check("life", "death-timeout", ("workers",), life, judge_death, "Give workers --death-timeout of a minute or more."),
    Check("life", "batch job", ("workers",), life, judge_job, "Write checkpoints (fit(checkpoint=…)), and submit a new job before that."),
    Check("life", "worker-ttl", ("scheduler",), timeouts, judge_ttl, "Set distributed.scheduler.worker-ttl to 5 minutes on the scheduler."),
    Check(
        "life",
        "no-workers-timeout",
        ("scheduler",),
        timeouts,
        judge_no_workers,
        "Raise distributed.scheduler.no-workers-timeout, or unset it.",
    ),
    Check("life", "idle-timeout", ("scheduler",), timeouts, judge_idle, "Start the scheduler with a longer --idle-timeout, or without."),
    Check("life", "adaptive", ("client",), adaptive, judge_adaptive, "cluster.adapt(minimum=1, …) or more."),
]
