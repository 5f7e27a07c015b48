"""One BLAS thread while shards are computed: the number of threads changes the bits of large matrix products."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["blas_description", "cores", "guard", "one_blas_thread"]

_lock = threading.Lock()
_users = 0
_limit: Any = None
_controller: Any = None


def _libraries() -> Any:
    global _controller
    if _controller is None:
        from threadpoolctl import ThreadpoolController

        _controller = ThreadpoolController()  # looks through all loaded libraries, some milliseconds: once
    return _controller


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread for the whole process until the last of the threads inside has left."""
    global _users, _limit
    with _lock:
        if _users == 0:
            _limit = _libraries().limit(limits=1, user_api="blas")
            _limit.__enter__()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limit.__exit__(None, None, None)
                _limit = None


@contextmanager
def guard() -> Iterator[None]:
    """What steps run under: one BLAS thread, and no warnings, since what is not finite is looked for in results."""
    with one_blas_thread(), np.errstate(all="ignore"):
        yield


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas_description() -> str:
    """NumPy's BLAS and the kernels it chose, on which the bits of results depend.

    Other packages bring a BLAS of their own into the process; that one computes nothing here.
    """
    every = [i for i in _libraries().info() if i.get("user_api") == "blas"]
    found = [i for i in every if "numpy" in str(i.get("filepath"))] or every
    return ", ".join(f"{i.get('internal_api')} {i.get('version')} {i.get('architecture', '')}".strip() for i in found) or "unknown"
