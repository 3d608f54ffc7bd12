"""mfhca_cache.features.containers, and what read_audio makes of it: complete files decode, cut ones are refused."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_factory import sound
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.audio_length import header_length
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import WRONG_LENGTH, read_audio
from mfhca_cache.features.containers import ContainerError, inspect
from mfhca_cache.features.mpeg import count_frames

RATE = 16_000
SAMPLES = sound("container", 2.0, RATE)
# (name, format, subtype, endian) of every container that libsndfile writes and we read.
FORMATS = [
    ("wav", "WAV", "PCM_16", "LITTLE"),
    ("wavex", "WAVEX", "PCM_16", "LITTLE"),
    ("rifx", "WAV", "PCM_16", "BIG"),
    ("rf64", "RF64", "PCM_16", "LITTLE"),
    ("w64", "W64", "PCM_16", "LITTLE"),
    ("aiff", "AIFF", "PCM_16", "BIG"),
    ("aifc", "AIFF", "FLOAT", None),
    ("svx", "SVX", "PCM_16", "BIG"),
    ("au", "AU", "PCM_16", "BIG"),
    ("au-little", "AU", "PCM_16", "LITTLE"),
    ("sphere", "NIST", "PCM_16", "BIG"),
    ("voc", "VOC", "PCM_16", "LITTLE"),
    ("caf", "CAF", "PCM_16", "BIG"),
    ("alac", "CAF", "ALAC_16", "BIG"),
    ("flac", "FLAC", "PCM_16", None),
    ("ogg", "OGG", "VORBIS", None),
    ("opus", "OGG", "OPUS", None),
    ("mp3", "MP3", "MPEG_LAYER_III", None),
]
NAMES = [row[0] for row in FORMATS]


def encode(folder: Path, name: str, samples: np.ndarray = SAMPLES, **options: object) -> bytes:
    _, container, subtype, endian = FORMATS[NAMES.index(name)]
    path = folder / "encoded"
    if options.pop("bits", 16) == 8:
        subtype, endian = ("PCM_U8", endian) if container == "WAV" else ("PCM_S8", None)
    soundfile.write(path, samples, RATE, format=container, subtype=subtype, endian=endian, **options)
    return path.read_bytes()


def decode(folder: Path, data: bytes, name: str = "a.bin") -> np.ndarray:
    """Through read_audio, from a file whose name says nothing."""
    (folder / name).write_bytes(data)
    return read_audio(folder / name, RATE).samples


@pytest.mark.parametrize("name", NAMES)
def test_a_complete_file_decodes_to_what_libsndfile_decodes(name: str, tmp_path: Path) -> None:
    data = encode(tmp_path, name)
    with soundfile.SoundFile(tmp_path / "encoded") as file:
        expected = file.read(dtype="float32")
    np.testing.assert_array_equal(decode(tmp_path, data), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.97, -1])
def test_a_file_that_was_cut_short_is_refused(name: str, part: float, tmp_path: Path) -> None:
    data = encode(tmp_path, name)
    end = int(len(data) * part) if part > 0 else len(data) - 1
    if name in ("wav", "wavex", "rifx") and part == -1:
        end -= 1  # half a sample less is a length of its own, see below
    with pytest.raises(MfhcaError, match=r"a\.bin: (cut short|not readable|damaged)"):
        decode(tmp_path, data[:end])


def test_a_flac_cut_between_two_frames_is_refused(tmp_path: Path) -> None:
    data = encode(tmp_path, "flac")
    with pytest.raises(MfhcaError, match="cut short, 28672 of 32000 samples decode"):
        decode(tmp_path, data[: data.rindex(b"\xff\xf8")])


def test_an_mp3_without_a_xing_frame_is_refused_where_its_last_frame_is_cut(tmp_path: Path) -> None:
    data = encode(tmp_path, "mp3", bitrate_mode="CONSTANT", compression_level=0.5)
    data = data[mp3_frames(data)[1] :]
    assert len(decode(tmp_path, data)) > 1.9 * RATE
    with pytest.raises(MfhcaError, match="cut short by 9 bytes"):
        decode(tmp_path, data[:-9])


# --- WAV headers with a wrong length


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("length", [0, 0x7FFFFF00, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, -44])
def test_a_complete_wav_with_a_wrong_length_is_decoded_and_reported(
    order: str, length: int, tmp_path: Path
) -> None:
    data = bytearray(encode(tmp_path, "wav" if order == "<" else "rifx"))
    position = data.index(b"data") + 8
    there = len(data) - position
    data[position - 4 : position] = struct.pack(f"{order}I", there + 44 if length == -44 else length)
    (tmp_path / "a.wav").write_bytes(data)
    audio = read_audio(tmp_path / "a.wav", RATE)
    np.testing.assert_array_equal(audio.samples, read_audio(tmp_path / "encoded", RATE).samples)
    assert audio.warnings == (WRONG_LENGTH,)
    assert read_audio(tmp_path / "encoded", RATE).warnings == ()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_wav_of_unknown_length_may_begin_with_silence(order: str, tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path, "wav" if order == "<" else "rifx"))
    position = data.index(b"data") + 8
    data[position - 4 : position + 64] = bytes(68)  # the length, and the first samples
    (tmp_path / "a.wav").write_bytes(data)
    audio = read_audio(tmp_path / "a.wav", RATE)
    np.testing.assert_array_equal(audio.samples[32:], read_audio(tmp_path / "encoded", RATE).samples[32:])
    assert not audio.samples[:32].any()
    assert audio.warnings == (WRONG_LENGTH,)


@pytest.mark.parametrize(
    ("name", "chunk", "offset", "length"),
    [
        ("aiff", b"SSND", 4, bytes(4)),
        ("w64", b"data", 16, struct.pack("<Q", 2**63 - 1)),
        ("rf64", b"ds64", 16, bytes(8)),
    ],
)
def test_other_formats_written_into_a_pipe_are_decoded_and_reported(
    name: str, chunk: bytes, offset: int, length: bytes, tmp_path: Path
) -> None:
    data = bytearray(encode(tmp_path, name))
    position = data.index(chunk) + offset
    data[position : position + len(length)] = length
    (tmp_path / "a.bin").write_bytes(data)
    audio = read_audio(tmp_path / "a.bin", RATE)
    np.testing.assert_array_equal(audio.samples, read_audio(tmp_path / "encoded", RATE).samples)
    assert audio.warnings == (WRONG_LENGTH,)


def test_an_empty_data_chunk_before_another_chunk_is_empty(tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path, "wav"))
    position = data.index(b"data") + 8
    del data[position:]
    data[position - 4 : position] = bytes(4)
    with pytest.raises(MfhcaError, match="has a header and no audio"):
        decode(tmp_path, bytes(data) + b"LIST" + struct.pack("<I", 200) + bytes(200))


# --- FLAC lengths


def with_flac_length(data: bytes, samples: int) -> bytes:
    value = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
    return data[:18] + value.to_bytes(8, "big") + data[26:]


def test_a_flac_of_unknown_length_decodes(tmp_path: Path) -> None:
    data = encode(tmp_path, "flac")
    np.testing.assert_array_equal(decode(tmp_path, with_flac_length(data, 0)), decode(tmp_path, data))


@pytest.mark.parametrize("samples", [2**36 - 1, 2**32, 32_001])
def test_a_flac_that_declares_more_than_it_has_is_refused_without_allocating_it(
    samples: int, tmp_path: Path
) -> None:
    data = encode(tmp_path, "flac")
    with pytest.raises(MfhcaError, match=f"cut short, 32000 of {samples} samples decode"):
        decode(tmp_path, with_flac_length(data, samples))


# --- more than is declared


@pytest.mark.parametrize("name", NAMES)
def test_two_files_joined_are_never_decoded_in_part(name: str, tmp_path: Path) -> None:
    other = encode(tmp_path, name, SAMPLES[: RATE // 2])
    expected = (
        r"a\.bin: (the header declares the end of the audio at byte \d+, and \d+ bytes of other data follow|"
        "has a second FLAC file behind the first|has several Ogg streams|has .* MP3 frames)"
    )
    with pytest.raises(MfhcaError, match=expected):
        decode(tmp_path, encode(tmp_path, name) + other)


@pytest.mark.parametrize(
    ("name", "start", "order"), [("wav", b"data", "<"), ("rifx", b"data", ">"), ("au", b".snd", ">")]
)
@pytest.mark.parametrize("missing", [8, 20_000])
def test_a_header_that_declares_less_audio_than_there_is_is_refused(
    name: str, start: bytes, order: str, missing: int, tmp_path: Path
) -> None:
    data = bytearray(encode(tmp_path, name))
    position = data.index(start) + (4 if start == b"data" else 8)
    (length,) = struct.unpack_from(f"{order}I", data, position)
    struct.pack_into(f"{order}I", data, position, length - missing)
    end = len(data) - missing
    with pytest.raises(
        MfhcaError, match=f"end of the audio at byte {end}, and {missing} bytes of other data"
    ):
        decode(tmp_path, bytes(data))


@given(
    st.integers(2, 20_000),
    st.integers(1, 20_000),
    st.sampled_from([8000, 12_345, 16_000, 96_000]),
    st.integers(1, 3),
)
def test_a_flac_that_declares_less_than_it_has_is_recognised(
    count: int, missing: int, rate: int, channels: int
) -> None:
    file = io.BytesIO()
    samples = np.random.default_rng(count).uniform(-0.5, 0.5, (count, channels))
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    data = file.getvalue()
    assert inspect(io.BytesIO(data), len(data)).name == "FLAC"
    declared = max(1, count - missing)
    less = with_flac_length(data, declared)
    with pytest.raises(
        ContainerError, match=f"has more than the {declared} samples that its header declares"
    ):
        inspect(io.BytesIO(less), len(less))


@pytest.mark.parametrize(("byte", "bit"), [(2, 1), (3, 2), (5, 1), (5, 0)])
def test_a_flac_frame_of_another_kind_in_a_tag_is_no_audio(byte: int, bit: int, tmp_path: Path) -> None:
    """Of another rate or word length, or with a wrong checksum; unchanged (0) it has a sample behind the last one."""
    data = encode(tmp_path, "flac")
    first = data.index(b"\xff\xf8")
    frame = bytearray(data[first : first + 4] + bytes([32_000 // 4096]))
    if byte < 5:
        frame[byte] ^= bit
    checksum = 0
    for value in frame:
        checksum ^= value
        for _ in range(8):
            checksum = checksum << 1 ^ (0x107 if checksum & 0x80 else 0)
    tagged = data + b"TAG" + frame + bytes([checksum ^ (bit if byte == 5 else 0)]) + bytes(9)
    if bit:
        np.testing.assert_array_equal(decode(tmp_path, tagged), decode(tmp_path, data))
    else:
        with pytest.raises(MfhcaError, match="has more than the 32000 samples"):
            decode(tmp_path, tagged)


def chunk(name: bytes, length: int, order: str) -> bytes:
    return name + struct.pack(f"{order}I", length) + b"x" * length


@pytest.mark.parametrize("name", ["wav", "rifx", "aiff", "au", "flac"])
@pytest.mark.parametrize("samples", [32_000, 31_999])  # of 8 bits: an odd number of bytes
def test_chunks_tags_zeros_and_padding_behind_the_audio_are_no_audio(
    name: str, samples: int, tmp_path: Path
) -> None:
    data = encode(tmp_path, name, SAMPLES[:samples], bits=8)
    if name in ("wav", "rifx") and samples % 2:
        data = data[:-1]  # as programs write it that do not pad
    order = "<" if name == "wav" else ">"
    rests = [b"\0", b"\n", bytes(5000)]
    if name != "au":
        rests += [b"TAG" + b"x" * 125, b"APETAGEX" + b"x" * 56]
    if name in ("wav", "rifx", "aiff"):
        pad = b"\0" * (len(data) % 2)
        rests += [
            pad + chunk(b"LIST", 26, order) + chunk(b"id3 ", 100, order),
            pad + chunk(b"bext", 603, order) + b"\0" + chunk(b"cue ", 28, order) + bytes(20),
            pad + chunk(b"iXML", 31, order) + chunk(b"LIST", 26, order),  # not padded
            chunk(b"LIST", 26, order) + b"ID3" + b"x" * 90,
            pad + chunk(b"LIST", 200, order)[:100],
        ]
    expected = decode(tmp_path, data)
    for rest in rests:
        np.testing.assert_array_equal(decode(tmp_path, data + rest), expected)


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("w64", b"LIST" + bytes(12) + struct.pack("<Q", 0) + b"x" * 40),  # was an endless loop
        ("w64", b"LIST" + bytes(12) + struct.pack("<Q", 64) + b"x" * 40),
        ("caf", b"LIST" + struct.pack(">q", -12) + b"x" * 40),  # was an endless loop
    ],
)
def test_other_data_behind_the_audio_of_w64_and_caf_is_refused(
    name: str, rest: bytes, tmp_path: Path
) -> None:
    with pytest.raises(MfhcaError, match=f"the header declares the end .* {len(rest)} bytes of other data"):
        decode(tmp_path, encode(tmp_path, name) + rest)


@pytest.mark.parametrize("rest", [b"\n", bytes(5000), b"TAG" + b"x" * 125])
def test_tags_and_zeros_behind_the_last_ogg_page_are_no_audio(rest: bytes, tmp_path: Path) -> None:
    data = encode(tmp_path, "ogg")
    np.testing.assert_array_equal(decode(tmp_path, data + rest), decode(tmp_path, data))
    with pytest.raises(MfhcaError, match=f"damaged at byte {len(data)}, where an Ogg page is expected"):
        decode(tmp_path, data + rest + data)


ID3V1 = b"TAG" + b"x" * 125


def ape(header: bool) -> bytes:
    """An APE tag of one item, with or without a header."""
    item = struct.pack("<II", 3, 0) + b"Title\0abc"

    def block(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)

    return (block(0xA0000000) if header else b"") + item + block(0x80000000 if header else 0)


@pytest.mark.parametrize("name", [*NAMES, "flac of unknown length", "wav of unknown length"])
@pytest.mark.parametrize(
    "tags", [ID3V1, ape(header=True), ape(header=False) + ID3V1], ids=["ID3", "APE", "APE and ID3"]
)
def test_tags_behind_the_audio_change_no_sample(name: str, tags: bytes, tmp_path: Path) -> None:
    """libsndfile decodes them as noise in W64, SPHERE, VOC, 8SVX and files of unknown length."""
    data = encode(tmp_path, name.split()[0])
    if name.startswith("wav of"):
        position = data.index(b"data") + 4
        data = data[:position] + b"\xff" * 4 + data[position + 4 :]
    elif name.startswith("flac of"):
        data = with_flac_length(data, 0)
    np.testing.assert_array_equal(decode(tmp_path, data + tags), decode(tmp_path, data))


def test_samples_that_look_like_a_tag_are_samples(tmp_path: Path) -> None:
    data = encode(tmp_path, "wav")
    data = data[:-128] + ID3V1
    np.testing.assert_array_equal(
        decode(tmp_path, data)[-64:], np.frombuffer(ID3V1, "<i2").astype(np.float32) / 32768
    )


def test_a_chunk_behind_the_audio_of_8svx_is_no_audio(tmp_path: Path) -> None:
    data = encode(tmp_path, "svx")
    np.testing.assert_array_equal(decode(tmp_path, data + chunk(b"ANNO", 64, ">")), decode(tmp_path, data))


# --- several streams in one file


@pytest.mark.parametrize("name", ["ogg", "opus"])
def test_chained_ogg_is_refused(name: str, tmp_path: Path) -> None:
    data = encode(tmp_path, name)
    other = bytearray(data)
    with pytest.raises(MfhcaError, match="several Ogg streams one after the other, of which only the first"):
        decode(tmp_path, data + bytes(other))


def test_an_ogg_without_its_last_page_is_refused(tmp_path: Path) -> None:
    data = encode(tmp_path, "ogg")
    last = data.rindex(b"OggS")
    with pytest.raises(MfhcaError, match="cut short, the last page of an Ogg stream is missing"):
        decode(tmp_path, data[:last])
    with pytest.raises(MfhcaError, match="damaged at byte"):
        decode(tmp_path, data[:last] + b"junk" + data[last + 4 :])
    for rest in (10, 27):  # of the page's header
        with pytest.raises(MfhcaError, match="cut short within an Ogg page"):
            decode(tmp_path, data[: last + rest])


@pytest.mark.parametrize("name", ["ogg", "opus"])
def test_a_flipped_bit_in_any_ogg_page_is_found(name: str, tmp_path: Path) -> None:
    data = encode(tmp_path, name)
    pages = [position for position in range(len(data)) if data[position : position + 4] == b"OggS"]
    for page, end in zip(pages, [*pages[1:], len(data)], strict=True):
        damaged = bytearray(data)
        damaged[end - 1] ^= 1
        with pytest.raises(
            ContainerError, match=f"damaged at byte {page}, where an Ogg page has a wrong checksum"
        ):
            inspect(io.BytesIO(damaged), len(data))


def with_last_granule(data: bytes, granule: int) -> bytes:
    """An Ogg stream whose last page has another number of samples, and the checksum that fits."""
    last = data.rindex(b"OggS")
    page = bytearray(data[last:])
    page[6:14], page[22:26] = granule.to_bytes(8, "little"), bytes(4)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = checksum << 1 ^ (0x104C11DB7 if checksum & 1 << 31 else 0)
    page[22:26] = checksum.to_bytes(4, "little")
    return data[:last] + bytes(page)


@pytest.mark.parametrize("name", ["ogg", "opus"])
@pytest.mark.parametrize("granule", [0, 1000, 2**40, 2**63 - 1, 2**64 - 1])
def test_a_wrong_length_in_the_last_ogg_page_is_refused_without_allocating_it(
    name: str, granule: int, tmp_path: Path
) -> None:
    data = encode(tmp_path, name)
    true = int.from_bytes(data[data.rindex(b"OggS") + 6 :][:8], "little")
    assert with_last_granule(data, true) == data
    (tmp_path / "a.bin").write_bytes(with_last_granule(data, granule))
    assert header_length(tmp_path / "a.bin")[0] in (None, *range(3 * RATE))
    tracemalloc.start()
    with pytest.raises(
        MfhcaError, match=r"a\.bin: (cut short, \d+ of \d+ samples|declares less audio in its last)"
    ):
        read_audio(tmp_path / "a.bin", RATE)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


@pytest.mark.parametrize("frames", [59, 10**8, 2**32 - 1])
def test_a_wrong_number_of_mp3_frames_is_refused_without_allocating_them(frames: int, tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path, "mp3"))
    position = next(data.index(name) for name in (b"Xing", b"Info") if name in data) + 8
    (true,) = struct.unpack_from(">I", data, position)
    struct.pack_into(">I", data, position, frames)
    (tmp_path / "a.bin").write_bytes(data)
    assert header_length(tmp_path / "a.bin")[0] in (None, *range(3 * RATE))
    with pytest.raises(MfhcaError, match=f"cut short, {true} of {frames} MP3 frames are there"):
        read_audio(tmp_path / "a.bin", RATE)


@pytest.mark.parametrize("tag", [b"", ID3V1], ids=["no tag", "ID3"])
def test_an_mp3_that_declares_no_frames_is_decoded_and_reported(tag: bytes, tmp_path: Path) -> None:
    data = vbr(tmp_path, loud_first=True)
    position = next(data.index(name) for name in (b"Xing", b"Info") if name in data) + 8
    (tmp_path / "a.bin").write_bytes(data[:position] + bytes(4) + data[position + 4 :] + tag)
    audio = read_audio(tmp_path / "a.bin", RATE)
    np.testing.assert_array_equal(audio.samples, decode(tmp_path, data))
    assert audio.warnings == (WRONG_LENGTH,)


def mp2(header: bytes, length: int, frames: int = 20) -> bytes:
    """Frames of MPEG layer II, mono, with three levels in the lowest of 32 frequency bands (ISO 11172-3)."""
    generator = np.random.default_rng(0)
    whole = b""
    for _ in range(frames):
        # The bits of each band, and one scale factor, the eighth.
        bits = f"{1:04b}" + "0" * 84 + "10" + f"{8:06b}"
        bits += "".join(f"{code:05b}" for code in generator.integers(0, 27, 12))  # three samples each
        whole += header + int(bits.ljust(8 * (length - 4), "0"), 2).to_bytes(length - 4, "big")
    return whole


def test_mp2_is_decoded_and_refused_where_it_is_cut(tmp_path: Path) -> None:
    data = mp2(bytes([0xFF, 0xFD, 0xA4, 0xC0]), 144 * 192 // 48)  # 192 kbit/s, 48 kHz
    (tmp_path / "a.mp2").write_bytes(data)
    assert soundfile.info(tmp_path / "a.mp2").subtype == "MPEG_LAYER_II"
    audio = read_audio(tmp_path / "a.mp2", 48_000)
    np.testing.assert_array_equal(audio.samples, soundfile.read(tmp_path / "a.mp2", dtype="float32")[0])
    assert len(audio.samples) == 20 * 1152
    assert 0.01 < audio.samples.std() < 1
    with pytest.raises(MfhcaError, match="cut short by 100 bytes"):
        decode(tmp_path, data[:-100])
    with pytest.raises(MfhcaError, match="damaged at byte 5760"):
        decode(tmp_path, data[:5760] + bytes(100) + data[5760:])


def mp3_frames(data: bytes) -> list[int]:
    """Offsets of the frames of an MPEG-2 layer III file of 16 kHz (as soundfile writes), and its end."""
    rates = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    offsets = [0]
    while offsets[-1] + 4 <= len(data):
        header = data[offsets[-1] :]
        offsets.append(offsets[-1] + 72 * rates[header[2] >> 4] * 1000 // RATE + ((header[2] >> 1) & 1))
    return offsets


def vbr(folder: Path, loud_first: bool = False) -> bytes:
    """Silence, then noise: the first frames are much shorter than the others; or the other way round."""
    parts = [np.zeros(3 * RATE), np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE)]
    samples = np.concatenate(parts[::-1] if loud_first else parts)
    return encode(folder, "mp3", samples, bitrate_mode="VARIABLE", compression_level=0.3)


def test_mp3_frames_are_counted_as_the_encoder_counted_them(tmp_path: Path) -> None:
    data = vbr(tmp_path)
    offsets = mp3_frames(data)
    assert offsets[-1] == len(data)
    assert inspect(io.BytesIO(data), len(data)).samples is None  # its Xing frame has the number
    without = data[offsets[1] :]
    assert inspect(io.BytesIO(without), len(without)).samples == (len(offsets) - 2 - 3) * 576


@pytest.mark.parametrize("rate", [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize(("channels", "mode"), [(1, "CONSTANT"), (2, "VARIABLE")])
def test_the_encoder_counts_the_same_mp3_frames_at_every_rate(rate: int, channels: int, mode: str) -> None:
    file = io.BytesIO()
    samples = np.random.default_rng(rate).uniform(-0.5, 0.5, (rate, channels))
    soundfile.write(file, samples, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    frames = count_frames(file, file.getbuffer().nbytes)
    assert frames.declared == frames.count
    assert (frames.missing, frames.junk) == (0, None)
    assert 0 < frames.count * frames.per_frame - rate < 3 * 1152


def test_a_vbr_mp3_without_its_xing_frame_is_never_decoded_in_part(tmp_path: Path) -> None:
    data = vbr(tmp_path)
    assert len(decode(tmp_path, data[mp3_frames(data)[1] :])) > 5.7 * RATE
    data = vbr(tmp_path, loud_first=True)
    assert len(decode(tmp_path, data)) == 6 * RATE
    with pytest.raises(MfhcaError, match=r"only 2\.\d of about 6\.\d s would be decoded \(MP3 with variable"):
        decode(tmp_path, data[mp3_frames(data)[1] :])


def test_joined_mp3_is_refused(tmp_path: Path) -> None:
    data = encode(tmp_path, "mp3")
    tag = b"ID3\x04\0\0" + bytes([0, 0, 0, 20]) + bytes(20)
    for joined in (data + data, data + tag + data):
        with pytest.raises(MfhcaError, match=r"MP3 frames, of which only the declared \d+ would be decoded"):
            decode(tmp_path, joined)


def test_a_hole_in_an_mp3_without_a_xing_frame_is_found(tmp_path: Path) -> None:
    data = vbr(tmp_path)
    offsets = mp3_frames(data)
    without = data[offsets[1] :]
    hole = offsets[60] - offsets[1] + 7
    with pytest.raises(
        MfhcaError, match=f"damaged at byte {offsets[61] - offsets[1]}, where an MP3 frame is expected"
    ):
        decode(tmp_path, without[:hole] + without[hole + 500 :])


def test_a_tag_before_flac_hides_nothing(tmp_path: Path) -> None:
    data, tag = encode(tmp_path, "flac"), b"ID3\x04\0\0" + bytes([0, 0, 1, 20]) + b"x" * 148
    for whole in (data, with_flac_length(data, 0)):
        np.testing.assert_array_equal(decode(tmp_path, tag + whole), decode(tmp_path, data))
    with pytest.raises(MfhcaError, match="has a second FLAC file behind the first"):
        decode(tmp_path, tag + data + data)
    with pytest.raises(MfhcaError, match="has more than the 31999 samples that its header declares"):
        decode(tmp_path, tag + with_flac_length(data, 31_999))


def test_mp3_tags_before_and_after_the_audio_are_no_frames(tmp_path: Path) -> None:
    data = encode(tmp_path, "mp3")
    expected = decode(tmp_path, data)
    np.testing.assert_array_equal(decode(tmp_path, data + b"TAG" + bytes(125)), expected)


# --- files that are none


@pytest.mark.parametrize("data", [b"not audio at all", b"RIFF", b"\0" * 100, b"%PDF-1.4 " + bytes(1000)])
def test_what_is_not_audio_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"a\.wav: (not readable as audio|cut short|a WAV file without)"):
        decode(tmp_path, data, "a.wav")


@pytest.mark.parametrize("suffix", ["raw", "gsm", "vox", "sds"])
def test_the_suffix_alone_makes_no_audio(suffix: str, tmp_path: Path) -> None:
    """libsndfile takes anything named .vox for ADPCM."""
    with pytest.raises(MfhcaError, match="not readable as audio"):
        decode(tmp_path, b"just a text that is long enough" * 10, f"a.{suffix}")


def test_devices_and_pipes_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (Path("/dev/zero"), tmp_path / "pipe.wav"):
        errors: list[str] = []

        def read(path: Path = path, errors: list[str] = errors) -> None:
            try:
                read_audio(path, RATE)
            except MfhcaError as error:
                errors.append(str(error))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(10)
        assert errors == [f"{path}: a device or pipe, not a file; copy the audio into a file"]


def test_every_byte_of_a_structure_may_be_anything(tmp_path: Path) -> None:
    """Damaged structures end in a ContainerError or a container, never in another error or an endless loop."""
    generator = np.random.default_rng(0)
    for name in NAMES:
        data = encode(tmp_path, name)[:3000]
        for _ in range(30):
            damaged = bytearray(data)
            for position in generator.integers(0, len(data), 4):
                damaged[position] = generator.integers(256)
            with contextlib.suppress(ContainerError):
                assert inspect(io.BytesIO(bytes(damaged)), len(damaged)).name
