"""Vocabularies: text to numbers and back, files, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagtrain import text
from dagtrain.checkpoint.describe import build, describe
from dagtrain.errors import ArgumentError, DataError

TEXTS = ["do you want a café?", "we want a drink, do we?", "(you) don't"]
CHARACTERS, WORDS, PAIRS = text.Characters.learn(TEXTS), text.Words.learn(TEXTS), text.BytePairs.learn(TEXTS, merges=8)
ALL = [CHARACTERS, WORDS, PAIRS]


def test_texts_come_back():
    for vocabulary in ALL:
        assert [vocabulary.decode(vocabulary.encode(t, start=True, end=True)) for t in TEXTS] == TEXTS
        rows, lengths = vocabulary.encode_all(TEXTS, start=True, end=True)
        assert [vocabulary.decode(row) for row in rows] == TEXTS
        assert (rows[:, 0] == text.START).all()
        assert [rows[i, n - 1] for i, n in enumerate(lengths)] == [text.END] * 3
        assert {vocabulary.number_of(token) for token in vocabulary.entries} == set(range(len(vocabulary)))


def test_unknown_tokens_have_a_number_and_no_text_spells_a_special_one():
    assert WORDS.encode("we drink tea").tolist().count(text.UNKNOWN) == 1
    assert CHARACTERS.encode("xyz").tolist()[0] == text.UNKNOWN
    for vocabulary in ALL:
        assert not {text.PAD, text.START, text.END} & set(vocabulary.encode("<pad> <start> <end>").tolist())
    spelled = text.BytePairs.learn(["<end> " * 50], merges=30)
    assert spelled.decode(spelled.encode("<end> <end>")) == "<end> <end>"


def test_frequent_tokens_come_first_and_rare_ones_are_left_out():
    assert text.Words.learn(["b a", "c b", "c d"]).tokens == ("b", "c", "a", "d")
    assert text.Words.learn(["b a", "c b", "c d"], size=6).tokens == text.Words.learn(["b a", "c b", "c d"], least=2).tokens == ("b", "c")


def test_one_word_however_it_is_written():
    composed, apart = "caf\u00e9", "cafe\u0301"
    for vocabulary in (text.Words.learn([composed]), text.Characters.learn([composed])):
        assert vocabulary.encode(apart).tolist() == vocabulary.encode(composed).tolist()


def test_byte_pairs_are_merged_as_published():
    """The example of Sennrich et al., listing 1 with its output; white space stands for their end of a word."""
    corpus = ["low " * 5 + "lower " * 2 + "newest " * 6 + "widest " * 3]
    learnt = text.BytePairs.learn(corpus, merges=10)
    merges = ["e+s", "es+t", "est+ ", "l+o", "lo+w", "n+e", "ne+w", "new+est ", "low+ ", "w+i"]
    assert ["+".join(pair) for pair in learnt.merges] == merges
    assert learnt.split("lowest newer ") == ["low", "est ", "new", "e", "r", " "]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_byte_pairs_give_any_text_back(string):
    assert PAIRS.decode(PAIRS.encode(string)) == string


def test_files_and_descriptions_hold_all_and_nothing_else(tmp_path):
    file = tmp_path / "vocabulary.json"
    for vocabulary in [*ALL, text.Words.learn(["A b"], lower=True)]:
        vocabulary.save(file)
        assert text.load(file) == vocabulary == build(json.loads(json.dumps(describe(vocabulary))))
        assert repr(vocabulary) == f"<{type(vocabulary).__name__} of {len(vocabulary):,} tokens>"
    record = json.loads(file.read_text())
    forged = [
        [],
        {**record, "format": "other"},
        {**record, "version": 2},
        {**record, "code": "import os"},
        {**record, "kind": "Path"},
        {**record, "kind": ["Words"]},
        {**record, "settings": {"tokens": ["a"]}},
        {**record, "settings": {"tokens": ["a", 1], "lower": False}},
        {**record, "settings": {"tokens": ["a", "a"], "lower": False}},
        {**record, "settings": {"tokens": ["<end>"], "lower": False}},
        {**record, "settings": {"tokens": ["a"], "lower": "yes"}},
        {**record, "kind": "BytePairs", "settings": {"merges": [["ab", "c"]]}},
        {**record, "kind": "BytePairs", "settings": {"merges": [["a", "b"], ["a", "b"]]}},
    ]
    for other in forged:
        file.write_text(json.dumps(other))
        with pytest.raises(DataError, match="not a vocabulary that dagtrain wrote"):
            text.load(file)


def test_mistakes_are_named():
    mistakes = [
        (lambda: WORDS.encode(["a"]), ArgumentError, r"encode_all\(texts\)"),
        (lambda: WORDS.encode_all("a b"), ArgumentError, "as in \\[text\\]"),
        (lambda: WORDS.encode_all(["a", 3]), ArgumentError, "text number 1 is the number 3"),
        (lambda: WORDS.encode_all(["we want a drink"], length=3), DataError, "4 positions, more than length=3.*cut=True"),
        (lambda: WORDS.decode([99]), DataError, "99 is the number of no token"),
        (lambda: WORDS.decode([[4]]), DataError, "one text"),
        (lambda: WORDS.number_of("tea"), DataError, "'tea' is not one of"),
        (lambda: text.Words.learn(["a"], size=4), ArgumentError, "no room"),
        (lambda: text.Words.learn([]), DataError, "no tokens"),
        (lambda: text.Words("ab"), ArgumentError, "Words.learn"),
        (lambda: text.BytePairs.learn([""]), DataError, "nothing in the texts"),
        (lambda: text.pad([[1, 2], [[3]]]), DataError, "differ in time alone"),
        (lambda: text.pad([]), DataError, "no sequences"),
        (lambda: text.pad([[1, 2], [3]], value=-1.5), DataError, "value=-1.5 is no number of the sequences' dtype int64"),
        (lambda: text.pad([[1, 2], [3]], value=np.nan), DataError, "value=nan is no number"),
        (lambda: text.pad([np.ones(1, "u1")], value=-1), DataError, "dtype uint8"),
        (lambda: text.mask_of([4], 3), ArgumentError, "from 0 to length=3"),
    ]
    for call, kind, message in mistakes:
        with pytest.raises(kind, match=message):
            call()


def test_rows_are_padded_cut_and_masked():
    rows, lengths = text.pad([np.ones((3, 2), "f4"), np.ones((1, 2), "f4")], length=2, value=-1, cut=True)
    assert rows.shape == (2, 2, 2)
    assert rows.dtype == np.float32
    assert rows[1].tolist() == [[1, 1], [-1, -1]]
    assert text.mask_of(lengths, 2).tolist() == [[True, True], [True, False]]
