"""Files that hold their own digest, so that every reader notices a changed byte in a run folder.

A sealed JSON file begins with `digest`, the SHA-256 of the canonical JSON of all its other entries, and is written in
one form alone: a file whose text differs was changed. A unit's result.json also holds the SHA-256 of every other
file of the unit (`files`), and run.json that of data.csv.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import (
    DELETE_AND_RERUN,
    canonical_json,
    parse_json,
    read_text,
    readable_json,
    sha256_file,
    sha256_text,
    write_atomically,
)
from mfhca_cache.common.text import from_cell
from mfhca_cache.common.typed import plain
from mfhca_train.results.run_file import Identity
from mfhca_train.results.schema import DATA_FILE, RESULT_FILE, RUN_FILE, UNIT_FILES

DIGEST, FILES = "digest", "files"
DATA_DIGEST = "data_csv_sha256"  # in run.json
DAMAGED = "damaged, its content does not have the digest it was written with"


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same values after their digest.

    >>> sorted(seal({"a": 1}))
    ['a', 'digest']
    """
    return {DIGEST: sha256_text(canonical_json(value)), **value}


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a table as sealed JSON, atomically; equal tables give equal bytes.

    Raises:
        MfhcaError: the folder is read-only or full.
    """
    sealed = seal(value)
    write_atomically(path, readable_json(sealed))


def read_sealed(path: Path, remedy: str = DELETE_AND_RERUN) -> dict[str, Any]:
    """Reads a file of `write_sealed` and compares it with its digest, which is left out of what is returned.

    Args:
        path: the file.
        remedy: the end of the message.

    Raises:
        MfhcaError: it cannot be read, is not JSON, or a byte differs from what was written.
    """
    text = read_text(path, remedy)
    value = parse_json(path, text, remedy)
    if not isinstance(value, dict) or not isinstance(value.pop(DIGEST, None), str):
        raise MfhcaError(f"{path}: holds no digest, so it is not a file of this program; {remedy}")
    if readable_json(seal(value)) != text:
        raise MfhcaError(f"{path}: {DAMAGED}; {remedy}")
    return value


def read_about(out: Path) -> dict[str, Any]:
    """A folder's run.json, after comparing data.csv with its digest; empty where there is none.

    Raises:
        MfhcaError: one of them cannot be read, or differs from what was written.
    """
    if not (out / RUN_FILE).exists():
        return {}
    about = read_sealed(out / RUN_FILE)
    if (out / DATA_FILE).exists():
        _compare(out / DATA_FILE, about.get(DATA_DIGEST), DELETE_AND_RERUN)
    return about


def identity_digest(identity: Identity) -> str:
    """The digest by which every unit of a row names the row it belongs to."""
    return sha256_text(canonical_json(plain(identity)))


def _compare(path: Path, digest: Any, remedy: str) -> None:
    try:
        found = sha256_file(path)
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    if found != digest:
        raise MfhcaError(f"{path}: {DAMAGED}; {remedy}")


def write_result(folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a unit's result.json with the digests of all its other files, which must be there.

    Returns:
        What `read_unit` will return.

    Raises:
        MfhcaError: the folder is read-only or full.
    """
    digests = {name: sha256_file(folder / name) for name in UNIT_FILES if (folder / name).exists()}
    for left in folder.glob(".*.tmp"):  # of a write that was killed
        left.unlink()
    complete = {**result, FILES: digests}
    write_sealed(folder / RESULT_FILE, complete)
    return complete


def read_unit(folder: Path, others: bool = True) -> dict[str, Any]:
    """A unit's result.json, after comparing all its files with their digests.

    Args:
        folder: of the unit.
        others: whether to read the other files at all.

    Raises:
        MfhcaError: a file is missing, cannot be read, or differs from what was written.
    """
    remedy = f"delete {folder} and run again"
    result = read_sealed(folder / RESULT_FILE, remedy)
    digests = result.get(FILES)
    if not isinstance(digests, dict):
        raise MfhcaError(f"{folder / RESULT_FILE}: {FILES} is missing; {remedy}")
    for name in UNIT_FILES if others else ():
        if name in digests or (folder / name).exists():
            _compare(folder / name, digests.get(name), remedy)
    return result


def tensors_digest(metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """SHA-256 of named arrays (types, shapes, bytes) and their metadata, without its entry `digest`."""
    content = [
        [name, str(a.dtype), a.shape, hashlib.sha256(a.tobytes()).hexdigest()]
        for name, a in sorted(arrays.items())
    ]
    return sha256_text(canonical_json([{k: v for k, v in metadata.items() if k != DIGEST}, content]))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header.

    Raises:
        MfhcaError: it is missing, or no such file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__} {error}"
        raise MfhcaError(f"{path}: cannot be read ({reason}); delete {path.parent} and run again") from error
    if any(None in row or None in row.values() for row in rows):
        raise MfhcaError(f"{path}: rows of different lengths; delete {path.parent} and run again")
    return [{from_cell(name): from_cell(value) for name, value in row.items()} for row in rows]
