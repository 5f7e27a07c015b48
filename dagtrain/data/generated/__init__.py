"""Data from processes whose best possible result is known: sentences of a grammar, scenes with captions, tables, series."""

from dagtrain.data.generated.cases import Cases, Process
from dagtrain.data.generated.credit import CREDIT
from dagtrain.data.generated.grammar import Grammar, Sentences, cafe_grammar
from dagtrain.data.generated.scenes import Judgement, Scenes, caption_entropy, draw_scenes, judge_caption
from dagtrain.data.generated.series import PlantedSeries, machine_sensors, payments

__all__ = [
    "CREDIT",
    "Cases",
    "Grammar",
    "Judgement",
    "PlantedSeries",
    "Process",
    "Scenes",
    "Sentences",
    "cafe_grammar",
    "caption_entropy",
    "draw_scenes",
    "judge_caption",
    "machine_sensors",
    "payments",
]
