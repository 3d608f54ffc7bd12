"""Audio containers: whether a file is complete, by the lengths that its container declares.

libsndfile decodes a file that was cut short without an error, and of several streams
in one file only the first. `inspect` reads the structure of a file instead, without
decoding. Formats that do not declare a length are refused, and so is audio behind
the declared end.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final

from mfhca_cache.common.text import plural
from mfhca_cache.features.flac import more_audio
from mfhca_cache.features.mpeg import TAGS, count_frames, id3_bytes, parse_frame, tags_behind
from mfhca_cache.features.ogg import REMEDY, page_problem

# Lengths that programs write into a header when they do not know the length: streams, sox, ffmpeg.
UNKNOWN_SIZES: Final = (0, 0x7FFFFF00, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
UNKNOWN_64: Final = (0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # of W64 and RF64
W64_RIFF: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")
LFS_HEADER: Final = b"version https://git-"

AUDIO_CHUNKS: Final = (b"data", b"SSND", b"BODY")  # of RIFF, W64 and CAF; of AIFF; of SVX
FILE_STARTS: Final = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b"caff")
INCOMPLETE_TAGS: Final = (b"LIST", b"id3 ", b"ID3 ")  # may be cut short where the audio is complete
SHORTEST_REST: Final = 8  # bytes; less is padding
BLOCK: Final = 1 << 20  # bytes read at a time


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
        end: of what libsndfile may read, where it would decode what follows as noise.
    """

    name: str
    wrong_length: bool = False
    patch: tuple[int, bytes] | None = None
    samples: int | None = None
    end: int | None = None


def inspect(file: BinaryIO, size: int) -> Container:
    """Reads the structure of an audio file.

    Args:
        file: open for reading, seekable.
        size: its length in bytes.

    Raises:
        ContainerError: the file is cut short, has more audio than it declares, or is of an unknown format.
    """
    end = size - tags_behind(file, size)
    if end < size:
        with contextlib.suppress(ContainerError):  # samples may look like a tag
            container = _inspect(file, end)
            decoded_by_path = container.name == "MP3" and container.patch is None  # libmpg123 knows tags
            return container if decoded_by_path else replace(container, end=container.end or end)
    return _inspect(file, size)


def _inspect(file: BinaryIO, size: int) -> Container:
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
        b"fLaC": _flac,
    }
    if start[:4] in readers:
        return readers[start[:4]](file, size)
    if tag := id3_bytes(start):  # some programs put one before FLAC, too
        file.seek(tag)
        if file.read(4) == b"fLaC":
            return _flac(file, size, tag)
    if start[:3] == b"ID3" or parse_frame(start[:4]) is not None:
        return _mp3(file, size)
    if start.startswith(LFS_HEADER):
        raise ContainerError("a pointer of git-lfs, without audio; `git lfs pull` downloads the audio")
    raise ContainerError("not readable as audio (unknown format); convert it to WAV or FLAC, or leave it out")


def _cut(missing: int) -> ContainerError:
    return ContainerError(f"cut short by {plural(missing, 'byte')}; {REMEDY}")


def _read(file: BinaryIO, position: int, layout: str) -> tuple[Any, ...] | None:
    """Unpacks a structure at a position; None beyond the end of the file."""
    file.seek(position)
    data = file.read(struct.calcsize(layout))
    return struct.unpack(layout, data) if len(data) == struct.calcsize(layout) else None


def _wav(file: BinaryIO, size: int, order: str) -> Container:
    """RIFF, RIFX and RF64, whose 64-bit lengths are in the chunk ds64."""
    position, length64, place64 = 12, None, 0
    while header := _read(file, position, f"{order}4sI"):
        name, length = header
        position += 8
        if name == b"ds64":
            values = _read(file, position, "<QQ")
            length64, place64 = values[1] if values else None, position + 8
        if name == b"data":
            available = size - position
            if length64 is not None:
                length = length64
            chunk = f"{order}4sI"
            if length <= available and (length or not available or _is_chunk(file, position, size, chunk)):
                _check_rest(file, position + length, size, chunk, 2)
                return Container("WAV")
            # Complete, if the length is one of those for "unknown", or includes the header.
            unknown = (0, *UNKNOWN_64) if place64 else UNKNOWN_SIZES
            if length in unknown or length == available + position:
                patch = (position - 4, struct.pack(f"{order}I", available)) if length == 0 else None
                if place64:
                    patch = place64, struct.pack("<Q", available)
                return Container("WAV", wrong_length=True, patch=patch)
            raise _cut(length - available)
        position += length + length % 2  # chunks start at even offsets
    raise ContainerError(f"a WAV file without a data chunk; {REMEDY}")


def _is_chunk(file: BinaryIO, position: int, size: int, layout: str) -> bool:
    """Whether there is another chunk at a position, as after an empty data chunk."""
    header = _read(file, position, layout)
    if header is None:
        return False
    name = bytes(header[0])[:4]  # digital silence is zeros, which are ASCII but no name
    if not (name.isascii() and name.decode("ascii").isprintable()) or name in FILE_STARTS:
        return False
    return header[1] >= 0 and (name in INCOMPLETE_TAGS or header[1] <= size - position)


def _check_rest(file: BinaryIO, end: int, size: int, layout: str = "", align: int = 1) -> None:
    """Refuses what follows the audio and is neither chunks, tags, zeros nor padding.

    libsndfile leaves it out or decodes it as noise.

    Args:
        file, size: see `inspect`.
        end: of the audio, as declared.
        layout, align: of the chunks that may follow; see `_chunks`.
    """
    position = end
    while layout:
        # Some programs do not align chunks.
        places = (position + -position % align, position)
        place = next((place for place in places if _is_chunk(file, place, size, layout)), None)
        if place is None:
            break
        _, length = _read(file, place, layout) or (b"", 0)
        position = min(place + struct.calcsize(layout) + length, size)
    file.seek(position)
    block = file.read(BLOCK)
    if size - position < SHORTEST_REST or (layout and block.lstrip(b"\0").startswith(TAGS)):
        return
    while block:
        if block.count(0) < len(block):
            raise ContainerError(
                f"the header declares the end of the audio at byte {end}, and {size - position} bytes of other data "
                "follow (files joined together, or a wrong length in the header); split it, or repair the header"
            )
        block = file.read(BLOCK)


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
        audio = bytes(header[0])[:4] in AUDIO_CHUNKS
        empty = header[0] == b"SSND" and length == 0 < size - position
        if (audio and header[1] in UNKNOWN_64) or (empty and not _is_chunk(file, position, size, layout)):
            return Container(name, wrong_length=True)
        if length < 0:
            raise ContainerError(f"a {name} file with a damaged chunk; {REMEDY}")
        if position + length > size:
            raise _cut(position + length - size)
        position += length
        if audio:
            # libsndfile decodes whatever follows the audio of a W64 file.
            _check_rest(file, position, size, "" if counts_header else layout, align)
            return Container(name, end=position if header[0] == b"BODY" else None)
        position += -length % align
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
    if length != 0xFFFFFFFF:
        _check_rest(file, offset + length, size)
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
    if "shorten" not in fields.get("sample_coding", ""):
        if expected > size:
            raise _cut(expected - size)
        _check_rest(file, expected, size)
    return Container("SPHERE")


def _voc(file: BinaryIO, size: int) -> Container:
    header = _read(file, 20, "<H")
    position = header[0] if header else size
    while position < size:
        block = _read(file, position, "<I")
        file.seek(position)
        if file.read(1) == b"\0":  # the terminator has no length
            _check_rest(file, position + 1, size)
            return Container("VOC")
        if block is None:
            break
        position += 4 + (block[0] >> 8)
    if position > size:
        raise _cut(position - size)
    raise ContainerError(f"cut short, the end of a VOC file is missing; {REMEDY}")


def _ogg(file: BinaryIO, size: int) -> Container:
    if problem := page_problem(file, size):
        raise ContainerError(problem)
    return Container("OGG")


def _flac(file: BinaryIO, size: int, begin: int = 0) -> Container:
    """FLAC; decoding notices a missing part."""
    if more := more_audio(file, size, begin):
        raise ContainerError(f"has {more}, which would not be decoded; split it, or repair the header")
    return Container("FLAC")


def _mp3(file: BinaryIO, size: int) -> Container:
    """MP3 and MP2: counts the frames, and compares with the number in the first frame (Xing, Info), if there is one."""
    frames = count_frames(file, size)
    count, declared = frames.count, frames.declared
    if frames.missing:
        raise _cut(frames.missing)
    if frames.blank is not None and frames.junk is None:
        return Container("MP3", wrong_length=True, patch=(frames.blank, struct.pack(">I", count)))
    if declared is not None and count < declared:
        raise ContainerError(f"cut short, {count} of {declared} MP3 frames are there; {REMEDY}")
    if declared is not None and count > declared + 1:
        raise ContainerError(
            f"has {count} MP3 frames, of which only the declared {declared} would be decoded (files joined "
            "together?); split it, or convert it to WAV or FLAC"
        )
    if declared is None and frames.junk is not None:
        raise ContainerError(f"damaged at byte {frames.junk}, where an MP3 frame is expected; {REMEDY}")
    # Decoders drop at most the delay of encoder and decoder, less than three frames.
    return Container("MP3", samples=max(0, count - 3) * frames.per_frame if declared is None else None)
