"""Decoding audio block by block to one channel.

Blocks are averaged over channels and resampled as they are decoded, and none is kept: memory
does not depend on length, channels, sample rate, or what a header declares.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Generator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import soxr

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.containers import Container
from mfhca_cache.features.mpeg import id3_bytes

LOWEST_RATE: Final = 4000  # Hz; below this the header is wrong, or the recording has no vowels
LONGEST_SECONDS: Final = 3600.0  # of an utterance; what is longer is a recording that was not cut
BLOCK: Final = 1 << 16  # samples per channel decoded at a time
LOUD: Final = 4.0  # peak, 12 dB above full scale
TOO_LOUD: Final = 100.0  # peak, 40 dB above full scale: samples scaled as 16-bit integers
SHORT_SECONDS: Final = 0.005
LAST_BIT: Final = 2.0**-15  # peak: a step of 16 bits; silence is not louder, even from a lossy encoder
LEFT: Final = (
    0.5  # energy of the sum of channels, relative to the sum of their energies; 1 if they are independent
)

# What is unusual in audio that can be used; worded to follow "N utterances".
SILENT: Final = "of digital silence"
CANCELLED: Final = "whose channels cancel each other out when averaged"
CONSTANT: Final = "of one constant value, without sound"
CLIPPED: Final = f"with a peak above {LOUD:g} times full scale"
SHORT: Final = f"shorter than {SHORT_SECONDS * 1000:g} ms"


class _Decoder(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no type hints
    """A sound file that is only read forward: soundfile's own `seek` after each block fails for unknown lengths."""

    def seekable(self) -> bool:
        return False


class _View(io.RawIOBase):
    """A file with some bytes of its header replaced, up to the end of its audio; see `Container`."""

    def __init__(self, file: BufferedReader, container: Container) -> None:
        self._file, (self._offset, self._replacement) = file, container.patch or (0, b"")
        self._end = file.seek(0, io.SEEK_END) if container.end is None else container.end
        file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(*((self._end + offset, 0) if whence == io.SEEK_END else (offset, whence)))

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        data = bytearray(self._file.read(max(0, min(len(buffer), self._end - start))))
        for index, byte in enumerate(self._replacement):
            if 0 <= self._offset + index - start < len(data):
                data[self._offset + index - start] = byte
        buffer[: len(data)] = data
        return len(data)


@dataclass
class Channels:
    """Averages channels block by block, resamples the average, and notes what is unusual.

    Blocks give the same bits as the whole.

    Args:
        name: for messages.
        rate: Hz.
        sample_rate: of the result, in Hz.
        pre_emphasis: see `audio.stream_audio`.
    """

    name: str
    rate: int
    sample_rate: int
    pre_emphasis: float = 0.0
    count: int = 0  # samples per channel
    resampled: int = 0  # samples at `sample_rate`
    _last: np.ndarray | None = None  # (1,), before pre-emphasis
    _peak: float = 0.0  # of any channel
    _lowest: float = math.inf  # of the average
    _highest: float = -math.inf
    _channel_energy: float = 0.0  # sums of squares
    _sum_energy: float = 0.0

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256(f"{self.rate}\n".encode())
        self._resampler = (
            None
            if self.rate == self.sample_rate
            else soxr.ResampleStream(self.rate, self.sample_rate, 1, dtype="float32", quality="HQ")
        )

    def append(self, block: np.ndarray) -> np.ndarray:
        """Adds float32 (n, channels), full scale 1.

        Returns:
            float32 (m,), the next samples of the average at `sample_rate`.

        Raises:
            MfhcaError: a sample is not a finite number or far above full scale, or the utterance is too long.
        """
        if not np.isfinite(block).all():
            bad = self.count + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise MfhcaError(f"{self.name}: sample {bad} is not a finite number; repair it or leave it out")
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        self.count += len(block)
        if len(block):
            self._peak = max(self._peak, float(np.abs(block).max()))
            self._lowest, self._highest = (
                min(self._lowest, float(mono.min())),
                max(self._highest, float(mono.max())),
            )
            self._channel_energy += float(np.vdot(block, block))
            self._sum_energy += float(np.vdot(mono, mono)) * block.shape[1] ** 2
        if self._peak > TOO_LOUD:
            raise MfhcaError(
                f"{self.name}: a peak of {self._peak:.0f} times full scale; floating-point audio has to be scaled "
                "to -1 ... 1 (16-bit integers divided by 32768)"
            )
        if self.count > LONGEST_SECONDS * self.rate:
            raise MfhcaError(
                f"{self.name}: longer than {LONGEST_SECONDS / 3600:g} h; cut it into utterances "
                "(start_s and end_s in a manifest, or several files)"
            )
        self._digest.update((mono + np.float32(0)).tobytes())  # turns -0.0 into 0.0
        return self._resample(mono)

    def finish(self) -> np.ndarray:
        """The samples after those of `append`, float32 (m,); nothing can be added afterwards.

        Raises:
            MfhcaError: there is no sample at all.
        """
        rest = self._resample(np.zeros(0, np.float32), last=True)
        if not self.resampled:
            raise MfhcaError(f"{self.name}: has no audio; restore it or leave it out")
        return rest

    def _resample(self, mono: np.ndarray, last: bool = False) -> np.ndarray:
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(np.ascontiguousarray(mono), last)
        self.resampled += len(mono)
        if not self.pre_emphasis or not len(mono):
            return np.ascontiguousarray(mono, dtype=np.float32)
        previous, self._last = self._last, mono[-1:].copy()
        if previous is None:  # y[0] = x[0]
            return np.concatenate([mono[:1], mono[1:] - np.float32(self.pre_emphasis) * mono[:-1]])
        result: np.ndarray = mono - np.float32(self.pre_emphasis) * np.concatenate([previous, mono[:-1]])
        return result

    @property
    def samples_digest(self) -> str:
        """Identity of the audio, equal for one recording in lossless files of any format or word length.

        64 hexadecimal digits of the average of the channels at its own rate; an empty text for digital silence, which
        identifies no recording.
        """
        return "" if self._lowest == self._highest == 0.0 else self._digest.hexdigest()

    def warnings(self) -> tuple[str, ...]:
        """What is unusual in the samples."""
        silent = self._peak <= LAST_BIT
        cancelled = not silent and self._sum_energy < LEFT * self._channel_energy
        constant = self._lowest == self._highest and self.count > 1
        checks = {
            SILENT: silent,
            CANCELLED: cancelled,
            CONSTANT: constant and not silent and not cancelled,
            CLIPPED: self._peak > LOUD,
            SHORT: self.count < SHORT_SECONDS * self.rate,
        }
        return tuple(warning for warning, applies in checks.items() if applies)


def decode(
    file: BufferedReader,
    path: Path,
    container: Container,
    start_s: float | None,
    end_s: float | None,
    sample_rate: int,
    pre_emphasis: float,
) -> Generator[np.ndarray, None, Channels]:
    """Decodes a file or a span of it: yields its samples, returns what was noted; see `audio.stream_audio`."""
    streamed = container.name == "FLAC" and end_s is None and _streamed_flac(file)
    # By path where possible: libsndfile then reads without calling Python.
    whole = container.patch is None and container.end is None
    source = path if whole else io.BufferedReader(_View(file, container))
    with _Decoder(source) as decoder:
        rate, declared = int(decoder.samplerate), int(decoder.frames)
        if rate < LOWEST_RATE:
            raise MfhcaError(
                f"{path}: a sample rate of {rate} Hz, expected at least {LOWEST_RATE}; repair its header"
            )
        first = 0 if start_s is None else round(start_s * rate)
        last = declared if end_s is None else round(end_s * rate)
        # One sample of tolerance: a manifest's times are rounded.
        if first < 0 or last > declared + 1 or (declared and first >= min(last, declared)):
            raise MfhcaError(
                f"{path}: the manifest's span {start_s} to {end_s} s is outside its "
                f"{declared / rate:.3f} s; correct start_s and end_s"
            )
        if first:
            decoder.seek(first)
        expected = min(last, declared) - first
        channels = Channels(str(path), rate, sample_rate, pre_emphasis)
        unknown = streamed and declared > LONGEST_SECONDS * rate
        # Such a file ends in an error, after an hour at the latest; nothing is computed from it until then.
        too_long = expected > LONGEST_SECONDS * rate and not unknown and container.samples is None
        while channels.count < expected:
            requested = min(BLOCK, expected - channels.count)
            block = decoder.read(requested, dtype="float32", always_2d=True)
            samples = channels.append(block)
            if not too_long:
                yield samples
            if len(block) < requested:
                break
    if channels.count == 0:
        raise MfhcaError(f"{path}: has a header and no audio; restore it or leave it out")
    if container.samples is not None and start_s is None and end_s is None:
        expected = min(expected, channels.count)  # an estimate of libsndfile
        if channels.count < container.samples:
            raise MfhcaError(
                f"{path}: only {channels.count / rate:.1f} of about {container.samples / rate:.1f} s would be decoded "
                "(MP3 with variable bit rate and without its Xing frame); convert it to WAV or FLAC"
            )
    if channels.count != expected and not unknown:
        raise MfhcaError(
            f"{path}: cut short, {channels.count} of {expected} samples decode; restore the whole file"
        )
    yield channels.finish()
    return channels


def _streamed_flac(file: BufferedReader) -> bool:
    """Whether a FLAC file declares no length, as when it was written into a pipe."""
    file.seek(0)
    file.seek(id3_bytes(file.read(10)) + 21)  # the last 36 bits of bytes 18 to 25 are the number of samples
    data = file.read(5)
    return len(data) == 5 and data[0] & 0x0F == 0 and not any(data[1:])
