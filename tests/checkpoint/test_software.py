"""The software that bits depend on."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from dagtrain.backends.numpy import functions_description
from dagtrain.step.software import other_software

TARGETS = np.show_config(mode="dicts")["SIMD Extensions"]["found"]  # type: ignore[index, call-overload]  # a dict of dicts
needs_target = pytest.mark.skipif(not TARGETS, reason="NumPy has no CPU feature to switch off here")


def test_software_missing_from_a_checkpoint_is_unknown() -> None:
    assert other_software({"numpy": "2.4"}, {"numpy": "2.4", "functions": "X86_V3"}) == ["functions: unknown there, X86_V3 here"]


@needs_target
def test_functions_for_another_processor_differ() -> None:
    code = "import dagtrain.backends.numpy as s; print(s.functions_description())"
    same, other = (
        subprocess.run([sys.executable, "-c", code], env=os.environ | env, check=True, capture_output=True, text=True).stdout.strip()
        for env in ({}, {"NPY_DISABLE_CPU_FEATURES": " ".join(TARGETS)})
    )
    assert same == functions_description()
    assert same.partition(", ")[0] != other.partition(", ")[0], "the code that NumPy chose"
    assert same.partition(", ")[2] != other.partition(", ")[2], "and what it computes"
