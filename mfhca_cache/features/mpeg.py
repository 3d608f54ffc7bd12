"""MPEG layer III: the frames of an MP3 file, and the number that its first frame declares."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

# Bit rates in kbit/s, by the header's index, for version 1 and for versions 2 and 2.5.
MPEG1_RATES: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG2_RATES: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
SAMPLE_RATES: Final = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
RESYNC_BYTES: Final = 1 << 16  # of junk between two frames
TAGS: Final = (b"TAG", b"APETAGEX", b"ID3")


@dataclass(frozen=True)
class Frames:
    """The frames of a file.

    Attributes:
        count: of frames with audio.
        per_frame: samples per channel.
        declared: their number in a Xing or Info frame; None without one.
        missing: bytes of the last frame that are not there.
        junk: position of the first data between two frames that is no tag; None without.
    """

    count: int
    per_frame: int
    declared: int | None
    missing: int = 0
    junk: int | None = None


def parse_frame(header: bytes) -> tuple[int, int, int] | None:
    """Bytes, samples and bytes of side information of the frame that begins with 4 bytes, or None."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, rate, sampling = (header[1] >> 3) & 3, header[2] >> 4, (header[2] >> 2) & 3
    if version == 1 or not 0 < rate < 15 or sampling == 3:
        return None
    mono = header[3] >> 6 == 3
    kilobits = (MPEG1_RATES if version == 3 else MPEG2_RATES)[rate - 1]
    samples = 1152 if version == 3 else 576
    length = samples // 8 * kilobits * 1000 // SAMPLE_RATES[version][sampling] + ((header[2] >> 1) & 1)
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return length, samples, side


def id3_bytes(header: bytes) -> int:
    """Length of the ID3 tag (version 2) that begins with 10 bytes; 0 if none does."""
    if header[:3] != b"ID3" or len(header) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(header[6:10], (21, 14, 7, 0), strict=True))


def count_frames(file: BinaryIO, size: int) -> Frames:
    """Counts the frames of a file; tags and other data between them and at the end are left out.

    Args:
        file: open for reading, seekable.
        size: its length in bytes.
    """
    position, frames, samples, declared, junk = 0, 0, 0, None, None
    while position < size:
        file.seek(position)
        header = file.read(10)
        frame = parse_frame(header)
        if tag_bytes := id3_bytes(header):
            position += tag_bytes
            continue
        if frame is None:
            found = _resync(file, position)
            if found < 0:
                break  # tags and other data after the last frame
            if frames and junk is None and not header.startswith(TAGS):
                junk = position
            position = found
            continue
        length, per_frame, side = frame
        if position + length > size:
            return Frames(frames, samples, declared, position + length - size, junk)
        if not frames and declared is None:
            file.seek(position + 4 + side)
            tag = file.read(12)
            if tag[:4] in (b"Xing", b"Info") and len(tag) == 12:
                flags, number = struct.unpack(">II", tag[4:])
                declared = number if flags & 1 else None
                position += length
                continue
        frames, samples, position = frames + 1, per_frame, position + length
    return Frames(frames, samples, declared, junk=junk)


def _resync(file: BinaryIO, position: int) -> int:
    """The next position with a frame or an ID3 tag that is followed by another frame; -1 if there is none."""
    file.seek(position)
    data = file.read(RESYNC_BYTES)
    for offset in range(1, len(data) - 4):
        if data[offset : offset + 3] == b"ID3":
            return position + offset
        if data[offset] == 0xFF and (frame := parse_frame(data[offset : offset + 4])) is not None:
            following = data[offset + frame[0] : offset + frame[0] + 4]
            if parse_frame(following) is not None:
                return position + offset
    return -1
