"""FLAC frames: whether a file has more audio than its header declares (RFC 9639)."""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

BLOCK: Final = 1 << 20  # bytes searched at a time
LONGEST_HEADER: Final = 16  # bytes of a frame's header, its checksum included
SECOND_FILE: Final = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")  # the first 8 bytes of every FLAC file


def more_audio(file: BinaryIO, size: int, begin: int = 0) -> str | None:
    """What is in a FLAC file behind its declared length, of which libsndfile decodes nothing.

    Args:
        file: open for reading, seekable.
        size: its length in bytes.
        begin: where FLAC begins, behind a tag.

    Returns:
        None, if nothing is, or if the file declares no length: it is then decoded to its end.
    """
    position, last = begin + 4, False
    while not last:  # the blocks of metadata
        file.seek(position)
        header = file.read(4)
        if len(header) < 4:
            return None
        last, position = header[0] >= 128, position + 4 + int.from_bytes(header[1:], "big")
    file.seek(begin + 8)
    block_size = int.from_bytes(file.read(2), "big")
    file.seek(begin + 21)
    total = int.from_bytes(file.read(5), "big") & (1 << 36) - 1
    file.seek(position)
    first = file.read(LONGEST_HEADER)
    if not total:
        return None
    rest = b""
    while position < size:
        file.seek(position)
        data = rest + file.read(BLOCK)
        if any(start in data for start in SECOND_FILE):
            return "a second FLAC file behind the first"
        offset = -1
        while (offset := data.find(first[:1] + first[1:2], offset + 1)) >= 0:
            header = data[offset : offset + LONGEST_HEADER]
            if len(header) < LONGEST_HEADER and position + BLOCK < size:
                break  # it is in the rest
            if _has_sample(header, first, block_size, total):
                return f"more than the {total} samples that its header declares"
        position, rest = position + BLOCK, data[-LONGEST_HEADER + 1 :]
    return None


def _has_sample(header: bytes, first: bytes, block_size: int, wanted: int) -> bool:
    """Whether there is a frame like the file's first one, with a certain sample in it.

    Args:
        header: the bytes where the frame may begin.
        first: those of the first frame.
        block_size: samples per channel in each frame but the last; not used where frames differ in size.
        wanted: number of the sample.
    """
    # Equal sample rate and word length, and the bits that are always zero.
    if len(header) < 6 or (header[2] ^ first[2]) & 0x0F or (header[3] ^ first[3]) & 0x0F:
        return False
    length = 1 if header[4] < 0x80 else 8 - (header[4] ^ 0xFF).bit_length()  # as in UTF-8
    number = header[4] & (0x7F >> length if length > 1 else 0x7F)
    for byte in header[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    end = 4 + length
    code, rate = header[2] >> 4, header[2] & 0x0F
    bits = {6: ">B", 7: ">H"}.get(code)
    if bits is not None:
        if end + 2 > len(header):
            return False
        count, end = struct.unpack_from(bits, header, end)[0] + 1, end + struct.calcsize(bits)
    else:
        count = 192 if code < 2 else 576 << code - 2 if code < 6 else 256 << code - 8
    end += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    start = number if header[1] & 1 else number * block_size
    if not (start <= wanted < start + count and code and end < len(header)):
        return False
    return _checksum(header[:end]) == header[end]


def _checksum(data: bytes) -> int:
    """CRC-8 with the polynomial x^8 + x^2 + x + 1."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return value
