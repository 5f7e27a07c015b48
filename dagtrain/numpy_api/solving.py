"""numpy.linalg's inverses, solutions and determinants."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain.numpy_api.calls import implements
from dagtrain.ops import solving

_SlogdetResult: Any = type(np.linalg.slogdet(np.ones((1, 1))))  # NumPy does not export it

implements(np.linalg.inv)(solving.inv)
implements(np.linalg.solve)(solving.solve)
implements(np.linalg.det)(solving.det)


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    return _SlogdetResult(*solving.slogdet(a))
