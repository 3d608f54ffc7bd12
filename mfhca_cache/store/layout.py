"""Writing a complete shard to an open file: HDF5 structure, features, moments, digest, seal.

HDF5 lays out the file in memory and never writes to the disk, because it
crashes on a full one. The features are copied directly from their source to
their offset in the file. So every disk error is an OSError, and little memory
is needed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfhca_cache.store import schema
from mfhca_cache.store.journal import write_all
from mfhca_cache.store.shard import Array


@dataclass(frozen=True)
class Identity:
    """The recipe and speaker of a shard, and the shape and dtype of its rows."""

    key: str
    kind: str
    speaker: str
    frame_shape: tuple[int, ...]  # (T, F), or (M, T, F) with all layers
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one segment."""
        return math.prod(self.frame_shape) * self.dtype.itemsize


@dataclass(frozen=True)
class UtteranceRows:
    """One utterance, and a function that reads its rows."""

    utterance_id: str
    origin: schema.Origin
    valid_frames: Array  # (n,) int32
    read: Callable[[], Iterable[bytearray]]  # the bytes of its n rows, some rows at a time


def assemble(
    descriptor: int, identity: Identity, utterances: Sequence[UtteranceRows], provenance: dict[str, Any]
) -> str:
    """Writes a whole shard to an empty file.

    Args:
        descriptor: the file, open for writing.
        identity: recipe, speaker and row format.
        utterances: sorted by id.
        provenance: JSON values, outside the digest.

    Returns:
        The digest.

    Raises:
        OSError: the file cannot be written.
        MfhcaError: the rows of an utterance cannot be read.
    """
    import h5py

    valid = np.concatenate([utterance.valid_frames for utterance in utterances], dtype=np.int32)
    counts = [len(utterance.valid_frames) for utterance in utterances]
    utterance_ids = [utterance.utterance_id for utterance in utterances]
    origins = [utterance.origin for utterance in utterances]
    shape = (len(valid), *identity.frame_shape)
    size = len(valid) * identity.row_bytes
    image = _Image()
    with h5py.File(
        image,
        "w",
        userblock_size=schema.USER_BLOCK,
        alignment_threshold=schema.USER_BLOCK,
        alignment_interval=schema.USER_BLOCK,
    ) as file:
        offset = _place_features(file, shape, identity.dtype)
        _reserve(descriptor, offset + size)
        features_sha256, moments = _copy(descriptor, offset, identity, utterances)
        tables: dict[str, Array] = {
            "segment_utterance": np.repeat(np.arange(len(utterances)), counts),
            "valid_frames": valid,
            "spans": np.array([(origin.start_s, origin.end_s) for origin in origins], np.float64),
            **{f"moments/{name}": values for name, values in moments.items()},
        }
        digest = schema.content_digest(
            key=identity.key,
            kind=identity.kind,
            speaker=identity.speaker,
            shape=shape,
            stored_as=identity.dtype,
            utterance_ids=utterance_ids,
            features_sha256=features_sha256,
            origins=origins,
            tables=tables,
        )
        for name, dtype in schema.TABLES.items():
            file.create_dataset(name, data=tables[name].astype(dtype))
        columns = {
            schema.UTTERANCE_IDS: utterance_ids,
            schema.AUDIO_SHA256: [origin.audio_sha256 for origin in origins],
            schema.SAMPLES_SHA256: [origin.samples_sha256 for origin in origins],
            schema.PATHS: [origin.path for origin in origins],
            schema.FEATURES_SHA256: features_sha256,
        }
        for name, column in columns.items():
            encoded = [text.encode() for text in column]
            dtype = h5py.string_dtype("utf-8", max(1, *map(len, encoded)))
            file.create_dataset(name, data=np.array(encoded, dtype))
        texts = (
            schema.FORMAT,
            identity.key,
            identity.kind,
            identity.speaker,
            digest,
            json.dumps(provenance, sort_keys=True),
        )
        file.attrs["version"] = schema.VERSION
        for name, text in zip(schema.ATTRIBUTES, texts, strict=True):
            file.attrs[name] = text
    before, after = image.span(schema.USER_BLOCK, offset), image.span(offset + size, image.size)
    rest = hashlib.sha256(before)
    rest.update(after)
    seal = schema.pack_seal(schema.Seal(image.size, offset, size, rest.hexdigest()))
    os.ftruncate(descriptor, image.size)
    write_all(descriptor, memoryview(seal + before), 0)
    write_all(descriptor, memoryview(after), offset + size)
    return digest


def _place_features(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Creates the dataset of the features without their values; returns its offset in the file in bytes."""
    import h5py

    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.h5d.create(file.id, schema.FEATURES.encode(), h5py.h5t.py_create(dtype), space, plist)
    # HDF5 assigns no offset to a dataset without rows.
    return int(dataset.get_offset()) if shape[0] else schema.USER_BLOCK


def _reserve(descriptor: int, size: int) -> None:
    """Allocates the disk space, so that a full disk is an error before anything is copied."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        # Not every file system supports this; then a full disk is an error of a later write.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise


def _copy(
    descriptor: int, offset: int, identity: Identity, utterances: Sequence[UtteranceRows]
) -> tuple[list[str], dict[str, Array]]:
    """Copies all rows to the file; returns each utterance's SHA-256 of its rows' bytes, and the moments."""
    digests = []
    *layers, frames, bins = identity.frame_shape
    shape = (len(utterances), math.prod(layers), bins)
    moments: dict[str, Array] = {
        "sum": np.zeros(shape),
        "sum_squares": np.zeros(shape),
        "minimum": np.full(shape, np.inf),
        "maximum": np.full(shape, -np.inf),
    }
    for index, utterance in enumerate(utterances):
        digest, first = hashlib.sha256(), 0
        for data in utterance.read():
            digest.update(data)
            write_all(descriptor, memoryview(data), offset)
            offset += len(data)
            rows = np.frombuffer(data, identity.dtype).reshape(-1, shape[1], frames, bins)
            frames_of_rows = utterance.valid_frames[first : first + len(rows)].tolist()
            first += len(rows)
            for row, valid in zip(rows, frames_of_rows, strict=True):
                for layer in range(
                    shape[1] if valid else 0
                ):  # one by one: the same bits as with one layer only
                    at = index, layer
                    values = row[layer, :valid].astype(np.float64)  # (valid, F)
                    np.minimum(moments["minimum"][at], values.min(0), out=moments["minimum"][at])
                    np.maximum(moments["maximum"][at], values.max(0), out=moments["maximum"][at])
                    moments["sum"][at] += values.sum(0)
                    moments["sum_squares"][at] += np.square(values, out=values).sum(0)
        digests.append(digest.hexdigest())
    tables = {name: table.reshape(len(utterances), *layers, bins) for name, table in moments.items()}
    tables["count"] = np.array([int(utterance.valid_frames.sum()) for utterance in utterances], np.int64)
    return digests, tables


class _Image:
    """A sparse file in memory for HDF5: only the bytes it writes take memory."""

    def __init__(self) -> None:
        self.size = 0
        self._position = 0
        self._written: list[tuple[int, bytes]] = []

    def span(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`; unwritten ones are zero."""
        data = bytearray(max(0, end - start))
        for offset, piece in self._written:
            first, last = max(start, offset), min(end, offset + len(piece))
            if first < last:
                data[first - start : last - start] = piece[first - offset : last - offset]
        return bytes(data)

    # The part of Python's file interface that h5py's driver calls:

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self.size if size < 0 else min(self.size, self._position + size)
        data = self.span(self._position, end)
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._written.append((self._position, piece))
        self._position += len(piece)
        self.size = max(self.size, self._position)
        return len(piece)

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def flush(self) -> None:
        """Does nothing."""
