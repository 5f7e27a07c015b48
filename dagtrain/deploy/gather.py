"""Gather the facts of all checks, in every process of a cluster, each with a deadline.

Functions are sent with their code: a worker on which dagtrain is missing, or another version is installed, runs the same checks.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pickle
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from dagtrain.deploy.check import Check, Place

__all__ = ["Outcome", "ask", "gather", "gather_here", "job_of", "present"]

Outcome = tuple[bool, Any]
"""Whether a gather returned, and its value, or else the error's text."""
Jobs = Mapping[str, tuple[Callable[[Place], Any], float]]

_ANSWER = 5.0
"""Seconds for a process to answer, besides those of its gathers."""


def present(place: Place) -> bool:
    """Whether the process answers: the job whose outcome is the error of a process that does not."""
    return True


class ByValue:
    """An object that is pickled with the code of this folder's functions and classes."""

    def __init__(self, value: Any) -> None:
        import cloudpickle

        package = sys.modules["dagtrain.deploy"]
        cloudpickle.register_pickle_by_value(package)
        try:
            self._payload = cloudpickle.dumps(value)
        finally:
            cloudpickle.unregister_pickle_by_value(package)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._payload,)


async def collect(jobs: Jobs, place: Place, dask_worker: Any = None) -> dict[str, Outcome]:
    """The outcome of every job in this process. Dask passes the process's server."""
    place = replace(place, server=dask_worker)

    async def outcome(job: Callable[[Place], Any], deadline: float) -> Outcome:
        try:
            return True, await asyncio.wait_for(job(place) if inspect.iscoroutinefunction(job) else in_thread(job), deadline)
        except TimeoutError:
            return False, f"no answer within {deadline:g} s"
        except Exception as error:
            return False, f"{type(error).__name__}: {error}"

    def in_thread(job: Callable[[Place], Any]) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def finish(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def work() -> None:
            value: Any = None
            error: BaseException | None = None
            try:
                value = job(place)
            except StopIteration as stop:  # a future refuses it
                error = RuntimeError(f"StopIteration: {stop}")
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the deadline is past, and the loop closed
                loop.call_soon_threadsafe(finish, value, error)

        # A daemon: one that hangs does not keep the process alive, as a thread of a pool would.
        threading.Thread(target=work, name="dagtrain-doctor", daemon=True).start()
        return future

    # Coroutines measure the network, so they run when the threads are done.
    outcomes: dict[str, Outcome] = {}
    for measuring in (False, True):
        names = [name for name, (job, _) in jobs.items() if inspect.iscoroutinefunction(job) is measuring]
        results = await asyncio.gather(*(outcome(*jobs[name]) for name in names))
        outcomes |= dict(zip(names, results, strict=True))
    return outcomes


def gather(client: Any, checks: Sequence[Check], place: Place) -> dict[str, dict[str, Outcome]]:
    """Process → job → outcome, from the scheduler and all workers; a process that does not answer has only `present`, with the error."""
    names = ["scheduler", *place.workers]
    answering = ask(client, names, time.time, _ANSWER)
    silent = {name: {_name(present): (False, f"no answer within {_ANSWER:g} s")} for name in names if name not in answering}
    sent = ByValue(collect)

    async def outcomes_of(name: str) -> tuple[str, dict[str, Outcome]]:
        jobs = jobs_of(checks, "scheduler" if name == "scheduler" else "workers")
        within = sum(max((d for j, d in jobs.values() if inspect.iscoroutinefunction(j) is kind), default=0.0) for kind in (False, True))
        arguments = ByValue(jobs), ByValue(replace(place, name=name))
        try:
            answer: dict[str, Outcome] = await asyncio.wait_for(_run(client, name, sent, *arguments), within + _ANSWER)
        except TimeoutError:
            return name, {_name(present): (False, f"no answer within {within + _ANSWER:g} s")}
        except Exception as error:
            return name, {_name(present): (False, f"{type(error).__name__}: {error}")}
        return name, answer

    async def ask_all() -> dict[str, dict[str, Outcome]]:
        return dict(await asyncio.gather(*map(outcomes_of, answering)))

    return {**client.sync(ask_all), **silent}


def ask(client: Any, names: Sequence[str], function: Callable[[], Any], seconds: float) -> dict[str, tuple[Any, float, float]]:
    """Process → answer, and the time here before and after it, from those that answer within `seconds`.

    The function is one of a package that every process has, so that it is found by its name whatever the version of Python.
    """

    async def answer(name: str) -> tuple[str, tuple[Any, float, float] | None]:
        began = time.time()
        try:
            value = await asyncio.wait_for(_run(client, name, function), seconds)
        except Exception:  # the check "answers" names the process
            return name, None
        return name, (value, began, time.time())

    async def ask_all() -> list[tuple[str, tuple[Any, float, float] | None]]:
        return await asyncio.gather(*map(answer, names))

    return {name: answered for name, answered in client.sync(ask_all) if answered is not None}


async def _run(client: Any, name: str, function: Any, *arguments: Any) -> Any:
    """Run a function in the scheduler or in a worker; raises its error."""
    if name == "scheduler":
        return await client.run_on_scheduler(function, *arguments)
    answers = await client.run(function, *arguments, workers=[name], on_error="return")
    if isinstance(answers[name], BaseException):
        raise answers[name]
    return answers[name]


def gather_here(checks: Sequence[Check], place: Place) -> dict[str, Outcome]:
    """The outcomes of the jobs of this process; an event loop may run in the calling thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, collect(jobs_of(checks, "client"), place)).result()


def jobs_of(checks: Sequence[Check], where: str) -> Jobs:
    """The jobs of processes of one kind; checks that share a gather share its job."""
    return {job_of(check): (check.gather, check.deadline) for check in checks if where in check.where}


def job_of(check: Check) -> str:
    """The name of a check's job."""
    return _name(check.gather)


def _name(function: Callable[[Place], Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
