"""A graph compiled for one process: straight-line calls of a backend's kernels over preallocated memory.

A `Plan` is picklable (its source travels, not its graph) and may be called from several threads: each has its own work space.
"""

from __future__ import annotations

import hashlib
import linecache
import math
import re
import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import CodeType
from typing import Any

from dagtrain.arguments import one_of
from dagtrain.backends import NUMPY, Backend, find_backend
from dagtrain.errors import ArgumentError, DagtrainError, ExecutionError
from dagtrain.graph import Array, Graph, Origin, Spec, bodies
from dagtrain.plan.bodies import BoundBodies
from dagtrain.plan.buffers import Memory, lay_out
from dagtrain.plan.inputs import as_input
from dagtrain.plan.source import PIECE, Line, write

__all__ = ["Plan", "plan"]

_CODE_CACHE_SIZE = 1024
_code: OrderedDict[str, Any] = OrderedDict()
_code_lock = threading.Lock()
_KEPT, _LARGEST_KEPT = 64, 1 << 20
_MOST_NODES = 10_000
"""Nodes of the largest graph whose plan is kept: the key of a larger one takes long, and its plan is large."""
_kept: OrderedDict[Any, Plan] = OrderedDict()
_kept_lock = threading.Lock()
YieldPoint = tuple[Any, ...]
_YIELD = re.compile(r'^ +yield "(reads|wrote)", ([\d, ]+)$', re.MULTILINE)


class Plan:
    """Straight-line calls of kernels for a graph.

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
    backend
        Whose memory and kernels: a `Backend` or its name.

    Attributes
    ----------
    source : str
        The generated Python.
    memory : Memory
        Bytes needed, against those of all intermediate values.
    inputs, outputs : dict of str → Spec
    yield_points : tuple of (str, int, …)
        Where a run can pause, in order; see `Bound.steps`.
    content : str
        Hash of what it computes.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> p = dt.trace(lambda x: np.tanh(x) * 2, np.zeros(3)).plan()
    >>> p(np.zeros(3))
    (array([0., 0., 0.]),)
    >>> p.memory.needed, p.memory.intermediates
    (48, 48)
    """

    def __init__(
        self,
        graph: Graph,
        donate: Mapping[str, str] | None = None,
        yield_points: bool = False,
        piece: int = PIECE,
        backend: str | Backend = NUMPY,
    ) -> None:
        backend = find_backend(backend)
        outputs = list(graph.outputs)
        donors = {}
        if yield_points and donate:
            raise ArgumentError("a plan with yield points does not write into its inputs: leave out donate or yield_points.")
        for source, target in (donate or {}).items():
            donors[graph.inputs[one_of("input", source, graph.inputs)]] = outputs.index(one_of("output", target, graph.outputs))
        layout = lay_out(list(graph.inputs.values()), list(graph.outputs.values()), donors, yield_points, backend)
        inner = {n: BoundBodies(n, lambda body: Plan(body, piece=piece, backend=backend)) for n in layout.order if layout.kernel(n).bind}
        written = write(graph, layout, inner, backend, yield_points, piece)
        digest = hashlib.sha256(written.source.encode())
        for value in written.constants:
            digest.update(value.content.encode() if isinstance(value, BoundBodies) else value.tobytes())
        self._fill(
            backend,
            digest.hexdigest()[:32],
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
        backend: Backend,
        content: str,
        source: str,
        constants: list[Any],
        kernels: list[str],
        lines: dict[int, Line],
        sizes: list[int],
        memory: Memory,
        inputs: dict[str, Spec],
        outputs: dict[str, Spec],
    ) -> None:
        self.backend, self.content = backend, content
        self.source, self.memory, self.inputs, self.outputs = source, memory, inputs, outputs
        self._constants, self._kernels, self._lines, self._sizes = constants, kernels, lines, sizes
        self._input_specs = list(inputs.items())
        self.yield_points: tuple[YieldPoint, ...] = tuple(
            (what, *map(int, numbers.split(", "))) for what, numbers in _YIELD.findall(source)
        )
        self._file = f"<dagtrain plan {self.content[:12]}>"
        self._threads = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.source, self._constants, self._kernels, self._lines, self._sizes, tuple(self.memory), self.inputs, self.outputs)
        return (_unpickled, (self.backend.name, self.key, self.content, *state))

    @cached_property
    def key(self) -> str:
        """Hash of `content` and of the kernel set that the plan was made for: equal keys are equal bits."""
        return hashlib.sha256(f"{self.backend.kernel_set}\n{self.content}".encode()).hexdigest()[:32]

    @property
    def nbytes(self) -> int:
        """Bytes of the source and the constants: roughly the size of its pickle."""
        return len(self.source) + sum(int(c.nbytes) for c in self._constants)

    @property
    def space(self) -> int:
        """Bytes of the work space of one binding, with its bodies."""
        return sum(self._sizes) + sum(c.space for c in self._constants if isinstance(c, BoundBodies))

    def __repr__(self) -> str:
        return f"<Plan {self.content[:12]}: {len(self._lines)} calls, {self.memory.needed:,} bytes>"

    def _builder(self) -> Any:
        with _code_lock:
            code = _code.get(self.content)
            if code is None:
                code = _code[self.content] = _compiled(self.source, self._file)
                linecache.cache[self._file] = (len(self.source), None, self.source.splitlines(keepends=True), self._file)
                if len(_code) > _CODE_CACHE_SIZE:
                    oldest, _ = _code.popitem(last=False)
                    linecache.cache.pop(f"<dagtrain plan {oldest[:12]}>", None)
        space: dict[str, Any] = {name: self.backend.kernel(name).call for name in self._kernels}
        space |= {"copyto": self.backend.copy, "inf": math.inf, "nan": math.nan}
        for piece in code:
            exec(piece, space)  # the text was written by dagtrain.plan.source from ops and literals alone
        return space["build"]

    def bind(self, outputs: Sequence[Array] | None = None, buffers: Sequence[Array] | None = None) -> Bound:
        """A callable with work space of its own that writes into fixed output arrays.

        Parameters
        ----------
        outputs
            C-contiguous arrays of the backend, of the outputs' specs, in order; new ones by default.
        buffers
            The work space (``bound.buffers``) of another binding of this plan, which then must not run at the same time.

        Returns
        -------
        Bound
            Called with the inputs (C-contiguous arrays of the backend, of exactly the right shape and dtype: nothing is checked), it
            fills and returns `outputs`.
        """
        empty = self.backend.empty
        arrays = [empty(s.shape, s.dtype) for s in self.outputs.values()] if outputs is None else list(outputs)
        for (name, spec), array in zip(self.outputs.items(), [] if outputs is None else arrays, strict=outputs is not None):
            if array.shape != spec.shape or array.dtype != spec.dtype or not array.flags.c_contiguous:
                raise ArgumentError(f"output {name!r} must be a C-contiguous array of {spec}, got {array.dtype}{array.shape}.")
        space = [empty((n,), "u1") for n in self._sizes] if buffers is None else list(buffers)
        constants = [c.bind(self.backend) if isinstance(c, BoundBodies) else self.backend.from_host(c) for c in self._constants]
        run = self._builder()(space, arrays, constants, self.backend)
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
        return tuple(o.copy() for o in self.run_on_host(bound, arrays))

    def run_on_host(self, bound: Bound, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs for checked inputs; NumPy's are those of the binding, in its memory."""
        return tuple(map(self.backend.to_host, self.run(bound, [self.backend.from_host(array) for array in arrays])))

    def run(self, bound: Bound, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs of a bound plan for the backend's own arrays, in its memory; see `__call__` for errors of kernels."""
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
        """The op of a line of this plan, or of a body in it."""
        if file == self._file:
            return self._lines.get(number)
        plans = (plan for value in self._constants if isinstance(value, BoundBodies) for plan in value.plans)
        return next((line for plan in plans if (line := plan._line(file, number)) is not None), None)


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


def _compiled(source: str, file: str) -> list[Any]:
    """The code of each function of a source: the syntax tree of a large source as a whole takes much memory."""
    pieces, lines = [], 0
    for text in re.split(r"^(?=def )", source, flags=re.MULTILINE):
        pieces.append(_moved(compile(text, file, "exec"), lines))
        lines += text.count("\n")
    return pieces


def _moved(code: CodeType, lines: int) -> CodeType:
    """The code as if it began this many lines further down."""
    inner = tuple(_moved(c, lines) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_consts=inner, co_firstlineno=code.co_firstlineno + lines)


def _unpickled(*state: Any) -> Plan:
    instance = object.__new__(Plan)
    backend, key, content, source, constants, kernels, lines, sizes, memory, inputs, outputs = state
    specs = [{k: Spec(*s) for k, s in group.items()} for group in (inputs, outputs)]
    instance.key = key
    instance._fill(find_backend(backend), content, source, constants, kernels, lines, sizes, Memory(*memory), *specs)
    return instance


def plan(
    graph: Graph,
    *,
    optimize: bool = True,
    approximate: bool = False,
    donate: Mapping[str, str] | None = None,
    yield_points: bool = False,
    backend: str | Backend = NUMPY,
) -> Plan:
    """Optimise a graph and compile it; what `Graph.plan` does.

    The plan of an equal graph of the same lines is used again, as by trainers of one model: the last 64 of at most a megabyte and 10,000
    nodes are kept.

    Parameters
    ----------
    optimize
        Whether rewrites and constant folding run first.
    approximate
        Whether rewrites that change the last places, or results for NaN, infinity or signed zero, are allowed.
    donate, yield_points, backend
        See `Plan`.
    """
    backend = find_backend(backend)
    key = None
    if len(graph) <= _MOST_NODES:
        # Errors name the lines, which are no part of a graph's key.
        key = (graph.key, tuple(_origins(graph)), optimize, approximate, tuple((donate or {}).items()), yield_points, backend)
        with _kept_lock:
            if key in _kept:
                _kept.move_to_end(key)
                return _kept[key]
    if optimize:
        from dagtrain.transform import optimize as run_stages

        graph = run_stages(graph, approximate=approximate)
    made = Plan(graph, donate, yield_points, backend=backend)
    if key is not None and made.nbytes + made.space + made.memory.outputs <= _LARGEST_KEPT:
        with _kept_lock:
            _kept[key] = made
            if len(_kept) > _KEPT:
                _kept.popitem(last=False)
    return made


def _origins(graph: Graph) -> Iterator[Origin]:
    for node in graph.nodes:
        yield node.origin
        for several in bodies(node).values():
            for body in several:
                yield from _origins(body)
