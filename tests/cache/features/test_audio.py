"""mfhca_cache.features.audio: reading and refusing audio files."""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from mfhca_cache.common.audio_digest import digest_of, open_audio
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features import audio
from mfhca_cache.features.audio import read_audio
from mfhca_cache.features.containers import Container, inspect

RATE = 16_000


def tone(seconds: float, rate: int = RATE, hertz: float = 1000.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def test_samples_of_a_16_bit_wav_are_its_integers_over_full_scale(tmp_path: Path) -> None:
    integers = np.array([0, 1, -1, 32767, -32768, 1234], dtype=np.int16)
    audio = read_audio(write(tmp_path / "a.wav", integers), RATE)
    assert audio.samples.dtype == np.float32
    np.testing.assert_array_equal(audio.samples, integers / 32768)
    assert (audio.native_samples, audio.native_rate) == (6, RATE)


def test_digest_is_that_of_the_bytes_on_disk_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(0.1))
    copy = tmp_path / "renamed.wav"
    copy.write_bytes(path.read_bytes())
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_audio(path, RATE).digest == read_audio(copy, RATE).digest == expected


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(0.1, level=0.8), tone(0.1, level=0.2)
    audio = read_audio(write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT"), RATE)
    np.testing.assert_allclose(audio.samples, tone(0.1, level=0.5), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 1 / 128),
        ("a.wav", "PCM_16", 1 / 32768),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "DOUBLE", 1e-6),
        ("a.aiff", "PCM_16", 1 / 32768),
        ("a.flac", "PCM_24", 1e-6),
        ("a.w64", "PCM_16", 1 / 32768),
    ],
)
def test_every_sample_format_gives_the_same_samples(
    tmp_path: Path, name: str, subtype: str, tolerance: float
) -> None:
    audio = read_audio(write(tmp_path / name, tone(0.2), subtype=subtype), RATE)
    np.testing.assert_allclose(audio.samples, tone(0.2), atol=tolerance)


@pytest.mark.parametrize(("name", "rate"), [("a.flac", 44_100), ("a.wav", 8_000), ("a.wav", 48_000)])
def test_other_rates_are_resampled_without_shift_or_gain(tmp_path: Path, name: str, rate: int) -> None:
    audio = read_audio(write(tmp_path / name, tone(1.0, rate), rate), RATE)
    assert len(audio.samples) == RATE
    np.testing.assert_allclose(audio.samples[800:-800], tone(1.0)[800:-800], atol=2e-3)


def test_resampling_removes_what_the_new_rate_cannot_carry(tmp_path: Path) -> None:
    audio = read_audio(write(tmp_path / "a.wav", tone(1.0, 44_100, hertz=12_000), 44_100), RATE)
    assert np.abs(audio.samples[800:-800]).max() < 1e-3


def test_span_is_that_part_of_the_file_and_part_of_the_identity(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, RATE)
    path = write(tmp_path / "long.flac", samples)
    whole, part = read_audio(path, RATE), read_audio(path, RATE, 0.25, 0.75)
    np.testing.assert_array_equal(part.samples, whole.samples[4000:12000])
    assert part.digest == digest_of(path.read_bytes(), 0.25, 0.75) != whole.digest
    np.testing.assert_array_equal(read_audio(path, RATE, 0.25).samples, whole.samples[4000:])
    np.testing.assert_array_equal(read_audio(path, RATE, None, 0.25).samples, whole.samples[:4000])


def test_spans_of_a_file_share_one_check_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, inspected = write(tmp_path / "a.wav", tone(1.0)), []

    def counted(file: BinaryIO, size: int) -> Container:
        inspected.append(size)
        return inspect(file, size)

    def spans() -> list[str]:
        return [read_audio(path, RATE, start, start + 0.25).digest for start in (0.0, 0.25, 0.5)]

    def expected() -> list[str]:
        return [digest_of(path.read_bytes(), start, start + 0.25) for start in (0.0, 0.25, 0.5)]

    monkeypatch.setattr(audio, "inspect", counted)
    assert spans() == expected()
    assert len(inspected) == 3  # it was written just now
    monkeypatch.setattr(audio, "SETTLED_NS", 0)
    before, old = path.stat(), expected()
    assert spans() == old
    assert len(inspected) == 4
    time.sleep(0.02)  # longer than a tick of the clock of the file system
    path.write_bytes(path.read_bytes()[:-2] + b"ab")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert spans() == expected() != old
    assert len(inspected) == 5
    assert read_audio(path, RATE).digest == digest_of(path.read_bytes())
    assert len(inspected) == 6  # a file that is one utterance is always checked


def test_samples_are_recognised_in_every_lossless_format(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-(2**14), 2**14, RATE).astype(np.float32) / 2**15
    wav = read_audio(write(tmp_path / "a.wav", samples, subtype="PCM_16"), RATE)
    copies = {
        "a.flac": {"subtype": "PCM_16"},
        "b.wav": {"subtype": "PCM_24"},
        "c.wav": {"subtype": "FLOAT"},
        "d.aiff": {"subtype": "PCM_16"},
    }
    for name, options in copies.items():
        copy = read_audio(write(tmp_path / name, samples, **options), RATE)
        assert (copy.samples_digest, copy.digest != wav.digest) == (wav.samples_digest, True), name
    stereo = read_audio(write(tmp_path / "e.wav", np.stack([samples, samples], 1), subtype="PCM_16"), RATE)
    assert stereo.samples_digest == wav.samples_digest
    part = read_audio(tmp_path / "a.flac", RATE, 0.25, 0.75)
    cut = read_audio(write(tmp_path / "cut.wav", samples[4000:12000], subtype="PCM_16"), RATE)
    assert part.samples_digest == cut.samples_digest != wav.samples_digest
    signed = np.where(samples == 0, np.float32(-0.0), samples)[4000:12000]
    assert (
        read_audio(write(tmp_path / "f.wav", signed, subtype="FLOAT"), RATE).samples_digest
        == cut.samples_digest
    )


def test_the_digest_of_samples_is_of_rate_and_samples_at_that_rate(tmp_path: Path) -> None:
    samples = (np.round(32768 * tone(0.5)) / 32768).astype(np.float32)
    other = samples.copy()
    other[100] += 2**-15
    for rate, values in ((RATE, samples), (RATE, other), (8000, samples)):
        expected = hashlib.sha256(f"{rate}\n".encode() + (values + np.float32(0)).tobytes()).hexdigest()
        assert read_audio(write(tmp_path / "a.wav", values, rate), RATE).samples_digest == expected
    silence = read_audio(write(tmp_path / "b.wav", np.zeros(100)), RATE)
    assert silence.samples_digest == ""  # silence identifies no recording


@pytest.mark.parametrize("span", [(1.0, 1.5), (0.5, 1.1), (-0.5, 0.5), (2.0, None)])
def test_span_outside_the_file_is_refused(tmp_path: Path, span: tuple[float, float | None]) -> None:
    path = write(tmp_path / "a.wav", tone(1.0))
    with pytest.raises(MfhcaError, match=r"a\.wav: the manifest's span .* is outside its 1\.000 s"):
        read_audio(path, RATE, *span)


def test_pre_emphasis_follows_its_formula(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 500), subtype="DOUBLE")
    x = read_audio(path, RATE).samples.astype(np.float64)
    y = read_audio(path, RATE, pre_emphasis=0.97).samples
    assert y[0] == x[0].astype(np.float32)
    np.testing.assert_allclose(y[1:], x[1:] - 0.97 * x[:-1], atol=1e-6)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"gone\.wav: cannot be read \(No such file"):
        read_audio(tmp_path / "gone.wav", RATE)


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"cannot be read \(Is a directory\)"):
        read_audio(tmp_path, RATE)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(MfhcaError, match=r"a\.wav: the file is empty"):
        read_audio(tmp_path / "a.wav", RATE)


def test_header_without_samples_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.zeros(0))
    with pytest.raises(MfhcaError, match=r"a\.wav: has a header and no audio"):
        read_audio(path, RATE)


def test_file_that_is_not_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not audio at all, whatever its name says")
    with pytest.raises(MfhcaError, match=r"a\.wav: not readable as audio \(.+\); convert it to WAV or FLAC"):
        read_audio(tmp_path / "a.wav", RATE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    samples = tone(0.1)
    samples[123] = bad
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(MfhcaError, match=r"a\.wav: sample 123 is not a finite number"):
        read_audio(path, RATE)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(MfhcaError, match=r"a\.(wav|flac): (cut short|not readable)"):
        read_audio(path, RATE)


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF])
def test_wav_whose_length_was_unknown_when_it_was_streamed_is_read(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.wav", tone(0.5))
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert len(read_audio(path, RATE).samples) == RATE // 2


def test_absurd_sample_rate_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(0.1), rate=100)
    with pytest.raises(MfhcaError, match=r"a\.wav: a sample rate of 100 Hz, expected at least 4000"):
        read_audio(path, RATE)


def test_decoding_does_not_depend_on_the_name_of_the_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(0.1), RATE, format="FLAC")
    (tmp_path / "really_flac.wav").write_bytes(buffer.getvalue())
    assert len(read_audio(tmp_path / "really_flac.wav", RATE).samples) == RATE // 10


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1.0))
    with (
        pytest.raises(MfhcaError, match=r"a\.wav: changed while it was read; run again"),
        open_audio(path),
    ):
        path.write_bytes(path.read_bytes() + b"x")
