"""mfhca_cache.features.spectrum against the formula, written out independently in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfhca_cache.features.audio import read_audio
from mfhca_cache.features.segments import cut
from mfhca_cache.features.spectrum import hamming, logspec
from mfhca_cache.recipe.kinds import LogSpec

RECIPE = LogSpec()


def by_formula(segment: np.ndarray) -> np.ndarray:
    """20 log10 |sum_n w[n] x[160 t + n] e^(-2 pi i k n / 800)|, n = -400..399, x = 0 outside the segment."""
    n = np.arange(-400, 400)
    window = np.where((n >= -320) & (n < 320), 0.54 - 0.46 * np.cos(2 * np.pi * (n + 320) / 640), 0.0)
    kernel = np.exp(-2j * np.pi * np.outer(n, np.arange(200)) / 800)  # (800, 200)
    x = np.concatenate([np.zeros(400), segment.astype(np.float64), np.zeros(800)])
    frames = np.stack([x[160 * t : 160 * t + 800] for t in range(300)])  # x[160 t + n + 400]
    magnitude = np.abs((frames * window) @ kernel)
    return 20 * np.log10(np.maximum(magnitude, 1e-5))


def padded(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return cut(samples.astype(np.float32), 48_000)


def test_window_is_periodic_hamming() -> None:
    symmetric = np.hamming(641)  # a periodic window is a symmetric one of one more sample, without its last
    np.testing.assert_allclose(hamming(640), symmetric[:-1], atol=1e-7)


@pytest.mark.parametrize("seconds", [0.01, 0.4, 1.3, 3.0])
def test_noise_agrees_with_the_formula(seconds: float) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, round(seconds * 16_000))
    segments, real = padded(noise)
    spectra, _ = logspec(segments, real, RECIPE)
    assert spectra.shape == (1, 300, 200)
    assert spectra.dtype == np.float32
    np.testing.assert_allclose(spectra[0], by_formula(segments[0]), atol=0.01)


def test_speech_agrees_with_the_formula_within_a_tenth_of_a_decibel(shared: Path) -> None:
    for path in sorted((shared / "data/emodb/wav").glob("*.wav"))[::180]:
        segments, real = cut(read_audio(path, 16_000).samples, 48_000)
        spectra, _ = logspec(segments, real, RECIPE)
        for segment, spectrum in zip(segments, spectra, strict=True):
            np.testing.assert_allclose(spectrum, by_formula(segment), atol=0.1)


@pytest.mark.parametrize(("bin_", "level"), [(50, 1.0), (10, 0.01), (199, 0.5)])
def test_sinusoid_has_its_level_in_its_bin(bin_: int, level: float) -> None:
    x = level * np.sin(2 * np.pi * 20 * bin_ * np.arange(48_000) / 16_000)  # bins are 20 Hz apart
    segments, real = padded(x)
    spectrum = logspec(segments, real, RECIPE)[0][0]
    expected = 20 * np.log10(level * 0.54 * 640 / 2)  # half the window's sum
    np.testing.assert_allclose(spectrum[4:296, bin_], expected, atol=0.01)
    assert np.all(spectrum[4:296].argmax(axis=1) == bin_)


def test_frame_t_is_centred_at_sample_160_t() -> None:
    for t in (0, 7, 299):
        x = np.zeros(48_000)
        x[160 * t] = 1.0
        spectrum = logspec(*padded(x), RECIPE)[0][0]
        np.testing.assert_allclose(spectrum[t], 0.0, atol=1e-4)  # the window's peak is 1
        np.testing.assert_allclose(spectrum[max(0, t - 1) : t + 2].max(axis=1).argmax(), min(t, 1))
        assert np.all(np.delete(spectrum, range(max(0, t - 2), min(300, t + 3)), axis=0) == -100.0)


def test_silence_lies_at_the_floor() -> None:
    spectra, valid = logspec(*padded(np.zeros(16_000)), RECIPE)
    assert np.all(spectra == -100.0)
    assert valid.tolist() == [100]


def test_nothing_lies_below_the_floor() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-5, 48_000)
    spectra, _ = logspec(*padded(noise), LogSpec(floor_db=-80.0))
    assert spectra.min() == -80.0
    assert spectra.max() > -80.0


def test_frames_after_the_sound_lie_at_the_floor() -> None:
    spectra, valid = logspec(*padded(np.random.default_rng(0).normal(0, 0.1, 16_000)), RECIPE)
    assert valid.tolist() == [100]
    assert np.all(spectra[0, 103:] == -100.0)
    assert np.all(spectra[0, :100].max(axis=1) > -60.0)


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (160, 1), (161, 2), (16_000, 100), (47_999, 300), (48_000, 300)]
)
def test_valid_frames_are_those_whose_centre_is_sound(samples: int, frames: int) -> None:
    _, valid = logspec(*padded(np.ones(samples)), RECIPE)
    assert valid.tolist() == [frames]
    assert valid.dtype == np.int32


def test_utterance_reference_puts_the_loudest_value_at_zero_whatever_the_gain() -> None:
    x = np.random.default_rng(3).normal(0, 0.1, 80_000)
    x[:48_000] *= 0.01  # the second segment is the louder one, and sets the reference for both
    recipe = LogSpec(db_reference="utterance")
    spectra, _ = logspec(*padded(x), recipe)
    quiet, _ = logspec(*padded(x * 0.001), recipe)
    full, _ = logspec(*padded(x), RECIPE)
    assert spectra.max() == 0.0
    assert spectra[0].max() < -30.0
    np.testing.assert_allclose(quiet, spectra, atol=0.02)
    inside = full > -99.0
    expected = np.maximum(full - full.max(), -100.0)
    np.testing.assert_allclose(spectra[inside], expected[inside], atol=0.01)


def test_utterance_reference_leaves_silence_at_the_floor() -> None:
    spectra, _ = logspec(*padded(np.zeros(100)), LogSpec(db_reference="utterance"))
    assert np.all(spectra == -100.0)


def test_each_segment_is_computed_alone() -> None:
    x = np.random.default_rng(4).normal(0, 0.1, 130_000)
    segments, real = padded(x)
    spectra, _ = logspec(segments, real, RECIPE)
    for row in range(len(real)):
        one, _ = logspec(segments[row : row + 1], real[row : row + 1], RECIPE)
        np.testing.assert_array_equal(one[0], spectra[row])
