"""Many small cases as one test: a case of a millisecond is not worth a test of its own, but all faults should show at once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def rarely(*values: Any) -> Any:
    """A further case of a kind that others show: for the long form alone."""
    return pytest.param(*values, marks=pytest.mark.long)


def each(cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a test of one case so that it runs all; failures are raised together, each with its case.

    Cases are what `pytest.mark.parametrize` takes: values, tuples of them, or `pytest.param`. Arguments after those of a case are fixtures.
    """
    params = [case if hasattr(case, "marks") else pytest.param(*(case if isinstance(case, tuple) else (case,))) for case in cases]
    assert params, "a test of no cases proves nothing"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def test_each(**fixtures: Any) -> None:
            faults: list[Exception] = []
            for param in params:
                try:
                    test(*param.values, **fixtures)
                except (Exception, pytest.fail.Exception) as error:  # `pytest.raises` fails by something that is not an Exception
                    fault = error if isinstance(error, Exception) else AssertionError(str(error)).with_traceback(error.__traceback__)
                    fault.add_note(f"case {param.id or param.values}")
                    faults.append(fault)
            if faults:
                raise ExceptionGroup(f"{len(faults)} of {len(params)} cases", faults)

        signature = inspect.signature(test)
        fixtures = list(signature.parameters.values())[len(params[0].values) :]
        test_each.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]  # read by pytest
        return test_each

    return decorate
