"""Data from processes whose best possible result is known: sentences, pictures, tables of cases, series, résumés; sound like speech."""

from dagtrain.data.generated.calls import CALL_RATE, TONES, Calls, Tone, draw_calls, draw_prosody, tone_probabilities
from dagtrain.data.generated.cases import Cases, Process
from dagtrain.data.generated.credit import CREDIT
from dagtrain.data.generated.grammar import Grammar, Sentences, cafe_grammar
from dagtrain.data.generated.payments import PAYMENTS
from dagtrain.data.generated.resumes import Resumes, draw_resumes, graded_gain
from dagtrain.data.generated.scenes import Judgement, Scenes, caption_entropy, draw_scenes, judge_caption
from dagtrain.data.generated.series import PlantedSeries, machine_sensors, payment_queue
from dagtrain.data.generated.speech import PHONES, Recording, Voice, draw_speech, draw_syllables, draw_voices, speak

__all__ = [
    "CALL_RATE",
    "CREDIT",
    "PAYMENTS",
    "PHONES",
    "TONES",
    "Calls",
    "Cases",
    "Grammar",
    "Judgement",
    "PlantedSeries",
    "Process",
    "Recording",
    "Resumes",
    "Scenes",
    "Sentences",
    "Tone",
    "Voice",
    "cafe_grammar",
    "caption_entropy",
    "draw_calls",
    "draw_prosody",
    "draw_resumes",
    "draw_scenes",
    "draw_speech",
    "draw_syllables",
    "draw_voices",
    "graded_gain",
    "judge_caption",
    "machine_sensors",
    "payment_queue",
    "speak",
    "tone_probabilities",
]
