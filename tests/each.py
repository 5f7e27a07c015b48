"""Many small cases as one test: what takes a millisecond is not worth a test of its own, but all faults are to be seen at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def each(cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Decorate a test of one case so that it takes them all; those that fail are raised together, each with its case.

    Cases are what `pytest.mark.parametrize` takes: values, tuples of them, or `pytest.param`.
    """
    params = [case if hasattr(case, "marks") else pytest.param(*(case if isinstance(case, tuple) else (case,))) for case in cases]

    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        def test_each() -> None:
            faults: list[Exception] = []
            for param in params:
                try:
                    test(*param.values)
                except (Exception, pytest.fail.Exception) as error:  # that of a `pytest.raises` in which nothing was raised is no Exception
                    fault = error if isinstance(error, Exception) else AssertionError(str(error)).with_traceback(error.__traceback__)
                    fault.add_note(f"case {param.id or param.values}")
                    faults.append(fault)
            if faults:
                raise ExceptionGroup(f"{len(faults)} of {len(params)} cases", faults)

        assert params, "a test of no cases proves nothing"
        functools.update_wrapper(test_each, test)
        del test_each.__wrapped__  # type: ignore[attr-defined]  # pytest would take the names of its arguments for fixtures
        return test_each

    return decorate
