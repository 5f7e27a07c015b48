"""The trainers and fits of the tests of training, for the step graph; and a shorter fit than that of ranks, since each task costs time."""

import copy
from typing import Any

import pytest

from ...train.conftest import fit_digits, make

__all__ = ["fit_digits", "make", "plain"]


@pytest.fixture(scope="session")
def plain(plain: Any) -> Any:
    """Two epochs of the recipe."""
    shorter = copy.copy(plain)
    shorter.epochs, shorter._inline = 2, None
    return shorter
