"""From an audio file to fixed-length segments of 16 kHz mono samples.

A file is hashed, checked for completeness (see `containers`) and decoded block by
block, so that memory does not depend on its channels, sample rate or header.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import soxr

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.features.containers import Container, ContainerError, inspect

TAILS: Final = ("pad", "overlap", "drop")
LOWEST_RATE: Final = 4000  # Hz; below this the header is wrong, or the recording has no vowels
LONGEST_SECONDS: Final = 3600.0  # of an utterance; its features are computed in memory
BLOCK: Final = 1 << 16  # samples per channel decoded at a time
LOUD: Final = 4.0  # peak, 12 dB above full scale
TOO_LOUD: Final = 100.0  # peak, 40 dB above full scale: samples scaled as 16-bit integers
SHORT_SECONDS: Final = 0.005

# What is unusual in audio that can be used; worded to follow "N utterances".
WRONG_LENGTH: Final = "with a wrong length in the WAV header (decoded to the end of the file)"
SILENT: Final = "of digital silence"
CANCELLED: Final = "whose channels cancel each other out when averaged"
CLIPPED: Final = f"with a peak above {LOUD:g} times full scale"
SHORT: Final = f"shorter than {SHORT_SECONDS * 1000:g} ms"


@dataclass(frozen=True)
class Audio:
    """One decoded utterance.

    Attributes:
        samples: float32 (n,), mono, at the requested rate, full scale 1.
        digest: identity of the audio: see `digest_of`.
        native_samples: samples per channel before resampling.
        native_rate: the file's own sample rate, in Hz.
        warnings: what is unusual: WRONG_LENGTH, SILENT, CANCELLED, CLIPPED, SHORT.
    """

    samples: np.ndarray
    digest: str
    native_samples: int
    native_rate: int
    warnings: tuple[str, ...] = ()


def digest_of(data: bytes, start_s: float | None = None, end_s: float | None = None) -> str:
    """Identity of an utterance's audio: the SHA-256 of the file's bytes, combined with the span if there is one.

    Args:
        data: the file's bytes, not decoded.
        start_s: start of the utterance in its file, in seconds; None for the beginning.
        end_s: end of the utterance in its file, in seconds; None for the end.

    Returns:
        64 hexadecimal digits.

    >>> digest_of(b"") == hashlib.sha256(b"").hexdigest()
    True
    >>> digest_of(b"", 0.5, 1.0) == digest_of(b"", 0.5, 1.5)
    False
    """
    return span_digest(hashlib.sha256(data).hexdigest(), start_s, end_s)


def span_digest(file_digest: str, start_s: float | None, end_s: float | None) -> str:
    """`digest_of`, given the SHA-256 of the whole file."""
    if start_s is None and end_s is None:
        return file_digest
    return sha256_text(canonical_json({"file": file_digest, "start_s": start_s, "end_s": end_s}))


@contextlib.contextmanager
def open_audio(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Opens a regular file that is not empty; yields it and its length in bytes.

    Raises:
        MfhcaError: the file is missing, unreadable, empty, or a device, pipe or folder; or it was changed meanwhile.
    """
    try:
        # Opening a named pipe would wait for a writer without O_NONBLOCK.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            before = os.fstat(file.fileno())
            if stat.S_ISDIR(before.st_mode):
                raise IsADirectoryError(21, "Is a directory")
            if not stat.S_ISREG(before.st_mode):
                raise MfhcaError(f"{path}: a device or pipe, not a file; copy the audio into a file")
            if not before.st_size:
                raise MfhcaError(f"{path}: the file is empty; restore it or leave it out")
            yield file, before.st_size
            for after in (os.fstat(file.fileno()), path.stat()):
                if _version(after) != _version(before):
                    raise MfhcaError(f"{path}: changed while it was read; run again when it is complete")
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror}); restore it or leave it out") from error


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def file_digest(path: Path) -> str:
    """Hexadecimal SHA-256 of an audio file's bytes.

    Raises:
        MfhcaError: see `open_audio`.
    """
    with open_audio(path) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_audio(
    path: Path,
    sample_rate: int,
    start_s: float | None = None,
    end_s: float | None = None,
    pre_emphasis: float = 0.0,
) -> Audio:
    """Decodes a file, or a span of it, to mono at `sample_rate`.

    Args:
        path: a file in any format that `containers` knows (WAV, FLAC, OGG, MP3, AIFF, ...).
        sample_rate: requested rate in Hz; other rates are resampled by soxr at its high quality.
        start_s: start of the utterance in its file, in seconds; None for the beginning.
        end_s: end of the utterance in its file, in seconds; None for the end.
        pre_emphasis: a in y[t] = x[t] - a x[t-1], applied at `sample_rate`; 0 for none (the paper).

    Returns:
        Channels averaged, float32, full scale 1.

    Raises:
        MfhcaError: not audio, cut short, no samples, samples that are not numbers or far above full scale, a span
            outside the file, or an utterance longer than LONGEST_SECONDS.
    """
    with open_audio(path) as (file, size):
        digest = span_digest(hashlib.file_digest(file, "sha256").hexdigest(), start_s, end_s)
        try:
            container = inspect(file, size)
        except ContainerError as error:
            raise MfhcaError(f"{path}: {error}") from error
        try:
            decoded = _decode(file, path, container, start_s, end_s)
        except (soundfile.SoundFileError, RuntimeError, OSError) as error:
            reason = str(error).rpartition(": ")[2].rstrip(". ")
            raise MfhcaError(
                f"{path}: not readable as audio ({reason}); convert it to WAV or FLAC, or leave it out"
            ) from error
    samples = to_rate(decoded.mono(), decoded.rate, sample_rate, pre_emphasis, str(path))
    warnings = ((WRONG_LENGTH,) if container.wrong_length else ()) + decoded.warnings()
    return Audio(samples, digest, decoded.count, decoded.rate, warnings)


class _Decoder(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no type hints
    """A sound file that is only read forward: soundfile's own `seek` after each block fails for unknown lengths."""

    def seekable(self) -> bool:
        return False


class _Patched(io.RawIOBase):
    """A file with some bytes of its header replaced."""

    def __init__(self, file: BufferedReader, offset: int, replacement: bytes) -> None:
        self._file, self._offset, self._replacement = file, offset, replacement

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        data = bytearray(self._file.read(len(buffer)))
        for index, byte in enumerate(self._replacement):
            if 0 <= self._offset + index - start < len(data):
                data[self._offset + index - start] = byte
        buffer[: len(data)] = data
        return len(data)


@dataclass
class Channels:
    """Samples collected block by block: their average over channels, and what the channels were like.

    Args:
        name: for messages.
        rate: Hz.
    """

    name: str
    rate: int
    count: int = 0  # samples per channel
    _blocks: list[np.ndarray] = field(default_factory=list)
    _peak: float = 0.0  # of any channel
    _mono_peak: float = 0.0

    def append(self, block: np.ndarray) -> None:
        """Adds float32 (n, channels), full scale 1.

        Raises:
            MfhcaError: a sample is not a finite number or far above full scale, or the utterance is too long.
        """
        if not np.isfinite(block).all():
            bad = self.count + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise MfhcaError(f"{self.name}: sample {bad} is not a finite number; repair it or leave it out")
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        self.count += len(block)
        self._blocks.append(mono)
        if len(block):
            self._peak = max(self._peak, float(np.abs(block).max()))
            self._mono_peak = max(self._mono_peak, float(np.abs(mono).max()))
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

    def mono(self) -> np.ndarray:
        """float32 (n,), the average of the channels."""
        return (
            self._blocks[0]
            if len(self._blocks) == 1
            else np.concatenate([np.zeros(0, np.float32), *self._blocks])
        )

    def warnings(self) -> tuple[str, ...]:
        """What is unusual in the samples."""
        found = {
            SILENT: self._peak == 0.0,
            CANCELLED: self._peak > 0.0 == self._mono_peak,
            CLIPPED: self._peak > LOUD,
            SHORT: self.count < SHORT_SECONDS * self.rate,
        }
        return tuple(warning for warning, applies in found.items() if applies)


def _decode(
    file: BufferedReader, path: Path, container: Container, start_s: float | None, end_s: float | None
) -> Channels:
    """Decodes a file or a span of it."""
    # By path, because libsndfile opens MP3 only so.
    source = path if container.patch is None else io.BufferedReader(_Patched(file, *container.patch))
    if container.patch is not None:
        file.seek(0)
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
        channels = Channels(str(path), rate)
        while channels.count < expected:
            wanted = min(BLOCK, expected - channels.count)
            block = decoder.read(wanted, dtype="float32", always_2d=True)
            channels.append(block)
            if len(block) < wanted:
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
    unknown = declared > LONGEST_SECONDS * rate and end_s is None and container.name == "FLAC"
    if channels.count != expected and not (unknown and _streamed_flac(file)):
        raise MfhcaError(
            f"{path}: cut short, {channels.count} of {expected} samples decode; restore the whole file"
        )
    return channels


def _streamed_flac(file: BufferedReader) -> bool:
    """Whether a FLAC file declares no length, as when it was written into a pipe."""
    file.seek(21)  # the last 36 bits of bytes 18 to 25 are the number of samples
    data = file.read(5)
    return len(data) == 5 and data[0] & 0x0F == 0 and not any(data[1:])


def to_rate(
    mono: np.ndarray, native_rate: int, sample_rate: int, pre_emphasis: float, name: str
) -> np.ndarray:
    """Resamples and applies pre-emphasis.

    Args:
        mono: float32 (n,), full scale 1.
        native_rate: its rate in Hz.
        sample_rate: requested rate in Hz.
        pre_emphasis: see `read_audio`.
        name: for messages.

    Returns:
        float32 (m,).

    Raises:
        MfhcaError: no sample is left.
    """
    if native_rate != sample_rate:
        mono = soxr.resample(mono, native_rate, sample_rate, quality="HQ")
    if len(mono) == 0:
        raise MfhcaError(f"{name}: has no audio; restore it or leave it out")
    if pre_emphasis:
        mono = np.concatenate([mono[:1], mono[1:] - np.float32(pre_emphasis) * mono[:-1]])
    return np.ascontiguousarray(mono, dtype=np.float32)


def cut(
    samples: np.ndarray, segment_samples: int, tail: str = "pad", minimum_tail_samples: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts an utterance into consecutive segments; there is always at least one.

    Args:
        samples: float32 (n,), n >= 1.
        segment_samples: length of a segment.
        tail: how to handle a short final segment: "pad" with zeros, "overlap" (the last segment is moved back
            to end with the utterance) or "drop". An utterance shorter than one segment is always padded.
        minimum_tail_samples: a shorter final segment is dropped.

    Returns:
        Segments float32 (S, segment_samples), and their lengths without padding, int32 (S,).

    Raises:
        MfhcaError: an unknown tail rule.

    >>> cut(np.arange(5, dtype=np.float32), 2, "pad")[0].tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 0.0]]
    >>> cut(np.arange(5, dtype=np.float32), 2, "overlap")[0].tolist()
    [[0.0, 1.0], [2.0, 3.0], [3.0, 4.0]]
    >>> cut(np.arange(5, dtype=np.float32), 2, "drop")[0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    if tail not in TAILS:
        raise MfhcaError(f"tail rule {tail!r} is unknown; choose one of {', '.join(TAILS)}")
    whole, remainder = divmod(len(samples), segment_samples)
    with_tail = whole == 0 or (remainder > 0 and tail != "drop" and remainder >= minimum_tail_samples)
    count = whole + with_tail
    segments = np.zeros((count, segment_samples), dtype=np.float32)
    segments[:whole] = samples[: whole * segment_samples].reshape(whole, segment_samples)
    lengths = np.full(count, segment_samples, dtype=np.int32)
    if with_tail and tail == "overlap" and whole:
        segments[-1] = samples[-segment_samples:]
    elif with_tail:
        segments[-1, :remainder] = samples[whole * segment_samples :]
        lengths[-1] = remainder
    return segments, lengths


def segment_starts(samples: int, count: int, segment_samples: int, tail: str) -> np.ndarray:
    """The starts of the segments of `cut`.

    Args:
        samples: length of the utterance.
        count: number of segments.
        segment_samples: length of a segment.
        tail: as in `cut`.

    Returns:
        int64 (S,), samples from the start of the utterance.

    >>> segment_starts(5, 3, 2, "pad").tolist(), segment_starts(5, 3, 2, "overlap").tolist()
    ([0, 2, 4], [0, 2, 3])
    """
    starts = np.arange(count, dtype=np.int64) * segment_samples
    if tail == "overlap" and samples > segment_samples:
        starts[-1] = samples - segment_samples
    return starts


def segment_count(
    samples: int, segment_samples: int, tail: str = "pad", minimum_tail_samples: int = 0
) -> int:
    """The number of segments into which `cut` divides an utterance of so many samples.

    >>> [segment_count(n, 48_000) for n in (160, 48_000, 48_001, 96_000)]
    [1, 1, 2, 2]
    """
    whole, remainder = divmod(samples, segment_samples)
    return whole + int(whole == 0 or (remainder > 0 and tail != "drop" and remainder >= minimum_tail_samples))
