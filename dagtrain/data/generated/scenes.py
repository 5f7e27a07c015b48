"""Pictures of two shapes with captions, and a judge of captions.

    ┌──────────┐   a red circle is left of a blue square
    │ ●        │   there is a red circle left of a blue square          six forms, each with either of the shapes first
    │       ■  │   right of the red circle is a blue square
    └──────────┘   …

A fact is two different shapes and their relation. Some facts are held out: pictures of them are drawn for evaluation alone, so a caption
that is true of them was not learnt by heart. The judge reads a caption back into its fact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from dagtrain.arguments import flag, whole
from dagtrain.arguments import seed as checked_seed
from dagtrain.graph import Array

__all__ = ["Judgement", "Scenes", "caption_entropy", "draw_scenes", "judge_caption"]

SHAPES = ("circle", "square", "triangle")
COLOURS = {"red": (0.9, 0.15, 0.15), "green": (0.1, 0.7, 0.2), "blue": (0.15, 0.3, 0.9), "yellow": (0.9, 0.85, 0.1)}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
"""Relation → where the first shape is, seen from the second: columns and rows."""
CONVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
FORMS = {
    "a {first} is {relation} a {second}": 0.3,
    "there is a {first} {relation} a {second}": 0.2,
    "{relation} the {second} is a {first}": 0.15,
    "a {first} and {relation} it a {second}": 0.15,
    "the {first} stands {relation} the {second}": 0.1,
    "you see a {second} with a {first} {relation} it": 0.1,
}
"""Form of a caption → its probability. In the fourth, the second shape has the relation to the first."""

SIZE = 32
_NOISE, _BACKGROUND = 0.05, 0.95
_OUTER, _HELD_OUT = 4, 9
_STREAM = 0x7363656E6573
_PART = 2048


class Fact(NamedTuple):
    """Two different shapes, and where the first is, seen from the second."""

    first: str
    relation: str
    second: str

    @property
    def turned(self) -> Fact:
        """The same seen from the first."""
        return Fact(self.second, CONVERSE[self.relation], self.first)


class Scenes(NamedTuple):
    """Pictures, a caption of each, and their facts.

    Attributes
    ----------
    images
        float32 of shape (count, 32, 32, 3).
    captions
        One of the true captions of each, drawn by the probabilities of the forms.
    facts
        The facts, as ``(first, relation, second)``.
    """

    images: Array
    captions: list[str]
    facts: list[Fact]


class Judgement(NamedTuple):
    """What a caption is.

    Attributes
    ----------
    form
        Its form; None for a sentence that is in no form.
    true
        Whether it says what is in the scene.
    """

    form: str | None
    true: bool


@cache
def _facts(held_out: bool) -> tuple[Fact, ...]:
    """The facts of training, or those held out: every ninth, so of each relation some."""
    things = [f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES)]
    pairs = [(a, b) for i, a in enumerate(things) for b in things[i + 1 :]]
    facts = [Fact(a, relation, b) for a, b in pairs for relation in RELATIONS]
    return tuple(fact for i, fact in enumerate(facts) if (i % _HELD_OUT == 0) is held_out)


def caption_entropy() -> float:
    """Nats of a caption of one scene: of the choice of the form, and of the shape that is first."""
    return math.log(2) - sum(p * math.log(p) for p in FORMS.values())


def draw_scenes(count: int, seed: int = 0, held_out: bool = False) -> Scenes:
    """Draw scenes; the same for the same seed.

    Parameters
    ----------
    count
        How many.
    seed
        Two seeds give scenes that are independent of each other.
    held_out
        Whether they are of the facts that are held out, a ninth of all; else of the other ones.

    Examples
    --------
    >>> scenes = draw_scenes(2)
    >>> scenes.images.shape, scenes.captions[0]
    ((2, 32, 32, 3), 'a red square and above it a red triangle')
    >>> judge_caption(scenes.captions[0], scenes.facts[0]).true
    True
    """
    whole("draw_scenes: count", count)
    flag("draw_scenes: held_out", held_out)
    random = np.random.Generator(np.random.Philox(key=np.array([checked_seed(seed), _STREAM + held_out], np.uint64)))
    known = _facts(held_out)
    facts = [known[i] for i in (random.random(count) * len(known)).astype(int)]
    turned = random.random(count) < 0.5
    facts = [fact.turned if turn else fact for fact, turn in zip(facts, turned, strict=True)]
    ends = np.cumsum(list(FORMS.values()))[:-1]
    chosen = np.searchsorted(ends, random.random(count), side="right")
    captions = [_caption(list(FORMS)[form], fact) for form, fact in zip(chosen, facts, strict=True)]
    return Scenes(_images(facts, random), captions, facts)


def _caption(form: str, fact: Fact) -> str:
    relation = CONVERSE[fact.relation] if form.startswith("a {first} and") else fact.relation
    return form.format(first=fact.first, relation=relation, second=fact.second)


def _images(facts: list[Fact], random: np.random.Generator) -> Array:
    """The pictures: one shape on each side of the middle, in the direction of the relation, both moved a little."""
    count = len(facts)
    images = random.standard_normal((count, SIZE, SIZE, 3), np.float32) * np.float32(_NOISE)
    towards = np.array([RELATIONS[fact.relation] for fact in facts])
    apart = random.uniform(7, 9, (count, 1)) * towards + random.uniform(-2, 2, (count, 2)) * (towards == 0)
    middle = SIZE / 2 - 0.5 + random.uniform(-2, 2, (count, 2))
    radii = random.uniform(_OUTER, _OUTER + 1.5, (2, count))
    for start in range(0, count, _PART):  # a part at a time, since what is drawn is as large as the pictures
        part = slice(start, start + _PART)
        drawn = np.full((len(images[part]), SIZE, SIZE, 3), _BACKGROUND, np.float32)
        for i, sign in enumerate((1, -1)):
            things = [(fact.first, fact.second)[i].split() for fact in facts[part]]
            colours = np.array([COLOURS[colour] for colour, _ in things], np.float32)
            shapes = np.array([SHAPES.index(shape) for _, shape in things])
            inside = _inside((middle + sign * apart)[part].astype(np.float32), radii[i, part].astype(np.float32), shapes)
            drawn[inside] = colours[np.nonzero(inside)[0]]
        images[part] += drawn
    return images


def _inside(centres: Array, radii: Array, shapes: Array) -> Array:
    """Which pixels are in the shape of each picture."""
    pixels = np.arange(SIZE, dtype=np.float32)
    x, y = pixels[None, None, :] - centres[:, 0, None, None], pixels[None, :, None] - centres[:, 1, None, None]
    r, kind = radii[:, None, None], shapes[:, None, None]
    circle = x**2 + y**2 <= r**2
    square = (np.abs(x) <= 0.9 * r) & (np.abs(y) <= 0.9 * r)
    triangle = (y <= 0.8 * r) & (2 * np.abs(x) <= y + 1.2 * r)
    inside: Array = np.where(kind == 0, circle, np.where(kind == 1, square, triangle))
    return inside


@cache
def _sayings() -> dict[str, tuple[str, Fact]]:
    """Every sentence in a form, and the form and the fact of each."""
    return {_caption(form, fact): (form, fact) for form in FORMS for fact in _all_facts()}


def _all_facts() -> Iterator[Fact]:
    things = [f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES)]
    return (Fact(a, relation, b) for a, b in product(things, things) for relation in RELATIONS)


def judge_caption(caption: str, fact: tuple[str, str, str]) -> Judgement:
    """Whether a caption is a sentence in one of the forms, and says what is in the scene.

    Parameters
    ----------
    caption
        Its words with a space between.
    fact
        That of the scene.

    Examples
    --------
    >>> fact = ("red circle", "left of", "blue square")
    >>> judge_caption("right of the red circle is a blue square", fact)
    Judgement(form='{relation} the {second} is a {first}', true=True)
    >>> judge_caption("a red circle is above a blue square", fact).true
    False
    >>> judge_caption("a red circle circle", fact)
    Judgement(form=None, true=False)
    """
    said = _sayings().get(caption)
    if said is None:
        return Judgement(None, False)
    form, saying = said
    return Judgement(form, saying in (Fact(*fact), Fact(*fact).turned))
