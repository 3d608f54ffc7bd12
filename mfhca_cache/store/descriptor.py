"""Reading a shard by its file descriptor, with one-line errors."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError

CHUNK_BYTES = 1 << 20  # hashed at a time


def damaged(path: Path, reason: str) -> MfhcaError:
    """The error for a shard that cannot be used."""
    command = "import" if path.parent.name.startswith("external-") else "features"
    return MfhcaError(f"{path}: {reason}; delete it and run `mfhca-cache {command}` again")


def open_file(path: Path) -> int:
    """A file descriptor for reading a shard.

    Raises:
        MfhcaError: it is missing, unreadable, or not a regular file.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would block forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise MfhcaError(f"{path}: no such file; run `mfhca-cache features`") from error
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise damaged(path, "not a regular file")
    return descriptor


def file_stat(descriptor: int) -> tuple[int, int, int]:
    """(inode, size in bytes, modification time in ns): identifies a version of a file."""
    status = os.fstat(descriptor)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def read_exactly(descriptor: int, view: memoryview, offset: int, path: Path) -> None:
    """Fills `view` (bytes) from `offset` (bytes); `path` is for error messages.

    Raises:
        MfhcaError: the file is too short, or the disk fails.
    """
    done = 0
    while done < len(view):
        try:
            count = os.preadv(descriptor, [view[done:]], offset + done)
        except OSError as error:
            raise MfhcaError(f"{path}: cannot be read ({error.strerror}); check the disk") from error
        if count == 0:
            raise damaged(
                path, f"truncated: ends at byte {offset + done}, {len(view) - done} bytes are missing"
            )
        done += count


def hash_span(digest: Any, descriptor: int, start: int, end: int, path: Path) -> None:
    """Adds the bytes from `start` to `end` to a digest."""
    buffer = memoryview(bytearray(min(CHUNK_BYTES, max(0, end - start))))
    for offset in range(start, end, CHUNK_BYTES):
        view = buffer[: min(CHUNK_BYTES, end - offset)]
        read_exactly(descriptor, view, offset, path)
        digest.update(view)
