"""Reading and writing files safely: atomic replacement, digests, canonical JSON, locks.

Both stages write every file through this module; shards, which are streamed,
use `publish` only.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import math
import os
import secrets
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mfhca_cache.common.errors import MfhcaError, dangling
from mfhca_cache.common.text import hidden_characters

DELETE_AND_RERUN = "delete it and run again"  # the usual remedy for a file that a program wrote
NEW_FILE_MODE = 0o666  # less the umask
STEM_BYTES = 200
INTEGER_DIGITS = 20  # of a 64-bit integer with its sign


def canonical_json(value: Any) -> str:
    """JSON with one text per value: sorted keys, no spaces, no NaN.

    >>> canonical_json({"b": 1, "a": [1.5, "é"]})
    '{"a":[1.5,"é"],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text encoded in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(name: str, longest: int) -> str:
    """A name as part of a file name; different names give different ones.

    A long name is cut and gets a digest, because file systems allow 255 bytes, which must also suffice for the names of
    locks and unfinished files.

    Args:
        name: any text.
        longest: bytes of the result.

    >>> file_name("a/b c", 60), len(file_name("\u6f22" * 29, 60))
    ('a%2Fb%20c', 60)
    """
    quoted = quote(name, safe="")
    if len(quoted) <= longest:
        return quoted
    digest = f"%7E{sha256_text(name)[:16]}"
    return quoted[: longest - len(digest)] + digest


def size_of(path: Path) -> int:
    """Size in bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files)


def fsync_folder(folder: Path) -> None:
    """Makes a rename inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, target: Path) -> None:
    """Renames a finished, fsynced temporary file to its final name, atomically and durably."""
    os.replace(temporary, target)
    # Without this fsync a power failure could undo the rename although the file itself is on the disk.
    fsync_folder(target.parent)


def write_atomically(path: Path, data: str | bytes) -> None:
    """Writes a small file so that readers see either the old or the new content, never a part of it.

    Raises:
        MfhcaError: the folder is read-only or full.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _temporary(path)
        with os.fdopen(descriptor, "wb") as file:
            _remove_abandoned(path)
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
            publish(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise _not_writable(path, error, "free space or choose another folder") from error


def _not_writable(path: Path, error: OSError, remedy: str) -> MfhcaError:
    """The error of a file that cannot be written; it names a folder above it that is a symlink to nothing."""
    if place := dangling(path.parent):
        return MfhcaError(f"{place}; create it, mount its disk or remove the link")
    return MfhcaError(f"{path}: cannot be written ({error.strerror}); {remedy}")


def create_temporary(path: Path) -> tuple[int, Path]:
    """Creates a hidden file with a unique name in the folder of `path`; returns its descriptor and path.

    Unlike `tempfile.mkstemp`, which makes files for one user only, its mode follows the umask, so that a group can
    share a cache and its runs.

    Raises:
        OSError: the folder cannot be written.
    """
    while True:
        # Names may have at most 255 bytes; the beginning is enough to recognise the file.
        stem = path.name.encode()[:STEM_BYTES].decode(errors="ignore")
        temporary = path.with_name(f".{stem}.{secrets.token_hex(4)}.tmp")
        with contextlib.suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return os.open(temporary, flags, NEW_FILE_MODE), temporary


def _temporary(path: Path) -> tuple[int, Path]:
    """Creates a locked temporary file in the folder of `path`; returns its descriptor and path.

    The lock shows that its writer is alive; it is released when the descriptor is closed or the writer dies.
    """
    while True:
        descriptor, temporary = create_temporary(path)
        try:
            with contextlib.suppress(OSError):  # on a file system without locks nothing is removed either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(temporary.stat(), os.fstat(descriptor)):
                return descriptor, temporary
        except FileNotFoundError:
            pass  # another process removed it before it was locked
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Removes temporary files of killed writers of `path`."""
    stem = path.name.encode()[:STEM_BYTES].decode(errors="ignore")
    for other in path.parent.glob(f"{glob.escape(f'.{stem}.')}*.tmp"):
        with contextlib.suppress(OSError):
            descriptor = os.open(other, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def readable_json(value: Any) -> str:
    """Indented JSON, one entry per line; values with the same order of keys have the same text."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    write_atomically(path, readable_json(value))


def read_text(path: Path, remedy: str = DELETE_AND_RERUN) -> str:
    """Reads a text file in UTF-8 without changing line endings; `remedy` ends the error message.

    Raises:
        MfhcaError: the file is missing, unreadable, or not text in UTF-8.
    """
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise MfhcaError(f"{path}: not text in UTF-8 (byte {error.start}); {remedy}") from error


def parse_json(path: Path, text: str, remedy: str = DELETE_AND_RERUN) -> Any:
    """Parses JSON; `path` and `remedy` are for the error message.

    Raises:
        MfhcaError: it is not JSON, nests too deeply, or has values that this project never writes: numbers that
            are not finite, integers of more than 64 bits, or unpaired surrogates.
    """
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_integer)
        if "\\ud" in text or "\\uD" in text:  # an unpaired surrogate can be parsed but not written
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise MfhcaError(f"{path}: not valid JSON ({error}); {remedy}") from error
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _integer(text: str) -> int:
    if len(text) > INTEGER_DIGITS:
        raise ValueError(f"{text[:INTEGER_DIGITS]}... is too large a number")
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
        path: the file.
        remedy: ends the error message.

    Raises:
        MfhcaError: the file is missing, unreadable, or not TOML, or a name or text in it has invisible characters.
    """
    text = read_text(path, remedy)
    try:
        value = tomllib.loads(text, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise MfhcaError(f"{path}: not valid TOML ({error}); {remedy}") from error
    for problem in hidden_characters(value):
        raise MfhcaError(f"{path}: {problem}; remove it")
    return value


@contextlib.contextmanager
def lock(path: Path, purpose: str, patience_seconds: float = 0.0) -> Iterator[None]:
    """Holds an advisory lock, so that two processes never do the same work; it is released when a process dies.

    Args:
        path: the lock file; it stays afterwards, empty.
        purpose: what is locked, for the error message.
        patience_seconds: how long to wait for it; the workers of a killed run need a moment to end.

    Raises:
        MfhcaError: another process holds it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, NEW_FILE_MODE)
    except OSError as error:
        raise _not_writable(path, error, "choose a folder you may write to") from error
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
                    f"{path}: this file system does not support locks ({error.strerror}); choose a local folder"
                ) from error
        yield
    finally:
        os.close(descriptor)
