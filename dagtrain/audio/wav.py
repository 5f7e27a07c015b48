"""WAV files of whole numbers (PCM), read and written by the standard library."""

from __future__ import annotations

import wave
from contextlib import AbstractContextManager, nullcontext
from io import TextIOBase
from os import PathLike, fspath
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dagtrain.arguments import float_dtype, is_whole, whole
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array

__all__ = ["Sound", "read_wav", "write_wav"]

_BITS = (8, 16, 24, 32)
_CHANNELS = 256
"""Most channels: an array of more has the channels on its first axis."""


class Sound(NamedTuple):
    """Samples and how fast they follow each other.

    Attributes
    ----------
    samples
        Floats from -1 up to, but not, 1: of shape (samples,), or (samples, channels) if there are several channels.
    rate
        Samples a second.
    """

    samples: Array
    rate: int


def read_wav(file: str | PathLike[str] | BinaryIO, dtype: Any = np.float32) -> Sound:
    """Read a WAV file of 8, 16, 24 or 32 bits a sample.

    Parameters
    ----------
    file
        A path, or an open binary file.
    dtype
        "float32", which holds up to 24 bits exactly, or "float64".

    Raises
    ------
    DataError
        If it is no WAV file of whole numbers, or ends before its samples do.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write_wav(file, np.array([0.0, 0.5, -1.0]), rate=16_000)
    >>> _ = file.seek(0)
    >>> read_wav(file)
    Sound(samples=array([ 0. ,  0.5, -1. ], dtype=float32), rate=16000)
    """
    dtype = float_dtype(dtype)
    try:
        with _opened("read_wav", file, "rb") as opened, wave.open(opened, "rb") as reader:
            channels, width, rate, count = reader.getparams()[:4]
            data = reader.readframes(count)
    except (wave.Error, EOFError) as error:
        convert = "Convert it first, for example with: sox IN -e signed-integer -b 16 OUT.wav"
        problem = str(error) or "it ends early"
        raise DataError(f"read_wav: {_name(file)} is no WAV file of whole numbers (PCM): {problem}. {convert}") from error
    if 8 * width not in _BITS:
        raise DataError(f"read_wav: {_name(file)} has {8 * width} bits a sample; 8, 16, 24 and 32 are known.")
    if len(data) < count * channels * width:
        raise DataError(f"read_wav: {_name(file)} says that it has {count} samples, and ends after {len(data) // (channels * width)}.")
    if width == 1:
        whole_numbers = np.frombuffer(data, np.uint8).astype(np.int32) - 128
    elif width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole_numbers = wide.view("<i4").ravel() >> 8
    else:
        whole_numbers = np.frombuffer(data, f"<i{width}")
    samples = (whole_numbers / 2.0 ** (8 * width - 1)).astype(dtype)
    return Sound(samples if channels == 1 else samples.reshape(-1, channels), rate)


def write_wav(file: str | PathLike[str] | BinaryIO, samples: Any, rate: int, bits: int = 16) -> None:
    """Write samples as a WAV file.

    Parameters
    ----------
    file
        A path, or an open binary file.
    samples
        Floats from -1 to 1 of shape (samples,) or (samples, channels). They are rounded to `bits`; 1 becomes the largest whole number.
    rate
        Samples a second.
    bits
        8, 16, 24 or 32 for each sample.

    Raises
    ------
    DataError
        If samples are no floats from -1 to 1.
    """
    whole("write_wav: rate", rate)
    if not is_whole(bits) or bits not in _BITS:
        raise ArgumentError(f"write_wav: bits is 8, 16, 24 or 32, got {bits!r}.")
    array = np.asarray(samples)
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or 0 in array.shape[1:]:
        form = f"{array.dtype} of shape {array.shape}"
        raise DataError(f"write_wav: samples are floats of shape (samples,) or (samples, channels), got {form}.")
    channels = 1 if array.ndim == 1 else array.shape[1]
    if channels > _CHANNELS:
        raise DataError(f"write_wav: samples have the shape (samples, channels), got {channels} channels: give samples.T.")
    if max(rate * channels * bits, (len(array) + 8) * channels * bits) // 8 >= 2**32:
        raise DataError(f"write_wav: a WAV file holds less than 4 GiB, and so does a second, got {array.shape} at {rate} samples a second.")
    if array.size and not np.abs(array).max() <= 1:
        raise DataError(f"write_wav: samples are from -1 to 1, got {array.min():.6g} to {array.max():.6g}. Divide by the largest.")
    scale = 2.0 ** (bits - 1)
    numbers = np.minimum(np.rint(array.astype(np.float64) * scale), scale - 1).astype("<i4")
    if bits == 8:
        data = (numbers + 128).astype(np.uint8).tobytes()
    elif bits == 24:
        data = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        data = numbers.astype(f"<i{bits // 8}").tobytes()
    with _opened("write_wav", file, "wb") as opened, wave.open(opened, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(bits // 8)
        writer.setframerate(rate)
        writer.writeframes(data)


def _opened(name: str, file: Any, mode: str) -> AbstractContextManager[Any]:
    """The file of a path; a file that is open stays open."""
    if isinstance(file, str | PathLike):
        return open(file, mode)
    if not hasattr(file, "read" if mode == "rb" else "write") or isinstance(file, TextIOBase):
        raise ArgumentError(f"{name}: file is a path, or a file that is open for bytes (mode {mode!r}), got a {type(file).__name__}.")
    return nullcontext(file)


def _name(file: Any) -> str:
    return repr(fspath(file)) if isinstance(file, str | PathLike) else "the file"
