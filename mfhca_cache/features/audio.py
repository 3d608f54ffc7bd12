"""Reading an audio file: its digests, its completeness, and its samples as 16 kHz mono.

`common.audio_digest` opens and hashes files, `containers` checks whether the file is complete, `decode` decodes it.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from mfhca_cache.common.audio_digest import open_audio, span_digest
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.containers import Container, ContainerError, inspect
from mfhca_cache.features.decode import decode

WRONG_LENGTH: Final = "with a wrong length in the header (decoded to the end of the file)"
SETTLED_NS: Final = 2_000_000_000  # after its last change a file's digest may be used again


@dataclass(frozen=True)
class Audio:
    """One decoded utterance.

    Attributes:
        samples: float32 (n,), mono, at the requested rate, full scale 1.
        digest: identity of the file's bytes: see `audio_digest.digest_of`.
        samples_digest: identity of the decoded samples: see `Channels.samples_digest`; empty for digital silence.
        native_samples: samples per channel before resampling.
        native_rate: the file's own sample rate, in Hz.
        warnings: what is unusual: WRONG_LENGTH, or a warning of `decode`.
    """

    samples: np.ndarray
    digest: str
    samples_digest: str
    native_samples: int
    native_rate: int
    warnings: tuple[str, ...] = ()


def _check(path: Path, _: tuple[int, ...]) -> tuple[str, Container]:
    """The SHA-256 of a file's bytes, and its container; the second argument changes with its content."""
    with open_audio(path) as (file, size):
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            return digest, inspect(file, size)
        except ContainerError as error:
            raise MfhcaError(f"{path}: {error}") from error


_check_once = lru_cache(maxsize=16)(_check)  # for utterances cut from one long recording


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
    with open_audio(path) as (file, _):
        status = os.fstat(file.fileno())
        # A file that was changed just now may change again without another time stamp.
        shared = (start_s, end_s) != (None, None) and time.time_ns() - status.st_ctime_ns > SETTLED_NS
        check = _check_once if shared else _check
        file_digest, container = check(
            path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        )
        try:
            decoded = decode(file, path, container, start_s, end_s, sample_rate)
        except (soundfile.SoundFileError, RuntimeError, OSError) as error:
            reason = str(error).rpartition(": ")[2].rstrip(". ")
            raise MfhcaError(
                f"{path}: not readable as audio ({reason}); convert it to WAV or FLAC, or leave it out"
            ) from error
    samples = decoded.finish(pre_emphasis)
    warnings = ((WRONG_LENGTH,) if container.wrong_length else ()) + decoded.warnings()
    digest = span_digest(file_digest, start_s, end_s)
    return Audio(samples, digest, decoded.samples_digest, decoded.count, decoded.rate, warnings)
