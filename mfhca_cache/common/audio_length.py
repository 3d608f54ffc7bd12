"""The length of an audio file by its header, for estimates and manifests; nothing is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LONGEST_SECONDS: Final = (
    7 * 24 * 3600
)  # a plausible length; formats for streams use absurd values for "unknown"


def header_length(path: Path) -> tuple[int | None, int]:
    """Samples per channel and sample rate in Hz of an audio file; None for samples if the header does not say.

    Raises:
        OSError, RuntimeError: the file cannot be read, or is not audio (libsndfile's errors are RuntimeErrors).
    """
    import soundfile

    info = soundfile.info(str(path))
    if info.samplerate < 1 or info.frames > LONGEST_SECONDS * info.samplerate:
        return None, info.samplerate
    return int(info.frames), int(info.samplerate)


def header_seconds(path: Path) -> float | None:
    """Length of an audio file in seconds; None if its header does not say or cannot be read."""
    try:
        samples, rate = header_length(path)
        return None if samples is None else samples / rate
    except (RuntimeError, OSError):  # libsndfile's errors are RuntimeErrors
        return None  # decoding will report the error
