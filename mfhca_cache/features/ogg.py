"""Ogg pages: whether a file has all pages of one stream (RFC 3533)."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Final

from mfhca_cache.common.text import plural

REMEDY: Final = "restore the whole file"
REVERSED_BITS: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
LONGEST_TAG: Final = 1 << 20  # bytes of tags or zeros behind the last page
NO_END: Final = 2**64 - 1  # the position of a page on which no packet ends


def page_problem(file: BinaryIO, size: int) -> str | None:
    """What is wrong with the pages of a file, and the remedy; None if nothing is.

    Each stream has a first and a last page; pages of a stream that starts later belong to a second file.

    Args:
        file: open for reading, seekable; begins with a page.
        size: its length in bytes.
    """
    position, started = 0, False
    open_streams: set[bytes] = set()
    ends: dict[bytes, int] = {}  # position in the audio at the end of the last page of each stream
    while position < size:
        file.seek(position)
        header = file.read(27)
        if header[:4] != b"OggS" and position:
            if started and not open_streams and size - position <= LONGEST_TAG:
                file.seek(position)
                if b"OggS" not in file.read():
                    return None
            return f"damaged at byte {position}, where an Ogg page is expected; {REMEDY}"
        lacing = file.read(header[26]) if len(header) == 27 else b""
        if len(header) < 27 or len(lacing) < header[26]:
            return f"cut short within an Ogg page; {REMEDY}"
        flags, serial, end = header[5], header[14:18], int.from_bytes(header[6:14], "little")
        if flags & 2:  # first page of a stream
            if started:
                return (
                    "has several Ogg streams one after the other, of which only the first would be decoded; "
                    "split it, or convert it to WAV or FLAC"
                )
            open_streams.add(serial)
        else:
            started = True
        if flags & 4:  # last page of a stream
            open_streams.discard(serial)
            if lacing and (end == NO_END or end < ends.get(serial, 0)):
                return f"declares less audio in its last Ogg page than the pages before have; {REMEDY}"
        if end != NO_END:
            ends[serial] = end
        page = header[:22] + bytes(4) + header[26:] + lacing + file.read(sum(lacing))
        begin, position = position, position + 27 + len(lacing) + sum(lacing)
        if position <= size and _checksum(page) != header[22:26]:
            return f"damaged at byte {begin}, where an Ogg page has a wrong checksum; {REMEDY}"
    if position > size:
        return f"cut short by {plural(position - size, 'byte')}; {REMEDY}"
    if open_streams:
        return f"cut short, the last page of an Ogg stream is missing; {REMEDY}"
    return None


def _checksum(page: bytes) -> bytes:
    """The CRC-32 of a page, whose own four bytes are zero: zlib's with reversed bits and without inversion."""
    value = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2).to_bytes(4, "little")
