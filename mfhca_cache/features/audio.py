"""From an audio file to fixed-length segments of 16 kHz mono samples.

A file's bytes are read once: the digest that says whether cached features are
stale is taken from the very bytes that are decoded. What is made of the
segments is in `spectrum` and `encoder`.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text

TAILS: Final = ("pad", "overlap", "drop")
LOWEST_RATE: Final = 4000  # Hz; below that a header is wrong, or the recording carries no vowel
UNKNOWN_SIZES: Final = (0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF)  # written by programs that stream a WAV


@dataclass(frozen=True)
class Audio:
    """One utterance, decoded.

    Attributes:
        samples: float32 (n,), mono, at the rate that was asked for, full scale 1.
        digest: identity of what was read: see `digest_of`.
        native_samples: frames decoded before resampling.
        native_rate: the file's own sample rate, in Hz.
    """

    samples: np.ndarray
    digest: str
    native_samples: int
    native_rate: int


def digest_of(data: bytes, start_s: float | None = None, end_s: float | None = None) -> str:
    """Identity of an utterance's audio: the SHA-256 of the file's bytes, and of the span where there is one.

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
    """`digest_of` where the SHA-256 of the whole file is already known."""
    if start_s is None and end_s is None:
        return file_digest
    return sha256_text(canonical_json({"file": file_digest, "start_s": start_s, "end_s": end_s}))


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        MfhcaError: the file is missing, unreadable or empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror}); restore it or leave it out") from error
    if not data:
        raise MfhcaError(f"{path}: the file is empty; restore it or leave it out")
    return data


def decode(
    data: bytes,
    path: Path,
    sample_rate: int,
    start_s: float | None = None,
    end_s: float | None = None,
    pre_emphasis: float = 0.0,
) -> Audio:
    """Decodes a file's bytes to mono at `sample_rate`.

    Args:
        data: the file's bytes, in any format libsndfile reads (WAV, FLAC, OGG, MP3, AIFF, ...).
        path: the file's name, for messages only.
        sample_rate: wanted rate in Hz; other rates are resampled by soxr at its high quality.
        start_s: start of the utterance in its file, in seconds; None for the beginning.
        end_s: end of the utterance in its file, in seconds; None for the end.
        pre_emphasis: a in y[t] = x[t] - a x[t-1], applied at `sample_rate`; 0 for none (the paper).

    Returns:
        Channels averaged, float32, full scale 1.

    Raises:
        MfhcaError: not audio, cut short, no samples, samples that are not numbers, or a span outside it.
    """
    samples, native_rate = _native(data, path, start_s, end_s)
    mono = to_mono(samples, native_rate, sample_rate, pre_emphasis, str(path))
    return Audio(mono, digest_of(data, start_s, end_s), len(samples), native_rate)


def to_mono(
    samples: np.ndarray, native_rate: int, sample_rate: int, pre_emphasis: float, name: str
) -> np.ndarray:
    """Averages channels, resamples and emphasises.

    Args:
        samples: float32 (n, channels), full scale 1.
        native_rate: their rate in Hz.
        sample_rate: wanted rate in Hz.
        pre_emphasis: see `decode`.
        name: whose they are, for messages.

    Returns:
        float32 (m,).

    Raises:
        MfhcaError: a sample is not a number, or none is left.
    """
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])
        raise MfhcaError(f"{name}: sample {bad} is not a finite number; repair it or leave it out")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if native_rate != sample_rate:
        mono = soxr.resample(mono, native_rate, sample_rate, quality="HQ")
    if len(mono) == 0:
        raise MfhcaError(f"{name}: holds no audio; restore it or leave it out")
    if pre_emphasis:
        mono = np.concatenate([mono[:1], mono[1:] - np.float32(pre_emphasis) * mono[:-1]])
    return np.ascontiguousarray(mono, dtype=np.float32)


def read_audio(
    path: Path,
    sample_rate: int,
    start_s: float | None = None,
    end_s: float | None = None,
    pre_emphasis: float = 0.0,
) -> Audio:
    """`read_bytes`, then `decode`."""
    return decode(read_bytes(path), path, sample_rate, start_s, end_s, pre_emphasis)


def _native(data: bytes, path: Path, start_s: float | None, end_s: float | None) -> tuple[np.ndarray, int]:
    """Samples (n, channels), float32, and the rate of the file or of a span of it."""
    missing = _missing_wav_bytes(data)
    if missing:
        raise MfhcaError(f"{path}: cut short, {missing} bytes of sound are missing; restore the whole file")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, total = int(file.samplerate), int(file.frames)
            if rate < LOWEST_RATE:
                raise MfhcaError(
                    f"{path}: a sample rate of {rate} Hz, at least {LOWEST_RATE} expected; repair its header"
                )
            first = 0 if start_s is None else round(start_s * rate)
            last = total if end_s is None else round(end_s * rate)
            # One sample of slack: a manifest's times are rounded.
            if first < 0 or last > total + 1 or (total and first >= min(last, total)):
                raise MfhcaError(
                    f"{path}: the manifest's span {start_s} to {end_s} s is outside its "
                    f"{total / rate:.3f} s; correct start_s and end_s"
                )
            if first:
                file.seek(first)
            samples = file.read(min(last, total) - first, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        reason = str(error).rpartition(": ")[2].rstrip(". ")
        raise MfhcaError(
            f"{path}: not readable as audio ({reason}); convert it to WAV or FLAC, or leave it out"
        ) from error
    expected = min(last, total) - first
    if len(samples) == 0:
        raise MfhcaError(f"{path}: holds a header and no audio; restore it or leave it out")
    if len(samples) != expected:
        raise MfhcaError(
            f"{path}: cut short, {len(samples)} of {expected} samples decode; restore the whole file"
        )
    return samples, rate


def _missing_wav_bytes(data: bytes) -> int:
    """Bytes that a WAV's data chunk promises beyond the end of the file; libsndfile ignores the promise."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return 0
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            return 0 if size in UNKNOWN_SIZES else max(0, size - (len(data) - position))
        position += size + size % 2  # chunks start at even offsets
    return 0


def cut(
    samples: np.ndarray, segment_samples: int, tail: str = "pad", minimum_tail_samples: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts an utterance into consecutive segments; there is always at least one.

    Args:
        samples: float32 (n,), n >= 1.
        segment_samples: length of a segment.
        tail: what becomes of the remainder after the last whole segment: "pad" (zeros after it),
            "overlap" (the last segment is moved back to end with the utterance) or "drop". An utterance
            shorter than one segment is padded under every rule.
        minimum_tail_samples: a remainder shorter than this is dropped.

    Returns:
        segments float32 (S, segment_samples), and how many samples of each are real, int32 (S,).

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
    real = np.full(count, segment_samples, dtype=np.int32)
    if with_tail and tail == "overlap" and whole:
        segments[-1] = samples[-segment_samples:]
    elif with_tail:
        segments[-1, :remainder] = samples[whole * segment_samples :]
        real[-1] = remainder
    return segments, real


def segment_starts(samples: int, count: int, segment_samples: int, tail: str) -> np.ndarray:
    """Where the segments of `cut` begin.

    Args:
        samples: of the utterance.
        count: segments that `cut` made of it.
        segment_samples: length of a segment.
        tail: the rule it was given.

    Returns:
        int64 (S,), samples from the utterance's beginning.

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
    """How many segments `cut` makes of an utterance of that many samples.

    >>> [segment_count(n, 48_000) for n in (160, 48_000, 48_001, 96_000)]
    [1, 1, 2, 2]
    """
    whole, remainder = divmod(samples, segment_samples)
    return whole + int(whole == 0 or (remainder > 0 and tail != "drop" and remainder >= minimum_tail_samples))
