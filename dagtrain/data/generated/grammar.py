"""Sentences of a grammar with probabilities: their exact entropy, and the exact probability of every next word.

    sentence ──.7──▶ statement ──…──▶  the · old · dog · near · the · cats · sleeps
             ──.3──▶ question  ──…──▶  do · you · want · a · drink

The grammar has one derivation for each sentence, so the entropy of sentences is that of derivations: of each choice, once for each time
that it is made on average. No model of the language can have a lower cost than this, and one that knows the grammar has it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dagtrain.arguments import seed as checked_seed
from dagtrain.arguments import whole
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array

__all__ = ["Grammar", "Sentences", "cafe_grammar"]

_STREAM = 0x6772616D6D6172

Symbols = tuple[str, ...]


class Sentences(NamedTuple):
    """Sentences drawn from a grammar.

    Attributes
    ----------
    texts
        The sentences, words with a space between.
    costs
        Minus the logarithm of each one's probability, in nats: what the true model costs.
    """

    texts: list[str]
    costs: Array


class Totals(NamedTuple):
    """Of what a symbol becomes, on average: nats of the choices, and words."""

    nats: float
    words: float


@dataclass(frozen=True)
class Grammar:
    """A context-free grammar with probabilities and one derivation for each sentence.

    Parameters
    ----------
    rules
        For each symbol, what it may become and the probability: ``{"noun": {"dog": 0.6, "old dog": 0.4}}``. Everything that is no symbol
        is a word. A sentence begins with the symbol ``sentence``.

    Raises
    ------
    ArgumentError
        If probabilities of a symbol do not sum to 1, or a symbol becomes itself.

    Examples
    --------
    >>> grammar = Grammar({"sentence": {"we eat thing": 0.5, "we sleep": 0.5}, "thing": {"bread": 0.75, "rice": 0.25}})
    >>> grammar.words
    ('bread', 'eat', 'rice', 'sleep', 'we')
    >>> grammar.next_words("we eat")
    {'bread': 0.75, 'rice': 0.25}
    >>> round(grammar.entropy / math.log(2), 4), grammar.length
    (1.4056, 2.5)
    """

    rules: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        if "sentence" not in self.rules:
            raise ArgumentError("Grammar: sentences begin with the symbol 'sentence', for which there is no rule.")
        for symbol, choices in self.rules.items():
            total = sum(choices.values())
            if not choices or min(choices.values()) <= 0 or abs(total - 1) > 1e-9:
                raise ArgumentError(f"Grammar: the probabilities of {symbol!r} are above 0 and sum to 1, got {dict(choices)}.")
        self._in_order()

    @cached_property
    def _choices(self) -> dict[str, list[tuple[Symbols, float]]]:
        return {symbol: [(tuple(text.split()), p) for text, p in choices.items()] for symbol, choices in self.rules.items()}

    def _in_order(self) -> list[str]:
        """The symbols, each behind those that it becomes."""
        order: dict[str, bool] = {}

        def visit(symbol: str) -> None:
            if order.get(symbol) is False:
                raise ArgumentError(f"Grammar: {symbol!r} becomes itself, so sentences have no end.")
            if symbol in order:
                return
            order[symbol] = False
            for symbols, _ in self._choices[symbol]:
                for part in symbols:
                    if part in self.rules:
                        visit(part)
            del order[symbol]
            order[symbol] = True

        for symbol in self.rules:
            visit(symbol)
        return list(order)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words in the order of the alphabet."""
        parts = {part for choices in self._choices.values() for symbols, _ in choices for part in symbols}
        return tuple(sorted(parts - set(self.rules)))

    @cached_property
    def _totals(self) -> dict[str, Totals]:
        totals: dict[str, Totals] = {}
        for symbol in self._in_order():
            nats = words = 0.0
            for symbols, p in self._choices[symbol]:
                inner = [totals.get(part, Totals(0.0, 1.0)) for part in symbols]
                nats += p * (sum(t.nats for t in inner) - math.log(p))
                words += p * sum(t.words for t in inner)
            totals[symbol] = Totals(nats, words)
        return totals

    @property
    def entropy(self) -> float:
        """Nats of a sentence."""
        return self._totals["sentence"].nats

    @property
    def length(self) -> float:
        """Words of a sentence on average, without its end."""
        return self._totals["sentence"].words

    @property
    def rate(self) -> float:
        """Nats for each word and each end of a sentence: what is the least that a model of the next word can cost."""
        return self.entropy / (self.length + 1)

    def sample(self, count: int, seed: int = 0) -> Sentences:
        """Draw sentences; the same for the same seed.

        Parameters
        ----------
        count
            How many.
        seed
            Two seeds give sentences that are independent of each other.
        """
        whole("Grammar.sample: count", count)
        random = np.random.Generator(np.random.Philox(key=np.array([checked_seed(seed), _STREAM], np.uint64)))
        ends = {symbol: np.cumsum([p for _, p in choices])[:-1].tolist() for symbol, choices in self._choices.items()}
        texts, costs = [], np.empty(count)
        for i in range(count):
            stack, words, cost = ["sentence"], [], 0.0
            while stack:
                symbol = stack.pop()
                choices = self._choices.get(symbol)
                if choices is None:
                    words.append(symbol)
                    continue
                at = random.random() if len(choices) > 1 else 0.0
                symbols, p = choices[sum(at >= end for end in ends[symbol])]
                cost -= math.log(p)
                stack.extend(reversed(symbols))
            texts.append(" ".join(words))
            costs[i] = cost
        return Sentences(texts, costs)

    def next_words(self, text: str) -> dict[str, float]:
        """The probability of each word behind the beginning of a sentence, the likeliest first; "" is the end of the sentence.

        Raises
        ------
        DataError
            If no sentence begins so.
        """
        stacks: dict[Symbols, float] = {("sentence",): 1.0}
        for word in text.split():
            stacks = self._behind(stacks, word)
            if not stacks:
                raise DataError(f"no sentence of the grammar begins with {text!r}.")
        by_word = {word: sum(self._behind(stacks, word).values()) for word in (*self.words, "")}
        total = sum(by_word.values())
        return {word: p / total for word, p in sorted(by_word.items(), key=lambda item: (-item[1], item[0])) if p}

    def _behind(self, stacks: Mapping[Symbols, float], word: str) -> dict[Symbols, float]:
        """What may follow a word, and the probability of the word and of it; for "", the end."""
        after: defaultdict[Symbols, float] = defaultdict(float)
        waiting = list(stacks.items())
        while waiting:
            stack, p = waiting.pop()
            if not stack:
                if word == "":
                    after[()] += p
            elif stack[0] in self.rules:
                waiting += [((*symbols, *stack[1:]), p * q) for symbols, q in self._choices[stack[0]]]
            elif stack[0] == word:
                after[stack[1:]] += p
        return dict(after)


def _equal(*words: str) -> dict[str, float]:
    return dict.fromkeys(words, 1 / len(words))


def _statements(number: str, determiners: Sequence[str], verb_ends: str) -> dict[str, Mapping[str, float]]:
    """The rules of subject and predicate in one number: the verb agrees with its subject, whatever stands between them."""
    nouns = ("dog", "cat", "waiter", "friend")
    return {
        f"subject_{number}": {f"person_{number}": 0.7, f"person_{number} preposition place": 0.3},
        f"person_{number}": {f"determiner_{number} noun_{number}": 0.6, f"determiner_{number} adjective noun_{number}": 0.4},
        f"determiner_{number}": dict(zip(determiners, (0.6, 0.4), strict=True)),
        f"noun_{number}": dict(zip([n + ("" if verb_ends else "s") for n in nouns], (0.4, 0.3, 0.2, 0.1), strict=True)),
        f"predicate_{number}": {f"alone_{number}": 0.45, f"sees_{number} person": 0.35, f"wants_{number} a thing": 0.2},
        f"alone_{number}": _equal(*(verb + verb_ends for verb in ("sleep", "wait", "sing"))),
        f"sees_{number}": {"see" + verb_ends: 0.5, "like" + verb_ends: 0.3, "follow" + verb_ends: 0.2},
        f"wants_{number}": {"want" + verb_ends: 1.0},
    }


def cafe_grammar() -> Grammar:
    """The grammar of a small café: 48 words, sentences of 3 to 11 words, verbs that agree with their subject over a phrase between them.

    Behind "do you want a" come seven words with known probabilities.

    Examples
    --------
    >>> grammar = cafe_grammar()
    >>> len(grammar.words), round(grammar.length, 3), round(grammar.rate, 4)
    (48, 5.715, 1.2286)
    >>> [(word, round(p, 2)) for word, p in grammar.next_words("do you want a").items()][:3]
    [('drink', 0.3), ('burger', 0.22), ('café', 0.17)]
    >>> list(grammar.next_words("the dogs near the cat"))
    ['want', 'see', 'sing', 'sleep', 'wait', 'like', 'follow']
    """
    return Grammar(
        {
            "sentence": {"subject_one predicate_one": 0.4, "subject_many predicate_many": 0.3, "question": 0.3},
            "question": {"do you want a thing": 0.5, "do you want to action place_of": 0.3, "do subject_many want a thing": 0.2},
            "thing": {"drink": 0.3, "burger": 0.22, "café": 0.17, "cake": 0.12, "book": 0.09, "table": 0.06, "ticket": 0.04},
            "action": {"sit": 0.5, "eat": 0.3, "go": 0.2},
            "place_of": {"here": 0.4, "inside": 0.35, "with person_many": 0.25},
            "person": {"person_one": 0.55, "person_many": 0.45},
            "preposition": {"near": 0.5, "behind": 0.3, "with": 0.2},
            "place": {"person": 0.6, "the table": 0.25, "the door": 0.15},
            "adjective": {"old": 0.5, "happy": 0.3, "small": 0.2},
            **_statements("one", ("the", "every"), "s"),
            **_statements("many", ("the", "some"), ""),
        }
    )
