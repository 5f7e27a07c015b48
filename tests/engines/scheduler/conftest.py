"""The step graph is tested with the trainers, and the fits, of the tests of training."""

from ...train.conftest import fit_digits, make

__all__ = ["fit_digits", "make"]
