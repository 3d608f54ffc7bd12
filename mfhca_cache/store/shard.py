"""One shard: opening, checking, verifying it.

The format is in `schema`; gathering rows of many shards is in `reader`. A shard
is checked by its seal first, so that the HDF5 library only ever sees files that
are as they were written, and every size is compared with the file's before
memory is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat as stats
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.store import schema
from mfhca_cache.store.schema import damaged

Array = np.ndarray[Any, Any]

CHUNK = 1 << 20  # bytes hashed at a time
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Shard:
    """What a shard says, without its features (S segments, M layers, T frames, F bins, U utterances)."""

    path: Path
    key: str
    kind: str
    speaker: str
    utterance_ids: tuple[str, ...] = field(repr=False)  # (U,) sorted
    audio_sha256: tuple[str, ...] = field(repr=False)  # (U,)
    segment_utterance: Array = field(repr=False)  # (S,) int32, index into utterance_ids, never falling
    valid_frames: Array = field(repr=False)  # (S,) int32
    count: Array = field(repr=False)  # (U,) int64, valid frames
    places: dict[str, int] = field(repr=False)  # of the other moments, bytes from the start of the file
    digest: str
    offset: int  # bytes from the start of the file to the features
    shape: tuple[int, ...]  # (S, T, F), or (S, M, T, F) of all layers
    dtype: np.dtype[Any]  # float16 or float32
    stat: tuple[int, int, int]  # (inode, size, mtime_ns)
    provenance: dict[str, Any] = field(repr=False)  # threads, CPU, versions; outside the digest

    @property
    def row_bytes(self) -> int:
        """Bytes of one segment."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def moments(self, name: str) -> Array:
        """(U, F) or (U, M, F) float64 over an utterance's valid frames, read anew each time: they may outgrow memory.

        Args:
            name: sum, sum_squares, minimum (+inf without a valid frame) or maximum (-inf).

        Raises:
            MfhcaError: the file was replaced since, or cannot be read.
        """
        descriptor = open_unchanged(self)
        try:
            shape = (len(self.utterance_ids), *self.shape[1:-2], self.shape[-1])
            values = np.empty(shape, schema.TABLES[f"moments/{name}"])
            if values.size:
                read_exactly(descriptor, values.reshape(-1).view(np.uint8).data, self.places[name], self.path)
        finally:
            os.close(descriptor)
        return values

    def spans(self) -> dict[str, tuple[int, int]]:
        """Utterance id -> (first row, number of rows)."""
        edges = np.searchsorted(self.segment_utterance, np.arange(len(self.utterance_ids) + 1)).tolist()
        pairs = zip(self.utterance_ids, pairwise(edges), strict=True)
        return {name: (first, last - first) for name, (first, last) in pairs}


def read_shard(path: Path) -> Shard:
    """Reads and checks everything but the features.

    Args:
        path: a shard.

    Raises:
        MfhcaError: it cannot be read, is not a shard of this format and version, is truncated or damaged, or
            its tables do not fit together.
    """
    descriptor = open_file(path)
    try:
        return read_open(descriptor, path)
    finally:
        os.close(descriptor)


def verify_shard(shard: Shard) -> None:
    """Reads the whole file again, features included, and compares it with its digest.

    Args:
        shard: from `read_shard`.

    Raises:
        MfhcaError: any byte differs from what was written, or the file is not the one that was read.
    """
    descriptor = open_unchanged(shard)
    try:
        again = read_open(descriptor, shard.path)
        digest = hashlib.sha256()
        end = again.offset + again.shape[0] * again.row_bytes
        _hash_span(digest, descriptor, again.offset, end, shard.path)
    finally:
        os.close(descriptor)
    found = schema.content_digest(
        key=again.key,
        kind=again.kind,
        speaker=again.speaker,
        shape=again.shape,
        stored_as=again.dtype,
        features_sha256=digest.hexdigest(),
        utterance_ids=again.utterance_ids,
        audio_sha256=again.audio_sha256,
        tables={
            name: again.moments(short)
            if (short := name.removeprefix("moments/")) in again.places
            else getattr(again, short)
            for name in schema.TABLES
        },
    )
    if not found == again.digest == shard.digest:
        raise damaged(shard.path, "damaged, its content has not the digest that it was written with")


def open_unchanged(shard: Shard) -> int:
    """A file descriptor of the very file that `read_shard` read.

    Raises:
        MfhcaError: it was replaced or changed since, or cannot be read.
    """
    descriptor = open_file(shard.path)
    if _stat(descriptor) != shard.stat:
        os.close(descriptor)
        raise MfhcaError(f"{shard.path}: was replaced while it was in use; run the same command again")
    return descriptor


def read_exactly(descriptor: int, view: memoryview, offset: int, path: Path) -> None:
    """Fills `view` (bytes) from `offset` (bytes); `path` is for the message.

    Raises:
        MfhcaError: the file ends before, or the disk fails.
    """
    done = 0
    while done < len(view):
        try:
            count = os.preadv(descriptor, [view[done:]], offset + done)
        except OSError as error:
            raise MfhcaError(f"{path}: cannot be read ({error.strerror}); check the disk") from error
        if count == 0:
            raise damaged(path, f"ends at byte {offset + done}, {len(view) - done} bytes too soon")
        done += count


def open_file(path: Path) -> int:
    """A file descriptor for reading a shard.

    Raises:
        MfhcaError: it is missing, unreadable, or not a file.
    """
    try:
        # Without O_NONBLOCK a named pipe in place of a shard would hang here.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise MfhcaError(f"{path}: there is no such file; run `mfhca-cache features`") from error
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror})") from error
    if not stats.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise damaged(path, "not a file")
    return descriptor


def _stat(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _hash_span(digest: Any, descriptor: int, start: int, end: int, path: Path) -> None:
    buffer = memoryview(bytearray(CHUNK))
    for offset in range(start, end, CHUNK):
        view = buffer[: min(CHUNK, end - offset)]
        read_exactly(descriptor, view, offset, path)
        digest.update(view)


def read_open(descriptor: int, path: Path) -> Shard:
    """`read_shard` on an open file."""
    import h5py

    status = _stat(descriptor)
    block = memoryview(bytearray(min(schema.USER_BLOCK, status[1])))
    read_exactly(descriptor, block, 0, path)
    seal = schema.unpack_seal(bytes(block), status[1], path)
    end = seal.features_offset + seal.features_bytes
    rest = hashlib.sha256()
    _hash_span(rest, descriptor, schema.USER_BLOCK, seal.features_offset, path)
    _hash_span(rest, descriptor, end, seal.size, path)
    if rest.hexdigest() != seal.rest_sha256:
        raise damaged(path, "damaged outside its features")
    try:
        # The descriptor, not the path: HDF5 reads the very file that was just checked, and locks nothing.
        with open(descriptor, "rb", buffering=0, closefd=False) as raw, h5py.File(raw, "r") as file:
            return _shard(file, seal, path, status)
    except MfhcaError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        raise damaged(path, f"not a well-formed shard ({str(error).splitlines()[0]})") from error


def _shard(file: Any, seal: schema.Seal, path: Path, status: tuple[int, int, int]) -> Shard:
    """The shard in an open HDF5 file, its parts checked against each other and against the seal."""

    def require(holds: Any, what: str) -> None:
        if not holds:
            raise damaged(path, what)

    def dataset(name: str) -> Any:
        """A dataset that can be read without asking for more memory than the file has bytes."""
        group, _, last = name.rpartition("/")
        place = file[group] if group else file
        require(isinstance(place.get(last, getlink=True), h5py.HardLink), f"{name} is a link elsewhere")
        found = place[last]
        require(isinstance(found, h5py.Dataset), f"{name} is not a dataset")
        layout = found.id.get_create_plist().get_layout()
        require(layout == h5py.h5d.CONTIGUOUS and not found.external, f"{name} is not contiguous")
        require(math.prod(found.shape) * found.dtype.itemsize <= seal.size, f"{name} is larger than the file")
        return found

    def texts(name: str) -> tuple[str, ...]:
        found = dataset(name)
        require(found.dtype.kind == "S" and found.ndim == 1, f"{name} is not a list of fixed-length text")
        return tuple(text.decode("utf-8") for text in found[:].tolist())

    def table(name: str, shape: tuple[int, ...]) -> Array:
        found = dataset(name)
        require(
            found.dtype == schema.TABLES[name] and found.shape == shape,
            f"{name} is {found.dtype} {found.shape}, expected {schema.TABLES[name]} {shape}",
        )
        values: Array = found[()]
        return values

    import h5py

    said = {name: file.attrs[name] for name in schema.ATTRIBUTES}
    require(all(isinstance(value, str) for value in said.values()), "its attributes are not text")
    provenance = json.loads(said["provenance"])
    require(isinstance(provenance, dict), "its provenance is not a table")
    features = dataset(schema.FEATURES)
    require(
        features.ndim in (3, 4) and features.dtype in schema.DTYPES.values(),
        "its features are of another type",
    )
    segments, *layers, frames, bins = features.shape
    require(all(features.shape[1:]), f"its segments have shape {features.shape[1:]}")
    size = math.prod(features.shape) * features.dtype.itemsize
    offset = features.id.get_offset() if segments else seal.features_offset
    require(
        (offset, size) == (seal.features_offset, seal.features_bytes), "its features are not where it says"
    )

    ids, audio = texts(schema.UTTERANCE_IDS), texts(schema.AUDIO_SHA256)
    require(
        len(ids) == len(audio) and all(SHA256.fullmatch(text) for text in audio), "its audio digests are odd"
    )
    require(all(ids) and all(a < b for a, b in pairwise(ids)), "its utterances are not in order")
    shapes = {"segment_utterance": (segments,), "valid_frames": (segments,), "moments/count": (len(ids),)}
    tables = {name: table(name, shapes.get(name, (len(ids), *layers, bins))) for name in schema.TABLES}
    owner, valid, count = (tables[name] for name in shapes)
    require(
        np.all((owner >= 0) & (owner < len(ids))) and np.all(np.diff(owner) >= 0),
        "its segments are not in order",
    )
    require(np.all((valid >= 0) & (valid <= frames)), "its valid frames are not numbers of frames")
    counted = np.bincount(owner, weights=valid, minlength=len(ids)) if segments else np.zeros(len(ids))
    require(np.array_equal(counted, count), "its counts are not those of its valid frames")
    names = ("sum", "sum_squares", "minimum", "maximum")
    total, squares, low, high = (tables[f"moments/{name}"] for name in names)
    finite = np.isfinite(total).all() and np.isfinite(squares).all() and not np.isnan(low).any()
    some = (count > 0).reshape(-1, *[1] * (low.ndim - 1))
    require(finite and np.all((low <= high) | ~some), "its moments are not numbers")
    return Shard(
        path=path,
        key=said["key"],
        kind=said["kind"],
        speaker=said["speaker"],
        utterance_ids=ids,
        audio_sha256=audio,
        segment_utterance=owner,
        valid_frames=valid,
        count=count,
        places={name: dataset(f"moments/{name}").id.get_offset() or 0 for name in names},
        digest=said["digest"],
        offset=offset,
        shape=features.shape,
        dtype=features.dtype,
        stat=status,
        provenance=provenance,
    )
