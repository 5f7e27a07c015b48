"""Text as numbers and back: vocabularies of characters, words and byte pairs, padding, and decoding of what a model predicts."""

from dagtrain.text.byte_pairs import BytePairs
from dagtrain.text.choice import probabilities
from dagtrain.text.decoder import Decoded, Decoder
from dagtrain.text.hashing import HashedNGrams
from dagtrain.text.padding import mask_of, pad
from dagtrain.text.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, Vocabulary, load
from dagtrain.text.words import Characters, Words

__all__ = [
    "END",
    "PAD",
    "SPECIAL",
    "START",
    "UNKNOWN",
    "BytePairs",
    "Characters",
    "Decoded",
    "Decoder",
    "HashedNGrams",
    "Vocabulary",
    "Words",
    "load",
    "mask_of",
    "pad",
    "probabilities",
]
