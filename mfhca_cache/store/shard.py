"""One shard: opening, checking and verifying it.

The seal is checked first, so that the HDF5 library only opens intact files, and
every size is compared with the file's size before memory is allocated. The
format is in `schema`; `reader` gathers rows from many shards.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.progress import each
from mfhca_cache.store import schema
from mfhca_cache.store.descriptor import damaged, file_stat, hash_span, open_file, read_exactly

Array = np.ndarray[Any, Any]

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard without its features (S segments, M layers, T frames, F bins, U utterances)."""

    path: Path
    key: str
    kind: str
    speaker: str
    utterance_ids: tuple[str, ...] = field(repr=False)  # (U,) sorted
    audio_sha256: tuple[str, ...] = field(repr=False)  # (U,)
    samples_sha256: tuple[str, ...] = field(repr=False)  # (U,) empty if unknown
    paths: tuple[str, ...] = field(repr=False)  # (U,) relative to the corpus root
    features_sha256: tuple[str, ...] = field(repr=False)  # (U,) of the bytes of each utterance's rows
    spans: Array = field(repr=False)  # (U, 2) float64, start and end in seconds; NaN without one
    segment_utterance: Array = field(repr=False)  # (S,) int32, index into utterance_ids, non-decreasing
    valid_frames: Array = field(repr=False)  # (S,) int32
    count: Array = field(repr=False)  # (U,) int64, valid frames
    moment_offsets: dict[str, int] = field(
        repr=False
    )  # of the other moments, bytes from the start of the file
    digest: str
    offset: int  # of the features, bytes from the start of the file
    shape: tuple[int, ...]  # (S, T, F), or (S, M, T, F) with all layers
    dtype: np.dtype[Any]  # float16 or float32
    stat: tuple[int, int, int]  # (inode, size, mtime_ns)
    provenance: dict[str, Any] = field(repr=False)  # threads, CPU, versions; outside the digest

    @property
    def row_bytes(self) -> int:
        """Size of one segment in bytes."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def moments(self, name: str) -> Array:
        """Moments over each utterance's valid frames, (U, F) or (U, M, F) float64; read from the file at every call.

        Args:
            name: sum, sum_squares, minimum (+inf without a valid frame) or maximum (-inf without one).

        Raises:
            MfhcaError: the file was replaced meanwhile, or cannot be read.
        """
        descriptor = open_unchanged(self)
        try:
            shape = (len(self.utterance_ids), *self.shape[1:-2], self.shape[-1])
            values = np.empty(shape, schema.TABLES[f"moments/{name}"])
            if values.size:
                read_exactly(
                    descriptor, values.reshape(-1).view(np.uint8).data, self.moment_offsets[name], self.path
                )
        finally:
            os.close(descriptor)
        return values

    def origins(self) -> dict[str, schema.Origin]:
        """What the features of each utterance were computed from, by id."""
        origins = {}
        columns = zip(self.audio_sha256, self.paths, self.spans.tolist(), self.samples_sha256, strict=True)
        for name, (digest, path, span, samples) in zip(self.utterance_ids, columns, strict=True):
            start_s, end_s = (None if math.isnan(time) else time for time in span)
            origins[name] = schema.Origin(digest, path, start_s, end_s, samples)
        return origins

    def rows(self) -> dict[str, tuple[int, int]]:
        """Utterance id -> (first row, number of rows)."""
        edges = np.searchsorted(self.segment_utterance, np.arange(len(self.utterance_ids) + 1)).tolist()
        pairs = zip(self.utterance_ids, pairwise(edges), strict=True)
        return {name: (first, last - first) for name, (first, last) in pairs}


def read_shard(path: str | Path) -> Shard:
    """Reads and checks everything except the features.

    Raises:
        MfhcaError: it cannot be read, is not a shard of this format and version, is truncated or damaged, or
            its tables are inconsistent.
    """
    path = Path(path)
    descriptor = open_file(path)
    try:
        return read_open(descriptor, path)
    finally:
        os.close(descriptor)


def verify_shards(shards: Collection[Shard]) -> None:
    """Verifies shards one after the other, with a progress bar; see `verify_shard`."""
    for shard in each(shards, " shards", "verifying the features"):
        verify_shard(shard)


def verify_shard(shard: Shard) -> None:
    """Reads the complete file again, including the features, and compares it with its digest.

    Args:
        shard: from `read_shard`.

    Raises:
        MfhcaError: a byte differs from what was written, or the file was replaced since `read_shard`.
    """
    descriptor = open_unchanged(shard)
    try:
        again = read_open(descriptor, shard.path)
        rows = []
        for first, count in again.rows().values():
            start = again.offset + first * again.row_bytes
            digest = hashlib.sha256()
            hash_span(digest, descriptor, start, start + count * again.row_bytes, shard.path)
            rows.append(digest.hexdigest())
    finally:
        os.close(descriptor)
    digest_now = schema.content_digest(
        key=again.key,
        kind=again.kind,
        speaker=again.speaker,
        shape=again.shape,
        stored_as=again.dtype,
        utterance_ids=again.utterance_ids,
        features_sha256=rows,
        origins=list(again.origins().values()),
        tables={
            name: again.moments(short)
            if (short := name.removeprefix("moments/")) in again.moment_offsets
            else getattr(again, short)
            for name in schema.TABLES
        },
    )
    if not digest_now == again.digest == shard.digest or tuple(rows) != again.features_sha256:
        raise damaged(shard.path, "damaged, its content does not match its digest")


def open_unchanged(shard: Shard) -> int:
    """A file descriptor of the file that `read_shard` read.

    Raises:
        MfhcaError: it was replaced or changed meanwhile, or cannot be read.
    """
    descriptor = open_file(shard.path)
    if file_stat(descriptor) != shard.stat:
        os.close(descriptor)
        raise MfhcaError(f"{shard.path}: was replaced while in use; run the same command again")
    return descriptor


def read_open(descriptor: int, path: Path) -> Shard:
    """`read_shard` for an open file."""
    import h5py

    status = file_stat(descriptor)
    block = memoryview(bytearray(min(schema.USER_BLOCK, status[1])))
    read_exactly(descriptor, block, 0, path)
    seal = schema.unpack_seal(bytes(block), status[1], path)
    end = seal.features_offset + seal.features_bytes
    rest = hashlib.sha256()
    hash_span(rest, descriptor, schema.USER_BLOCK, seal.features_offset, path)
    hash_span(rest, descriptor, end, seal.size, path)
    if rest.hexdigest() != seal.rest_sha256:
        raise damaged(path, "damaged outside its features")
    try:
        # By the descriptor HDF5 reads exactly the file that was just checked, and locks nothing.
        with open(descriptor, "rb", buffering=0, closefd=False) as raw, h5py.File(raw, "r") as file:
            return _parse(file, seal, path, status)
    except MfhcaError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        raise damaged(path, f"not a valid shard ({str(error).splitlines()[0]})") from error


def _parse(file: Any, seal: schema.Seal, path: Path, status: tuple[int, int, int]) -> Shard:
    """The shard in an open HDF5 file, after checking its parts against each other and against the seal."""

    def require(condition: Any, problem: str) -> None:
        if not condition:
            raise damaged(path, problem)

    def dataset(name: str) -> Any:
        """A dataset, checked so that reading it needs no more memory than the size of the file."""
        group_name, _, last = name.rpartition("/")
        group = file[group_name] if group_name else file
        require(last in group, f"has no {name}, so another version of this program wrote it")
        require(isinstance(group.get(last, getlink=True), h5py.HardLink), f"{name} is a link")
        value = group[last]
        require(isinstance(value, h5py.Dataset), f"{name} is not a dataset")
        layout = value.id.get_create_plist().get_layout()
        require(layout == h5py.h5d.CONTIGUOUS and not value.external, f"{name} is not contiguous")
        require(math.prod(value.shape) * value.dtype.itemsize <= seal.size, f"{name} is larger than the file")
        return value

    def texts(name: str) -> tuple[str, ...]:
        value = dataset(name)
        require(value.dtype.kind == "S" and value.ndim == 1, f"{name} is not a list of fixed-length text")
        return tuple(text.decode("utf-8") for text in value[:].tolist())

    def table(name: str, shape: tuple[int, ...]) -> Array:
        value = dataset(name)
        require(
            value.dtype == schema.TABLES[name] and value.shape == shape,
            f"{name} is {value.dtype} {value.shape}, expected {schema.TABLES[name]} {shape}",
        )
        values: Array = value[()]
        return values

    import h5py

    attributes = {name: file.attrs[name] for name in schema.ATTRIBUTES}
    require(all(isinstance(value, str) for value in attributes.values()), "its attributes are not text")
    provenance = json.loads(attributes["provenance"])
    require(isinstance(provenance, dict), "its provenance is not a JSON object")
    features = dataset(schema.FEATURES)
    require(
        features.ndim in (3, 4) and features.dtype in schema.DTYPES.values(),
        f"its features are {features.dtype} with {features.ndim} dimensions",
    )
    segments, *layers, frames, bins = features.shape
    require(all(features.shape[1:]), f"its segments have shape {features.shape[1:]}")
    size = math.prod(features.shape) * features.dtype.itemsize
    offset = features.id.get_offset() if segments else seal.features_offset
    require(
        (offset, size) == (seal.features_offset, seal.features_bytes),
        "its features are not at the offset in its seal",
    )

    ids, audio, samples, paths, rows = map(texts, schema.TEXTS)
    digests = (*audio, *rows, *filter(None, samples))
    same_length = len(ids) == len(audio) == len(samples) == len(rows)
    require(same_length and all(map(SHA256.fullmatch, digests)), "its digests are invalid")
    require(len(paths) == len(ids) and all(paths), "its audio paths are invalid")
    require(all(ids) and all(a < b for a, b in pairwise(ids)), "its utterances are not sorted")
    shapes: dict[str, tuple[int, ...]] = {"segment_utterance": (segments,), "valid_frames": (segments,)}
    shapes |= {"moments/count": (len(ids),), "spans": (len(ids), 2)}
    tables = {name: table(name, shapes.get(name, (len(ids), *layers, bins))) for name in schema.TABLES}
    owner, valid, count, spans = (tables[name] for name in shapes)
    require(not np.any((spans < 0) | np.isinf(spans)), "its spans are not times in seconds")
    require(
        np.all((owner >= 0) & (owner < len(ids))) and np.all(np.diff(owner) >= 0),
        "its segments are not sorted",
    )
    require(np.all((valid >= 0) & (valid <= frames)), f"its valid_frames are not within 0..{frames}")
    expected = np.bincount(owner, weights=valid, minlength=len(ids)) if segments else np.zeros(len(ids))
    require(np.array_equal(expected, count), "its counts are not the sums of its valid_frames")
    names = ("sum", "sum_squares", "minimum", "maximum")
    total, squares, low, high = (tables[f"moments/{name}"] for name in names)
    finite = np.isfinite(total).all() and np.isfinite(squares).all() and not np.isnan(low).any()
    has_frames = (count > 0).reshape(-1, *[1] * (low.ndim - 1))
    require(finite and np.all((low <= high) | ~has_frames), "its moments are not finite or inconsistent")
    return Shard(
        path=path,
        key=attributes["key"],
        kind=attributes["kind"],
        speaker=attributes["speaker"],
        utterance_ids=ids,
        audio_sha256=audio,
        samples_sha256=samples,
        paths=paths,
        features_sha256=rows,
        spans=spans,
        segment_utterance=owner,
        valid_frames=valid,
        count=count,
        moment_offsets={name: dataset(f"moments/{name}").id.get_offset() or 0 for name in names},
        digest=attributes["digest"],
        offset=offset,
        shape=features.shape,
        dtype=features.dtype,
        stat=status,
        provenance=provenance,
    )
