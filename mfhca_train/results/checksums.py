"""Files that say their own digest, so that a changed byte in a run folder is found by whoever reads it.

A sealed JSON file begins with `digest`, the SHA-256 of the canonical JSON of all its other
entries, and is written in one form alone: where the text is another, it was changed.
A unit's result.json also holds the SHA-256 of every other file of the unit (`files`), and
run.json that of data.csv. Files of an earlier version have no digest; they are read
as they are, and `note_unsealed` says that nothing vouches for them.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common import log
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

DIGEST, FILES = "digest", "files"
ABOUT, DATA, DATA_DIGEST = "run.json", "data.csv", "data_csv_sha256"  # of a run; the last in the first
RESULT = "result.json"  # of a unit; written last
UNIT_FILES = ("best.safetensors", "inputs.safetensors", "history.csv", "predictions.csv", "segments.csv")
SHA256 = re.compile(r"[0-9a-f]{64}")
DAMAGED = "damaged, its content has not the digest that it was written with"


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
    write_atomically(path, readable_json(seal(value)))


def read_sealed(path: Path, remedy: str = DELETE_AND_RERUN) -> Any:
    """Reads JSON, and compares it with its digest if it has one, which is left out of what is returned.

    Args:
        path: a file of `write_sealed`, or of an earlier version, which knew no digests.
        remedy: for the message.

    Raises:
        MfhcaError: it cannot be read, is not JSON, or a byte differs from what was written.
    """
    text = read_text(path, remedy)
    value = parse_json(path, text, remedy)
    if not isinstance(value, dict) or not value:
        return value
    (name, said), *_ = value.items()
    # A damaged name of the first entry does not make an earlier version of the file.
    if name != DIGEST and not (isinstance(said, str) and SHA256.fullmatch(said)):
        return value
    del value[name]
    if readable_json(seal(value)) != text:
        raise MfhcaError(f"{path}: {DAMAGED}; {remedy}")
    return value


def read_about(out: Path) -> dict[str, Any]:
    """A folder's run.json, after comparing data.csv with its digest; empty where there is none.

    Raises:
        MfhcaError: one of them cannot be read, or differs from what was written.
    """
    if not (out / ABOUT).exists():
        return {}
    about = read_sealed(out / ABOUT)
    if not isinstance(about, dict):
        raise MfhcaError(f"{out / ABOUT}: not of a run; {DELETE_AND_RERUN}")
    if DATA_DIGEST in about and (out / DATA).exists():
        _compare(out / DATA, about[DATA_DIGEST], DELETE_AND_RERUN)
    return about


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
    write_sealed(folder / RESULT, complete)
    return complete


def read_unit(folder: Path) -> Any:
    """A unit's result.json, after comparing all its files with their digests.

    Raises:
        MfhcaError: a file is missing, cannot be read, or differs from what was written.
    """
    remedy = f"delete {folder} and run again"
    result = read_sealed(folder / RESULT, remedy)
    said = result.get(FILES) if isinstance(result, dict) else None
    if not isinstance(said, dict):  # of an earlier version, or no unit's: see `results.read_result`
        return result
    for name in UNIT_FILES:
        path = folder / name
        if name not in said and not path.exists():
            continue
        _compare(path, said.get(name), remedy)
    return result


def note_unsealed(run: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Says how many units of a run are of an earlier version, whose damage would not be found.

    Args:
        run: the run folder.
        results: result.json of its units.
    """
    every = list(results)
    without = sum(FILES not in result for result in every)
    if without:
        log.LOG.warning(
            "%s: %d of %d units are of an earlier version, without digests; "
            "damage in their files might not be found",
            run,
            without,
            len(every),
        )


def tensors_digest(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """SHA-256 of named arrays (types, shapes, bytes) and of what is said of them, but for an entry `digest`."""
    content = [
        [name, str(a.dtype), a.shape, hashlib.sha256(a.tobytes()).hexdigest()]
        for name, a in sorted(arrays.items())
    ]
    return sha256_text(canonical_json([{k: v for k, v in about.items() if k != DIGEST}, content]))


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
    return rows
