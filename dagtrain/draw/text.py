"""Numbers, bytes, times and names as short text for pictures."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

__all__ = ["array_text", "bytes_text", "clean", "number", "seconds_text", "shorten", "spec_text", "summary"]

_ILLEGAL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
_HEX = re.compile(r"[-_](?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{16,}|(?=[a-f]*[0-9])[0-9a-f]{8})$")
_PREFIXES = ("", "k", "M", "G", "T")


def clean(text: object) -> str:
    """Text without the characters that XML cannot hold."""
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def shorten(text: str, most: int = 28) -> str:
    """Text of at most this many characters, the middle left out."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def number(value: Any, digits: int = 4) -> str:
    """A number in few significant digits.

    Examples
    --------
    >>> number(6.0), number(0.123456), number(-1.5e-7), number(True)
    ('6', '0.1235', '-1.5e-07', 'True')
    """
    item = value.item() if hasattr(value, "item") else value
    if isinstance(item, bool | int):
        return str(item)
    text = f"{item:.{digits}g}"
    return "0" if text == "-0" else text


def spec_text(spec: Any) -> str:
    """Dtype and shape.

    Examples
    --------
    >>> from dagtrain import Spec
    >>> spec_text(Spec((64, 10), np.dtype("float32"))), spec_text(Spec((), np.dtype("float64")))
    ('float32[64, 10]', 'float64')
    """
    if spec.parts:
        return f"{len(spec.parts)} parts"
    return str(spec) if spec.shape else str(spec.dtype.name)


def array_text(value: Any, most: int = 4) -> str:
    """The elements of a small array; a summary of a larger one.

    Examples
    --------
    >>> array_text(np.array([1.0, 2.5])), array_text(np.ones((3, 3)))
    ('[1, 2.5]', 'all 1')
    """
    array = np.asarray(value)
    if array.ndim == 0:
        return number(array)
    if array.ndim == 1 and array.size <= most:
        return f"[{', '.join(number(v) for v in array)}]"
    return summary(array)


def summary(array: Any) -> str:
    """A summary of an array's elements: their common value, or mean and Euclidean norm."""
    if array.size == 0:
        return "empty"
    if array.dtype.kind not in "biuf":
        return f"norm {number(np.linalg.norm(array), 2)}"
    flat = array.ravel()
    if (flat == flat[0]).all():
        return f"all {number(flat[0])}"
    if array.dtype.kind == "b":
        return f"{number(flat.mean() * 100)} % true"
    wide = flat.astype(np.float64)
    broken = np.count_nonzero(~np.isfinite(wide))
    if broken:
        return f"{broken} of {array.size} not finite"
    return f"mean {number(wide.mean(), 2)} · norm {number(np.linalg.norm(wide), 2)}"


def bytes_text(count: float) -> str:
    """A number of bytes.

    Examples
    --------
    >>> bytes_text(512), bytes_text(2048), bytes_text(3_500_000)
    ('512 B', '2.05 kB', '3.5 MB')
    """
    step = 0
    while count >= 1000 and step < len(_PREFIXES) - 1:
        count, step = count / 1000, step + 1
    return f"{count:.3g} {_PREFIXES[step]}B"


def seconds_text(seconds: float) -> str:
    """A duration.

    Examples
    --------
    >>> seconds_text(0.00012), seconds_text(0.25), seconds_text(3.2)
    ('0.12 ms', '250 ms', '3.2 s')
    """
    if seconds >= 1:
        return f"{seconds:.3g} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.2g} ms"


def count_text(count: float) -> str:
    """A count in thousands and millions once it is large.

    Examples
    --------
    >>> count_text(650), count_text(8_320), count_text(1_300_000)
    ('650', '8,320', '1.3 M')
    """
    if count < 1_000_000 or not math.isfinite(count):
        return f"{count:,}"
    return f"{count / 1e6:.3g} M"


def without_hash(name: str) -> str:
    """A Dask key's name without the token at its end.

    Examples
    --------
    >>> without_hash("cube-2a3a17b8-734e-4c84-803c-74f042d0834a"), without_hash("sum-f364aea436ec7a87c61b76842ebda36d")
    ('cube', 'sum')
    >>> without_hash("gradient-7e7f5401"), without_hash("dense_1-feedface")
    ('gradient', 'dense_1-feedface')
    """
    return _HEX.sub("", name) or name
