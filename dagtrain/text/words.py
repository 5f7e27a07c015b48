"""Vocabularies whose tokens are the characters, or the words and signs, of texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from dagtrain.arguments import flag
from dagtrain.hinting import hinted
from dagtrain.text.vocabulary import SPECIAL, Vocabulary, checked_tokens, frequent, texts_of

__all__ = ["Characters", "Words"]

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
"""A word, perhaps with an apostrophe or hyphen in it, or one sign."""
_CLOSES = re.compile(r" (?=[.,;:!?…)\]}])")
_OPENS = re.compile(r"(?<=[(\[{]) ")


@dataclass(frozen=True, repr=False)
class Characters(Vocabulary):
    """A vocabulary of characters; texts are normalised, so that é is one of them however it was written (Unicode's form C).

    Parameters
    ----------
    tokens
        The characters.

    Examples
    --------
    >>> characters = Characters.learn(["café", "face"])
    >>> characters.tokens
    ('a', 'c', 'f', 'e', 'é')
    >>> characters.encode("cab").tolist(), characters.decode([5, 4, 6, 7, 3, 4])
    ([5, 4, 1], 'cafe')
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", checked_tokens("Characters", self.tokens))

    @classmethod
    @hinted
    def learn(cls, texts: Iterable[str], size: int | None = None, least: int = 1) -> Self:
        """The characters of texts.

        Parameters
        ----------
        texts
            The texts.
        size
            The most tokens, special ones included: the most frequent ones are taken.
        least
            How often a character must be there.
        """
        return cls(frequent("Characters", map(_normal, texts_of(texts)), size, least))

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """All tokens by number."""
        return (*SPECIAL, *self.tokens)

    def split(self, text: str) -> list[str]:
        """The characters."""
        return list(_normal(text))

    def join(self, tokens: Sequence[str]) -> str:
        """The characters side by side."""
        return "".join(tokens)


@dataclass(frozen=True, repr=False)
class Words(Vocabulary):
    """A vocabulary of words and signs; texts are normalised as for `Characters`, and white space is one space.

    Parameters
    ----------
    tokens
        The words and signs.
    lower
        Whether texts are read in small letters.

    Examples
    --------
    >>> words = Words.learn(["Do you want a drink?", "Do you?"], lower=True)
    >>> words.tokens
    ('?', 'do', 'you', 'a', 'drink', 'want')
    >>> numbers = words.encode("do you want tea?", end=True)
    >>> numbers.tolist(), words.decode(numbers)
    ([5, 6, 9, 1, 4, 3], 'do you want <unknown>?')
    """

    tokens: tuple[str, ...]
    lower: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", checked_tokens("Words", self.tokens))
        flag("Words: lower", self.lower)

    @classmethod
    @hinted
    def learn(cls, texts: Iterable[str], size: int | None = None, least: int = 1, *, lower: bool = False) -> Self:
        """The words of texts; `size` and `least` as for `Characters.learn`."""
        split = cls((), lower).split
        return cls(frequent("Words", map(split, texts_of(texts)), size, least), lower)

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """All tokens by number."""
        return (*SPECIAL, *self.tokens)

    def split(self, text: str) -> list[str]:
        """Words and signs."""
        normal = _normal(text)
        return _WORD.findall(normal.lower() if self.lower else normal)

    def join(self, tokens: Sequence[str]) -> str:
        """The words with a space between two, and none before a sign that closes or behind one that opens."""
        return _OPENS.sub("", _CLOSES.sub("", " ".join(tokens)))


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)
