"""MPEG audio: the frames of an MP3 or MP2 file, the number that its first frame declares, and tags."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

# Bit rates in kbit/s, by the header's index, for version 1 of layers III and II, and for versions 2 and 2.5.
MPEG1_RATES: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG1_LAYER2_RATES: Final = (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
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
        blank: position of that number where it is 0, which stands for unknown.
        missing: bytes of the last frame that are not there.
        junk: position of the first data between two frames that is no tag; None without.
    """

    count: int
    per_frame: int
    declared: int | None
    missing: int = 0
    junk: int | None = None
    blank: int | None = None


def parse_frame(header: bytes) -> tuple[int, int, int] | None:
    """Bytes, samples and bytes of side information of the frame that begins with 4 bytes, or None."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 not in (0xE2, 0xE4):
        return None
    version, rate, sampling = (header[1] >> 3) & 3, header[2] >> 4, (header[2] >> 2) & 3
    if version == 1 or not 0 < rate < 15 or sampling == 3:
        return None
    mono, layer2 = header[3] >> 6 == 3, header[1] & 4
    rates = MPEG2_RATES if version != 3 else MPEG1_LAYER2_RATES if layer2 else MPEG1_RATES
    samples, kilobits = 1152 if version == 3 or layer2 else 576, rates[rate - 1]
    length = samples // 8 * kilobits * 1000 // SAMPLE_RATES[version][sampling] + ((header[2] >> 1) & 1)
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return length, samples, side


def id3_bytes(header: bytes) -> int:
    """Length of the ID3 tag (version 2) that begins with 10 bytes; 0 if none does."""
    if header[:3] != b"ID3" or len(header) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(header[6:10], (21, 14, 7, 0), strict=True))


def tags_behind(file: BinaryIO, size: int) -> int:
    """Length of the ID3 (version 1) and APE tags at the end of a file, in bytes."""
    file.seek(max(0, size - 128))
    length = 128 if file.read(128)[:3] == b"TAG" and size >= 128 else 0
    file.seek(max(0, size - length - 32))
    footer = file.read(32)
    if footer[:8] == b"APETAGEX" and len(footer) == 32:
        length += int.from_bytes(footer[12:16], "little") + (32 if footer[23] & 0x80 else 0)
    return length if length < size else 0


def count_frames(file: BinaryIO, size: int) -> Frames:
    """Counts the frames of a file; tags and other data between them and at the end are left out.

    Args:
        file: open for reading, seekable.
        size: its length in bytes.
    """
    position, frames, samples, declared, junk, blank = 0, 0, 0, None, None, None
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
            return Frames(frames, samples, declared, position + length - size, junk, blank)
        if not frames and declared is None:
            file.seek(position + 4 + side)
            tag = file.read(12)
            if tag[:4] in (b"Xing", b"Info") and len(tag) == 12:
                flags, number = struct.unpack(">II", tag[4:])
                declared = number if flags & 1 and number else None
                blank = position + 12 + side if flags & 1 and not number else None
                position += length
                continue
        frames, samples, position = frames + 1, per_frame, position + length
    return Frames(frames, samples, declared, junk=junk, blank=blank)


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
