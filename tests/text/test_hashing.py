"""Hashed n-grams: the hash of joined words, within sentences, the same on workers."""

from zlib import crc32

import dask
import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.data.generated import draw_resumes, graded_gain
from dagtrain.errors import ArgumentError, DataError
from dagtrain.text import HashedNGrams


def number(*words, buckets=5000):
    return crc32("\x1f".join(words).encode()) % buckets + 1


def test_numbers_are_hashes_of_neighbouring_words_within_sentences():
    grams = HashedNGrams(5000, sizes=(1, 3))
    expected = [number(w) for w in ("c++", "and", "python", "at", "work", "élan", "2.5", "years")]
    expected += [number("c++", "and", "python"), number("and", "python", "at"), number("python", "at", "work")]
    assert grams.encode("C++ and Python, at work! E\u0301lan;  2.5 years").tolist() == expected
    assert HashedNGrams(5000, 2).encode("one\ntwo three").tolist() == [number("two", "three")]
    assert grams.encode("...").tolist() == []
    rows, lengths = grams.encode_all(["a b c", "a", ""])
    assert rows.tolist() == [[*map(number, "abc"), number("a", "b", "c")], [number("a"), 0, 0, 0], [0] * 4]
    assert lengths.tolist() == [4, 1, 0]
    assert HashedNGrams(1000).encode("Seven years of Python").tolist() == [821, 8, 403, 345, 935, 27, 348]  # on every machine


def test_mistakes_are_named():
    for arguments, words in (
        ((0,), "buckets must be"),
        ((10, 0), "sizes are whole numbers"),
        ((10, (1, 2.5)), "sizes are"),
        ((10, ()), "sizes are"),
        ((2**31,), "buckets are at most 2147483647"),
    ):
        with pytest.raises(ArgumentError, match=words):
            HashedNGrams(*arguments)
    with pytest.raises(ArgumentError, match="takes one text, got a list"):
        HashedNGrams(10).encode(["a"])
    with pytest.raises(ArgumentError, match="text number 1 is"):
        HashedNGrams(10).encode_all(["a", 3])
    for texts, words in (([None], "Fill gaps first"), ({"a": "b"}, "a list or a column of a table")):
        with pytest.raises(ArgumentError, match=words):
            HashedNGrams(10).encode_all(texts)
    with pytest.raises(DataError, match="Set a larger length, or cut=True"):
        HashedNGrams(10).encode_all(["a b c"], 2)


def test_resumes_are_functions_of_their_number_and_grades_of_their_probabilities():
    resumes = draw_resumes(2000, seed=5)
    part = draw_resumes(100, seed=5, first=1900)
    assert part.texts == resumes.texts[1900:]
    assert np.array_equal(part.grades, resumes.grades[1900:])
    assert draw_resumes(1, seed=6).texts != resumes.texts[:1]
    np.testing.assert_allclose(resumes.probabilities.sum(axis=1), 1)
    expected = resumes.probabilities.sum(axis=0)
    assert np.all(np.abs(np.bincount(resumes.grades, minlength=5) - expected) < 4 * np.sqrt(expected) + 1)
    assert graded_gain(resumes.grades).sum() == pytest.approx(resumes.expected_gain.sum(), rel=0.05)


def test_texts_are_encoded_where_they_lie(client):
    grams = HashedNGrams(300, sizes=2)
    resumes = draw_resumes(256, seed=5)

    def encoded(texts):
        return grams.encode_all(texts, 40, cut=True)[0]

    def fitted(x, y, engine):
        tokens = nn.Input((40,), "tokens", "int32")
        model = nn.Model(tokens, nn.Dense(5)(nn.Flatten()(nn.Embedding(len(grams), 2)(tokens))))
        trainer = dt.Trainer(model, loss="cross_entropy", shards=2, engine=engine)
        trainer.fit(x, y, batch_size=64, verbose=0)
        return trainer

    parts = [resumes.texts[i : i + 128] for i in (0, 128)]
    there = [dask.delayed(encoded)(part) for part in client.scatter(parts)]
    labels = [dask.delayed(resumes.grades[i : i + 128]) for i in (0, 128)]
    here = fitted(encoded(resumes.texts), resumes.grades, "inline")
    assert fitted(there, labels, "lanes").state.fingerprint == here.state.fingerprint
    scores = np.concatenate([here.predict(encoded(part)) for part in parts])
    assert np.array_equal(here.predict(there).compute(), scores)
