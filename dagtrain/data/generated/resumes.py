"""Résumés for a post, as text, and the grades that recruiters would give them, whose probabilities are known.

skills at levels, years, degree ──▶ sentences in any order, with others that say nothing
                                ──▶ suitability ──▶ probabilities of the grades 0 to 4 ──▶ a grade
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dagtrain.arguments import seed as checked_seed
from dagtrain.arguments import whole
from dagtrain.graph import Array

__all__ = ["Resumes", "draw_resumes", "graded_gain"]

_SKILLS = {
    "Python": 1.2,
    "SQL": 1.0,
    "Spark": 0.9,
    "statistics": 0.9,
    "Docker": 0.5,
    "Java": 0.3,
    "Excel": 0.0,
    "Photoshop": -0.2,
    "C++": 0.2,
}
"""What each skill is worth for the post."""
_LEVELS = {
    0.0: ("no experience with {}", "never worked with {}", "{} only by name"),
    0.3: ("basic knowledge of {}", "some {} at university", "first steps in {}"),
    0.7: ("solid {}", "used {} in several projects", "{} at work"),
    1.0: ("expert in {}", "taught {} to colleagues", "deep knowledge of {}"),
}
_DEGREES = {"no degree": 0.0, "a bachelor's degree": 0.3, "a master's degree": 0.6, "a doctorate": 0.7}
_TITLES = {"data engineer": 0.8, "analyst": 0.5, "web developer": 0.3, "accountant": 0.0, "teacher": 0.0, "designer": -0.1}
_FILLERS = (
    *("enjoys working in teams", "looking for a new challenge", "likes hiking and chess", "speaks two languages", "punctual and reliable"),
    *("plays in an orchestra", "available from next month", "organised a summer school", "volunteers at a library", "prefers remote work"),
)
_NAMES, _FAMILIES = ("Dana", "Alex", "Kim", "Robin", "Sasha", "Toni"), ("Keller", "Novak", "Okoro", "Lind", "Marsh")
_LEVEL_OF = (0.0, 0.0, 0.3, 0.3, 0.3, 0.7, 0.7, 0.7, 1.0, 1.0)
_CUTS = (2.0, 3.2, 4.2, 5.2)
"""Suitability at which the chance of the next grade is one half."""


class Resumes(NamedTuple):
    """Texts, the grades that they got, and the probabilities of each grade, (résumés, 5)."""

    texts: list[str]
    grades: Array
    probabilities: Array

    @property
    def expected_gain(self) -> Array:
        """The mean of `graded_gain` of each text: to rank by it is the best that can be done."""
        return np.asarray(self.probabilities @ graded_gain(np.arange(5)))


def graded_gain(grades: Array) -> Array:
    """What a grade is worth in a ranking: ``2**grade - 1``."""
    return np.asarray(2.0 ** np.asarray(grades) - 1)


def draw_resumes(count: int, seed: int = 0, first: int = 0) -> Resumes:
    """Résumés by number: each is a function of the seed and its number alone, so workers draw parts of them.

    Parameters
    ----------
    count
        How many.
    seed, first
        What draws them, and the number of the first one.

    Examples
    --------
    >>> resumes = draw_resumes(3, seed=1)
    >>> resumes.texts[0][:60]
    'Sasha Lind. Enjoys working in teams. Basic knowledge of Dock'
    >>> resumes.texts[2] == draw_resumes(1, seed=1, first=2).texts[0]
    True
    """
    whole("count", count)
    whole("first", first, 0)
    key = np.array([checked_seed(seed), 0x726573], np.uint64)
    drawn = [
        _one(np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, first + i])).random(_DRAWS).tolist()) for i in range(count)
    ]
    texts, suited, luck = zip(*drawn, strict=True)
    above = 1 / (1 + np.exp(-(np.array(suited)[:, None] - np.array(_CUTS)) / 0.2))
    grades = (np.array(luck)[:, None] < above).sum(axis=1)
    return Resumes(list(texts), grades, -np.diff(above, axis=1, prepend=1.0, append=0.0))


_DRAWS = 80
"""Numbers from 0 to 1 that make a résumé."""


def _one(draws: list[float]) -> tuple[str, float, float]:
    """A text, how suited the person is, and a number that makes it a grade."""
    draw = iter(draws)

    def below(count: int) -> int:
        return int(next(draw) * count)

    def some(values: Sequence[str], count: int) -> list[str]:
        """So many of the values, in any order."""
        return [value for _, value in sorted(zip(draw, values, strict=False))][:count]

    skills = some(list(_SKILLS), 3 + below(5))
    levels = {skill: _LEVEL_OF[below(10)] for skill in skills}
    years, title, degree = below(21), list(_TITLES)[below(len(_TITLES))], list(_DEGREES)[below(len(_DEGREES))]
    sentences = [_LEVELS[level][below(3)].format(skill) for skill, level in levels.items()]
    sentences += [f"{years} years as {title}" if years else f"wants to become {title}", f"holds {degree}"]
    sentences = some([*sentences, *some(_FILLERS, 1 + below(5))], 99)
    name = f"{_NAMES[below(6)]} {_FAMILIES[below(5)]}"
    suited = sum(worth * levels.get(skill, 0.0) for skill, worth in _SKILLS.items())
    if min(levels.get("Python", 0), levels.get("SQL", 0)) >= 0.7:
        suited += 0.8  # together they are worth more
    suited += _TITLES[title] * min(years, 8) / 5 + _DEGREES[degree]
    return ". ".join([name, *(sentence[0].upper() + sentence[1:] for sentence in sentences)]) + ".", suited, next(draw)
