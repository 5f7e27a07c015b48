"""WAV files come back as they were written, to the last bit, and what is no such file is named."""

import io
import struct
import wave

import numpy as np
import pytest

from dagtrain import audio
from dagtrain.errors import ArgumentError, DataError


def test_samples_come_back_to_the_last_bit(tmp_path):
    random = np.random.default_rng(0)
    for bits in (8, 16, 24, 32):
        for shape in ((101,), (57, 2), (0,)):
            least = 2 ** (bits - 1)
            numbers = random.integers(-least, least, shape)
            if shape[0]:
                numbers.flat[:2] = -least, least - 1
            path = tmp_path / f"{bits}.wav"
            audio.write_wav(path, numbers / least, 22_050, bits)
            sound = audio.read_wav(str(path), "float64")
            assert sound.rate == 22_050
            assert sound.samples.shape == shape
            assert np.array_equal(sound.samples * least, numbers)
            single = audio.read_wav(path).samples
            assert single.dtype == np.float32
            assert bits == 32 or np.array_equal(single, sound.samples)


def test_the_file_is_what_the_standard_library_reads(tmp_path):
    audio.write_wav(tmp_path / "a.wav", np.array([[0.25, -1.0], [1.0, 0.0]]), 8000)
    with wave.open(str(tmp_path / "a.wav")) as reader:
        assert reader.getparams()[:4] == (2, 2, 8000, 2)
        assert struct.unpack("<4h", reader.readframes(2)) == (8192, -32768, 32767, 0)


def test_mistakes_are_named(tmp_path):
    whole = io.BytesIO()
    audio.write_wav(whole, np.zeros(50), 8000)
    data = whole.getvalue()
    floats = data[:20] + struct.pack("<H", 3) + data[22:]
    for content, message in (
        (b"", "no WAV file of whole numbers .*: it ends early"),
        (b"RIFF" + bytes(40), "no WAV file"),
        (floats, "unknown format: 3. Convert it first"),
        (data[:-20], "says that it has 50 samples, and ends after 40"),
    ):
        (tmp_path / "b.wav").write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            audio.read_wav(tmp_path / "b.wav")
        assert "b.wav" in str(error.value)
    for samples, rate, bits, kind, message in (
        (np.zeros(3, int), 8000, 16, DataError, "samples are floats"),
        (np.zeros((3, 2, 1)), 8000, 16, DataError, "got float64 of shape"),
        (np.array([0.0, 1.5]), 8000, 16, DataError, "from -1 to 1, got 0 to 1.5"),
        (np.array([np.nan]), 8000, 16, DataError, "from -1 to 1, got nan"),
        (np.zeros(3), 0, 16, ArgumentError, "rate must be a whole number"),
        (np.zeros(3), 8000, 12, ArgumentError, "bits is 8, 16, 24 or 32, got 12"),
        (np.zeros(3), 8000, 16.0, ArgumentError, "bits is 8, 16, 24 or 32, got 16.0"),
        (np.zeros((2, 300)), 8000, 16, DataError, "got 300 channels: give samples.T"),
        (np.zeros(3), 2**31, 16, DataError, "less than 4 GiB"),
    ):
        with pytest.raises(kind, match=message):
            audio.write_wav(io.BytesIO(), samples, rate, bits)
    for file in (None, io.StringIO()):
        with pytest.raises(ArgumentError, match="open for bytes"):
            audio.read_wav(file)
    with pytest.raises(FileNotFoundError):
        audio.read_wav(tmp_path / "absent.wav")
