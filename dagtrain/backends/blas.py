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

        _controller = ThreadpoolController()  # scans all loaded libraries, which takes milliseconds: once
    return _controller


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread for the whole process until the last thread inside leaves."""
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
    """The settings that steps run under: one BLAS thread, and no warnings, since results are checked for NaN and infinity."""
    with one_blas_thread(), np.errstate(all="ignore"):
        yield


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas_description() -> str:
    """NumPy's BLAS and the kernels it chose, on which the bits of results depend.

    A BLAS that another package loads into the process is left out: it computes nothing here.
    """
    loaded = [i for i in _libraries().info() if i.get("user_api") == "blas"]
    libraries = [i for i in loaded if "numpy" in str(i.get("filepath"))] or loaded
    return ", ".join(f"{i.get('internal_api')} {i.get('version')} {i.get('architecture', '')}".strip() for i in libraries) or "unknown"
