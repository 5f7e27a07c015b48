"""Examine a machine and a cluster: gather the facts of all checks, judge them, print one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dagtrain.deploy.check import Check, Level, Line, Place, listed
from dagtrain.deploy.checks import CHECKS
from dagtrain.deploy.gather import Outcome, gather, gather_here, job_of
from dagtrain.engines.client import workers_of

__all__ = ["examine", "exit_code", "judged", "report"]

MARKS = {Level.OK: "✓", Level.WARNING: "!", Level.FAILURE: "✗"}


def examine(
    client: Any = None, checkpoint: str | Path | None = None, certs: str | Path | None = None, checks: Sequence[Check] = CHECKS
) -> list[Line]:
    """Run all checks.

    Parameters
    ----------
    client
        A Dask client of the cluster; without one, only this machine is examined.
    checkpoint
        Where a fit will write its checkpoints.
    certs
        A folder of certificates.
    checks
        The checks to run.

    Returns
    -------
    list of Line
        One line a check; checks that find nothing to judge have none.

    Examples
    --------
    >>> from dagtrain.deploy.checks import tools
    >>> [line.name for line in examine(checks=tools.CHECKS)]
    ['pictures', 'file descriptors']
    """
    paths: dict[str, Any] = {"checkpoint": None if checkpoint is None else str(checkpoint), "certs": None if certs is None else str(certs)}
    if client is None:
        return judged(checks, {"client": gather_here(checks, Place("client", **paths))})
    place = Place("client", tuple(sorted(workers_of(client))), **paths)
    outcomes = gather(client, checks, place)
    here = gather_here(checks, replace(place, client=client))
    return judged(checks, {"client": here, **outcomes})


def judged(checks: Sequence[Check], outcomes: Mapping[str, Mapping[str, Outcome]]) -> list[Line]:
    """The lines for what the jobs of all processes returned; an error of a gather or a judgement is a failure that names it."""
    lines = []
    for check in checks:
        job = job_of(check)
        results = {name: jobs[job] for name, jobs in outcomes.items() if job in jobs}
        errors = [f"{name}: {text}" for name, (returned, text) in results.items() if not returned]
        facts = {name: value for name, (returned, value) in results.items() if returned and value is not None}
        if errors:
            verdict = Level.FAILURE, listed(errors)
        elif not facts:
            continue
        else:
            try:
                verdict = check.judge(facts)
            except Exception as error:
                verdict = Level.FAILURE, f"the facts could not be judged: {type(error).__name__}: {error}"
        level, seen = verdict
        lines.append(Line(check.group, check.name, level, seen, "" if level is Level.OK else check.cure))
    return lines


def exit_code(lines: Sequence[Line]) -> int:
    """0 if all is well, 1 if there are warnings, 2 if something fails."""
    return int(max((line.level for line in lines), default=Level.OK))


def report(lines: Sequence[Line]) -> str:
    """The lines by group, each with its mark, and the cure below those that need one."""
    texts, width = [], max((len(line.name) for line in lines), default=0)
    for i, line in enumerate(lines):
        if i == 0 or lines[i - 1].group != line.group:
            texts.append(f"{line.group}")
        texts.append(f"  {MARKS[line.level]} {line.name.ljust(width)}  {line.seen}")
        if line.cure:
            texts.append(f"    {' ' * width}  → {line.cure}")
    counts = [sum(line.level is level for line in lines) for level in Level]
    return "\n".join([*texts, "", f"{counts[0]} ✓, {counts[1]} !, {counts[2]} ✗"])
