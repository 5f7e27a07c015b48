"""Tests of the step graph use the trainers and fits of the tests of training."""

from ...train.conftest import fit_digits, make

__all__ = ["fit_digits", "make"]
