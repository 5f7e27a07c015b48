"""Words and their neighbours as numbers without a vocabulary: each n-gram is hashed to one of a fixed number of buckets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from dagtrain.arguments import is_whole, whole
from dagtrain.errors import ArgumentError
from dagtrain.graph import Array
from dagtrain.text.padding import pad
from dagtrain.text.vocabulary import texts_of

__all__ = ["HashedNGrams"]

_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['’+#-]\w*)*")
"""A word, also C++ or e-mail, or a number with its point."""
_END = re.compile(r"[.!?;:]+(?:\s+|$)|\n+")
"""The end of a sentence, which no n-gram crosses."""
_MOST = 2**31 - 1
_BETWEEN = b"\x1f"
"""Between the words of an n-gram; no word holds it."""


@dataclass(frozen=True)
class HashedNGrams:
    """The n-grams of a text's words as numbers from 1 to `buckets`; 0 is padding. No n-gram crosses the end of a sentence.

    Nothing is learnt, so texts are encoded wherever they lie, and words that training never saw have numbers too. Two n-grams may share a
    bucket. The hash is CRC-32 of the UTF-8 bytes of lower-case words: the same in every process and on every machine.

    Source: Weinberger et al., "Feature hashing for large scale multitask learning", arXiv:0902.2206.

    Parameters
    ----------
    buckets
        How many numbers there are; a model takes ``nn.Embedding(buckets + 1, ..., mask_zero=True)``.
    sizes
        Words of an n-gram, one number or several.

    Examples
    --------
    >>> grams = HashedNGrams(1000, sizes=(1, 2))
    >>> grams.encode("Seven years of Python").tolist()
    [821, 8, 403, 345, 935, 27, 348]
    >>> len(grams)
    1001
    """

    buckets: int
    sizes: int | tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        if whole("HashedNGrams: buckets", self.buckets) > _MOST:
            raise ArgumentError(f"HashedNGrams: buckets are at most {_MOST}, since numbers are int32, got {self.buckets}.")
        sizes = (self.sizes,) if is_whole(self.sizes) else self.sizes
        if not isinstance(sizes, tuple | list) or not sizes or not all(is_whole(n) and n > 0 for n in sizes):
            raise ArgumentError(f"HashedNGrams: sizes are whole numbers of words from 1 up, as (1, 2), got {self.sizes!r}.")
        object.__setattr__(self, "sizes", tuple(map(int, sizes)))

    def __len__(self) -> int:
        return self.buckets + 1

    def encode(self, text: str) -> Array:
        """The numbers of a text's n-grams as int32: those of the first size in the order of the text, then those of the next."""
        if not isinstance(text, str):
            raise ArgumentError(f"encode takes one text, got a {type(text).__name__}: for several, write encode_all(texts).")
        return np.array(self._numbers(text), np.int32)

    def encode_all(self, texts: Iterable[str], length: int | None = None, *, cut: bool = False) -> tuple[Array, Array]:
        """The numbers of many texts in one array, padded to a length, and how many each has; see `dagtrain.text.pad`."""
        return pad([np.array(self._numbers(text), np.int32) for text in texts_of(texts)], length, cut=cut)

    def _numbers(self, text: str) -> list[int]:
        assert isinstance(self.sizes, tuple)
        numbers: dict[int, list[int]] = {n: [] for n in self.sizes}
        for part in _END.split(_normal(text)):
            words = [word.encode() for word in _WORD.findall(part)]
            hashes = list(map(crc32, words))
            for n in range(1, max(self.sizes) + 1):
                if n in numbers:
                    numbers[n] += hashes
                hashes = [crc32(_BETWEEN + word, before) for word, before in zip(words[n:], hashes, strict=False)]
        return [value % self.buckets + 1 for n in self.sizes for value in numbers[n]]


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()
