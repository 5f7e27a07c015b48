"""Sound as numbers: WAV files, frames, features of spectra, level, pitch and tempo."""

from dagtrain.audio.framing import context, deltas, frames, standardize
from dagtrain.audio.prosody import Pitch, level, pitch, tempo
from dagtrain.audio.spectra import STYLES, Style, log_mel, mel_filters, mfcc
from dagtrain.audio.wav import Sound, read_wav, write_wav

__all__ = [
    "STYLES",
    "Pitch",
    "Sound",
    "Style",
    "context",
    "deltas",
    "frames",
    "level",
    "log_mel",
    "mel_filters",
    "mfcc",
    "pitch",
    "read_wav",
    "standardize",
    "tempo",
    "write_wav",
]
