"""A graph compiled for one process: straight-line NumPy over preallocated memory.

A `Plan` is picklable (its source travels, not its graph) and may be called from several threads: each has its own work space.
"""

from __future__ import annotations

import hashlib
import linecache
import re
import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError, DagtrainError, ExecutionError
from dagtrain.graph import Array, Graph, Spec
from dagtrain.ops import find
from dagtrain.ops.scan import run as run_scan
from dagtrain.plan.buffers import Memory, lay_out
from dagtrain.plan.inputs import as_input
from dagtrain.plan.source import PIECE, Line, write

__all__ = ["Plan", "plan"]

_ALIGNMENT = 64
_CODE_CACHE_SIZE = 1024
_code: OrderedDict[str, Any] = OrderedDict()
_code_lock = threading.Lock()
YieldPoint = tuple[Any, ...]
_YIELD = re.compile(r'^ +yield "(reads|wrote)", ([\d, ]+)$', re.MULTILINE)


class Plan:
    """Straight-line NumPy for a graph.

    Parameters
    ----------
    graph
        What to compute.
    donate
        Input name → output name: when bound, the output is written into the input's own array.
    yield_points
        Whether a run can pause and go on later; see `Bound.steps`.
    piece
        Calls in one function of the source, where the graph has more than eight times as many nodes.

    Attributes
    ----------
    source : str
        The generated Python.
    memory : Memory
        Bytes needed, against those of all intermediate values.
    inputs, outputs : dict of str → Spec
    yield_points : tuple of (str, int, …)
        Where a run can pause, in order; see `Bound.steps`.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> p = dt.trace(lambda x: np.tanh(x) * 2, np.zeros(3)).plan()
    >>> p(np.zeros(3))
    (array([0., 0., 0.]),)
    >>> p.memory.needed, p.memory.intermediates
    (48, 48)
    """

    def __init__(self, graph: Graph, donate: Mapping[str, str] | None = None, yield_points: bool = False, piece: int = PIECE) -> None:
        outputs = list(graph.outputs)
        donors = {}
        if yield_points and donate:
            raise ArgumentError("a plan with yield points does not write into its inputs: leave out donate or yield_points.")
        for source, target in (donate or {}).items():
            donors[graph.inputs[one_of("input", source, graph.inputs)]] = outputs.index(one_of("output", target, graph.outputs))
        layout = lay_out(list(graph.inputs.values()), list(graph.outputs.values()), donors, yield_points)
        loops = {n: _Loop(Plan(n.attribute("body"), piece=piece), dict(n.attributes)) for n in layout.order if n.op == "scan"}
        written = write(graph, layout, loops, yield_points, piece)
        self._fill(
            written.source,
            written.constants,
            written.kernels,
            written.lines,
            layout.sizes,
            layout.memory,
            {k: t.spec for k, t in graph.inputs.items()},
            {k: t.spec for k, t in graph.outputs.items()},
        )

    def _fill(
        self,
        source: str,
        constants: list[Any],
        kernels: list[str],
        lines: dict[int, Line],
        sizes: list[int],
        memory: Memory,
        inputs: dict[str, Spec],
        outputs: dict[str, Spec],
    ) -> None:
        self.source, self.memory, self.inputs, self.outputs = source, memory, inputs, outputs
        self._constants, self._kernels, self._lines, self._sizes = constants, kernels, lines, sizes
        self._input_specs = list(inputs.items())
        self.yield_points: tuple[YieldPoint, ...] = tuple(
            (what, *map(int, numbers.split(", "))) for what, numbers in _YIELD.findall(source)
        )
        digest = hashlib.sha256(source.encode())
        for value in constants:
            digest.update(value.key.encode() if isinstance(value, _Loop) else value.tobytes())
        self.key: str = digest.hexdigest()[:32]
        self._file = f"<dagtrain plan {self.key[:12]}>"
        self._threads = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.source, self._constants, self._kernels, self._lines, self._sizes, tuple(self.memory), self.inputs, self.outputs)
        return (_unpickled, state)

    @property
    def nbytes(self) -> int:
        """Bytes of the source and the constants: roughly the size of its pickle."""
        return len(self.source) + sum(c.body.nbytes if isinstance(c, _Loop) else c.nbytes for c in self._constants)

    @property
    def space(self) -> int:
        """Bytes of the work space of one binding, including its loops."""
        loops = (c.body for c in self._constants if isinstance(c, _Loop))
        return sum(self._sizes) + sum(2 * (body.space + body.memory.outputs) for body in loops)

    def __repr__(self) -> str:
        return f"<Plan {self.key[:12]}: {len(self._lines)} calls, {self.memory.needed:,} bytes>"

    def _builder(self) -> Any:
        with _code_lock:
            code = _code.get(self.key)
            if code is None:
                code = _code[self.key] = compile(self.source, self._file, "exec")
                linecache.cache[self._file] = (len(self.source), None, self.source.splitlines(keepends=True), self._file)
                if len(_code) > _CODE_CACHE_SIZE:
                    oldest, _ = _code.popitem(last=False)
                    linecache.cache.pop(f"<dagtrain plan {oldest[:12]}>", None)
        space: dict[str, Any] = {name: find(name).kernel for name in self._kernels}
        space |= {"copyto": np.copyto, "inf": np.inf, "nan": np.nan}
        exec(code, space)  # the text was written by dagtrain.plan.source from ops and literals alone
        return space["build"]

    def bind(self, outputs: Sequence[Array] | None = None, buffers: Sequence[Array] | None = None) -> Bound:
        """A callable with work space of its own that writes into fixed output arrays.

        Parameters
        ----------
        outputs
            C-contiguous arrays of the outputs' specs, in order; new ones by default.
        buffers
            The work space (``bound.buffers``) of another binding of this plan, which then must not run at the same time.

        Returns
        -------
        Bound
            Called with the inputs (C-contiguous arrays of exactly the right shape and dtype: nothing is checked), it fills
            and returns `outputs`.
        """
        arrays = [np.empty(s.shape, s.dtype) for s in self.outputs.values()] if outputs is None else list(outputs)
        for (name, spec), array in zip(self.outputs.items(), arrays, strict=True):
            if array.shape != spec.shape or array.dtype != spec.dtype or not array.flags.c_contiguous:
                raise ArgumentError(f"output {name!r} must be a C-contiguous array of {spec}, got {array.dtype}{array.shape}.")
        space = [_aligned(n) for n in self._sizes] if buffers is None else list(buffers)
        run = self._builder()(space, arrays, self._constants, _view)
        return Bound(run, tuple(arrays), space, bool(self.yield_points))

    def __call__(self, *inputs: Any) -> tuple[Array, ...]:
        """The outputs for these inputs, as new arrays.

        Raises
        ------
        ArgumentError
            If the number of inputs or a shape is wrong.
        ExecutionError
            If a kernel fails; names the op and the user's line.
        """
        arrays = self.check(inputs)
        bound = getattr(self._threads, "bound", None)
        if bound is None:
            bound = self._threads.bound = self.bind()
        return tuple(o.copy() for o in self.run(bound, arrays))

    def run(self, bound: Bound, arrays: Sequence[Any]) -> tuple[Array, ...]:
        """The outputs of a bound plan, in its memory; see `__call__` for errors of kernels."""
        try:
            bound.run(*arrays)
        except DagtrainError:
            raise
        except Exception as error:
            raise self.explain(error) from error
        return bound.outputs

    def check(self, inputs: Sequence[Any]) -> list[Array]:
        """The inputs as arrays of the right shape and dtype, or an error that names the wrong one."""
        if len(inputs) != len(self._input_specs):
            raise ArgumentError(f"the plan takes {len(self._input_specs)} inputs {list(self.inputs)}, got {len(inputs)}.")
        arrays = []
        for (name, spec), value in zip(self._input_specs, inputs, strict=True):
            array = as_input(name, spec, value)
            if not array.flags.aligned:  # as after a transfer: NumPy's own copy of it may have another layout
                array = array.copy()
            arrays.append(array)
        return arrays

    def explain(self, error: Exception) -> ExecutionError:
        """The error of a kernel, with its op and the user's line."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            line = self._line(frame.filename, frame.lineno or 0)
            if line is not None:
                return ExecutionError(f"{line.op} ({line.spec}), written at {line.origin}, failed: {type(error).__name__}: {error}")
        return ExecutionError(f"a plan failed: {type(error).__name__}: {error}")

    def _line(self, file: str, number: int) -> Line | None:
        """The op of a line of this plan, or of the body of one of its loops."""
        if file == self._file:
            return self._lines.get(number)
        bodies = (value.body for value in self._constants if isinstance(value, _Loop))
        return next((line for body in bodies if (line := body._line(file, number)) is not None), None)


class Bound:
    """A plan with its memory: ``bound(*inputs)`` fills and returns ``bound.outputs``.

    Attributes
    ----------
    run
        The same without checks and without a result.
    steps
        Of a plan with yield points: an iterator that runs to the next point and yields it: ``("reads", k, …)`` before the first use of
        these inputs, ``("wrote", k, …)`` right after these outputs are written. The plan yields for all inputs before it writes an output;
        each output is written once, and never read. So the caller may do other work in between: change outputs that are written, even
        step through this plan bound to other work space and the same outputs.
    """

    __slots__ = ("buffers", "outputs", "run", "steps")

    def __init__(self, run: Callable[..., Any], outputs: tuple[Array, ...], buffers: list[Array], yield_points: bool = False) -> None:
        self.outputs, self.buffers = outputs, buffers
        self.steps: Callable[..., Iterator[YieldPoint]] | None = run if yield_points else None
        self.run: Callable[..., Any] = (lambda *inputs: deque(run(*inputs), 0)) if yield_points else run

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        self.run(*inputs)
        return self.outputs


class _Loop:
    """A scan in a plan: the body's plan and how its inputs and outputs are wired."""

    def __init__(self, body: Plan, attributes: dict[str, Any]) -> None:
        self.body = body
        self.wiring = {k: attributes[k] for k in ("carries", "sequences", "length", "reverse")}
        self.key = f"{body.key}{self.wiring}"

    def bind(self) -> Callable[[Sequence[Array], Sequence[Array | None]], Any]:
        """The loop with its own memory: one step's carries are read while the next are written, so there are two bindings."""
        bindings = (self.body.bind(), self.body.bind())
        count = 0

        def step(*inputs: Array) -> tuple[Array, ...]:
            nonlocal count
            count += 1
            return bindings[count % 2](*inputs)

        return lambda arrays, buffers: run_scan(self.wiring, step, arrays, buffers)


def _aligned(nbytes: int) -> Array:
    raw = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + nbytes]


def _view(buffer: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    return buffer[: count * kind.itemsize].view(kind).reshape(shape)


def _unpickled(*state: Any) -> Plan:
    instance = object.__new__(Plan)
    source, constants, kernels, lines, sizes, memory, inputs, outputs = state
    specs = [{k: Spec(*s) for k, s in group.items()} for group in (inputs, outputs)]
    instance._fill(source, constants, kernels, lines, sizes, Memory(*memory), *specs)
    return instance


def plan(
    graph: Graph, *, optimize: bool = True, approximate: bool = False, donate: Mapping[str, str] | None = None, yield_points: bool = False
) -> Plan:
    """Optimise a graph and compile it; what `Graph.plan` does.

    Parameters
    ----------
    optimize
        Whether rewrites and constant folding run first.
    approximate
        Whether rewrites that change results for NaN, infinity or signed zero are allowed.
    donate, yield_points
        See `Plan`.
    """
    if optimize:
        from dagtrain.transform import optimize as run_stages

        graph = run_stages(graph, approximate=approximate)
    return Plan(graph, donate, yield_points)
