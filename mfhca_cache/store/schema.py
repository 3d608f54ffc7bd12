"""The shard format: dataset names and dtypes, the seal in the first bytes, the content digest.

A shard is a plain HDF5 file with a user block, which HDF5 readers skip. The
block has the seal: with it a damaged file is refused before the HDF5 library,
which may crash on one, opens it. docs/cache-format.md describes the format for
other programs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.store.descriptor import damaged

FORMAT = "mfhca-shard"
VERSION = 3
SUFFIX = ".h5"
LONGEST_NAME = 240  # bytes of a shard's file name

# HDF5 requires a power of two of at least 512; one page keeps the features page-aligned.
USER_BLOCK = 4096

DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}

FEATURES = (
    "features"  # (S, T, F) segments, frames, bins, or (S, M, T, F) with M layers; contiguous, uncompressed
)
UTTERANCE_IDS = "utterance_ids"  # (U,) fixed-length UTF-8, in sorted order
PATHS = "paths"  # (U,) of the audio files, relative to the corpus root, fixed-length UTF-8
AUDIO_SHA256 = "audio_sha256"  # (U,) digests of the audio files, hexadecimal
SAMPLES_SHA256 = "samples_sha256"  # (U,) digests of the decoded samples, hexadecimal; empty if unknown
FEATURES_SHA256 = "features_sha256"  # (U,) digests of the bytes of each utterance's rows, hexadecimal
TEXTS = (UTTERANCE_IDS, AUDIO_SHA256, SAMPLES_SHA256, PATHS, FEATURES_SHA256)
TABLES: dict[str, np.dtype[Any]] = {
    "segment_utterance": np.dtype("<i4"),  # (S,) index into utterance_ids; rows in time order
    "valid_frames": np.dtype("<i4"),  # (S,) frames within the audio; the rest is padding
    "spans": np.dtype("<f8"),  # (U, 2) start and end in the file in seconds; NaN: its beginning, its end
    "moments/count": np.dtype("<i8"),  # (U,) number of valid frames of the utterance
    "moments/sum": np.dtype("<f8"),  # (U, F) or (U, M, F), over the valid frames, of the stored values
    "moments/sum_squares": np.dtype("<f8"),
    "moments/minimum": np.dtype("<f8"),  # +inf without a valid frame
    "moments/maximum": np.dtype("<f8"),  # -inf without a valid frame
}
# Text attributes of the root group, which also has the number `version`. The last one is JSON.
ATTRIBUTES = ("format", "key", "kind", "speaker", "digest", "provenance")


@dataclass(frozen=True)
class Origin:
    """What the features of an utterance were computed from."""

    audio_sha256: str  # see audio_digest.digest_of
    path: str  # relative to the corpus root, as in the manifest
    start_s: float | None = None  # seconds; None: from the beginning of the file
    end_s: float | None = None  # None: to its end
    samples_sha256: str = field(
        default="", compare=False
    )  # see audio.samples_digest; known once it is decoded


def shard_name(speaker: str) -> str:
    """The file name of a speaker's shard; different speakers have different names.

    Dots are quoted too, so that no name is hidden or a prefix of another one. A long name is cut and gets a digest,
    because file systems allow 255 bytes, which must also suffice for the names of locks and unfinished files.

    >>> shard_name("Ses01_F"), shard_name("a/b.c")
    ('Ses01_F.h5', 'a%2Fb%2Ec.h5')
    >>> len(shard_name("\u6f22" * 29))
    240
    """
    name = quote(speaker, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(name) + len(SUFFIX) > LONGEST_NAME:
        digest = f"~{sha256_text(speaker)[:16]}"
        name = name[: LONGEST_NAME - len(digest) - len(SUFFIX)] + digest
    return name + SUFFIX


@dataclass(frozen=True)
class Seal:
    """Position of the features, and a checksum of everything except features and seal."""

    size: int  # bytes of the whole file
    features_offset: int  # bytes from the start of the file; USER_BLOCK without rows
    features_bytes: int
    rest_sha256: str


def pack_seal(seal: Seal) -> bytes:
    """The user block of USER_BLOCK bytes: format and version, the seal, its checksum, then zeros."""
    text = f"{FORMAT} {VERSION}\n{canonical_json(asdict(seal))}\n".encode()
    block = text + hashlib.sha256(text).hexdigest().encode() + b"\n"
    return block.ljust(USER_BLOCK, b"\0")


def unpack_seal(block: bytes, size: int, path: Path) -> Seal:
    """Reads and checks the user block.

    Args:
        block: the first USER_BLOCK bytes of the file, or fewer if it is shorter.
        size: of the file, in bytes.
        path: for error messages.

    Raises:
        MfhcaError: not a shard, another version, damaged, or a file of another size.
    """
    match = re.match(rb"mfhca-shard (\d{1,9})\n", block)
    if match is None:
        raise damaged(path, "not a feature shard")
    if int(match[1]) != VERSION:
        raise MfhcaError(
            f"{path}: has shard format version {int(match[1])}, this program reads version {VERSION}; "
            "`mfhca-cache features` computes it again"
        )
    try:
        seal = Seal(**json.loads(block[match.end() :].split(b"\n", 1)[0]))
        numbers = (seal.size, seal.features_offset, seal.features_bytes)
        whole = all(type(n) is int for n in numbers) and pack_seal(seal) == block.ljust(USER_BLOCK, b"\0")
    except (TypeError, ValueError, RecursionError):
        whole = False
    if not whole:
        raise damaged(path, "damaged in its first bytes")
    if seal.size != size:
        raise damaged(path, f"has {size} bytes, {seal.size} were written")
    first, last = seal.features_offset, seal.features_offset + seal.features_bytes
    if not (first >= USER_BLOCK and seal.features_bytes >= 0 and last <= size):
        raise damaged(path, f"has its features in bytes {first} to {last} of {size}")
    return seal


def as_stored(
    features: np.ndarray[Any, np.dtype[Any]], dtype: np.dtype[Any], name: str, first: int = 0
) -> np.ndarray[Any, np.dtype[Any]]:
    """Rounds the features of an utterance to the dtype of a shard.

    Args:
        features: (n, T, F) floating point, or (n, M, T, F) with M layers.
        dtype: float16 or float32.
        name: the utterance, for the error message.
        first: index of the first of these segments in the utterance, for the error message.

    Raises:
        MfhcaError: a value is not finite, or too large for the dtype.
    """
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(features, dtype)
    if not np.isfinite(stored).all():
        at = tuple(np.argwhere(~np.isfinite(stored))[0].tolist())
        value = features[at]
        axes = ("segment", *["layer"] * (len(at) - 3), "frame", "column")
        place = zip(axes, (first + at[0], *at[1:]), strict=True)
        position = ", ".join(f"{axis} {index}" for axis, index in place)
        remedy = "use --dtype float32" if np.isfinite(value) else "check its audio and the recipe"
        raise MfhcaError(f"{name}: {value} in {position} does not fit {dtype.name}; {remedy}")
    return stored


def content_digest(
    *,
    key: str,
    kind: str,
    speaker: str,
    shape: tuple[int, ...],
    stored_as: np.dtype[Any],
    utterance_ids: Sequence[str],
    features_sha256: Sequence[str],
    origins: Sequence[Origin],
    tables: dict[str, np.ndarray[Any, Any]],
) -> str:
    """The digest of a shard's content, independent of layout, provenance and order of writing.

    Args:
        key, kind, speaker: recipe key and kind, speaker id.
        shape, stored_as: of the features: (S, T, F) or (S, M, T, F); float16 or float32.
        utterance_ids, features_sha256, origins: (U,) each.
        tables: the arrays listed in TABLES.

    Returns:
        Hexadecimal SHA-256.
    """
    sums = {
        name: hashlib.sha256(np.ascontiguousarray(tables[name], dtype).tobytes()).hexdigest()
        for name, dtype in TABLES.items()
    }
    content = {
        "key": key,
        "kind": kind,
        "speaker": speaker,
        "shape": list(shape),
        "dtype": stored_as.name,
        "utterance_ids": list(utterance_ids),
        "features_sha256": list(features_sha256),
        "audio_sha256": [origin.audio_sha256 for origin in origins],
        "samples_sha256": [origin.samples_sha256 for origin in origins],
        "paths": [origin.path for origin in origins],
        "tables": sums,
    }
    return sha256_text(canonical_json(content))
