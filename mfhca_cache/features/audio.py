"""Reading an audio file: its digest, its completeness, and its samples as 16 kHz mono.

`containers` checks whether the file is complete, `decode` decodes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.features.containers import ContainerError, inspect
from mfhca_cache.features.decode import decode, to_rate

WRONG_LENGTH: Final = "with a wrong length in the WAV header (decoded to the end of the file)"


@dataclass(frozen=True)
class Audio:
    """One decoded utterance.

    Attributes:
        samples: float32 (n,), mono, at the requested rate, full scale 1.
        digest: identity of the audio: see `digest_of`.
        native_samples: samples per channel before resampling.
        native_rate: the file's own sample rate, in Hz.
        warnings: what is unusual: WRONG_LENGTH, or a warning of `decode`.
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
            outside the file, or an utterance longer than `decode.LONGEST_SECONDS`.
    """
    with open_audio(path) as (file, size):
        digest = span_digest(hashlib.file_digest(file, "sha256").hexdigest(), start_s, end_s)
        try:
            container = inspect(file, size)
        except ContainerError as error:
            raise MfhcaError(f"{path}: {error}") from error
        try:
            decoded = decode(file, path, container, start_s, end_s)
        except (soundfile.SoundFileError, RuntimeError, OSError) as error:
            reason = str(error).rpartition(": ")[2].rstrip(". ")
            raise MfhcaError(
                f"{path}: not readable as audio ({reason}); convert it to WAV or FLAC, or leave it out"
            ) from error
    samples = to_rate(decoded.mono(), decoded.rate, sample_rate, pre_emphasis, str(path))
    warnings = ((WRONG_LENGTH,) if container.wrong_length else ()) + decoded.warnings()
    return Audio(samples, digest, decoded.count, decoded.rate, warnings)
