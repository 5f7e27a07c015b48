"""Data from processes whose best possible result is known: sentences of a grammar, pictures of scenes with captions, tables of cases."""

from dagtrain.data.generated.cases import Cases, Process
from dagtrain.data.generated.credit import CREDIT
from dagtrain.data.generated.grammar import Grammar, Sentences, cafe_grammar
from dagtrain.data.generated.payments import PAYMENTS
from dagtrain.data.generated.scenes import Judgement, Scenes, caption_entropy, draw_scenes, judge_caption

__all__ = [
    "CREDIT",
    "Cases",
    "Grammar",
    "Judgement",
    "Process",
    "Scenes",
    "Sentences",
    "cafe_grammar",
    "caption_entropy",
    "draw_scenes",
    "judge_caption",
]
