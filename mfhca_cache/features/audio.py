"""Reading an audio file: its digests, its completeness, and its samples as 16 kHz mono.

`common.audio_digest` opens and hashes files, `containers` checks whether the file is complete, `decode` decodes it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import soundfile

from mfhca_cache.common.audio_digest import open_audio, span_digest
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.containers import Container, ContainerError, inspect
from mfhca_cache.features.decode import decode

WRONG_LENGTH: Final = "with a wrong length in the header (decoded to the end of the file)"
SETTLED_NS: Final = 2_000_000_000  # after its last change a file's digest may be used again


@dataclass(frozen=True, kw_only=True)
class Properties:
    """What is known of an utterance's audio after decoding it.

    Attributes:
        digest: identity of the file's bytes: see `audio_digest.digest_of`.
        samples_digest: identity of the decoded samples: see `Channels.samples_digest`; empty for digital silence.
        length: samples at the requested rate.
        native_samples: samples per channel before resampling.
        native_rate: the file's own sample rate, in Hz.
        warnings: what is unusual: WRONG_LENGTH, or a warning of `decode`.
    """

    digest: str
    samples_digest: str
    length: int
    native_samples: int
    native_rate: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Audio(Properties):
    """One decoded utterance: float32 samples (n,), mono, at the requested rate, full scale 1."""

    samples: np.ndarray


Blocks: TypeAlias = Generator[np.ndarray, None, Properties]  # consecutive samples; returns their properties


def _check(path: Path, _: tuple[int, ...]) -> tuple[str, Container]:
    """The SHA-256 of a file's bytes, and its container; the second argument changes with its content."""
    with open_audio(path) as (file, size):
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            return digest, inspect(file, size)
        except ContainerError as error:
            raise MfhcaError(f"{path}: {error}") from error


_check_once = lru_cache(maxsize=16)(_check)  # for utterances cut from one long recording


def stream_audio(
    path: Path,
    sample_rate: int,
    start_s: float | None = None,
    end_s: float | None = None,
    pre_emphasis: float = 0.0,
) -> Blocks:
    """Decodes a file, or a span of it, to mono at `sample_rate`, block by block.

    Args:
        path: a file in any format that `containers` knows (WAV, FLAC, OGG, MP3, AIFF, ...).
        sample_rate: requested rate in Hz; other rates are resampled by soxr at its high quality.
        start_s: start of the utterance in its file, in seconds; None for the beginning.
        end_s: end of the utterance in its file, in seconds; None for the end.
        pre_emphasis: a in y[t] = x[t] - a x[t-1], applied at `sample_rate`; 0 for none (the paper).

    Yields:
        float32 (n,): channels averaged, full scale 1. They must be discarded if an error follows.

    Returns:
        The properties.

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
            decoded = yield from decode(file, path, container, start_s, end_s, sample_rate, pre_emphasis)
        except (soundfile.SoundFileError, RuntimeError, OSError) as error:
            reason = str(error).rpartition(": ")[2].rstrip(". ")
            raise MfhcaError(
                f"{path}: not readable as audio ({reason}); convert it to WAV or FLAC, or leave it out"
            ) from error
    return Properties(
        digest=span_digest(file_digest, start_s, end_s),
        samples_digest=decoded.samples_digest,
        length=decoded.resampled,
        native_samples=decoded.count,
        native_rate=decoded.rate,
        warnings=((WRONG_LENGTH,) if container.wrong_length else ()) + decoded.warnings(),
    )


def read_audio(
    path: Path,
    sample_rate: int,
    start_s: float | None = None,
    end_s: float | None = None,
    pre_emphasis: float = 0.0,
) -> Audio:
    """`stream_audio`, with all samples in memory."""
    blocks = stream_audio(path, sample_rate, start_s, end_s, pre_emphasis)
    samples = []
    while True:
        try:
            samples.append(next(blocks))
        except StopIteration as end:
            return Audio(samples=np.concatenate(samples), **vars(end.value))
