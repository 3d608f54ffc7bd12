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
import math
import os
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError

ANEW = "delete it and run again"  # the usual remedy for a file that a program wrote
WHOLE_DIGITS = 20  # of 64 bits, with a sign


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


def readable_json(value: Any) -> str:
    """JSON for people, an entry a line; equal values in equal order have equal text."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes a value as readable JSON, atomically; equal values give equal bytes."""
    write_atomically(path, readable_json(value))


def read_text(path: Path, remedy: str = ANEW) -> str:
    """Reads a text in UTF-8, line endings as they are; `remedy` is for the message.

    Raises:
        MfhcaError: the file is missing, unreadable, or not such a text.
    """
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise MfhcaError(f"{path}: not text in UTF-8 (byte {error.start}); {remedy}") from error


def parse_json(path: Path, text: str, remedy: str = ANEW) -> Any:
    """What a JSON text says; `path` and `remedy` are for the message.

    Raises:
        MfhcaError: it is not JSON, nests too deeply, or holds what nothing here writes: numbers that are not
            finite, whole numbers of more than 64 bits, or halves of characters.
    """
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
        if "\\ud" in text or "\\uD" in text:  # half a character can be escaped, but never be written again
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise MfhcaError(f"{path}: not valid JSON ({error}); {remedy}") from error
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > WHOLE_DIGITS:
        raise ValueError(f"{text[:WHOLE_DIGITS]}... is too large a number")
    return int(text)


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        MfhcaError: the file is missing, unreadable or not JSON, see `parse_json`.
    """
    return parse_json(path, read_text(path))


def read_toml(path: Path, remedy: str = "correct it") -> dict[str, Any]:
    """Reads TOML.

    Args:
        path: of the file.
        remedy: for the message.

    Raises:
        MfhcaError: the file is missing, unreadable, or not TOML.
    """
    try:
        text = read_text(path, remedy)
        return tomllib.loads(text, parse_float=_finite)
    except MfhcaError:
        raise
    except (ValueError, RecursionError) as error:
        raise MfhcaError(f"{path}: not valid TOML ({error}); {remedy}") from error


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
