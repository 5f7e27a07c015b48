"""Packages that results are compared with, imported when a test uses them: every worker collects all tests, which would take seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


class Functions:
    """The functions of a module that is imported when the first of them is called; without it the test is skipped."""

    def __init__(self, module: str, reason: str) -> None:
        self._module, self._reason = module, reason

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            return getattr(pytest.importorskip(self._module, reason=self._reason), name)(*args, **options)

        return call


scikit_learn = Functions("sklearn.metrics", "scikit-learn is what metrics are compared with")
