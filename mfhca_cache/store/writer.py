"""Writing shards so that a crash, a kill or a full disk costs the last seconds and never a file.

Rows go to a part file (see `part`), from which `finish` assembles the shard in a
temporary file, reads it back, and gives it its name in one step. HDF5 itself
never touches the disk: it dies on a full one, so it lays the file out in memory,
without the features, and plain writes, whose errors are errors, do the rest.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock, publish
from mfhca_cache.store import schema
from mfhca_cache.store.journal import Entry, Part
from mfhca_cache.store.layout import Identity, Source, assemble
from mfhca_cache.store.shard import (
    SHA256,
    Array,
    Shard,
    open_unchanged,
    read_exactly,
    read_shard,
    verify_shard,
)

FLUSH_BYTES = 64 << 20
FLUSH_SECONDS = 2.0


class ShardWriter:
    """Collects the segments of one speaker and assembles the shard from them. A context manager."""

    def __init__(
        self, folder: Path, key: str, kind: str, speaker: str, frame_shape: tuple[int, ...], dtype: str
    ) -> None:
        """Names the shard; nothing is touched before the context is entered.

        Args:
            folder: of the recipe.
            key, kind: of the recipe.
            speaker: id.
            frame_shape: (T, F), frames of a segment and values of a frame; (M, T, F) of M layers.
            dtype: float16 or float32, as stored.
        """
        self.path = folder / schema.shard_name(speaker)
        shape = tuple(int(size) for size in frame_shape)
        self._identity = Identity(key, kind, speaker, shape, schema.DTYPES[dtype])
        self._stem = folder / f".{self.path.name}"
        self._flushed = 0.0
        self._finished = False

    def __enter__(self) -> ShardWriter:
        """Takes the lock and goes on with what an earlier writer left.

        Raises:
            MfhcaError: another writer is at this shard, or the folder cannot be written.
        """
        what = self._identity
        header = {
            "format": "mfhca-part",
            "version": schema.VERSION,
            "key": what.key,
            "speaker": what.speaker,
            "frame_shape": list(what.frame_shape),
            "dtype": what.dtype.name,
        }
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock(Path(f"{self._stem}.lock"), f"{self.path}"))
            with self._writing():
                for path in self.path.parent.iterdir():
                    if path.name.startswith(f"{self._stem.name}.") and path.suffix == ".tmp":
                        path.unlink()
                self._part = Part(self._stem, header, what.row_bytes)
            self._stack = stack.pop_all()
        self._flushed = time.monotonic()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Makes safe what was appended, also after an error, and lets the lock go."""
        with self._stack:
            try:
                # An error on the way out must not hide the one that led here.
                with contextlib.suppress(*([MfhcaError] if kind else [])):
                    self.flush()
            finally:
                self._part.close()

    @property
    def done(self) -> dict[str, str]:
        """Utterance id -> SHA-256 of its audio, of what is safely on disk in the part file."""
        return {name: entry.audio_sha256 for name, entry in self._part.entries.items()}

    def append(self, utterance_id: str, audio_sha256: str, features: Array, valid_frames: Array) -> None:
        """Adds the segments of one utterance; an earlier one of the same id is replaced.

        Args:
            utterance_id: unique in the corpus.
            audio_sha256: hexadecimal, of the audio.
            features: (n, T, F) or (n, M, T, F) floating point, segments in time order; n may be 0.
            valid_frames: (n,) integers, frames of each segment that lie within the audio, 0..T.

        Raises:
            MfhcaError: a value is not finite or too large for the stored dtype, or it cannot be written; then
                nothing is added.
            ValueError: shapes or texts are not as above.
        """
        what = self._identity
        valid = tuple(int(frames) for frames in valid_frames)
        if self._finished:
            raise ValueError(f"{utterance_id}: the shard is finished")
        if features.shape != (len(valid), *what.frame_shape) or features.dtype.kind != "f":
            raise ValueError(
                f"{utterance_id}: features {features.dtype} {features.shape}, {len(valid)} valid_frames"
            )
        if not all(0 <= frames <= what.frame_shape[-2] for frames in valid) or not SHA256.fullmatch(
            audio_sha256
        ):
            raise ValueError(f"{utterance_id}: valid_frames {valid}, audio_sha256 {audio_sha256!r}")
        if not re.fullmatch(r"[^\0\ud800-\udfff]+", utterance_id):
            raise MfhcaError(
                f"utterance {utterance_id!r}: its id is empty or not text; rename it in the manifest"
            )
        stored = schema.as_stored(features, what.dtype, f"utterance {utterance_id}")
        with self._writing():
            self._part.add(utterance_id, audio_sha256, stored.reshape(-1).view(np.uint8).data, valid)
        late = time.monotonic() - self._flushed > FLUSH_SECONDS
        if late or self._part.pending_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Makes what was appended safe; `append` and `finish` call it often enough.

        Raises:
            MfhcaError: it cannot be written.
        """
        with self._writing():
            self._part.flush()
        self._flushed = time.monotonic()

    def finish(
        self, keep: Shard | None, keep_ids: Collection[str], provenance: dict[str, Any]
    ) -> Path | None:
        """Assembles and publishes the shard, and deletes the part file.

        The utterances stand in the order of their ids, so that the digest depends on the content alone, and
        not on the order of appends, interruptions or increments.

        Args:
            keep: the shard that is there now, with rows that are still right.
            keep_ids: the utterances of `keep` that are; they win over rows of the same id in the part file.
            provenance: JSON values (threads, CPU, versions), stored outside the digest.

        Returns:
            The shard's path; None if it would hold no utterance, then whatever is there stays.

        Raises:
            MfhcaError: it cannot be written or read back, or `keep` is damaged or not of this shard.
        """
        self.flush()
        sources = {entry.utterance_id: self._from_part(entry) for entry in self._part.entries.values()}
        with contextlib.ExitStack() as stack:
            if keep is not None and keep_ids:
                sources |= self._from_shard(keep, keep_ids, stack)
            if not sources:
                return None
            self._publish([sources[name] for name in sorted(sources)], provenance)
        with self._writing():
            self._part.discard()
        self._finished = True
        return self.path

    def _from_part(self, entry: Entry) -> Source:
        read = partial(self._part.read, entry)
        return Source(entry.utterance_id, entry.audio_sha256, np.array(entry.valid_frames, np.int32), read)

    def _from_shard(
        self, keep: Shard, keep_ids: Collection[str], stack: contextlib.ExitStack
    ) -> dict[str, Source]:
        """Sources for the rows to keep; the file stays open until `stack` ends."""
        found = Identity(keep.key, keep.kind, keep.speaker, keep.shape[1:], keep.dtype)
        if found != self._identity:
            raise MfhcaError(
                f"{keep.path}: holds {found}, expected {self._identity}; delete it and run again"
            )
        verify_shard(keep)  # else the new digest would vouch for damaged rows
        descriptor = open_unchanged(keep)
        stack.callback(os.close, descriptor)
        spans = keep.spans()
        audio = dict(zip(keep.utterance_ids, keep.audio_sha256, strict=True))

        def read(first: int, count: int) -> bytearray:
            data = bytearray(count * keep.row_bytes)
            read_exactly(descriptor, memoryview(data), keep.offset + first * keep.row_bytes, keep.path)
            return data

        unknown = sorted(set(keep_ids) - set(spans))
        if unknown:
            raise ValueError(f"{keep.path}: has no utterance {unknown[0]} to keep")
        return {
            name: Source(
                name, audio[name], keep.valid_frames[first : first + count], partial(read, first, count)
            )
            for name, (first, count) in spans.items()
            if name in keep_ids
        }

    def _publish(self, sources: list[Source], provenance: dict[str, Any]) -> None:
        """Writes a temporary file, reads it back, and gives it the shard's name."""
        temporary: Path | None = None
        try:
            with self._writing():
                descriptor, name = tempfile.mkstemp(".tmp", f"{self._stem.name}.", self._stem.parent)
                temporary = Path(name)
                try:
                    digest = assemble(descriptor, self._identity, sources, provenance)
                    os.fchmod(descriptor, 0o644)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                self._read_back(temporary, digest)
                publish(temporary, self.path)
        except BaseException:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
            raise

    def _read_back(self, temporary: Path, digest: str) -> None:
        try:
            written = read_shard(temporary)
            verify_shard(written)
        except MfhcaError as error:
            raise MfhcaError(
                f"{self.path}: did not reach the disk whole; check the disk and run again"
            ) from error
        if written.digest != digest:
            raise MfhcaError(f"{self.path}: did not reach the disk as it was; check the disk and run again")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what the system refuses into one line."""
        try:
            yield
        except OSError as error:
            raise MfhcaError(
                f"{self.path}: cannot be written ({error.strerror}); free space or make the folder writable, "
                "then run the same command again (what is done is kept)"
            ) from error
