"""mfhca_cache.features.decode: decoding in blocks, and levels that no recording has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from audio_factory import sound

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features import decode
from mfhca_cache.features.audio import read_audio, stream_audio
from mfhca_cache.features.decode import CANCELLED, CLIPPED, CONSTANT, SHORT, SILENT, Channels

RATE = 16_000


def tone(seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 1000 * np.arange(round(seconds * RATE)) / RATE)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


# --- decoding block by block


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_change_no_bit(
    tmp_path: Path, channels: int, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * rate, channels))
    path = write(tmp_path / "a.flac" if channels < 9 else tmp_path / "a.wav", samples, rate)
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    mono = whole[:, 0] if channels == 1 else whole.mean(axis=1, dtype=np.float32)
    expected = mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ")
    for block in (997, 10 * rate):
        monkeypatch.setattr(decode, "BLOCK", block)
        np.testing.assert_array_equal(read_audio(path, RATE).samples, expected)


@pytest.mark.parametrize("rate", [8000, 11_025, 48_000, 96_000])
@pytest.mark.parametrize("count", [10, 160, decode.BLOCK, decode.BLOCK + 1])
def test_resampling_by_blocks_gives_the_bits_of_resampling_the_whole(rate: int, count: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, count).astype(np.float32)
    channels = Channels("a", rate, RATE)
    blocks = [channels.append(samples[start : start + 1000, None]) for start in range(0, count, 1000)]
    resampled = np.concatenate([*blocks, channels.finish()])
    np.testing.assert_array_equal(resampled, soxr.resample(samples, rate, RATE, quality="HQ"))
    assert channels.resampled == len(resampled)


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_pre_emphasis_by_blocks_gives_the_bits_of_the_whole(rate: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 10_000).astype(np.float32)
    channels = Channels("a", rate, RATE, 0.97)
    edges = [1, 2, 3, 1000, 1000, 7000]  # one block is empty
    blocks = [channels.append(block[:, None]) for block in np.split(samples, edges)]
    x = samples if rate == RATE else soxr.resample(samples, rate, RATE, quality="HQ")
    expected = np.concatenate([x[:1], x[1:] - np.float32(0.97) * x[:-1]])
    np.testing.assert_array_equal(np.concatenate([*blocks, channels.finish()]), expected)


def test_memory_follows_neither_channels_nor_rate(tmp_path: Path) -> None:
    """Two minutes of eight channels, 340 MB as float64, in a small FLAC."""
    import tracemalloc

    with soundfile.SoundFile(tmp_path / "a.flac", "w", 44_100, 8) as file:
        for _ in range(12):
            file.write(np.zeros((10 * 44_100, 8), dtype=np.int16))
    tracemalloc.start()
    audio = read_audio(tmp_path / "a.flac", RATE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(audio.samples) == 120 * RATE
    assert peak < 4 * 2 * 120 * RATE + 10e6


def test_an_utterance_longer_than_an_hour_is_refused_before_it_is_decoded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "LONGEST_SECONDS", 2.0)
    monkeypatch.setattr(decode, "BLOCK", 1000)
    path = write(tmp_path / "a.wav", tone(3.0))
    blocks = []
    with pytest.raises(MfhcaError, match=r"longer than .* h; cut it into utterances \(start_s and end_s"):
        blocks.extend(stream_audio(path, RATE))
    assert not blocks  # nothing is computed from it
    assert len(read_audio(path, RATE, 1.5, 2.5).samples) == RATE


# --- plausible levels


@pytest.mark.parametrize(
    ("samples", "warnings"),
    [
        (tone(0.5), ()),
        (np.zeros(8000), (SILENT,)),
        (np.stack([tone(0.5), -tone(0.5)], axis=1), (CANCELLED,)),
        (np.full(8000, 0.25), (CONSTANT,)),
        (np.stack([np.full(8000, 0.25), np.zeros(8000)], axis=1), (CONSTANT,)),
        (tone(0.5) + 0.25, ()),
        (10.0 * tone(0.5), (CLIPPED,)),
        (np.full(1, 0.5), (SHORT,)),
        (np.zeros((40, 2)), (SILENT, SHORT)),
    ],
)
def test_unusual_audio_is_reported(tmp_path: Path, samples: np.ndarray, warnings: tuple[str, ...]) -> None:
    assert read_audio(write(tmp_path / "a.wav", samples, subtype="FLOAT"), RATE).warnings == warnings


@pytest.mark.parametrize(
    ("container", "subtype", "quality"),
    [
        ("WAV", "PCM_16", None),  # -x is one step below x, so that the average is constant
        ("WAV", "PCM_U8", None),
        ("WAV", "IMA_ADPCM", None),
        ("FLAC", "PCM_16", None),
        ("OGG", "VORBIS", 0.0),
        ("OGG", "VORBIS", 1.0),
        ("MP3", "MPEG_LAYER_III", 0.5),
    ],
)
def test_channels_that_cancel_each_other_out_are_named_in_every_format(
    tmp_path: Path, container: str, subtype: str, quality: float | None
) -> None:
    speech = sound("a", 1.0, RATE)
    for second, expected in ((-speech, (CANCELLED,)), (0.3 * speech, ()), (sound("b", 1.0, RATE), ())):
        channels = np.hstack([speech, second])
        soundfile.write(
            tmp_path / "a", channels, RATE, format=container, subtype=subtype, compression_level=quality
        )
        assert read_audio(tmp_path / "a", RATE).warnings == expected


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_independent_channels_and_a_single_one_do_not_cancel_each_other_out(channels: int) -> None:
    generator = np.random.default_rng(channels)
    for scale in (np.ones(channels), np.eye(channels)[0]):
        collected = Channels("a", RATE, RATE)
        collected.append((generator.normal(0, 0.1, (RATE, channels)) * scale).astype(np.float32))
        assert collected.warnings() == ()


def test_the_last_bit_of_16_is_silence(tmp_path: Path) -> None:
    """As of antiphase channels in Opus at a low bit rate."""
    noise = np.random.default_rng(0).integers(-1, 2, (RATE, 2)).astype(np.int16)
    assert read_audio(write(tmp_path / "a.wav", noise), RATE).warnings == (SILENT,)
    assert read_audio(write(tmp_path / "b.wav", 2 * noise), RATE).warnings == ()


def test_floating_point_audio_in_the_scale_of_integers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 32768 * tone(0.5), subtype="FLOAT")
    with pytest.raises(MfhcaError, match=r"a peak of 16384 times full scale; .* divided by 32768"):
        read_audio(path, RATE)
