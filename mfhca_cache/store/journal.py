"""The part file of an unfinished shard: an append-only file of rows, and a journal of the utterances in it.

Rows are appended and fsynced first, then a journal line with their utterance
and checksum. Rows without a journal line, or with another checksum, count as
never written. `writer` builds the shard from both files.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import NEW_FILE_MODE, canonical_json, fsync_folder
from mfhca_cache.store.schema import Origin

SUFFIXES = (".rows", ".journal")
READ_BYTES = 16 << 20  # of rows read at a time


@dataclass(frozen=True)
class Entry:
    """One utterance in the part file."""

    utterance_id: str
    origin: Origin
    first_row: int
    valid_frames: tuple[int, ...]  # one number per row
    crc32: int  # checksum of the rows' bytes


class Part:
    """An append-only file of rows with its journal. The caller must hold the shard's lock.

    Attributes:
        entries: the utterances that are durable on disk, by id.
        discarded: whether the files had a journal with another header.
    """

    def __init__(self, stem: Path, header: dict[str, Any], row_bytes: int) -> None:
        """Opens a new part file, or resumes the one of a killed writer.

        Args:
            stem: path without suffix; ".rows" and ".journal" are added.
            header: describes the rows; the content of a part file with another header is discarded.
            row_bytes: size of a row in bytes.

        Raises:
            OSError: the files cannot be written or read.
        """
        self._paths = paths(stem)
        self._row_bytes = row_bytes
        self.entries: dict[str, Entry] = {}
        self._pending: dict[str, Entry] = {}
        self._unfinished: Entry | None = None  # an utterance with more rows to come
        self.discarded = False
        self._rows, self._journal = -1, -1
        try:
            self._rows, self._journal = (
                os.open(path, os.O_RDWR | os.O_CREAT, NEW_FILE_MODE) for path in self._paths
            )
            self._resume(_line(header))
        except BaseException:
            self._close()
            raise

    def _resume(self, header: bytes) -> None:
        # The journal is read up to its first damaged line: a killed writer may have written only a part of it.
        # Both files are then cut to what is known to be durable, so that new rows and lines directly follow it.
        text = self._paths[1].read_bytes()
        self._journal_end = self._next_row = 0
        self.discarded = b"\n" in text and not text.startswith(header)
        if text.startswith(header):
            self._journal_end = len(header)
            for entry, end in _entries(text, len(header)):
                self.entries[entry.utterance_id] = entry
                self._next_row = max(self._next_row, entry.first_row + len(entry.valid_frames))
                self._journal_end = end
        os.ftruncate(self._journal, self._journal_end)
        self._cut()
        self.entries = {name: entry for name, entry in self.entries.items() if self._intact(entry)}
        if not self._journal_end:
            self._append_journal(header)
        # Makes the creation of both files durable; without it a power failure could lose them with all their rows.
        fsync_folder(self._paths[0].parent)

    def _cut(self) -> None:
        """Removes the rows behind those of the last utterance."""
        rows_end = self._next_row * self._row_bytes
        if os.fstat(self._rows).st_size > rows_end:
            os.ftruncate(self._rows, rows_end)

    def add(
        self,
        utterance_id: str,
        origin: Origin | None,
        data: memoryview,
        valid_frames: tuple[int, ...],
        first: int = 0,
    ) -> None:
        """Appends rows of one utterance; they are durable after the next `flush` if they are its last ones.

        Args:
            utterance_id: unique in the corpus.
            origin: what they were computed from; None if more rows of the utterance follow.
            data: bytes.
            valid_frames: one number per row.
            first: index of the first of these rows in the utterance.

        Raises:
            OSError: they cannot be written; nothing is added.
            ValueError: they do not follow the rows of the call before.
        """
        entry = self._unfinished if first else Entry(utterance_id, Origin("", ""), self._next_row, (), 0)
        if entry is None or (entry.utterance_id, len(entry.valid_frames)) != (utterance_id, first):
            raise ValueError(f"{utterance_id}: row {first} does not follow {entry}")
        write_all(self._rows, data, (self._next_row + first) * self._row_bytes)
        frames, crc32 = (*entry.valid_frames, *valid_frames), zlib.crc32(data, entry.crc32)
        entry = replace(entry, origin=origin or entry.origin, valid_frames=frames, crc32=crc32)
        if origin is None:
            self._unfinished = entry
            return
        self._unfinished = None
        self._pending[utterance_id] = entry
        self._next_row += len(frames)

    @property
    def pending_bytes(self) -> int:
        """Size in bytes of the rows added since the last `flush`."""
        return sum(len(entry.valid_frames) for entry in self._pending.values()) * self._row_bytes

    def flush(self) -> None:
        """Makes the added rows durable.

        Raises:
            OSError: they cannot be written; a later `flush` tries again.
        """
        if self._pending:
            # The order matters: the rows must be on the disk before the journal mentions them. In the other order
            # a power failure between the two could leave a journal line for rows that were never written.
            os.fsync(self._rows)
            self._append_journal(b"".join(_line(asdict(entry)) for entry in self._pending.values()))
            self.entries.update(self._pending)
            self._pending.clear()

    def _append_journal(self, lines: bytes) -> None:
        try:
            write_all(self._journal, memoryview(lines), self._journal_end)
            os.fsync(self._journal)
        except OSError:
            # Reading stops at a damaged line, so a partly written one would hide all lines of later flushes.
            with contextlib.suppress(OSError):
                os.ftruncate(self._journal, self._journal_end)
            raise
        self._journal_end += len(lines)

    def read(self, entry: Entry) -> Iterator[bytearray]:
        """The bytes of one utterance's rows, some rows at a time.

        Raises:
            MfhcaError: they differ from what was written; raised at the end.
            OSError: the disk fails.
        """
        crc32 = 0
        for data in self._blocks(entry):
            crc32 = zlib.crc32(data, crc32)
            yield data
        if crc32 != entry.crc32:
            name = entry.utterance_id
            raise MfhcaError(
                f"{self._paths[0]}: the rows of utterance {name} are damaged; run the same command again"
            )

    def _intact(self, entry: Entry) -> bool:
        crc32 = 0
        for data in self._blocks(entry):
            crc32 = zlib.crc32(data, crc32)
        return crc32 == entry.crc32

    def _blocks(self, entry: Entry) -> Iterator[bytearray]:
        """The bytes of the rows; fewer blocks if the file is too short."""
        for first, count in blocks(len(entry.valid_frames), self._row_bytes):
            data = bytearray(count * self._row_bytes)
            view, offset, done = memoryview(data), (entry.first_row + first) * self._row_bytes, 0
            while done < len(data):
                size = os.preadv(self._rows, [view[done:]], offset + done)
                if not size:
                    return
                done += size
            yield data

    def discard(self) -> None:
        """Closes and deletes both files."""
        self.close()
        self.entries.clear()
        # The journal first: rows without a journal count as unwritten, a journal without rows as damaged.
        for path in reversed(self._paths):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the files; rows that were not flushed are lost, and those of an unfinished utterance are removed."""
        with contextlib.suppress(OSError):  # also if they are closed
            self._cut()
        self._close()

    def _close(self) -> None:
        for descriptor in (self._rows, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._rows, self._journal = -1, -1


def blocks(count: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Divides rows so that each block is small in memory; yields its first row and number of rows.

    >>> list(blocks(5, READ_BYTES // 2))
    [(0, 2), (2, 2), (4, 1)]
    """
    step = max(1, READ_BYTES // row_bytes)
    for first in range(0, count, step):
        yield first, min(step, count - first)


def paths(stem: Path) -> tuple[Path, Path]:
    """The paths of rows and journal of a part file.

    >>> [path.name for path in paths(Path(".03.h5"))]
    ['.03.h5.rows', '.03.h5.journal']
    """
    rows, journal = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES)
    return rows, journal


def write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Writes all of `data` (bytes) at `offset` (bytes).

    Raises:
        OSError: it cannot be written.
    """
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _line(value: dict[str, Any]) -> bytes:
    text = canonical_json(value).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _entries(text: bytes, start: int) -> Iterator[tuple[Entry, int]]:
    """The entries of a journal from `start` to the first damaged line, each with the position of its end."""
    while (end := text.find(b"\n", start) + 1) > 0:
        line = text[start + 9 : end - 1]
        if text[start : start + 9] != b"%08x " % zlib.crc32(line):
            return
        values = json.loads(line)
        values |= {"origin": Origin(**values["origin"]), "valid_frames": tuple(values["valid_frames"])}
        yield Entry(**values), end
        start = end
