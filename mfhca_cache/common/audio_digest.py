"""Opening and hashing audio files; nothing is decoded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text


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
