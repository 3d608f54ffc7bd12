"""Files that are whole or absent: atomic replacement, digests, canonical JSON, locks.

Everything both stages write goes through here (shards, whose bytes are
streamed, use `publish`). No function knows what is in the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mfhca_cache.errors import MfhcaError


def canonical_json(value: Any) -> str:
    """JSON in which equal values have equal text: sorted keys, no spaces, no NaN.

    >>> canonical_json({"b": 1, "a": [1.5, "é"]})
    '{"a":[1.5,"é"],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, target: Path) -> None:
    """Gives a finished file (already fsynced) its final name, atomically and durably."""
    os.replace(temporary, target)
    fsync_folder(target.parent)


def write_atomically(path: Path, data: str | bytes) -> None:
    """Writes a small file so that readers see the old one or the new one, never a part.

    Raises:
        MfhcaError: the folder is read-only or full.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _temporary(path)
        with os.fdopen(descriptor, "wb") as file:
            _sweep(path)
            file.write(payload)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            publish(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise MfhcaError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from error


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path` and its descriptor, locked for as long as this is open: its writer lives."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: then nobody sweeps either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(Path(name).stat(), os.fstat(descriptor)):
                return descriptor, Path(name)
        except FileNotFoundError:
            pass  # somebody swept it before it was locked
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _sweep(path: Path) -> None:
    """Removes what killed writers of `path` have left beside it."""
    for other in path.parent.glob(f"{glob.escape(f'.{path.name}.')}*.tmp"):
        with contextlib.suppress(OSError):
            descriptor = os.open(other, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as readable JSON, atomically; equal values give equal bytes."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        MfhcaError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise MfhcaError(f"{path}: not valid JSON ({error}); delete it and run again") from error


@contextlib.contextmanager
def lock(path: Path, purpose: str, patience_seconds: float = 0.0) -> Iterator[None]:
    """Holds an advisory lock that dies with the process, so that two processes never do the same work.

    Args:
        path: the lock file; it stays behind, empty.
        purpose: what is locked, for the message.
        patience_seconds: how long to wait for it; a killed run's workers need a moment to notice.

    Raises:
        MfhcaError: another process holds it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise MfhcaError(
            f"{path}: cannot be written ({error.strerror}); choose a folder you may write to"
        ) from error
    try:
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise MfhcaError(
                        f"{purpose} is in use by another process; wait for it or stop it"
                    ) from error
                time.sleep(0.05)
            except OSError as error:
                raise MfhcaError(
                    f"{path}: this file system has no locks ({error.strerror}); choose a local folder"
                ) from error
        yield
    finally:
        os.close(descriptor)
