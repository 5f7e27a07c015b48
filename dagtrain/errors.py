"""Every error that dagtrain raises on purpose, as one tree.

    DagtrainError
    ├── GraphError                the computational graph is not well formed
    │   ├── ShapeError            shapes that do not fit            (also ValueError)
    │   ├── DTypeError            dtypes that do not fit            (also TypeError)
    │   └── UnsupportedError      a function or argument we lack    (also TypeError)
    ├── GradientError
    │   ├── NotScalarError        the cost is not one number        (also ValueError)
    │   ├── NotConnectedError     a target does not reach the cost  (also ValueError)
    │   └── NoGradientError       an op on the path has no rule     (also TypeError)
    ├── ExecutionError            a kernel failed while a plan ran  (also RuntimeError)
    │   └── NotFiniteError        NaN or infinity appeared          (also ArithmeticError)
    ├── ArgumentError             an argument is wrong              (also ValueError)
    │   └── UnknownNameError      a name that is not on the list
    │       └── UnknownArgumentError  a keyword argument            (also TypeError)
    ├── DataError                 the user's data cannot be used    (also ValueError)
    ├── LedgerError               samples left out or used twice    (also RuntimeError)
    ├── CheckpointError           a checkpoint cannot be used       (also RuntimeError)
    ├── ClusterError              the cluster cannot go on          (also RuntimeError)
    └── MissingDependencyError    an optional package is absent     (also ImportError)

A message says what was wrong (with names, shapes and values), where in the user's code, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Self

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ClusterError",
    "DTypeError",
    "DagtrainError",
    "DataError",
    "ExecutionError",
    "GradientError",
    "GraphError",
    "LedgerError",
    "MissingDependencyError",
    "NoGradientError",
    "NotConnectedError",
    "NotFiniteError",
    "NotScalarError",
    "ShapeError",
    "UnknownArgumentError",
    "UnknownNameError",
    "UnsupportedError",
]


class DagtrainError(Exception):
    """Root of all errors that dagtrain raises on purpose."""


class GraphError(DagtrainError):
    """The computational graph is not well formed."""


class ShapeError(GraphError, ValueError):
    """Shapes do not fit together."""


class DTypeError(GraphError, TypeError):
    """A dtype cannot be used here."""


class UnsupportedError(GraphError, TypeError):
    """A NumPy function, or an argument of one, that tensors do not support."""


class GradientError(DagtrainError):
    """A gradient cannot be built."""


class NotScalarError(GradientError, ValueError):
    """The cost is not one number."""


class NotConnectedError(GradientError, ValueError):
    """A target of differentiation does not reach the cost."""


class NoGradientError(GradientError, TypeError):
    """An op between a target and the cost has no gradient rule."""


class ExecutionError(DagtrainError, RuntimeError):
    """A kernel failed while a plan ran."""


class NotFiniteError(ExecutionError, ArithmeticError):
    """NaN or infinity appeared where numbers were expected."""


class ArgumentError(DagtrainError, ValueError):
    """An argument is wrong."""


class UnknownNameError(ArgumentError):
    """A name that is not on the list of known names."""

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[str], hints: Mapping[str, str] | None = None) -> Self:
        """The error for a name: it lists the known names and suggests the nearest one.

        Parameters
        ----------
        kind
            Kind of the named thing.
        name
            The unknown name.
        known
            The known names.
        hints
            Name in other libraries (small letters and digits only) → name here.

        Examples
        --------
        >>> print(UnknownNameError.of("loss", "MSELoss", ["huber", "mean_squared_error"], {"mse": "'mean_squared_error'"}))
        unknown loss 'MSELoss'. Here it is 'mean_squared_error'. Known: huber, mean_squared_error.
        """
        names = sorted(known)
        hint = (hints or {}).get(bare(name))
        if hint is not None:
            hint = f" Here it is {hint}."
        else:
            small = {name.lower(): name for name in names}
            near = difflib.get_close_matches(str(name).lower(), small, n=1, cutoff=0.5)
            hint = f" Did you mean {small[near[0]]!r}?" if near else ""
        return cls(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}.")


class UnknownArgumentError(UnknownNameError, TypeError):
    """A keyword argument that a function or class does not take."""


def bare(name: object) -> str:
    """A name without the differences between libraries: ``MSELoss``, ``mse_loss`` and ``mse`` are one."""
    return "".join(letter for letter in str(name).lower() if letter.isalnum()).removesuffix("loss")


class DataError(DagtrainError, ValueError):
    """The user's data cannot be used."""


class LedgerError(DagtrainError, RuntimeError):
    """A sample was left out of an epoch, or used more than once in it."""


class CheckpointError(DagtrainError, RuntimeError):
    """A checkpoint cannot be written, or is not what was written."""


class ClusterError(DagtrainError, RuntimeError):
    """The Dask cluster cannot go on with the work."""


class MissingDependencyError(DagtrainError, ImportError):
    """An optional package is absent."""

    @classmethod
    def of(cls, package: str, purpose: str, extra: str) -> MissingDependencyError:
        """Name the package, what it is for, and the command that installs it."""
        return cls(f'{purpose} needs {package}. Install it with: pip install "dagtrain[{extra}]"')
