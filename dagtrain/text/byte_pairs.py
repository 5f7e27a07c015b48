"""Byte pairs: pieces of words that texts have often, learnt by merging the most frequent pair of neighbours again and again.

    l·o·w·␣  l·o·w·e·r·␣  n·e·w·e·s·t·␣        es, est, est␣, lo, low, …        low·␣  low·e·r·␣  n·e·w·est␣

The first pieces are the 256 bytes, so no text has an unknown token, and decoding gives the very text back. A word has the white space
behind it, and pieces stay within a word.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError, DataError
from dagtrain.hinting import hinted
from dagtrain.text.vocabulary import SPECIAL, Vocabulary, texts_of

__all__ = ["BytePairs"]

_WORD = re.compile(r"\S*\s|\S+")
"""A word with the white space behind it."""
_BYTES = tuple(map(chr, range(256)))
"""Each byte as the character of its number: pieces are texts of such characters."""

Pair = tuple[str, str]


@dataclass(frozen=True, repr=False)
class BytePairs(Vocabulary):
    """A vocabulary of bytes and of merged pairs.

    Source: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units", arXiv:1508.07909, section 3.2. The
    white space behind a word is what the paper writes as an end-of-word symbol.

    Parameters
    ----------
    merges
        The pairs in the order in which they were merged; bytes are characters of the same number.

    Raises
    ------
    ArgumentError
        If a pair is made of pieces that are none of the bytes or pairs before it.

    Examples
    --------
    >>> pairs = BytePairs.learn(["low low lower newest newest widest "], merges=3)
    >>> pairs.merges
    (('l', 'o'), ('lo', 'w'), ('e', 's'))
    >>> pairs.split("lowest")
    ['low', 'es', 't']
    >>> pairs.decode(pairs.encode("a café"))
    'a café'
    """

    merges: tuple[Pair, ...]

    def __post_init__(self) -> None:
        pieces = set(_BYTES)
        if not isinstance(self.merges, list | tuple):
            raise ArgumentError(f"BytePairs takes a list of pairs; BytePairs.learn(texts, merges=1000) makes it. Got {self.merges!r}.")
        for i, pair in enumerate(self.merges):
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(type(p) is str and p in pieces for p in pair):
                raise ArgumentError(f"BytePairs: merge {i} is {pair!r}, which is no pair of bytes or of pairs that were merged before.")
            if "".join(pair) in pieces or "".join(pair) in SPECIAL:
                raise ArgumentError(f"BytePairs: merge {i} makes {''.join(pair)!r}, which is there already.")
            pieces.add("".join(pair))
        object.__setattr__(self, "merges", tuple((a, b) for a, b in self.merges))

    @classmethod
    @hinted
    def learn(cls, texts: Iterable[str], merges: int = 1000, least: int = 2) -> Self:
        """Merge the most frequent pair of neighbours so many times; of pairs that are as frequent, the one that comes first in the texts.

        Parameters
        ----------
        texts
            The texts.
        merges
            Pairs to merge; the vocabulary has so many tokens, 256 bytes and the special tokens.
        least
            Pairs that are there less often are not merged.
        """
        whole("BytePairs.learn: merges", merges, 0)
        whole("BytePairs.learn: least", least)
        counts = Counter(word for text in texts_of(texts) for word in _words(text))
        if not counts:
            raise DataError("BytePairs.learn: there is nothing in the texts.")
        corpus = _Corpus(counts)
        learnt: list[Pair] = []
        while len(learnt) < merges:
            pair = corpus.most_frequent(least)
            if pair is None:
                break
            corpus.merge(pair)
            learnt.append(pair)
        return cls(tuple(learnt))

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """All tokens by number: special ones, bytes, pairs."""
        return (*SPECIAL, *_BYTES, *map("".join, self.merges))

    @cached_property
    def _ranks(self) -> dict[Pair, int]:
        return {pair: i for i, pair in enumerate(self.merges)}

    @cached_property
    def _known(self) -> dict[str, list[str]]:
        """The pieces of words before, which come again and again."""
        return {}

    def split(self, text: str) -> list[str]:
        """The pieces, each made of the earliest merges that apply."""
        return [piece for word in _words(text) for piece in self._pieces(word)]

    def join(self, tokens: Sequence[str]) -> str:
        """The text of pieces; bytes that are no text, as a model may predict them, are shown as �."""
        return b"".join(t.encode() if t in SPECIAL else t.encode("latin-1") for t in tokens).decode("utf-8", errors="replace")

    def _pieces(self, word: str) -> list[str]:
        pieces = self._known.get(word)
        if pieces is None:
            pieces = list(word)
            while len(pieces) > 1:
                pair = min(pairwise(pieces), key=lambda p: self._ranks.get(p, len(self.merges)))
                if pair not in self._ranks:
                    break
                pieces = _merged(pieces, pair)
            self._known[word] = pieces
        return pieces


class _Corpus:
    """The different words of texts as pieces, and where each pair of neighbours is."""

    def __init__(self, counts: Counter[str]) -> None:
        self.words = [list(word) for word in counts]
        self.times = list(counts.values())
        self.counts: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)
        for i in range(len(self.words)):
            self._count(i, 1)

    def _count(self, i: int, sign: int) -> None:
        for pair in pairwise(self.words[i]):
            self.counts[pair] += sign * self.times[i]
            if sign > 0:
                self.places[pair].add(i)
            else:
                self.places[pair].discard(i)

    def most_frequent(self, least: int) -> Pair | None:
        """The pair to merge; None if all are too rare."""
        most = max(self.counts.values(), default=0)
        pairs = [p for p, count in self.counts.items() if count == most and "".join(p) not in SPECIAL]
        return min(pairs, key=self._first, default=None) if most >= least else None

    def _first(self, pair: Pair) -> tuple[int, int]:
        """The word where a pair is first, and the place in it."""
        i = min(self.places[pair])
        word = self.words[i]
        return i, next(k for k in range(len(word) - 1) if (word[k], word[k + 1]) == pair)

    def merge(self, pair: Pair) -> None:
        """Make one piece of a pair, everywhere."""
        for i in sorted(self.places[pair]):
            self._count(i, -1)
            self.words[i] = _merged(self.words[i], pair)
            self._count(i, 1)
        del self.counts[pair], self.places[pair]


def _merged(pieces: list[str], pair: Pair) -> list[str]:
    """The pieces with each occurrence of a pair as one piece, from the left."""
    merged, i = [], 0
    while i < len(pieces):
        together = i + 1 < len(pieces) and (pieces[i], pieces[i + 1]) == pair
        merged.append("".join(pair) if together else pieces[i])
        i += 2 if together else 1
    return merged


def _words(text: str) -> list[str]:
    """The words of a text in bytes, each with the white space behind it."""
    return [word.encode("utf-8").decode("latin-1") for word in _WORD.findall(text)]
