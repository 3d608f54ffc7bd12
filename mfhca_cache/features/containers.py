"""Audio containers: whether a file is complete, by the lengths that its container declares.

libsndfile decodes a file that was cut short without an error, and of several streams
in one file only the first. `inspect` reads the structure of a file instead, without
decoding. Formats that do not declare a length are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

# Lengths that programs write into a WAV header when they do not know the length: streams, sox, ffmpeg.
UNKNOWN_SIZES: Final = (0, 0x7FFFFF00, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
W64_RIFF: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")
LFS_HEADER: Final = b"version https://git-"
REMEDY: Final = "restore the whole file"

# Bit rates of MPEG layer III in kbit/s, by the header's index, for version 1 and for versions 2 and 2.5.
MPEG1_RATES: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG2_RATES: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MPEG_SAMPLE_RATES: Final = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
RESYNC_BYTES: Final = 1 << 16  # of junk between two MPEG frames


class ContainerError(ValueError):
    """A file is incomplete or of an unknown format; the message has the reason and the remedy, not the name."""


@dataclass(frozen=True)
class Container:
    """The container of a complete file.

    Attributes:
        name: e.g. "WAV".
        wrong_length: the header declares another length than that of the data, which is complete.
        patch: offset and bytes to replace in the header, so that libsndfile decodes all data.
        samples: lower bound of the number of samples per channel, where libsndfile does not know the number.
    """

    name: str
    wrong_length: bool = False
    patch: tuple[int, bytes] | None = None
    samples: int | None = None


def inspect(file: BinaryIO, size: int) -> Container:
    """Reads the structure of an audio file.

    Args:
        file: open for reading, seekable.
        size: its length in bytes.

    Raises:
        ContainerError: the file is cut short, has several streams one after the other, or is of an unknown format.
    """
    file.seek(0)
    start = file.read(20)
    if start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:12] == b"WAVE":
        return _wav(file, size, "<" if start[:4] != b"RIFX" else ">")
    if start[:4] == b"FORM":
        return _chunks(file, size, "AIFF", 12, ">4sI", 2)
    if start[:16] == W64_RIFF:
        return _chunks(file, size, "W64", 40, "<16sQ", 8, counts_header=True)
    if start[:4] == b"caff":
        return _chunks(file, size, "CAF", 8, ">4sq", 1)
    readers: dict[bytes, Callable[[BinaryIO, int], Container]] = {
        b".snd": _au,
        b"dns.": _au,
        b"NIST": _nist,
        b"Crea": _voc,
        b"OggS": _ogg,
        b"fLaC": lambda _file, _size: Container("FLAC"),  # decoding notices a missing part
    }
    if start[:4] in readers:
        return readers[start[:4]](file, size)
    if start[:3] == b"ID3" or _mpeg_frame(start[:4]) is not None:
        return _mp3(file, size)
    if start.startswith(LFS_HEADER):
        raise ContainerError("a pointer of git-lfs, without audio; `git lfs pull` downloads the audio")
    raise ContainerError("not readable as audio (unknown format); convert it to WAV or FLAC, or leave it out")


def _cut(missing: int) -> ContainerError:
    return ContainerError(f"cut short, {missing} bytes are missing; {REMEDY}")


def _read(file: BinaryIO, position: int, layout: str) -> tuple[Any, ...] | None:
    """Unpacks a structure at a position; None beyond the end of the file."""
    file.seek(position)
    data = file.read(struct.calcsize(layout))
    return struct.unpack(layout, data) if len(data) == struct.calcsize(layout) else None


def _wav(file: BinaryIO, size: int, order: str) -> Container:
    """RIFF, RIFX and RF64, whose 64-bit lengths are in the chunk ds64."""
    position, length64 = 12, None
    while header := _read(file, position, f"{order}4sI"):
        name, length = header
        position += 8
        if name == b"ds64":
            values = _read(file, position, "<QQ")
            length64 = values[1] if values else None
        if name == b"data":
            available = size - position
            if length64 is not None:
                length = length64
            if length <= available and (length or not available or _is_chunk(file, position, size, order)):
                return Container("WAV")
            # Complete, if the length is one of those for "unknown", or includes the header.
            if (length in UNKNOWN_SIZES and length64 is None) or length == available + position:
                patch = (position - 4, struct.pack(f"{order}I", available)) if length == 0 else None
                return Container("WAV", wrong_length=True, patch=patch)
            raise _cut(length - available)
        position += length + length % 2  # chunks start at even offsets
    raise ContainerError(f"a WAV file without a data chunk; {REMEDY}")


def _is_chunk(file: BinaryIO, position: int, size: int, order: str) -> bool:
    """Whether there is another chunk at a position, as after an empty data chunk."""
    header = _read(file, position, f"{order}4sI")
    if header is None:
        return False
    name = bytes(header[0])  # digital silence is zeros, which are ASCII but no name
    return name.isascii() and name.decode("ascii").isprintable() and position + 8 + header[1] <= size


def _chunks(
    file: BinaryIO, size: int, name: str, position: int, layout: str, align: int, counts_header: bool = False
) -> Container:
    """Formats that consist of chunks with a name and a length; a length of -1 reaches to the end of the file."""
    header_bytes = struct.calcsize(layout)
    while header := _read(file, position, layout):
        length = header[1] - (header_bytes if counts_header else 0)
        position += header_bytes
        if length == -1:
            break
        if length < 0:
            raise ContainerError(f"a {name} file with a damaged chunk; {REMEDY}")
        if position + length > size:
            raise _cut(position + length - size)
        position += length + -length % align
    return Container(name)


def _au(file: BinaryIO, size: int) -> Container:
    file.seek(0)
    order = ">" if file.read(4) == b".snd" else "<"
    header = _read(file, 4, f"{order}II")
    if header is None:
        raise _cut(12 - size)
    offset, length = header
    if length != 0xFFFFFFFF and offset + length > size:
        raise _cut(offset + length - size)
    return Container("AU")


def _nist(file: BinaryIO, size: int) -> Container:
    """NIST SPHERE: a header of text lines "name -type value"."""
    file.seek(0)
    lines = file.read(1024).decode("ascii", errors="replace").splitlines()
    fields = {words[0]: words[2] for words in map(str.split, lines) if len(words) >= 3}
    try:
        header = int(lines[1])
        per_sample = int(fields["sample_n_bytes"]) * int(fields.get("channel_count", "1"))
        expected = header + int(fields["sample_count"]) * per_sample
    except (KeyError, ValueError, IndexError) as error:
        raise ContainerError(f"a SPHERE file with a damaged header; {REMEDY}") from error
    if "shorten" not in fields.get("sample_coding", "") and expected > size:
        raise _cut(expected - size)
    return Container("SPHERE")


def _voc(file: BinaryIO, size: int) -> Container:
    header = _read(file, 20, "<H")
    position = header[0] if header else size
    while position < size:
        block = _read(file, position, "<I")
        file.seek(position)
        if file.read(1) == b"\0":  # the terminator has no length
            return Container("VOC")
        if block is None:
            break
        position += 4 + (block[0] >> 8)
    if position > size:
        raise _cut(position - size)
    raise ContainerError(f"cut short, the end of a VOC file is missing; {REMEDY}")


def _ogg(file: BinaryIO, size: int) -> Container:
    """Ogg: each stream has a first and a last page; pages of a stream that starts later belong to a second file."""
    position, started, open_streams, audio = 0, False, set(), False
    while position < size:
        file.seek(position)
        header = file.read(27)
        if header[:4] != b"OggS" and position:
            raise ContainerError(f"damaged at byte {position}, where an Ogg page is expected; {REMEDY}")
        lacing = file.read(header[26]) if len(header) == 27 else b""
        if len(header) < 27 or len(lacing) < header[26]:
            raise ContainerError(f"cut short within an Ogg page; {REMEDY}")
        flags, serial = header[5], header[14:18]
        if flags & 2:  # first page of a stream
            if started:
                raise ContainerError(
                    "has several Ogg streams one after the other, of which only the first would be decoded; "
                    "split it, or convert it to WAV or FLAC"
                )
            open_streams.add(serial)
        else:
            started = True
        if flags & 4:  # last page of a stream
            open_streams.discard(serial)
        position += 27 + len(lacing) + sum(lacing)
        audio = True
    if position > size:
        raise _cut(position - size)
    if open_streams or not audio:
        raise ContainerError(f"cut short, the last page of an Ogg stream is missing; {REMEDY}")
    return Container("OGG")


def _mpeg_frame(header: bytes) -> tuple[int, int, int] | None:
    """Bytes, samples and bytes of side information of an MPEG layer III frame, or None."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, rate, sampling = (header[1] >> 3) & 3, header[2] >> 4, (header[2] >> 2) & 3
    if version == 1 or not 0 < rate < 15 or sampling == 3:
        return None
    mono = header[3] >> 6 == 3
    kilobits = (MPEG1_RATES if version == 3 else MPEG2_RATES)[rate - 1]
    samples = 1152 if version == 3 else 576
    length = samples // 8 * kilobits * 1000 // MPEG_SAMPLE_RATES[version][sampling] + ((header[2] >> 1) & 1)
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return length, samples, side


def _mp3(file: BinaryIO, size: int) -> Container:
    """MP3: counts the frames, and compares with the number in the first frame (Xing, Info), if there is one."""
    position, frames, samples, declared = 0, 0, 0, None
    while position < size:
        file.seek(position)
        header = file.read(10)
        frame = _mpeg_frame(header)
        if header[:3] == b"ID3" and len(header) == 10:
            position += 10 + sum(
                (byte & 0x7F) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True)
            )
            continue
        if frame is None:
            position = _resync(file, position)
            if position < 0:
                break  # tags and other data after the last frame
            continue
        length, per_frame, side = frame
        if position + length > size:
            raise _cut(position + length - size)
        if not frames and declared is None:
            tag = _read(file, position + 4 + side, ">4sII")
            if tag is not None and tag[0] in (b"Xing", b"Info"):
                declared = tag[2] if tag[1] & 1 else None
                position += length
                continue
        frames, samples, position = frames + 1, per_frame, position + length
    if declared is not None and frames < declared:
        raise ContainerError(f"cut short, {frames} of {declared} MP3 frames are there; {REMEDY}")
    if declared is not None and frames > declared + 1:
        raise ContainerError(
            f"has {frames} MP3 frames, of which only the declared {declared} would be decoded (files joined "
            "together?); split it, or convert it to WAV or FLAC"
        )
    # Decoders drop at most the delay of encoder and decoder, less than three frames.
    return Container("MP3", samples=max(0, frames - 3) * samples if declared is None else None)


def _resync(file: BinaryIO, position: int) -> int:
    """The next position with an MPEG frame or an ID3 tag that is followed by another frame; -1 if there is none."""
    file.seek(position)
    data = file.read(RESYNC_BYTES)
    for offset in range(1, len(data) - 4):
        if data[offset : offset + 3] == b"ID3":
            return position + offset
        if data[offset] == 0xFF and (frame := _mpeg_frame(data[offset : offset + 4])) is not None:
            following = data[offset + frame[0] : offset + frame[0] + 4]
            if _mpeg_frame(following) is not None:
                return position + offset
    return -1
