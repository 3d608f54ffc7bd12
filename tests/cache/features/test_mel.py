"""mfhca_cache.features.mel against the formula, written out independently in float64, and its way into a cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_factory import SEGMENTS, manifest_of, write_corpus
from click.testing import CliRunner

from mfhca_cache.build import sources
from mfhca_cache.cli import main
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import read_audio, stream_audio
from mfhca_cache.features.mel import filterbank, logmel, mfcc
from mfhca_cache.features.segments import cut
from mfhca_cache.recipe.folder import from_dict
from mfhca_cache.recipe.kinds import LogMel, Mfcc
from mfhca_cache.store.reader import Features, find_recipe, list_recipes

BANDS = 80


def triangles() -> np.ndarray:
    """(80, 401): triangle b over Hz between three of 82 points evenly spaced on HTK's scale, of area 1."""
    top = 2595 * np.log10(1 + 8000 / 700)
    points = 700 * (10 ** (np.arange(BANDS + 2) * top / (BANDS + 1) / 2595) - 1)
    found = np.zeros((BANDS, 401))
    for b in range(BANDS):
        left, middle, right = points[b : b + 3]
        for k in range(401):
            hz = 20.0 * k
            height = 2 / (right - left)
            if left < hz <= middle:
                found[b, k] = height * (hz - left) / (middle - left)
            elif middle < hz < right:
                found[b, k] = height * (right - hz) / (right - middle)
    return found


def by_formula(segment: np.ndarray) -> np.ndarray:
    """L[t, b] of `mel`'s docstring, (300, 80), in dB; X as in test_spectrum, with all 401 bins."""
    n = np.arange(-400, 400)
    window = np.where((n >= -320) & (n < 320), 0.54 - 0.46 * np.cos(2 * np.pi * (n + 320) / 640), 0.0)
    kernel = np.exp(-2j * np.pi * np.outer(n, np.arange(401)) / 800)
    x = np.concatenate([np.zeros(400), segment.astype(np.float64), np.zeros(800)])
    frames = np.stack([x[160 * t : 160 * t + 800] for t in range(300)])
    bands = np.abs((frames * window) @ kernel) ** 2 @ triangles().T
    return 10 * np.log10(np.maximum(bands, 1e-10))


def cepstra(bands: np.ndarray) -> np.ndarray:
    """The first 40 coefficients of the orthonormal DCT-II of (300, 80), each frame over its length."""
    n, b = np.arange(40)[:, None], np.arange(BANDS)[None]
    basis = np.sqrt(2 / BANDS) * np.cos(np.pi * n * (b + 0.5) / BANDS)
    basis[0] = np.sqrt(1 / BANDS)
    c = bands @ basis.T
    return c / np.sqrt((c**2).sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def noise() -> tuple[np.ndarray, np.ndarray]:
    """Noise whose level goes up and down, 4.2 s: a full segment and a padded one."""
    time = np.arange(67_200) / 16_000
    x = np.random.default_rng(1).normal(0, 0.1, len(time)) * (1.05 + np.sin(2 * np.pi * 3 * time))
    return cut(x.astype(np.float32), 48_000)


def test_logmel_agrees_with_the_formula(noise: tuple[np.ndarray, np.ndarray]) -> None:
    found, valid = logmel(*noise, LogMel())
    assert found.shape == (2, 300, BANDS) == (2, *LogMel().frame_shape)
    assert (found.dtype, valid.dtype) == (np.float32, np.int32)
    assert valid.tolist() == [300, 120]
    for bands, segment in zip(found, noise[0], strict=True):
        np.testing.assert_allclose(bands, by_formula(segment), atol=0.01)
    assert np.all(found[1, 123:] == -100.0)


def test_mfcc_agrees_with_the_formula(noise: tuple[np.ndarray, np.ndarray]) -> None:
    found, valid = mfcc(*noise, Mfcc())
    assert found.shape == (2, 300, 40) == (2, *Mfcc().frame_shape)
    assert (found.dtype, valid.tolist()) == (np.float32, [300, 120])
    for coefficients, segment in zip(found, noise[0], strict=True):
        np.testing.assert_allclose(coefficients, cepstra(by_formula(segment)), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, atol=1e-6)


def test_silence_is_at_the_floor_and_one_direction() -> None:
    silence = cut(np.zeros(16_000, np.float32), 48_000)
    assert np.all(logmel(*silence, LogMel())[0] == -100.0)
    np.testing.assert_allclose(mfcc(*silence, Mfcc())[0][..., 0], -1.0, atol=1e-6)
    np.testing.assert_allclose(mfcc(*silence, Mfcc())[0][..., 1:], 0.0, atol=1e-6)


def test_utterance_reference_puts_the_loudest_band_at_zero(noise: tuple[np.ndarray, np.ndarray]) -> None:
    segments, real = noise
    found, _ = logmel(segments, real, LogMel(db_reference="utterance"))
    quiet, _ = logmel(segments * np.float32(0.01), real, LogMel(db_reference="utterance"))
    assert found.max() == 0.0
    np.testing.assert_allclose(quiet, found, atol=0.01)


def test_each_segment_is_computed_alone(noise: tuple[np.ndarray, np.ndarray]) -> None:
    segments, real = noise
    for compute, recipe in ((logmel, LogMel()), (mfcc, Mfcc())):
        both, _ = compute(segments, real, recipe)
        np.testing.assert_array_equal(compute(segments[1:], real[1:], recipe)[0][0], both[1])


def test_every_band_holds_two_points_and_too_many_bands_are_refused() -> None:
    assert np.all((filterbank(16_000, 800, BANDS, 0.0, 8000.0) > 0).sum(axis=0) >= 2)
    assert np.any((filterbank(16_000, 800, 128, 0.0, 8000.0) > 0).sum(axis=0) == 1)
    with pytest.raises(MfhcaError, match="some of 200 mel bands contain no bin of a DFT of 800"):
        filterbank(16_000, 800, 200, 0.0, 8000.0)


def test_features_come_from_one_decoding_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_corpus(tmp_path / "audio")
    manifest_of(tmp_path / "rows.csv", rows)
    decoded: list[str] = []

    def noting(path: Path, *args: object, **options: object) -> object:
        decoded.append(path.stem)
        return stream_audio(path, *args, **options)  # type: ignore[arg-type]

    def call(command: str, *options: str) -> str:
        cache = ["--cache", str(tmp_path / "cache"), "--jobs", "1"]
        done = CliRunner().invoke(
            main, [command, str(tmp_path / "rows.csv"), "--root", str(tmp_path / "audio"), *cache, *options]
        )
        assert done.exit_code == 0, done.output
        return done.output

    monkeypatch.setattr(sources, "stream_audio", noting)
    kinds = ("--kind", "mfcc", "--kind", "logmel", "--tail", "overlap")
    assert "to compute: 20 segments, 1.4 MB" in call("features", *kinds, "--dry-run")
    decoded.clear()  # the dry run timed a few segments
    assert "20 segments" in call("features", *kinds)
    assert sorted(decoded) == sorted(SEGMENTS)
    assert "nothing to compute" in call("features", *kinds)
    assert call("status", *kinds).count("7 present of 7") == 2
    assert {recipe.kind for recipe in list_recipes(tmp_path / "cache")} == {"mfcc", "logmel"}
    assert "another recipe" not in call("status", "--kind", "logspec")  # of its kind

    for kind, compute in (("logmel", logmel), ("mfcc", mfcc)):
        folder = find_recipe(tmp_path / "cache", kind)
        recipe = from_dict(folder.recipe)
        with Features.open(folder, ["a"]) as features:
            shard, first, count = features.rows("a4")
            stored = features.gather(np.full(count, shard), np.arange(first, first + count))
            moments = features.shards[0]
            at = moments.utterance_ids.index("a4")
            segments, real = cut(read_audio(tmp_path / "audio/a/a4.flac", 16_000).samples, 48_000, "overlap")
            expected, valid = compute(segments, real, recipe)  # type: ignore[arg-type]
            np.testing.assert_array_equal(stored, expected.astype(np.float16))
            np.testing.assert_array_equal(moments.valid_frames[first : first + count], valid)
            total = np.concatenate([s[:v] for s, v in zip(stored, valid, strict=True)]).astype(float)
            np.testing.assert_allclose(moments.moments("sum")[at], total.sum(axis=0), rtol=1e-4, atol=1e-2)
            assert "librosa" in moments.provenance["packages"]
