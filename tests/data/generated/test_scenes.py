"""Captions are true of their pictures, and the judge tells true ones from others."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from dagtrain.data.generated import caption_entropy, draw_scenes, judge_caption
from dagtrain.data.generated.scenes import COLOURS, CONVERSE, FORMS, RELATIONS, SHAPES

SCENES, HELD_OUT = draw_scenes(600, seed=1), draw_scenes(300, seed=1, held_out=True)


def test_the_colours_of_a_fact_are_where_it_says():
    """The centres of the pixels of the two colours lie in the direction of the relation."""
    tried = Counter()
    for image, (first, relation, second) in zip(SCENES.images, SCENES.facts, strict=True):
        a, b = first.split()[0], second.split()[0]
        if a != b:
            tried[relation] += 1
            distance = [np.abs(image - COLOURS[colour]).max(axis=-1) < 0.3 for colour in (a, b)]
            rows, columns = ([float(np.nonzero(mask)[axis].mean()) for mask in distance] for axis in (0, 1))
            across, down = columns[0] - columns[1], rows[0] - rows[1]
            x, y = RELATIONS[relation]
            assert across * x + down * y > 8
            assert abs(across * y) + abs(down * x) < 5
    assert set(tried) == set(RELATIONS)


def test_captions_are_true_and_use_all_forms_as_often_as_they_should():
    judged = [judge_caption(*pair) for pair in zip(SCENES.captions, SCENES.facts, strict=True)]
    assert all(judgement.true for judgement in judged)
    counts = Counter(judgement.form for judgement in judged)
    assert len(counts) == len(FORMS) >= 6
    assert all(abs(counts[form] / 600 - p) < 3.5 * math.sqrt(p * (1 - p) / 600) for form, p in FORMS.items())
    assert math.log(6) < caption_entropy() < math.log(12)


def test_facts_that_are_held_out_are_not_in_training():
    assert not set(SCENES.facts) & set(HELD_OUT.facts)
    assert {fact.relation for fact in HELD_OUT.facts} == set(RELATIONS)
    assert {fact.first.split()[1] for fact in HELD_OUT.facts} == set(SHAPES)


def test_the_judge_refuses_what_is_not_true_or_no_sentence():
    for caption, fact in zip(HELD_OUT.captions, HELD_OUT.facts, strict=True):
        form = judge_caption(caption, fact).form
        assert judge_caption(caption, fact.turned).true
        wrong = [
            (fact.first, CONVERSE[fact.relation], fact.second),
            (fact.second, fact.relation, fact.first),
            (f"{fact.first} ", fact.relation, fact.second),
        ]
        assert [judge_caption(caption, other) for other in wrong] == [(form, False)] * 3
        words = caption.split()
        for broken in (words[:-1], [*words, "it"], words[::-1], []):
            assert judge_caption(" ".join(broken), fact) == (None, False)


def test_the_same_seed_draws_the_same_scenes():
    again, other = draw_scenes(600, seed=1), draw_scenes(600, seed=2)
    assert np.array_equal(again.images, SCENES.images)
    assert again.captions == SCENES.captions != other.captions
