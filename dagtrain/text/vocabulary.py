"""`Vocabulary`: the tokens that a text is made of, and their numbers.

    "do you want a café"  ──split──▶  do · you · want · a · café  ──▶  4 9 7 5 30  ──▶  <start> … <end>, padded
                          ◀─join───                               ◀──

The first four numbers are those of special tokens, which no text can spell: padding, an unknown token, the start and the end. A vocabulary
is a frozen record of its tokens; a file of it is JSON with these fields and no others.
"""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dagtrain.arguments import is_whole, whole
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array
from dagtrain.hinting import Hinted, hinted
from dagtrain.text.padding import pad

__all__ = ["END", "PAD", "SPECIAL", "START", "UNKNOWN", "Vocabulary", "load"]

SPECIAL = ("<pad>", "<unknown>", "<start>", "<end>")
"""The special tokens, in the order of their numbers."""
PAD, UNKNOWN, START, END = range(4)

FORMAT, VERSION = "dagtrain vocabulary", 1


@dataclass(frozen=True)
class Vocabulary(Hinted):
    """Base of `Characters`, `Words` and `BytePairs`.

    Attributes
    ----------
    kinds
        The kinds of vocabularies by name.
    """

    kinds: ClassVar[dict[str, type[Vocabulary]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Enter the kind by its name."""
        super().__init_subclass__(**options)
        if cls.__module__.startswith("dagtrain."):
            Vocabulary.kinds[cls.__name__] = cls

    @cached_property
    @abstractmethod
    def entries(self) -> tuple[str, ...]:
        """All tokens by number, the special ones first."""

    @abstractmethod
    def split(self, text: str) -> list[str]:
        """The tokens of a text, known or not."""

    @abstractmethod
    def join(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each token that a text can have."""
        return {token: i for i, token in enumerate(self.entries) if i >= len(SPECIAL)}

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} tokens>"

    # ---- text to numbers

    @hinted
    def encode(self, text: str, *, start: bool = False, end: bool = False) -> Array:
        """The numbers of a text's tokens, as int32; a token that is not in the vocabulary is `UNKNOWN`.

        Parameters
        ----------
        text
            The text.
        start, end
            Whether the start and the end token are put around it.
        """
        if not isinstance(text, str):
            raise ArgumentError(f"encode takes one text, got {_kind(text)}: for several, write encode_all(texts).")
        numbers = [self.numbers.get(token, UNKNOWN) for token in self.split(text)]
        return np.array([START] * start + numbers + [END] * end, np.int32)

    @hinted
    def encode_all(
        self, texts: Iterable[str], length: int | None = None, *, start: bool = False, end: bool = False, cut: bool = False
    ) -> tuple[Array, Array]:
        """The numbers of many texts in one array, padded to a length, and the number of tokens of each.

        Parameters
        ----------
        texts
            The texts.
        length
            Tokens in a row; by default those of the longest text.
        start, end
            Whether the start and the end token are put around each.
        cut
            Whether what is longer is cut off, the end token included; else it is an error.

        Returns
        -------
        tokens, lengths
            int32 of shape (texts, length) and of shape (texts,).
        """
        return pad([self.encode(text, start=start, end=end) for text in texts_of(texts)], length, cut=cut)

    # ---- and back

    def decode(self, numbers: Any) -> str:
        """The text of numbers, up to the end token; padding and the start token are left out.

        Raises
        ------
        DataError
            If a number is none of a token.
        """
        return self.join(self.tokens_of(numbers))

    def tokens_of(self, numbers: Any) -> list[str]:
        """The tokens of numbers, as `decode` joins them."""
        given = np.asarray(numbers)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise DataError(f"decode takes the whole numbers of one text, shape (tokens,), got {given.dtype} of shape {given.shape}.")
        tokens: list[str] = []
        for number in given.tolist():
            if not 0 <= number < len(self):
                raise DataError(f"{number} is the number of no token: there are {len(self):,}, from 0 to {len(self) - 1:,}.")
            if number == END:
                break
            if number not in (PAD, START):
                tokens.append(self.entries[number])
        return tokens

    def number_of(self, token: str) -> int:
        """The number of one token, special ones included.

        Raises
        ------
        DataError
            If it is not in the vocabulary.
        """
        number = SPECIAL.index(token) if token in SPECIAL else self.numbers.get(token)
        if number is None:
            raise DataError(f"{token!r} is not one of the {len(self):,} tokens of the vocabulary.")
        return number

    # ---- files

    def save(self, path: Any) -> None:
        """Write it as JSON; `dagtrain.text.load` reads it. A checkpoint of a model that holds it needs no such file."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        record = {"format": FORMAT, "version": VERSION, "kind": type(self).__name__, "settings": settings}
        Path(path).write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load(path: Any) -> Vocabulary:
    """The vocabulary of a file that `Vocabulary.save` wrote; nothing in it is executed.

    Raises
    ------
    DataError
        If the file holds anything else; names the file and what is wrong.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError("it is no vocabulary")
        if record.get("version") != VERSION:
            raise ValueError(f"its version is {record.get('version')!r}, and this dagtrain reads version {VERSION}")
        if set(record) != {"format", "version", "kind", "settings"}:
            raise ValueError(f"its fields are {', '.join(map(str, record))}, and not format, version, kind and settings")
        kind = Vocabulary.kinds.get(record["kind"]) if isinstance(record["kind"], str) else None
        if kind is None:
            raise ValueError(f"its kind is {record['kind']!r}, and not one of {', '.join(sorted(Vocabulary.kinds))}")
        settings, names = record["settings"], {f.name for f in dataclasses.fields(kind)}
        if not isinstance(settings, dict) or set(settings) != names:
            raise ValueError(f"the settings of {kind.__name__} are {', '.join(sorted(names))}")
        return kind(**settings)
    except (ValueError, RecursionError) as error:  # ArgumentError and the errors of JSON and of UTF-8 are ValueErrors
        raise DataError(f"{path}: this is not a vocabulary that dagtrain wrote: {error}.") from error


def checked_tokens(kind: str, tokens: Any) -> tuple[str, ...]:
    """Tokens as a tuple of different texts, none of them special."""
    if isinstance(tokens, str) or not isinstance(tokens, list | tuple) or not all(type(token) is str and token for token in tokens):
        raise ArgumentError(f"{kind} takes a list of tokens, each a text; {kind}.learn(texts) makes it from texts. Got {_kind(tokens)}.")
    for token, count in Counter(tokens).items():
        if count > 1 or token in SPECIAL:
            raise ArgumentError(f"{kind}: the token {token!r} {'is a special one' if token in SPECIAL else f'is there {count} times'}.")
    return tuple(tokens)


def frequent(kind: str, tokens: Iterable[Iterable[str]], size: int | None, least: int) -> tuple[str, ...]:
    """The most frequent tokens first, those of the same number by text; at most `size` together with the special ones."""
    counts = Counter(token for text in tokens for token in text)
    whole(f"{kind}.learn: least", least)
    if size is not None and whole(f"{kind}.learn: size", size) <= len(SPECIAL):
        raise ArgumentError(f"{kind}.learn: size={size} leaves no room for tokens: {len(SPECIAL)} are special ones.")
    if not counts:
        raise DataError(f"{kind}.learn: there are no tokens in the texts.")
    order = sorted((token for token, count in counts.items() if count >= least), key=lambda token: (-counts[token], token))
    return tuple(order if size is None else order[: size - len(SPECIAL)])


def texts_of(texts: Iterable[str]) -> Iterator[str]:
    """The texts, one by one."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ArgumentError(f"this takes several texts, as in [text], got {_kind(texts)}.")
    if isinstance(texts, Mapping) or hasattr(texts, "columns"):  # their elements are names
        raise ArgumentError(f"this takes several texts, a list or a column of a table, as in table['text'], got {_kind(texts)}.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            cure = " Fill gaps first, as with .fillna('')." if text is None or type(text).__name__ in ("float", "NAType") else ""
            raise ArgumentError(f"text number {i} is {_kind(text)}: each is a str.{cure}")
        yield text


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "one text"
    return f"the number {value}" if is_whole(value) else f"a {type(value).__name__}"
