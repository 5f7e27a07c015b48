"""`compile`, also with static arguments: texts, flags, numbers that are shapes or counts of a loop."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError
from dagtrain.functional.compiled import CACHE_SIZE, Compiled
from dagtrain.hinting import hinted
from dagtrain.plan import Plan
from dagtrain.trace import Traced

__all__ = ["Specialised", "compile"]


class Specialised(Compiled):
    """A compiled function of its other arguments for each value of its static ones."""

    def __init__(
        self,
        function: Callable[..., Any],
        static_argnums: int | Iterable[int],
        static_argnames: str | Iterable[str],
        approximate: bool = False,
    ) -> None:
        super().__init__(function, approximate=approximate)
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"{self.__name__} has no signature by which its arguments could be static: {error}.") from None
        parameters = list(self._signature.parameters.values())
        ordered = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        names = [static_argnames] if isinstance(static_argnames, str) else list(static_argnames)
        for name in names:
            one_of(f"argument of {self.__name__}", name, [p.name for p in parameters])
        for i in [static_argnums] if isinstance(static_argnums, int) else static_argnums:
            if not -len(ordered) <= i < len(ordered):
                raise ArgumentError(f"static_argnums names the argument {i}, but {self.__name__} has {len(ordered)} with a position.")
            names.append(ordered[i])
        self._static = frozenset(names)
        self._each: OrderedDict[Any, Compiled] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Compiled {self.__name__}: {len(self._each)} values of {', '.join(sorted(self._static))}>"

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """As for `Compiled`, with the static arguments as they are."""
        try:
            bound = self._signature.bind(*arguments, **named).arguments
        except TypeError as error:
            raise ArgumentError(f"{self.__name__}: {error}.") from None
        static = {p.name: p.default for p in self._signature.parameters.values() if p.name in self._static and p.default is not p.empty}
        static |= {name: value for name, value in bound.items() if name in self._static}
        values = {name: value for name, value in bound.items() if name not in self._static}
        for name, value in static.items():
            try:
                hash(value)
            except TypeError:
                raise ArgumentError(
                    f"{self.__name__}: the static argument {name!r} is a {type(value).__name__}, which has no hash. Arrays and lists are "
                    "arguments like any other; a static one is a number, a text, a tuple of these, or another immutable value."
                ) from None
        key = (tuple(values), tuple((name, type(value), value) for name, value in sorted(static.items())))
        with self._lock:
            special = self._each.get(key)
            if special is None:
                special = self._each[key] = Compiled(self._with(static, tuple(values)), self.__name__, approximate=self._approximate)
            self._each.move_to_end(key)
            while len(self._each) > CACHE_SIZE:
                self._each.popitem(last=False)
        return special(*values.values())

    def _with(self, static: dict[str, Any], names: tuple[str, ...]) -> Callable[..., Any]:
        """The function of the arguments of these names alone."""

        def function(*values: Any) -> Any:
            given = {**static, **dict(zip(names, values, strict=True))}
            bound = inspect.BoundArguments(self._signature, OrderedDict((n, given[n]) for n in self._signature.parameters if n in given))
            return self.function(*bound.args, **bound.kwargs)

        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # read by inspect.signature
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        )
        return function

    def _latest(self) -> tuple[Traced, Plan]:
        if not self._each:
            return super()._latest()
        return next(reversed(self._each.values()))._latest()


@hinted
def compile(
    function: Callable[..., Any],
    *,
    static_argnums: int | Iterable[int] = (),
    static_argnames: str | Iterable[str] = (),
    approximate: bool = False,
) -> Compiled:
    """A function of NumPy calls as straight-line NumPy without allocation.

    Parameters
    ----------
    function
        Takes arrays or nested dicts, lists and tuples of them, and returns the same; called once for each signature, with tensors.
    static_argnums, static_argnames
        Arguments that stay the Python values that they are, by position or name: texts, flags, shapes, counts. The function is compiled for
        each of their values anew.
    approximate
        Whether rewrites that change the last places, or results for NaN, infinity or signed zero, are allowed.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> f = dt.compile(lambda x: np.tanh(x) ** 2)
    >>> f(np.zeros(2))
    array([0., 0.])
    >>> "tanh" in f.plan.source
    True
    >>> power = dt.compile(lambda x, n: np.prod(np.stack([x] * n), 0), static_argnums=1)
    >>> power(np.array([1.0, 2.0]), 3)
    array([1., 8.])
    """
    if not callable(function):
        raise ArgumentError(f"compile takes a function, not a {type(function).__name__}.")
    if static_argnums != () or static_argnames != ():
        return Specialised(function, static_argnums, static_argnames, approximate)
    return Compiled(function, approximate=approximate)
