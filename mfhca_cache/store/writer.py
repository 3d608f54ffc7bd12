"""Writing shards safely: a crash, a kill or a full disk loses the last seconds of work, never a file.

Rows are appended to a part file (see `journal`). `finish` writes the shard from
it to a temporary file (see `layout`), reads that back, and renames it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import create_temporary, lock, publish
from mfhca_cache.store import schema
from mfhca_cache.store.descriptor import read_exactly
from mfhca_cache.store.journal import Entry, Part, blocks
from mfhca_cache.store.layout import Identity, UtteranceRows, assemble
from mfhca_cache.store.shard import (
    SHA256,
    Array,
    Shard,
    open_unchanged,
    read_shard,
    verify_shard,
)

FLUSH_BYTES = 64 << 20
FLUSH_SECONDS = 2.0


class ShardWriter:
    """Collects the segments of one speaker and writes the shard. A context manager."""

    def __init__(
        self,
        folder: Path,
        key: str,
        kind: str,
        speaker: str,
        frame_shape: tuple[int, ...],
        dtype: str,
        conditions: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Stores the arguments; no file is touched before the context is entered.

        Args:
            folder: of the recipe.
            key, kind: of the recipe.
            speaker: id.
            frame_shape: (T, F), frames per segment and values per frame; (M, T, F) with M layers.
            dtype: of the stored features: float16 or float32.
            conditions: under which features are computed now (see `conditions.conditions`); a part file that was
                written under others is discarded, because no computation would give a mixture of both again.
        """
        self.path = folder / schema.shard_name(speaker)
        shape = tuple(int(size) for size in frame_shape)
        self._identity = Identity(key, kind, speaker, shape, schema.DTYPES[dtype])
        self._conditions = dict(conditions)
        self._stem = folder / f".{self.path.name}"
        self._flushed = 0.0
        self._finished = False

    def __enter__(self) -> ShardWriter:
        """Takes the lock and resumes the part file of an earlier writer if there is one.

        Raises:
            MfhcaError: another process is writing this shard, or the folder cannot be written.
        """
        identity = self._identity
        header = {
            "format": "mfhca-part",
            "version": schema.VERSION,
            "key": identity.key,
            "speaker": identity.speaker,
            "frame_shape": list(identity.frame_shape),
            "dtype": identity.dtype.name,
            "conditions": self._conditions,
        }
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock(Path(f"{self._stem}.lock"), f"{self.path}"))
            with self._writing():
                for path in self.path.parent.iterdir():
                    if path.name.startswith(f"{self._stem.name}.") and path.suffix == ".tmp":
                        path.unlink()
                self._part = Part(self._stem, header, identity.row_bytes)
            self._stack = stack.pop_all()
        self._flushed = time.monotonic()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Makes the appended utterances durable, also after an error, and releases the lock."""
        with self._stack:
            try:
                # After an error, a second one from flushing must not replace it.
                with contextlib.suppress(*([MfhcaError] if kind else [])):
                    self.flush()
            finally:
                self._part.close()

    @property
    def discarded(self) -> bool:
        """Whether there was a part file whose content could not be used."""
        return self._part.discarded

    @property
    def done(self) -> dict[str, schema.Origin]:
        """The utterances that are durable in the part file, and what they were computed from."""
        return {name: entry.origin for name, entry in self._part.entries.items()}

    def append(
        self,
        utterance_id: str,
        origin: schema.Origin | None,
        features: Array,
        valid_frames: Array,
        first: int = 0,
    ) -> None:
        """Adds segments of one utterance; earlier ones of the same id are replaced.

        A long utterance may come in pieces, one directly after the other. It counts only when its last piece is added.

        Args:
            utterance_id: unique in the corpus.
            origin: what the features were computed from; None if more segments of the utterance follow.
            features: (n, T, F) or (n, M, T, F) floating point, segments in time order; n may be 0.
            valid_frames: (n,) integers, number of frames of each segment that lie within the audio, 0..T.
            first: index of the first of these segments in the utterance.

        Raises:
            MfhcaError: a value is not finite or too large for the stored dtype, or the part file cannot be
                written; nothing is added.
            ValueError: arguments of another shape or type, or a piece that does not follow the one before.
        """
        identity = self._identity
        valid = tuple(int(frames) for frames in valid_frames)
        if self._finished:
            raise ValueError(f"{utterance_id}: the shard is finished")
        if features.shape != (len(valid), *identity.frame_shape) or features.dtype.kind != "f":
            raise ValueError(
                f"{utterance_id}: features {features.dtype} {features.shape}, {len(valid)} valid_frames"
            )
        if not all(0 <= frames <= identity.frame_shape[-2] for frames in valid) or not (
            origin is None or SHA256.fullmatch(origin.audio_sha256)
        ):
            raise ValueError(f"{utterance_id}: valid_frames {valid}, origin {origin}")
        if not re.fullmatch(r"[^\0\ud800-\udfff]+", utterance_id):
            raise MfhcaError(
                f"utterance {utterance_id!r}: its id is empty or not valid text; rename it in the manifest"
            )
        stored = schema.as_stored(features, identity.dtype, f"utterance {utterance_id}", first)
        with self._writing():
            self._part.add(utterance_id, origin, stored.reshape(-1).view(np.uint8).data, valid, first)
        overdue = time.monotonic() - self._flushed > FLUSH_SECONDS
        if overdue or self._part.pending_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Makes the appended utterances durable; `append` and `finish` call it when needed.

        Raises:
            MfhcaError: the part file cannot be written.
        """
        with self._writing():
            self._part.flush()
        self._flushed = time.monotonic()

    def finish(
        self,
        keep: Shard | None,
        keep_ids: Collection[str],
        provenance: dict[str, Any],
        paths: Mapping[str, str] = MappingProxyType({}),
    ) -> Path | None:
        """Writes and publishes the shard, then deletes the part file.

        The utterances are sorted by id, so that the digest depends only on the content, not on the order of
        appends, interruptions or increments.

        Args:
            keep: the existing shard, with rows that are still valid.
            keep_ids: the valid utterances of `keep`; they take precedence over the part file.
            provenance: JSON values (threads, CPU, versions), stored outside the digest.
            paths: new paths of kept utterances whose audio files were renamed.

        Returns:
            The shard's path; None if it would have no utterance, then an existing shard stays.

        Raises:
            MfhcaError: it cannot be written or read back, or `keep` is damaged or of another recipe or speaker.
        """
        self.flush()
        utterances = {entry.utterance_id: self._from_part(entry) for entry in self._part.entries.values()}
        with contextlib.ExitStack() as stack:
            if keep is not None and keep_ids:
                utterances |= self._from_shard(keep, keep_ids, paths, stack)
            if not utterances:
                return None
            self._publish([utterances[name] for name in sorted(utterances)], provenance)
        with self._writing():
            self._part.discard()
        self._finished = True
        return self.path

    def _from_part(self, entry: Entry) -> UtteranceRows:
        read = partial(self._part.read, entry)
        return UtteranceRows(entry.utterance_id, entry.origin, np.array(entry.valid_frames, np.int32), read)

    def _from_shard(
        self, keep: Shard, keep_ids: Collection[str], paths: Mapping[str, str], stack: contextlib.ExitStack
    ) -> dict[str, UtteranceRows]:
        """The rows to keep; the file stays open until `stack` is closed."""
        existing = Identity(keep.key, keep.kind, keep.speaker, keep.shape[1:], keep.dtype)
        if existing != self._identity:
            raise MfhcaError(
                f"{keep.path}: has {existing}, expected {self._identity}; delete it and run again"
            )
        verify_shard(keep)  # otherwise damaged rows would get a valid digest
        descriptor = open_unchanged(keep)
        stack.callback(os.close, descriptor)
        spans, origins = keep.rows(), keep.origins()

        def read(first: int, count: int) -> Iterator[bytearray]:
            for start, size in blocks(count, keep.row_bytes):
                data = bytearray(size * keep.row_bytes)
                read_exactly(
                    descriptor, memoryview(data), keep.offset + (first + start) * keep.row_bytes, keep.path
                )
                yield data

        unknown = sorted(set(keep_ids) - set(spans))
        if unknown:
            raise ValueError(f"{keep.path}: has no utterance {unknown[0]} to keep")
        kept = {}
        for name in keep_ids:
            first, count = spans[name]
            origin = replace(origins[name], path=paths.get(name, origins[name].path))
            valid = keep.valid_frames[first : first + count]
            kept[name] = UtteranceRows(name, origin, valid, partial(read, first, count))
        return kept

    def _publish(self, utterances: list[UtteranceRows], provenance: dict[str, Any]) -> None:
        """Writes a temporary file, reads it back, and renames it to the shard's name."""
        temporary: Path | None = None
        try:
            with self._writing():
                descriptor, temporary = create_temporary(self.path)
                try:
                    digest = assemble(descriptor, self._identity, utterances, provenance)
                    # Before the rename: otherwise a power failure could leave an empty file under the final name.
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
                f"{self.path}: was written incompletely; check the disk and run again"
            ) from error
        if written.digest != digest:
            raise MfhcaError(
                f"{self.path}: reads back with other content than was written; check the disk and run again"
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns an OSError into a one-line error."""
        try:
            yield
        except OSError as error:
            raise MfhcaError(
                f"{self.path}: cannot be written ({error.strerror}); free space or make the folder writable, "
                "then run the same command again (finished utterances are kept)"
            ) from error
