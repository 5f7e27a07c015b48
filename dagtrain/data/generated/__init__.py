"""Data from processes whose best possible result is known: sentences of a grammar, pictures of scenes with captions."""

from dagtrain.data.generated.grammar import Grammar, Sentences, cafe_grammar
from dagtrain.data.generated.scenes import Judgement, Scenes, caption_entropy, draw_scenes, judge_caption

__all__ = ["Grammar", "Judgement", "Scenes", "Sentences", "cafe_grammar", "caption_entropy", "draw_scenes", "judge_caption"]
