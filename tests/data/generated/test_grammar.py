"""Sentences of a grammar cost what its entropy says, word by word."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dagtrain.data.generated import Grammar, cafe_grammar
from dagtrain.errors import ArgumentError, DataError

GRAMMAR = cafe_grammar()


def test_sentences_cost_their_entropy():
    sentences = GRAMMAR.sample(4000, seed=3)
    error = sentences.costs.std() / math.sqrt(len(sentences.costs))
    assert abs(sentences.costs.mean() - GRAMMAR.entropy) < 3 * error
    lengths = np.array([len(text.split()) for text in sentences.texts])
    assert abs(lengths.mean() - GRAMMAR.length) < 3 * lengths.std() / math.sqrt(len(lengths))
    assert {word for text in sentences.texts for word in text.split()} == set(GRAMMAR.words)
    assert GRAMMAR.sample(10, seed=3).texts == sentences.texts[:10] != GRAMMAR.sample(10, seed=4).texts


def test_the_cost_of_a_sentence_is_that_of_its_words():
    """So each has one derivation; another would add to the probability of the words."""
    sentences = GRAMMAR.sample(40)
    for text, cost in zip(sentences.texts, sentences.costs, strict=True):
        words = text.split()
        costs = [-math.log(GRAMMAR.next_words(" ".join(words[:i]))[word]) for i, word in enumerate([*words, ""])]
        assert sum(costs) == pytest.approx(cost)


def test_probabilities_of_next_words_are_those_of_the_rules():
    behind = GRAMMAR.next_words("do you want a")
    assert list(behind) == ["drink", "burger", "café", "cake", "book", "table", "ticket"]
    assert list(behind.values()) == pytest.approx([0.3, 0.22, 0.17, 0.12, 0.09, 0.06, 0.04])
    for text in ("", "the", "some old dogs near the cat"):
        assert sum(GRAMMAR.next_words(text).values()) == pytest.approx(1)
    assert GRAMMAR.next_words("do you want a café") == {"": pytest.approx(1)}
    one, many = GRAMMAR.next_words("the dog near the cats"), GRAMMAR.next_words("the dogs near the cat")
    assert "sleeps" in one
    assert "sleep" in many
    assert not set(one) & set(many)  # the verb agrees with the subject


def test_mistakes_are_named():
    mistakes = [
        (lambda: Grammar({"noun": {"dog": 1}}), ArgumentError, "begin with the symbol 'sentence'"),
        (lambda: Grammar({"sentence": {"a": 0.5, "b": 0.4}}), ArgumentError, "sum to 1"),
        (lambda: Grammar({"sentence": {"a": 0.5, "b part": 0.5}, "part": {"sentence": 1}}), ArgumentError, "becomes itself"),
        (lambda: GRAMMAR.next_words("do we"), DataError, "no sentence of the grammar begins with 'do we'"),
    ]
    for call, kind, message in mistakes:
        with pytest.raises(kind, match=message):
            call()
